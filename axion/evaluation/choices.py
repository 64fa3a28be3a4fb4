"""Tasks that choose among given texts by their likelihood: BLiMP's sentences and ARC's answers.

Texts and scores are those of lm-eval's tasks `blimp` and `arc_easy`, with `<bos>` in front of every text, as in
training. One thing differs: where several choices are equally likely, each has its share of the point, so that a model
without any preference scores what chance gives. lm-eval takes the first of them, which in BLiMP is the right one.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from axion.data.sources.files import Record, read_records
from axion.errors import AxionError, one_line
from axion.evaluation.intervals import bootstrap_interval, wilson_interval
from axion.evaluation.likelihood import encode_ways, losses
from axion.evaluation.outcomes import OUTCOMES, Outcomes
from axion.evaluation.subject import Subject
from axion.files import parse_json

BLIMP_FILE, BLIMP_ON_HUB = "eval/BLiMP.zip", "nyu-mll/blimp"
ARC_FILE, ARC_ON_HUB = "eval/arc_easy.jsonl", "allenai/ai2_arc"
QUICK_PAIRS = 60
"""Pairs of each of BLiMP's 67 paradigms in a quick measurement; all of them are 1,000."""
QUICK_QUESTIONS = 500
"""Questions of ARC in a quick measurement; all of them are 2,376."""
TIE = 1e-5
"""Losses that differ by less, in nats, count as equal: their difference is one of rounding."""
DELIMITER = " "
"""Stands before every choice, as in lm-eval."""


@dataclass(frozen=True)
class Question:
    """A text and how it may go on."""

    text: str
    choices: tuple[str, ...]
    right: int
    """The index of the right choice."""
    group: str = ""
    """What it tests."""

    @property
    def name(self) -> str:
        """What names it among the outcomes."""
        return self.text or " / ".join(self.choices)

    @property
    def sizes(self) -> list[int]:
        """The bytes of each choice, and of the blank before it."""
        return [len((DELIMITER + choice).encode()) for choice in self.choices]


@dataclass(frozen=True)
class Choice:
    """A model's losses on a question's choices."""

    question: Question
    nats: Sequence[float]

    @property
    def points(self) -> float:
        """1 where the right choice is the likeliest, a share of it among equals, else 0."""
        return self._points(self.nats)

    @property
    def points_by_length(self) -> float:
        """The same by the loss per character, as lm-eval's `acc_norm`."""
        return self._points([nats / len(text) for nats, text in zip(self.nats, self.question.choices, strict=True)])

    def _points(self, scores: Sequence[float]) -> float:
        equal = [index for index, score in enumerate(scores) if score - min(scores) < TIE]
        return (self.question.right in equal) / len(equal)

    @property
    def is_tied(self) -> bool:
        return 0 < self.points < 1


def measure_blimp(subject: Subject, pairs: int | None = None) -> dict:
    """Whether the model prefers grammatical sentences, BLiMP; also for each of its phenomena.

    Args:
        subject: the release.
        pairs: how many of each paradigm, evenly spread; all by default.
    """
    questions = blimp_questions(subject.copy(BLIMP_FILE), pairs)
    chosen = choose(subject, questions)
    groups = {term: [each for each in chosen if each.question.group == term] for term in _groups(questions)}
    return {
        "data": "BLiMP",
        "dataset": BLIMP_ON_HUB,
        "dataset_split": "train",
        "is_sample": pairs is not None,
        **scored(chosen),
        "scores": [_phenomenon(term, part) for term, part in groups.items()],
    }


def _phenomenon(term: str, chosen: Sequence[Choice]) -> dict[str, Any]:
    figures = scored(chosen)
    return {"phenomenon": term, **figures, OUTCOMES: figures[OUTCOMES][:1]}  # its row has the accuracy alone


def measure_arc_easy(subject: Subject, count: int | None = None) -> dict:
    """Questions about science at school with several answers, ARC-easy's test set.

    Args:
        subject: the release.
        count: how many of the questions, evenly spread; all by default.
    """
    chosen = choose(subject, arc_questions(subject.copy(ARC_FILE), count))
    return {
        "data": "ARC-easy",
        "dataset": ARC_ON_HUB,
        "dataset_config": "ARC-Easy",
        "dataset_split": "test",
        "is_sample": count is not None,
        **scored(chosen, by_length=True),
    }


def choose(subject: Subject, questions: Sequence[Question]) -> list[Choice]:
    """The losses of all choices."""
    texts = [(question.text, [DELIMITER + choice for choice in question.choices]) for question in questions]
    nats = losses(subject.release.model, encode_ways(subject.release.tokenizer, texts))
    return [Choice(*each) for each in zip(questions, nats, strict=True)]


def scored(chosen: Sequence[Choice], by_length: bool = False) -> dict[str, Any]:
    """Accuracy and bits per byte, with their 95% intervals.

    Returns:
        "correct" (with shares of a point for equally likely choices), "total", "accuracy", "interval" and "chance";
        "tied": questions whose right choice shares the first place; "bits_per_byte" of the right choices, with
        "bits_interval", and "bits_per_byte_wrong" of the others; with `by_length` also "accuracy_by_length" and its
        "interval_by_length". Their outcomes are those of accuracy, accuracy by length and bits per byte.
    """
    total, points = len(chosen), math.fsum(each.points for each in chosen)
    ids = [each.question.name for each in chosen]
    right = [(each.nats[each.question.right], each.question.sizes[each.question.right]) for each in chosen]
    wrong = [pair for each in chosen for pair in _wrong(each)]
    figures = {
        "correct": _whole(points),
        "total": total,
        "accuracy": points / total,
        "interval": wilson_interval(points, total),
        "chance": math.fsum(1 / len(each.question.choices) for each in chosen) / total,
        "tied": sum(each.is_tied for each in chosen),
        "bits_per_byte": _bits(right),
        "bits_interval": bootstrap_interval([nats / math.log(2) for nats, _ in right], [size for _, size in right]),
        "bits_per_byte_wrong": _bits(wrong),
    }
    outcomes = [Outcomes.of_answers(ids, [each.points for each in chosen])]
    if by_length:
        points_by_length = [each.points_by_length for each in chosen]
        points = math.fsum(points_by_length)
        figures |= {"accuracy_by_length": points / total, "interval_by_length": wilson_interval(points, total)}
        outcomes.append(Outcomes.of_answers(ids, points_by_length))
    bits, sizes = [nats / math.log(2) for nats, _ in right], [float(size) for _, size in right]
    return figures | {OUTCOMES: [*outcomes, Outcomes(ids, bits, sizes, False)]}


def _wrong(each: Choice) -> Iterator[tuple[float, int]]:
    for index, pair in enumerate(zip(each.nats, each.question.sizes, strict=True)):
        if index != each.question.right:
            yield pair


def _bits(pairs: Iterable[tuple[float, int]]) -> float:
    nats, sizes = zip(*pairs, strict=True)
    return math.fsum(nats) / math.log(2) / sum(sizes)


def _whole(points: float) -> float | int:
    """A number of points, as an integer where it is one."""
    rounded = round(points, 6)
    return int(rounded) if rounded.is_integer() else rounded


def _groups(questions: Sequence[Question]) -> list[str]:
    return sorted({question.group for question in questions})


# --- The files --------------------------------------------------------------------------------------------------------


def blimp_questions(path: str, pairs: int | None = None) -> list[Question]:
    """BLiMP's pairs of sentences, from its own archive; `pairs` of each paradigm, evenly spread, or all.

    Raises:
        AxionError: the file is no such archive.
    """
    questions = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".jsonl") and "__MACOSX" not in name)
            for name in names:
                lines = [line for line in archive.read(name).decode().split("\n") if line.strip()]
                questions += [_pair(line, f"{path}, {name}") for line in spread(lines, pairs)]
    # zipfile raises RuntimeError for an encrypted file, or an unknown compression
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, UnicodeDecodeError) as error:
        raise AxionError(f"{path} is not BLiMP's archive: {one_line(error)}") from None
    if not questions:
        raise AxionError(f"{path} is not BLiMP's archive: it has no .jsonl file with pairs")
    return questions


def _pair(line: str, where: str) -> Question:
    try:
        fields = parse_json(line)
        good, bad, term = (fields[name] for name in ("sentence_good", "sentence_bad", "linguistics_term"))
    except (ValueError, LookupError, TypeError):
        raise AxionError(f"{where}: each line must have sentence_good, sentence_bad and linguistics_term") from None
    if not all(isinstance(text, str) and text for text in (good, bad, term)):
        raise AxionError(f"{where}: sentence_good, sentence_bad and linguistics_term must be texts")
    return Question("", (good, bad), 0, term.replace("_", " "))


def arc_questions(path: str, count: int | None = None) -> list[Question]:
    """ARC's questions, from records with the fields query, choices and gold; `count` of them, evenly spread, or all.

    Raises:
        AxionError: a record is malformed.
    """
    records = [*read_records([path], ("query", "choices", "gold"))]
    return [_arc(record) for record in spread(records, count)]


def _arc(record: Record) -> Question:
    choices: Any = record.fields.get("choices")
    right = record.fields.get("gold")
    are_texts = isinstance(choices, list) and all(isinstance(each, str) and each for each in choices)
    if not are_texts or len(choices) < 2:
        raise AxionError(f"{record.where}: choices must be a list of at least two texts")
    if not isinstance(right, int) or not 0 <= right < len(choices):
        raise AxionError(f"{record.where}: gold is {right!r}; it must be the place of a choice, from 0")
    return Question(record.text("query", "query").strip() + "\nAnswer:", tuple(choices), right)


def spread(items: Sequence[Any], count: int | None) -> list[Any]:
    """`count` of the items, evenly spread over them; all where there are not more."""
    if count is None or count >= len(items):
        return [*items]
    return [items[number * len(items) // count] for number in range(count)]
