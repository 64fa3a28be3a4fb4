"""GSM8K, and other questions whose answers have GSM8K's form: from the Hub, or from local JSONL files."""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from axion.data.format import Problem, problem_from_gsm8k
from axion.data.sources.base import Document, FileSource, Part, names_of, plain
from axion.data.sources.files import Record, list_files, read_records
from axion.data.split import Side, Split
from axion.errors import AxionError
from axion.settings import Paths, Positive

GSM8K = "openai/gsm8k"
COPIES: Mapping[Part, str] = MappingProxyType(
    {
        "train": "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
        "test": "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    }
)
"""SHA-256 of train.jsonl and test.jsonl in https://github.com/openai/grade-school-math, from which the data set on the
Hub was made."""


class Gsm8k(FileSource):
    """Problems with a question and an answer each. Local `files` take precedence over the Hub."""

    kind: Literal["gsm8k"] = "gsm8k"
    version: ClassVar[int] = 2
    """Increase it when the documents from the same problems, their order or their split change."""
    label: ClassVar[str] = "real problems with their solutions"
    form = "problem"
    is_real: ClassVar[bool] = True
    hub_copies = MappingProxyType({GSM8K: COPIES})
    later = MappingProxyType({"repeat": 1})

    hub_id: str | None = GSM8K
    """Data set on the Hub, its train split for training and its test split for evaluation."""
    hub_config: str | None = "main"
    test_files: Paths | None = None
    """Local files instead of the Hub's test split; nothing trains on them."""
    question_field: str = "question"
    answer_field: str = "answer"
    direct_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the training problems that appear in the direct form too, without their reasoning."""
    language: str = "en"
    """Language of the problems, a code of ISO 639-1."""
    repeat: Positive = 1
    """How often the training documents come in an epoch, beside generated ones that come once."""

    @property
    def data_name(self) -> str:
        return "GSM8K" if (name := super().data_name) == GSM8K else name

    @property
    def test_is_from_hub(self) -> bool:
        """Whether the test problems are those of the data set `hub_id`: read from it, or from a known copy."""
        if self.test_files:
            return self._are_copy(self.test_paths(), "test")
        return self.is_from_hub

    @property
    def test_name(self) -> str:
        """What the test problems are called in tables."""
        if self.test_files and not self.test_is_from_hub:
            return names_of(self.test_paths())
        return "GSM8K" if self.hub_id == GSM8K else str(self.hub_id)

    def problems(self, part: Part = "train") -> Iterator[Problem]:
        """The problems of a split in their order. The test split is for evaluation only.

        Raises:
            AxionError: a file is missing, a line is broken, a field is missing or not a text, or the Hub's data set
                cannot be loaded; no file is given where the source was not read from the Hub.
        """
        fields = (self.question_field, self.answer_field)
        for record in self.records(*fields) if part == "train" else self._test_records(*fields):
            question = record.text(self.question_field, "question_field")
            yield problem_from_gsm8k(question, record.text(self.answer_field, "answer_field"))

    def _test_records(self, *fields: str) -> Iterator[Record]:
        if self.test_files:
            return read_records(self.test_paths(), fields)
        if not self.is_from_hub:
            raise AxionError(f"the {self.kind} source names no test data; give {self._advice('test_files')}")
        return self._hub_records("test")

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        """A problem's side is decided by its full form, so its direct form is always on the same side.

        Problems that show a held-out pair may be in validation, but not in training.
        """
        rng = random.Random(f"collect {seed}")
        trained: set[int] = set()  # which problems, where they come again
        for place, problem in enumerate(self.problems()):
            side = split.side(problem.document(), problem.calculations)
            if side is Side.TRAIN and self.repeat > 1:
                trained.add(place)
            yield from self._forms(problem, side, rng)
        for _ in range(1, self.repeat):
            for place, problem in enumerate(self.problems()):
                if place in trained:
                    yield from self._forms(problem, Side.TRAIN, rng)

    def _forms(self, problem: Problem, side: Side, rng: random.Random) -> Iterator[Document]:
        """The full form of a problem, and for some of training the direct one."""
        yield plain(problem.document(), self.kind, side, self.language)
        if side is Side.TRAIN and problem.reasoning is not None and rng.random() < self.direct_fraction:
            yield plain(problem.document(direct=True), self.kind, side, self.language)

    def text_bytes(self, split: Split, seed: int) -> int | None:
        found = super().text_bytes(split, seed)
        return None if found is None else found * self.repeat

    def file_options(self) -> list[str]:
        names = [Path(path).name for path in self.test_paths()]
        tests = [self._option("test_files", names)] if names and not self.test_is_from_hub else []
        return super().file_options() + tests

    def test_paths(self) -> list[str]:
        return list_files(self.test_files or [], self.suffixes)
