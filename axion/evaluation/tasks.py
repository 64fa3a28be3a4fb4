"""The evaluation tasks, one function each, and `TASKS`, their names.

A task returns its figures as JSON. One that reads data also names it: "data" for tables, and "dataset", the data set on
the Hub, or None.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch

from axion.data.format import Problem
from axion.data.prepare import ValidationDocument, validation_documents
from axion.data.recipe import DataRecipe
from axion.data.sources import FileSource, Gsm8k
from axion.data.sources.arithmetic import LANGUAGES, arithmetic_tests
from axion.errors import AxionError
from axion.evaluation import speed
from axion.evaluation.answers import answer, score
from axion.inference.routing import expert_load
from axion.inference.variants import with_loops
from axion.machine import machine
from axion.release import Release
from axion.tokenizer import encode_documents
from axion.training.validation import validation_loss

DIGITS = (1, 2)
ARITHMETIC_PROMPTS = 500
"""The most prompts per language and number of digits; with one digit there are only 155 different ones."""
ARITHMETIC_SEED = 0
ANSWER_TOKENS = 12
"""Enough for the answer to a sum and its `<eos>`."""
SUM_REASONING_TOKENS = 96
"""Enough for a sum's working, column by column, and its answer."""
COUNTS_OF_LOOPS = (1, 2, 4, 8)
"""How often the shared layers of a looped model run, besides as often as it was trained with."""
REASONING_TOKENS = 256
"""Enough for the reasoning and the answer of nearly all problems in GSM8K."""


class NotAvailable(AxionError):
    """The data of a task is not available: no network, no such source, or missing files."""


class NotApplicable(AxionError):
    """The task has no meaning for the model: it was not trained on what the task asks for."""


@contextmanager
def _available(files: Sequence[str]) -> Iterator[None]:
    """Around reading data: a broken local file is an error; without local files, failing means not available."""
    try:
        yield
    except AxionError as error:
        if files:
            raise
        raise NotAvailable(str(error)) from None


class Subject:
    """A release to measure, and the data that several tasks share; each part is computed once.

    Args:
        release: the model and its tokenizer.
        data: the data section of the recipe that it was trained with.
        progress: whether tasks show progress bars on standard error.
    """

    def __init__(self, release: Release, data: DataRecipe, progress: bool = False):
        self.release = release
        self.data = data
        self.progress = progress

    @cached_property
    def validation(self) -> list[ValidationDocument]:
        """The held-out documents over which the loss is measured, in this release's tokens. Raises NotAvailable."""
        with _available(self.data.local_paths()):
            documents = validation_documents(self.data, self.release.tokenizer)
        if not documents:
            raise NotAvailable("data.val_fraction holds out none of the documents; give more data")
        return documents

    @cached_property
    def arithmetic(self) -> dict[tuple[int, str], list[Problem]]:
        """(digits, language) → the sums and differences to ask. Raises NotApplicable for a model without problems."""
        if not self.data.has_problems:
            raise NotApplicable("the model was not trained on problems, so it is not asked for sums")
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
        if self.data.has_problems:
            texts = [problem.document() for problems in self.arithmetic.values() for problem in problems]
            sets["arithmetic"] = encode_documents(self.release.tokenizer, texts)
        if with_validation:
            try:
                sets = {"validation": [document.ids.tolist() for document in self.validation]} | sets
            except NotAvailable:
                if not sets:
                    raise
        return sets


def measure_validation(subject: Subject) -> dict:
    """Loss on whole held-out documents, each in its own form: those of real text, or all if there is none."""
    documents: Any = subject.validation  # their ids are arrays, which work as sequences
    result = validation_loss(subject.release.model, documents)
    measured = {document.source for document in documents}
    sources = [source for source in subject.data.sources if source.kind in measured]
    return {
        "data": ", ".join(dict.fromkeys(source.data_name for source in sources)),
        "dataset": _dataset(sources[0]) if len(sources) == 1 else None,
        "documents": len(documents),
        **asdict(result),
    }


def measure_arithmetic(subject: Subject) -> dict:
    """Exact answers to sums and differences; those with two digits have operand pairs unseen in training."""
    return _sums(subject, ANSWER_TOKENS, reasoning=False)


def measure_arithmetic_reasoning(subject: Subject) -> dict:
    """Exact answers to the same sums and differences when the model is asked for its reasoning first."""
    return _sums(subject, SUM_REASONING_TOKENS, reasoning=True)


def _sums(subject: Subject, max_tokens: int, reasoning: bool) -> dict:
    scores = []
    for (digits, language), problems in subject.arithmetic.items():
        label = f"{digits}-digit sums ({language})"
        answers = answer(subject.release, problems, max_tokens, reasoning, label, subject.progress)
        scores.append({"digits": digits, "language": language, **score(problems, answers)})
    return {"scores": scores}


def measure_gsm8k_test(subject: Subject) -> dict:
    """Exact answers to test problems in GSM8K's form, after the model's own reasoning."""
    source = subject.data.find(Gsm8k)
    if source is None:
        reason = "the recipe has no source of kind gsm8k"
        raise NotAvailable(reason) if subject.data.has_problems else NotApplicable(reason)
    with _available(source.test_files or ()):
        problems = list(source.problems("test"))
    answers = answer(subject.release, problems, REASONING_TOKENS, True, "test problems", subject.progress)
    dataset = source.hub_id if source.test_is_from_hub else None
    return {"data": source.test_name, "dataset": dataset, **score(problems, answers)}


def measure_expert_load(subject: Subject) -> dict:
    """Each expert's share of the tokens as a multiple of the fair share, over each set and over all together."""
    if not subject.release.config.mixture_layers:
        raise NotApplicable("the model has no experts: every token passes through all of its weights")
    sets = subject.load_documents()
    counts = {name: expert_load(subject.release.model, documents) for name, documents in sets.items()}
    return {name: _load(counts_LE) for name, counts_LE in {"together": sum(counts.values()), **counts}.items()}


def measure_loops(subject: Subject) -> dict:
    """Loss on the held-out documents, and the speed at which they were read, for several numbers of loops."""
    config = subject.release.config
    if not config.num_shared_layers:
        raise NotApplicable("the model has no shared layers to loop")
    documents: Any = subject.validation
    scores = []
    for loops in sorted({*COUNTS_OF_LOOPS, config.num_loops}):
        model, started = with_loops(subject.release.model, loops), time.perf_counter()
        loss = validation_loss(model, documents)
        speed = loss.tokens / (time.perf_counter() - started)
        figures = {"nats_per_token": loss.nats_per_token, "bits_per_byte": loss.bits_per_byte}
        scores.append({"loops": loops, **figures, "tokens_per_second": round(speed, 1)})
    return {"documents": len(documents), "machine": machine(), "scores": scores}


def measure_speed(subject: Subject) -> dict:
    """Tokens per second and memory on this machine."""
    return speed.measure(subject.release)


TASKS: MappingProxyType[str, Callable[[Subject], dict]] = MappingProxyType(
    {
        "validation": measure_validation,
        "arithmetic": measure_arithmetic,
        "arithmetic_reasoning": measure_arithmetic_reasoning,
        "gsm8k_test": measure_gsm8k_test,
        "expert_load": measure_expert_load,
        "loops": measure_loops,
        "speed": measure_speed,
    }
)
"""Task → what measures it. It raises NotAvailable without its data, NotApplicable for a model of another kind."""

READ_DATA = frozenset({"validation", "gsm8k_test", "expert_load", "loops"})
"""The tasks that read data, which may be local files."""


def _dataset(source: object) -> str | None:
    return source.hub_id if isinstance(source, FileSource) and source.is_from_hub else None


def _load(counts_LE: torch.Tensor) -> dict:
    """Multiples of the fair share per layer and expert, and their extremes."""
    load_LE = counts_LE * counts_LE.shape[1] / counts_LE.sum(dim=1, keepdim=True)
    return {
        "layers": [[round(load, 4) for load in row] for row in load_LE.tolist()],
        "lowest": round(load_LE.min().item(), 4),
        "highest": round(load_LE.max().item(), 4),
    }
