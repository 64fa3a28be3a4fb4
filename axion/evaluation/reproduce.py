"""A release made again from its recipe: under what other conditions, and whether its weights come out the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open

from axion.data.recipe import DataRecipe
from axion.data.sources import FileSource
from axion.errors import AxionError
from axion.evaluation.subject import with_copies
from axion.evaluation.tasks import CARD
from axion.kernels.backend import Choice
from axion.kernels.build import library
from axion.machine import libraries
from axion.recipe import Recipe, load_recipe
from axion.release import WEIGHTS, Release
from axion.training.environment import environment
from axion.training.resume import differences

FOLLOWS = "build of the kernels"
"""The condition that follows from others: code, compiler, its flags and the processor."""

TASKS = tuple(task for task in CARD if task not in ("expert_load", "loops", "speed"))
"""The tasks of a card whose figures are made of answers or documents."""

Condition = str | int | None


def recipe_of(release: Release, overrides: Sequence[str] = (), copies: Path | None = None) -> Recipe:
    """The recipe that a release was trained with, reading local copies of its data.

    Args:
        overrides: `key.path=value`, which may name local files of the same data.
        copies: a folder of local copies, see `axion.evaluation.subject.COPIES`.

    Raises:
        AxionError: the release has no recipe, an override changes what is trained, or a local file is another.
    """
    if release.recipe_file is None:
        raise AxionError(f"{release.name} has no recipe.yaml, so nothing says how it was trained")
    recorded, recipe = load_recipe(release.recipe_file), load_recipe(release.recipe_file, overrides)
    if copies:
        recipe = recipe.model_copy(update={"data": with_copies(recipe.data, copies)})
    if notes := recipe.data.other_files():
        raise AxionError(notes[0])
    before, now = (yaml.safe_load(each.to_yaml()) for each in (recorded, recipe))
    if changed := [key for key in differences(before, now) if not key.endswith(".local_files")]:
        raise AxionError(f"{changed[0]} is not that of {release.name}; only the files of its data can be given")
    return recipe


def recorded_conditions(release: Release) -> dict[str, Condition]:
    """The conditions under which a release was trained, as far as it says; see `axion.training.environment`."""
    made = release.info.get("training") or release.run_info

    def section(name: str) -> dict[str, Any]:
        content = made.get(name) if isinstance(made, dict) else None
        return content if isinstance(content, dict) else {}

    machine = section("machine")
    found = {"processor": machine.get("processor"), "threads": machine.get("torch_threads")}
    found |= {"backend": made.get("backend"), "code": made.get("git_commit")} if isinstance(made, dict) else {}
    found |= section("libraries") | section("environment")
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str | int) and not isinstance(value, bool) and name != FOLLOWS
    }


def conditions_here(choice: Choice, recipe: Recipe) -> dict[str, Condition]:
    """Those of a run on this machine now.

    Args:
        choice: what computes; the kernels are compiled already.
        recipe: what is trained.
    """
    kernels = library(recipe.build_config(), "training") if choice.name == "native" else None
    return libraries() | environment(choice, kernels)


def differing(
    before: dict[str, Condition], now: dict[str, Condition], data: DataRecipe
) -> dict[str, tuple[Condition, Condition]]:
    """What is not as it was: name → before and now. Conditions that only one of both knows are left out.

    Args:
        data: of the recipe. A Hub data set whose revision it does not record may have changed since.
    """
    found = {name: (before[name], now[name]) for name in before if name in now and before[name] != now[name]}
    for source in data.sources:
        if isinstance(source, FileSource) and source.is_from_hub and source.revision is None and not source.files:
            found[f"revision of {source.hub_id}"] = ("not recorded", "the newest")
    return found


@dataclass(frozen=True)
class WeightsCompared:
    """Two files of weights."""

    tensors: int
    """How many the release has."""
    different: tuple[str, ...]
    """The names of those whose type, shape or bytes differ, or that one file lacks."""
    largest: float | None
    """The largest difference of two numbers in tensors of the same shape; None where all are the same."""

    def __str__(self) -> str:
        if not self.different:
            return f"the weights are the same to the bit: {self.tensors} tensors"
        largest = "" if self.largest is None else f", by {self.largest:.2g} at most"
        return (
            f"the weights differ: {len(self.different)} of {self.tensors} tensors{largest}, such as {self.different[0]}"
        )


def compare_weights(folder: Path, other: Path) -> WeightsCompared:
    """Compares the model.safetensors of two folders, tensor by tensor, by the SHA-256 of the bytes."""
    with safe_open(folder / WEIGHTS, "pt") as ours, safe_open(other / WEIGHTS, "pt") as theirs:
        names, others = [*ours.keys()], {*theirs.keys()}
        different, largest = sorted(others.difference(names)), None
        for name in names:
            if name in others:
                first, second = ours.get_tensor(name), theirs.get_tensor(name)
                if _digest(first) == _digest(second):
                    continue
                if first.shape == second.shape:
                    largest = max(largest or 0.0, (first.double() - second.double()).abs().max().item())
            different.append(name)
        return WeightsCompared(len(names), tuple(different), largest)


def _digest(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, str]:
    content = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return tensor.dtype, tensor.shape, hashlib.sha256(content).hexdigest()
