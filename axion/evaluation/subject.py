"""A release that is measured, and the data that several tasks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from tqdm import tqdm

from axion.data.format import Problem
from axion.data.prepare import ValidationDocument, validation_documents
from axion.data.recipe import DataRecipe
from axion.data.sources import Gsm8k
from axion.data.sources.arithmetic import arithmetic_tests
from axion.data.sources.gsm8k import GSM8K
from axion.data.templates import LANGUAGES
from axion.errors import AxionError
from axion.evaluation.answers import complete_often
from axion.release import Release
from axion.tokenizer import encode_documents

Made = TypeVar("Made")

DIGITS = (1, 2)
ARITHMETIC_PROMPTS = 500
"""The most prompts per language and number of digits; with one digit there are only 155 different ones."""
ARITHMETIC_SEED = 0

COPIES = MappingProxyType(
    {
        "gsm8k/train.jsonl": "GSM8K",
        "gsm8k/test.jsonl": "GSM8K's test set",
        "text_en/tinystories_sample.txt": "TinyStories, separated by <|endoftext|>",
        "text_en/grimm_household_tales.txt": "English tales, likewise",
        "text_en/african_storybook_en.txt": "English children's stories, likewise",
        "text_pt/african_storybook_pt.txt": "Portuguese ones",
        "text_pt/machado_contos_part.txt": "tales by Machado de Assis, with lines that begin with CAPÍTULO",
        "text_pt/machado_romances.txt": "novels by the same",
        "text_pt/ptwiki_valid.txt": "articles of the Portuguese Wikipedia, word by word, one a line",
        "eval/singleop.jsonl": "MAWPS' problems of one step, with the fields input and target",
        "eval/BLiMP.zip": "BLiMP's own archive",
        "eval/arc_easy.jsonl": "ARC-easy's test set, with the fields query, choices and gold",
    }
)
"""The local copies that a folder of data may have: path in the folder → what it holds."""


class NotAvailable(AxionError):
    """The data of a task is not available: no network, no such source, or missing files."""


class NotApplicable(AxionError):
    """The task has no meaning for the model: it was not trained on what the task asks for."""


@contextmanager
def available(files: Sequence[str]) -> Iterator[None]:
    """Around reading data: a broken local file is an error; without local files, failing means not available."""
    try:
        yield
    except AxionError as error:
        if files:
            raise
        raise NotAvailable(str(error)) from None


def with_copies(data: DataRecipe, folder: Path) -> DataRecipe:
    """A recipe's data whose GSM8K is read from those of COPIES that a folder has, unless other files are given.

    Raises:
        AxionError: the folder does not exist, or has none of COPIES.
    """
    if not any((folder / name).is_file() for name in COPIES):
        raise AxionError(f"{folder} has none of the files that --help lists, such as {', '.join([*COPIES][1:3])}")
    sources = []
    for source in data.sources:
        if isinstance(source, Gsm8k) and source.hub_id == GSM8K:
            places = {"files": folder / "gsm8k" / "train.jsonl", "test_files": folder / "gsm8k" / "test.jsonl"}
            found = {key: [str(place)] for key, place in places.items() if place.is_file() and not getattr(source, key)}
            if source.local_files and not source.is_from_hub:
                found.pop("files", None)  # it was trained on other files
            source = source.model_copy(update=found)
        sources.append(source)
    return data.model_copy(update={"sources": tuple(sources)})


class Subject:
    """A release to measure, and the data that several tasks share; each part is computed once.

    Args:
        release: the model and its tokenizer.
        data: the data section of the recipe that it was trained with.
        progress: whether tasks show progress bars on standard error.
        folder: where local copies lie, see COPIES; None where there are none.
    """

    def __init__(self, release: Release, data: DataRecipe, progress: bool = False, folder: Path | None = None):
        self.release = release
        self.data = data
        self.progress = progress
        self.folder = folder
        self.copies_read = set[str]()
        """Those that `copy` has given."""
        self._made: dict[Callable, Any] = {}

    def once(self, make: Callable[[Subject], Made]) -> Made:
        """What a function makes of this subject; several tasks may ask for it, and it is made once."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    def copy(self, name: str) -> str:
        """The path of one of COPIES. Raises NotAvailable where there is none."""
        if self.folder is None:
            raise NotAvailable(f"it reads {name}; give the folder that has it with --data")
        if not (path := self.folder / name).is_file():
            raise NotAvailable(f"{self.folder} has no {name}")
        self.copies_read.add(name)
        return str(path)

    def answers(
        self,
        prompts: Sequence[str | Sequence[int]],
        max_new_tokens: int,
        samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        label: str = "",
    ) -> list[list[str]]:
        """What the model writes after each prompt, `samples` times, with a progress bar; see `complete_often`.

        Args:
            label: what the progress bar is called.
        """
        total = len(prompts) * (samples if temperature else 1)
        with tqdm(total=total, desc=label, unit="text", disable=not self.progress, leave=False) as bar:
            return complete_often(self.release, prompts, max_new_tokens, samples, temperature, seed, bar.update)

    def needs_problems(self) -> None:
        """Raises NotApplicable for a model that was not trained on problems, NotAvailable if none were held out."""
        if not self.data.has_problems:
            raise NotApplicable("the model was not trained on problems, so it is not asked for sums")
        if not self.data.holdout_fraction:
            raise NotAvailable("data.holdout_fraction is 0: no pair of operands was held out to ask for")

    @cached_property
    def validation(self) -> list[ValidationDocument]:
        """The held-out documents over which the loss is measured, in this release's tokens. Raises NotAvailable."""
        with available(self.data.local_paths()):
            documents = validation_documents(self.data, self.release.tokenizer)
        if not documents:
            raise NotAvailable("data.val_fraction holds out none of the documents; give more data")
        return documents

    @cached_property
    def arithmetic(self) -> dict[tuple[int, str], list[Problem]]:
        """(digits, language) → the sums and differences to ask. Raises NotApplicable for a model without problems."""
        self.needs_problems()
        return {
            (digits, language): arithmetic_tests(
                digits, language, ARITHMETIC_PROMPTS, ARITHMETIC_SEED, self.data.holdout_fraction
            )
            for digits in DIGITS
            for language in LANGUAGES
        }

    def load_documents(self, with_validation: bool = True) -> dict[str, list[list[int]]]:
        """The documents over which expert load is measured: set → token ids.

        Args:
            with_validation: also read the held-out documents, if they are available.

        Raises:
            NotAvailable: there are no documents at all.
        """
        sets = {}
        if self.data.has_problems and self.data.holdout_fraction:
            texts = [problem.document() for problems in self.arithmetic.values() for problem in problems]
            sets["arithmetic"] = encode_documents(self.release.tokenizer, texts)
        if with_validation:
            try:
                sets = {"validation": [document.ids.tolist() for document in self.validation]} | sets
            except NotAvailable:
                if not sets:
                    raise
        return sets
