"""Experiments: variations of a recipe, each trained once for so many tokens with one seed, kept in one JSON file.

Every experiment is a run of `axion train` in a process of its own. A hash of the resolved recipe, its seed and its
tokens names it, so that a finished one is never repeated, and an interrupted one goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from threading import Lock

import numpy as np

from axion.data.recipe import DataRecipe
from axion.data.sources.base import FileSource, Source
from axion.errors import AxionError, one_line
from axion.files import locked, read_json, write_json
from axion.params import count_parameters
from axion.recipe import OF_THE_CARD, Recipe, load_recipe
from axion.shipped import ROOT
from axion.training.metrics import METRICS_FILE, read_metrics
from axion.training.resume import MAY_CHANGE
from axion.training.runfile import read_run_file

EVALUATIONS = 4
"""Validation losses in an experiment."""
CHECKPOINTS = 4
EPOCHS = 1_000
"""More than any experiment takes: its length is that of `training.max_steps`."""
KEY_DIGITS = 16
LOG = "log.txt"
MISTAKE, INTERRUPTED = 2, 130
"""The exit codes of `axion train` after an error that its last line explains, and after Ctrl-C."""

T_97_5 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)
"""The 97.5% quantiles of Student's t distribution with 1, 2, … degrees of freedom."""


@dataclass(frozen=True)
class Experiment:
    """A recipe with overrides that is trained for so many tokens with one seed."""

    version: str
    """A recipe's name or YAML file."""
    overrides: tuple[str, ...]
    """`key.path=value`, as `--set` takes them; what an experiment is about."""
    tokens: int
    """At least one step's; the run rounds them down to whole steps."""
    seed: int
    places: tuple[str, ...] = ()
    """Overrides that name local copies of the recipe's data. They are not recorded."""

    @property
    def settings(self) -> list[str]:
        """All overrides, also those that give the run its seed and length.

        Raises:
            AxionError: there are fewer tokens than a step has; the recipe cannot be loaded.
        """
        training = load_recipe(self.version, [*self.overrides, *self.places]).training
        per_step = training.batch_size * training.window
        if self.tokens < per_step:
            raise AxionError(f"{self.tokens:,} tokens are less than one step of {self.version}, which has {per_step:,}")
        lengths = {"epochs": EPOCHS, "max_steps": self.tokens // per_step}
        lengths |= {"evaluations": EVALUATIONS, "checkpoints": CHECKPOINTS}
        return [
            *(*self.overrides, *self.places, f"seed={self.seed}"),
            *(f"training.{name}={value}" for name, value in lengths.items()),
        ]

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe. Raises AxionError as `settings`."""
        return load_recipe(self.version, self.settings)

    @cached_property
    def key(self) -> str:
        """A hash of all that the result depends on besides the code and the machine."""
        return hash_of(self.recipe)

    @cached_property
    def base(self) -> str:
        """The same hash of the recipe without the overrides, by which results that can be compared are found."""
        return hash_of(load_recipe(self.version, self.places))


def hash_of(recipe: Recipe) -> str:
    """A hash of what a recipe trains: the same with the Hub's data set and with a known local copy of it."""
    content = recipe.model_dump(mode="json", exclude={*OF_THE_CARD, "name", "family", "version", "data", "tokenizer"})
    for name in MAY_CHANGE:
        section, _, key = name.partition(".")
        if section == "training" and key:
            content["training"].pop(key, None)
    content |= {"data": _identity(recipe.data), "tokenizer": recipe.tokenizer.identity()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def _identity(data: DataRecipe) -> dict:
    return {**data.identity(), "sources": [_source_identity(source) for source in data.sources]}


def _source_identity(source: Source) -> dict:
    if isinstance(source, FileSource) and source.is_from_hub:
        return {**source.settings(), "version": source.version, "revision": None}
    return source.identity()


def parse_tokens(text: str) -> int:
    """A number of tokens such as `20M`, `500k` or `4096`. Raises AxionError where it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", text.strip())
    tokens = round(float(match[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[match[2]]) if match else 0
    if tokens < 1:
        raise AxionError(f"{one_line(repr(text), 40)} is not a number of tokens; write it as 20M, 500k or 4096")
    return tokens


def local_copies(recipe: Recipe, folder: Path | None) -> tuple[str, ...]:
    """The overrides that read a recipe's GSM8K from a folder of local copies, as `axion eval --data` names them.

    Raises:
        AxionError: the folder lacks the copy.
    """
    if folder is None or "gsm8k" not in recipe.data.kinds:
        return ()
    file = folder / "gsm8k" / "train.jsonl"
    if not file.is_file():
        raise AxionError(f"{folder} has no gsm8k/train.jsonl; leave out --data to read GSM8K from the Hub")
    return (f"data.sources.gsm8k.files={json.dumps(str(file.resolve()))}",)


# --- The file of results ----------------------------------------------------------------------------------------------


class Results:
    """The JSON file in which the results of experiments are kept, under their keys.

    Args:
        path: the file; it need not exist yet.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = Lock()

    def read(self) -> dict:
        """The content, with the results in "runs". Raises AxionError where the file is broken."""
        if not self.path.exists():
            return {"runs": {}}
        try:
            content = read_json(self.path)
        except (OSError, ValueError) as error:
            raise AxionError(f"{self.path} cannot be read: {one_line(error)}") from None
        if not isinstance(content, dict) or not isinstance(content.get("runs"), dict):
            raise AxionError(f'{self.path} has no "runs"; give the file of earlier results, or one that does not exist')
        return content

    @property
    def runs(self) -> dict[str, dict]:
        """Key → the result of each finished experiment."""
        return self.read()["runs"]

    def change(self, change: Callable[[dict], None]) -> None:
        """Reads the file, changes its content in place and writes it; other processes wait."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, locked(self.path.parent):
            content = self.read()
            change(content)
            write_json(self.path, content)


def run_missing(
    experiments: Sequence[Experiment],
    results: Results,
    folder: Path,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> dict[Experiment, str]:
    """Trains the experiments that have no result yet, and records each as soon as it is finished.

    Args:
        experiments: those that are wanted.
        results: where they are recorded.
        folder: each has its run in a folder of its own here, which is deleted when it is recorded. Data is prepared in
            data/, as `axion train` does.
        jobs: how many run at the same time, each with its share of the processor's threads.
        say: receives a line for each that is finished.

    Returns:
        The experiments that failed, such as one whose loss became infinite, and why.

    Raises:
        KeyboardInterrupt: Ctrl-C. What is running has saved a checkpoint, and goes on with the next call.
    """
    finished = results.runs
    waiting = list({each.key: each for each in experiments if each.key not in finished}.values())
    failed: dict[Experiment, str] = {}
    threads = max(_threads() // jobs, 1)
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(_run, each, folder, threads): each for each in waiting}
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                experiment, place = futures[future], f"{number} of {len(waiting)}"
                try:
                    record = future.result()
                except AxionError as error:
                    failed[experiment] = str(error)
                    say(f"{place}: {experiment.key} failed: {error}")
                    continue
                results.change(lambda content, key=experiment.key, record=record: content["runs"].update({key: record}))
                shutil.rmtree(folder / experiment.key, ignore_errors=True)
                what = " ".join(experiment.overrides) or "no overrides"
                say(f"{place}: {record['val_loss']:.4f} nats per token, seed {experiment.seed}, {one_line(what, 80)}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def _threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(experiment: Experiment, folder: Path, threads: int) -> dict:
    """Trains one experiment, or goes on with it; returns its record."""
    run, log = folder / experiment.key, folder / f"{experiment.key}.{LOG}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = [part for setting in experiment.settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "axion", "train", experiment.version, *settings, "--resume", "--out", str(run)]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": paths}
    with log.open("w", encoding="utf-8") as output:
        code = subprocess.run(command, env=environment, stdout=output, stderr=output).returncode
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise AxionError(_why(code, log))
    record = describe(experiment, run)
    log.unlink()
    return record


def _why(code: int, log: Path) -> str:
    """Why a run ended with an exit code: its own message, or where it was killed or crashed, its last line and the log.

    A process that is killed may leave half of a character behind.
    """
    text = log.read_text(encoding="utf-8", errors="replace")
    last = next((line.strip() for line in reversed(re.split(r"[\r\n]", text)) if line.strip()), "no output")
    if code == MISTAKE:
        return last.removeprefix("error: ")
    return f"the run ended with exit code {code}, see {log}: {one_line(last, 200)}"


def describe(experiment: Experiment, run: Path) -> dict:
    """What is recorded of the finished run of an experiment, as JSON."""
    info, metrics = read_run_file(run), read_metrics(run / METRICS_FILE)
    counts = count_parameters(experiment.recipe.build_config())
    violations = [metrics[column][-1] for column in metrics.violation_columns]
    return {
        "version": experiment.version,
        "base": experiment.base,
        "overrides": list(experiment.overrides),
        "seed": experiment.seed,
        **{name: info[name] for name in ("steps", "tokens")},
        "parameters": {"total": counts.total, "active": counts.active, "embedding": counts.embedding},
        "val_loss": metrics.curve("val_loss")[-1][1],
        "val_bits_per_byte": metrics.curve("val_bits_per_byte")[-1][1],
        "curve": [[int(tokens), loss] for tokens, loss in metrics.curve("val_loss")],
        "max_violation": float(np.mean(violations)) if violations else None,
        **{name: info.get(name) for name in ("backend", "date", "git_commit", "machine")},
        "torch": info["libraries"]["torch"],
    }


# --- Comparing two recipes --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """How much higher one loss is than another, over seeds that both were trained with."""

    values: tuple[float, ...]
    """One for each seed, in nats per token."""

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the mean by Student's t distribution; None with fewer than two seeds.

        The seeds give initial weights and the order of the data, which both runs of a pair share where their shapes
        allow it.
        """
        if len(self.values) < 2:
            return None
        quantile = T_97_5[min(len(self.values) - 1, len(T_97_5)) - 1]
        half = quantile * stdev(self.values) / math.sqrt(len(self.values))
        return self.mean - half, self.mean + half

    @property
    def verdict(self) -> str:
        """Where the interval leaves out 0: "lower" or "higher"; elsewhere "not clear"."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "not clear"
        return "lower" if self.mean < 0 else "higher"


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """The paired difference of two mappings from seed to loss; None where they share no seed."""
    shared = sorted(ours.keys() & theirs.keys())
    return Difference(tuple(ours[seed] - theirs[seed] for seed in shared)) if shared else None
