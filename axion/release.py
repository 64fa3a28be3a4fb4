"""Opening releases: a folder, a name under releases/, or a repository on the Hugging Face Hub.

A release's own Python files are never run here. Its weights are loaded into this project's own classes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from axion.errors import AxionError, one_line
from axion.families import Family, family_of, get_family
from axion.files import read_json
from axion.shipped import shipped

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from axion.inference.stream import Tokenizer
    from axion.kernels.stored import Decodable
    from axion.model.configuration_axion import AxionConfig
    from axion.model.modeling_axion import AxionForCausalLM

RELEASES = shipped("releases")
"""The releases that come with Axion: axion1-v0.1."""

BUILT = Path("releases")
"""The releases that are built in the working directory, which in a clone is the same folder."""

WEIGHTS = "model.safetensors"
NEEDED = ("config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json")
"""The files that generation requires."""

LONGEST_OPENING = 500
"""Longer openings, which Axion does not write, are left out."""

WANTED_FROM_HUB = ["*.json", "*.safetensors", "*.jinja", "recipe.yaml", "metrics.csv", "heldout.jsonl"]
"""The files that are downloaded from a repository: data, no code."""


class Release:
    """A model and the files that came with it; each part is lazily loaded, once."""

    def __init__(self, name: str, folder: Path):
        self.name = name
        self.folder = folder
        self.weights = "fp32"
        """What its decoders on the kernels multiply by; see `with_weights`."""
        self._loading = Lock()

    def __repr__(self) -> str:
        return f"Release({self.name!r}, {str(self.folder)!r})"

    @cached_property
    def config(self) -> AxionConfig:
        """The model's configuration. Raises AxionError when config.json is broken or of another model type."""
        from axion.model.configuration_axion import AxionConfig

        fields = self._read_json("config.json")
        if fields.get("model_type") != AxionConfig.model_type:
            found, wanted = fields.get("model_type"), AxionConfig.model_type
            raise AxionError(f"{self.name} has the model type {found!r}; only {wanted!r} can be opened")
        try:
            return AxionConfig.from_dict(fields)
        except (TypeError, ValueError) as error:
            raise AxionError(f"{self.name}: config.json is broken: {one_line(error)}") from None

    @cached_property
    def info(self) -> dict[str, Any]:
        """release.json: parameter counts, measured results, sha256 of every file; {} if there is none."""
        return self._read_json("release.json", default={})

    @cached_property
    def trace(self) -> dict[str, Any] | None:
        """trace.json: a seeded generation with its routing; None if there is none."""
        return self._read_json("trace.json", default=None)

    @cached_property
    def held_out(self) -> list[str]:
        """The texts of heldout.jsonl: documents over which the loss was measured; none where there is no such file.

        Raises:
            AxionError: the file is broken.
        """
        file = self.folder / "heldout.jsonl"
        if not file.is_file():
            return []
        try:
            with file.open(encoding="utf-8") as lines:  # of JSON, which may have other line separators in its texts
                return [str(json.loads(line)["text"]) for line in lines]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise AxionError(f"{self.name}: heldout.jsonl is broken: {one_line(error)}") from None

    @cached_property
    def openings(self) -> list[str]:
        """Openings of held-out texts, which a model of text can continue; none where it was trained on problems."""
        recorded = self.info.get("openings")
        if recorded is None:
            recorded = self.run_info.get("openings")
        texts = recorded if isinstance(recorded, list) else []
        return [text for text in texts if isinstance(text, str) and 0 < len(text) <= LONGEST_OPENING]

    @cached_property
    def thinks(self) -> bool:
        """Whether its recipe taught the model to choose by itself between answering at once and thinking first."""
        from axion.recipe import read_recipe

        data = read_recipe(self.recipe_file).get("data") if self.recipe_file else None
        sources = data.get("sources") if isinstance(data, dict) else None
        return any(isinstance(source, dict) and source.get("thinking") is True for source in sources or ())

    @property
    def knows_questions(self) -> bool:
        """Whether the model was taught to answer; a model of text only goes on where a text ends."""
        return self.thinks or not self.openings or bool(self.tokenizer.chat_template)

    def prompt_for(self, question: str, language: str = "pt", tokenizer: Tokenizer | None = None) -> str:
        """What somebody typed, as a prompt in the form that the model was taught.

        A model that thinks chooses by itself whether it does. A text that is in the form already stays as it is, as
        does all that is typed for a model of text.

        Args:
            question: what was typed.
            language: that of the question about a bare sum, `pt` or `en`.
            tokenizer: this release's, where it is open already.

        Raises:
            AxionError: the chat template rejects the question.
        """
        from axion.data.asking import problem_prompt
        from axion.inference.chat import asked_in_chat, can_chat

        tokenizer = tokenizer or self.tokenizer
        if can_chat(tokenizer) and not self.thinks:
            return asked_in_chat(tokenizer, question, self.name)
        return question if self.openings and not self.thinks else problem_prompt(question, self.thinks, language)

    @cached_property
    def run_info(self) -> dict[str, Any]:
        """run.json of the training run that the folder is in; {} where it is in none."""
        run = run_of(self.folder)
        return {} if run is None else Release(self.name, run)._read_json("run.json")

    @cached_property
    def recipe_file(self) -> Path | None:
        """recipe.yaml, which a release holds and a training run keeps beside its final/; None where there is none."""
        return self._file_or_runs("recipe.yaml")

    @cached_property
    def metrics_file(self) -> Path | None:
        """metrics.csv, likewise."""
        return self._file_or_runs("metrics.csv")

    @cached_property
    def history_file(self) -> Path | None:
        """history.json, likewise: what the model wrote while it was trained."""
        return self._file_or_runs("history.json")

    def _file_or_runs(self, name: str) -> Path | None:
        run = run_of(self.folder)
        places = (self.folder, run) if run else (self.folder,)
        return next((path for place in places if (path := place / name).is_file()), None)

    @cached_property
    def family(self) -> Family:
        """The family that release.json or recipe.yaml names; where neither is there, the one that fits the config.

        Raises:
            AxionError: the family is unknown, or recipe.yaml is broken.
        """
        from axion.recipe import read_recipe

        name = self.info.get("family")
        if name is None and self.recipe_file is not None:
            name = read_recipe(self.recipe_file).get("family")
        return family_of(self.config) if name is None else get_family(name)

    @property
    def model(self) -> AxionForCausalLM:
        """The model in fp32, in eval mode.

        Raises:
            AxionError: the weights are broken, don't fit the config, or are not all finite.
        """
        with self._loading:  # a server's threads may ask at the same time
            return self._model

    @cached_property
    def _model(self) -> AxionForCausalLM:
        import torch

        from axion.model.modeling_axion import AxionForCausalLM
        from axion.params import first_non_finite

        try:
            with _quiet():
                loaded: Any = AxionForCausalLM.from_pretrained(  # with output_loading_info: a pair
                    self.folder,
                    config=self.config,
                    dtype=torch.float32,
                    local_files_only=True,
                    output_loading_info=True,
                )
            model, report = loaded
        except Exception as error:  # safetensors, torch and transformers raise various types
            raise AxionError(f"{self.name}: model.safetensors cannot be read: {one_line(error)}") from None
        # transformers initialises missing weights at random and only warns
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if names := sorted(map(str, report[problem])):
                kind = problem.removesuffix("_keys")
                raise AxionError(f"{self.name}: model.safetensors does not fit config.json: {kind} {names[0]}")
        if name := first_non_finite(model):
            raise AxionError(f"{self.name}: model.safetensors is broken: {name} has NaN or infinite values")
        return model.eval()

    def with_loops(self, num_loops: int) -> Release:
        """This release, read with another number of loops by default; 0 leaves it as it is.

        Raises:
            AxionError: as `model`, or its model has no shared layers to loop more than once.
        """
        from axion.inference.variants import with_loops

        return self._with(with_loops(self.model, num_loops), self.weights)

    def with_weights(self, weights: str) -> Release:
        """This release, whose decoders on the kernels round the weights to "bf16" or "int8"; "fp32" for its own.

        Raises:
            AxionError: as `model`; the kind of weights is unknown, or it needs the kernels and they cannot be used.
        """
        if weights == self.weights:
            return self
        from axion.inference.readers import pick_backend
        from axion.inference.variants import with_weights

        model = with_weights(self.model, weights)
        pick_backend(model)
        return self._with(model, weights)

    def _with(self, model: AxionForCausalLM, weights: str) -> Release:
        """This release with a variant of its model; see `axion.inference.variants`."""
        if model is self.model:
            return self
        variant = Release(self.name, self.folder)
        variant.weights = weights
        vars(variant).update(_model=model, config=model.config, tokenizer=self.tokenizer)
        return variant

    @cached_property
    def mtp_model(self) -> AxionForCausalLM:
        """The same model, over the same weights, with its layer of multi-token prediction, which drafts.

        Raises:
            AxionError: as `model`; the model has no such layer, or model.safetensors does not hold it.
        """
        from axion.inference.variants import with_mtp

        try:
            return with_mtp(self.model, self.folder / WEIGHTS)
        except AxionError as error:
            raise AxionError(f"{self.name}: {error}") from None

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer. Raises AxionError when its files are broken."""
        from axion.tokenizer import load_tokenizer

        try:
            return load_tokenizer(self.folder)
        except AxionError:
            raise
        except Exception as error:  # tokenizers raises bare Exceptions
            raise AxionError(f"{self.name}: the tokenizer cannot be read: {one_line(error)}") from None

    def for_generation(
        self, backend: str = "auto", weights: str = "fp32", mtp: bool = False, chats: bool = False
    ) -> tuple[Decodable, Tokenizer]:
        """The model and the tokenizer for `axion.inference.stream`, opened as fast as possible.

        Where the kernels decode the model, its files are read as they are, without importing torch and transformers,
        which would take most of the time until the first token. The text is the same.

        Args:
            backend: see `axion.inference.readers.pick_backend`.
            weights: see `with_weights`.
            mtp: with the layer of multi-token prediction.
            chats: whether conversations are continued, with the chat template if there is one.

        Raises:
            AxionError: as `model`, `mtp_model`, `tokenizer`, `with_weights` or `pick_backend`.
        """
        from axion.inference.variants import with_weights
        from axion.kernels.backend import choose
        from axion.kernels.stored import open_stored
        from axion.stored_tokenizer import open_stored_tokenizer

        tokenizer = open_stored_tokenizer(self.folder, chats)
        model = open_stored(self.folder, mtp) if tokenizer else None
        if model and tokenizer and choose(backend, model.config, "decoding", weights=weights).name == "native":
            return with_weights(model, weights), tokenizer
        opened = self.with_weights(weights)
        return opened.mtp_model if mtp else opened.model, opened.tokenizer

    def _read_json(self, file: str, default: Any = ...) -> Any:
        path = self.folder / file
        if default is not ... and not path.is_file():
            return default
        try:
            content = read_json(path)
        except OSError as error:
            raise AxionError(f"{self.name}: {file} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise AxionError(f"{self.name}: {file} cannot be read: {one_line(error)}") from None
        if not isinstance(content, dict):
            raise AxionError(f"{self.name}: {file} is broken: it must be one JSON object")
        return content


def list_releases() -> list[str]:
    """The names of the releases in ./releases and of those that come with Axion."""
    return sorted({path.parent.name for root in (BUILT, RELEASES) for path in root.glob("*/config.json")})


def release_folder(name: str) -> Path:
    """The folder of a release by its name: the one in ./releases, or else the one bundled with Axion."""
    own, ours = BUILT.absolute() / name, RELEASES / name
    return ours if (ours / "config.json").is_file() and not (own / "config.json").is_file() else own


def open_release(reference: str | Path) -> Release:
    """Opens a folder, a name under releases/, or a Hub id with an optional @revision, which is downloaded.

    Raises:
        AxionError: nothing has that name, or a file is missing. Broken files raise when they are read.
    """
    reference = str(reference).strip()
    folder = Path(reference)
    is_folder = reference != "" and folder.is_dir()
    if reference in list_releases() and not (is_folder and (folder / "config.json").is_file()):
        return _checked(Release(reference, release_folder(reference)))
    if is_folder:
        return _checked(Release(folder_name(folder), folder))
    if reference.count("/") == 1 and not reference.startswith((".", "/")):
        return _checked(Release(reference, _download(*reference.partition("@")[::2])))
    known = ", ".join(list_releases()) or "none yet"
    raise AxionError(
        f"no release {reference!r}; here: {known}; or give a folder, or a Hub id like someone/Axion1-350k-A250k"
    )


def run_of(folder: Path) -> Path | None:
    """The training run that a folder is in, such as final/; None where its parent is not a run."""
    parent = folder.resolve().parent
    return parent if (parent / "run.json").is_file() else None


def folder_name(folder: Path) -> str:
    """A folder's own name. Those inside a training run, such as final/, are named after the run: every run has them."""
    folder = folder.resolve()
    run = run_of(folder)
    if run is None:
        return folder.name
    return run.name if folder.name == "final" else f"{run.name}-{folder.name}"


def _checked(release: Release) -> Release:
    missing = [file for file in NEEDED if not (release.folder / file).is_file()]
    if missing:
        inside = " (its folder final/ is one)" if (release.folder / "final" / "config.json").is_file() else ""
        raise AxionError(f"{release.name} is not a complete release{inside}: it has no {' and no '.join(missing)}")
    return release


def _download(repo_id: str, revision: str) -> Path:
    """Fetches a repository's data files into the Hub's cache; its code stays where it is."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f"{repo_id}@{revision}" if revision else repo_id
    try:
        return Path(snapshot_download(repo_id, revision=revision or None, allow_patterns=WANTED_FROM_HUB))
    except HFValidationError:
        raise AxionError(
            f"{repo_id!r} is neither a folder nor a Hub id; a Hub id looks like someone/Axion1-350k-A250k"
        ) from None
    except GatedRepoError:
        raise AxionError(f"{at} is gated: accept its terms on the Hub and log in with `hf auth login`") from None
    except RevisionNotFoundError:
        raise AxionError(
            f"{repo_id} has no revision {revision!r}; give a branch, a tag like v0.1, or a commit"
        ) from None
    except RepositoryNotFoundError:
        raise AxionError(
            f"no folder {repo_id!r} here and no such model on the Hub (if it is private: `hf auth login`)"
        ) from None
    except LocalEntryNotFoundError:
        raise AxionError(
            f"{at} is not a folder here, and the Hub cannot be reached; check the network, or give a local release"
        ) from None
    except Exception as error:  # network errors of many types
        raise AxionError(f"{at} could not be downloaded: {one_line(error)}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences transformers' warnings, whose causes are raised as errors instead, and its progress bars."""
    from transformers.utils import logging as transformers_logging

    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
