"""GSM8K, and other questions whose answers have GSM8K's form: from the Hub, or from local JSONL files."""

import random
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from axion.data.format import Problem, problem_from_gsm8k
from axion.data.sources.base import Document, FileSource, plain
from axion.data.sources.files import read_records
from axion.data.sources.hub import read_hub
from axion.data.split import Side, Split
from axion.settings import Paths


class Gsm8k(FileSource):
    """Problems with a question and an answer each. Local `files` win over the Hub."""

    kind: Literal["gsm8k"] = "gsm8k"
    version: ClassVar[int] = 1
    """Raise it when the documents made of the same problems, their order or their split change."""
    label: ClassVar[str] = "GSM8K, real problems with their solutions"
    is_real: ClassVar[bool] = True

    hub_id: str | None = "openai/gsm8k"
    """Data set on the Hub, its train split for training and its test split for evaluation."""
    hub_config: str | None = "main"
    test_files: Paths | None = None
    """Local JSONL files instead of the Hub's test split; nothing trains on them."""
    question_field: str = "question"
    answer_field: str = "answer"
    direct_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the training problems that appear in the direct form too, without their reasoning."""
    language: str = "en"
    """Language of the problems, a code of ISO 639-1."""

    def problems(self, split: Literal["train", "test"] = "train") -> Iterator[Problem]:
        """The problems of a split in their order. The test split is for evaluation only.

        Raises:
            AxionError: a file is missing, a line is broken, a field is missing or not a text, or the Hub's data set
                cannot be loaded.
        """
        files = self.files if split == "train" else self.test_files
        if files:
            records = read_records(files)
        elif self.hub_id:
            records = read_hub(self.hub_id, self.hub_config, split, self.revision)
        else:
            raise self.no_data("files" if split == "train" else "test_files")
        for record in records:
            question = record.text(self.question_field, "question_field")
            yield problem_from_gsm8k(question, record.text(self.answer_field, "answer_field"))

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        """A problem's side is decided by its whole form, so that its direct form is never on the other one.

        Problems that show a held-out pair may be in validation, but not in training.
        """
        rng = random.Random(f"collect {seed}")
        for problem in self.problems():
            text = problem.document()
            side = split.side(text, problem.calculations)
            yield plain(text, self.kind, side, self.language)
            if side is Side.TRAIN and problem.reasoning is not None and rng.random() < self.direct_fraction:
                yield plain(problem.document(direct=True), self.kind, side, self.language)

    def test_paths(self) -> list[str]:
        return self.test_files or []
