"""Measures a model: loss on held-out GSM8K, unseen sums, GSM8K's test set, expert load and speed.

Text is generated greedily, so a second run gives the same results, except for the speed. A task whose data is not
available is reported as skipped, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch
from tqdm import tqdm

from axion.data.batches import batches_by_length
from axion.data.format import ANSWER, Problem, parse_answer, prompt
from axion.data.prepare import ValidationDocument, validation_documents
from axion.data.recipe import DataRecipe
from axion.data.sources import Gsm8k
from axion.data.sources.arithmetic import LANGUAGES, arithmetic_tests
from axion.errors import AxionError
from axion.evaluation import speed
from axion.inference.routing import expert_load
from axion.release import Release
from axion.tokenizer import encode_document, encode_documents
from axion.training.validation import validation_loss

DIGITS = (1, 2)
ARITHMETIC_PROMPTS = 500
"""The most prompts per language and number of digits; with one digit there are only 155 different ones."""
ARITHMETIC_SEED = 0
ANSWER_TOKENS = 12
"""Enough for the answer to a sum and its `<eos>`."""
REASONING_TOKENS = 256
"""Enough for the reasoning and the answer of nearly all problems in GSM8K."""
PROMPT_TOKENS_PER_BATCH = 32_768

NORMAL_97_5 = 1.959963984540054
"""The standard normal distribution's 97.5% quantile, for intervals of 95%."""


def evaluate(
    release: Release,
    data: DataRecipe,
    tasks: Sequence[str] | None = None,
    progress: bool = False,
    known: Mapping[str, dict] | None = None,
) -> dict:
    """Measures a release.

    Args:
        release: the model and its tokenizer.
        data: where GSM8K comes from and how it was split; the data part of the recipe that the model was trained with.
        tasks: names from TASKS; by default all whose data is available.
        progress: whether to show progress bars on standard error.
        known: earlier results that still hold; these tasks are not measured again.

    Returns:
        Task → its results and the "command" that repeats the measurement, or {"skipped": reason}.

    Raises:
        AxionError: a task is unknown, a local data file is broken, or the data of a task in `tasks` is not available.
    """
    if unknown := sorted(set(tasks or ()) - set(TASKS)):
        raise AxionError(f"no task {unknown[0]!r}; known: {', '.join(TASKS)}")
    evaluation = _Evaluation(release, data, progress)
    results, known = {}, known or {}
    for task in TASKS if tasks is None else dict.fromkeys(tasks):
        if task in known:
            results[task] = known[task]
            continue
        try:
            figures = TASKS[task](evaluation)
        except _NotAvailable as reason:
            if tasks is not None:
                raise
            results[task] = {"skipped": str(reason)}
        else:
            results[task] = figures | {"command": f"python -m axion eval {release.name} --tasks {task}"}
    return results


def load_documents(release: Release, data: DataRecipe) -> dict[str, list[list[int]]]:
    """The documents over which expert load is measured, as token ids by set; GSM8K only where it is available."""
    return _Evaluation(release, data, progress=False).load_documents()


class _NotAvailable(AxionError):
    """The data of a task is not available: no network, or a recipe without real data."""


@contextmanager
def _available(files: Sequence[str] | None) -> Iterator[None]:
    """Around reading data: a broken local file is an error; without local files, failing means not available."""
    try:
        yield
    except AxionError as error:
        if files:
            raise
        raise _NotAvailable(str(error)) from None


class _Evaluation:
    """The tasks on one release; what several of them need is made once."""

    def __init__(self, release: Release, data: DataRecipe, progress: bool):
        self.release = release
        self.data = data
        self.progress = progress

    def measure_validation(self) -> dict:
        """Loss on GSM8K's held-out documents, each once, complete and in the reasoning form."""
        documents: Any = self.validation  # their ids are arrays, which work as sequences
        result = validation_loss(self.release.model, documents)
        return {"documents": len(self.validation), **asdict(result)}

    def measure_arithmetic(self) -> dict:
        """Exact answers to sums and differences; those with two digits have operand pairs unseen in training."""
        scores = []
        for (digits, language), problems in self.arithmetic.items():
            answers = self._answer(problems, ANSWER_TOKENS, f"{digits}-digit sums ({language})")
            scores.append({"digits": digits, "language": language, **score(problems, answers)})
        return {"scores": scores}

    def measure_gsm8k_test(self) -> dict:
        """Exact answers to GSM8K's test problems, after the model's own reasoning."""
        source = self._gsm8k()
        with _available(source.test_files):
            problems = list(source.problems("test"))
        return score(problems, self._answer(problems, REASONING_TOKENS, "GSM8K test", reasoning=True))

    def measure_expert_load(self) -> dict:
        """Each expert's share of the tokens as a multiple of the fair share, over each set and over all together."""
        sets = self.load_documents()
        counts = {name: expert_load(self.release.model, documents) for name, documents in sets.items()}
        return {name: _load(counts_LE) for name, counts_LE in {"together": sum(counts.values()), **counts}.items()}

    def measure_speed(self) -> dict:
        """Tokens per second and memory on this machine."""
        return speed.measure(self.release)

    def load_documents(self) -> dict[str, list[list[int]]]:
        """Set → token ids of its documents."""
        texts = [problem.document() for problems in self.arithmetic.values() for problem in problems]
        sets = {"arithmetic": encode_documents(self.release.tokenizer, texts)}
        with suppress(_NotAvailable):  # a model trained on synthetic data alone is measured on arithmetic only
            sets = {"gsm8k_validation": [document.ids.tolist() for document in self.validation]} | sets
        return sets

    @cached_property
    def validation(self) -> list[ValidationDocument]:
        """GSM8K's held-out documents, in this release's tokens."""
        source = self._gsm8k()
        with _available(source.files):
            held_out = validation_documents(source, self.data, self.release.tokenizer)
        if not held_out:
            raise AxionError("data.val_fraction holds out none of the problems; give more data")
        return held_out

    @cached_property
    def arithmetic(self) -> dict[tuple[int, str], list[Problem]]:
        """(digits, language) → the problems to ask."""
        return {
            (digits, language): arithmetic_tests(
                digits, language, ARITHMETIC_PROMPTS, ARITHMETIC_SEED, self.data.holdout_fraction
            )
            for digits in DIGITS
            for language in LANGUAGES
        }

    def _gsm8k(self) -> Gsm8k:
        source = self.data.find(Gsm8k)
        if source is None:
            raise _NotAvailable("the recipe names no real data (a source of kind gsm8k)")
        return source

    def _answer(self, problems: Sequence[Problem], max_tokens: int, label: str, reasoning: bool = False) -> list[str]:
        prompts = [prompt(problem.question, reasoning) for problem in problems]
        with tqdm(total=len(prompts), desc=label, unit="prompt", disable=not self.progress, leave=False) as bar:
            texts = complete(self.release, prompts, max_tokens, bar.update)
        if reasoning:  # without an answer section, the text's first line is no answer
            texts = [text if ANSWER in text else "" for text in texts]
        return [parse_answer(text) for text in texts]


TASKS: dict[str, Callable[[_Evaluation], dict]] = {
    "gsm8k_validation": _Evaluation.measure_validation,
    "arithmetic": _Evaluation.measure_arithmetic,
    "gsm8k_test": _Evaluation.measure_gsm8k_test,
    "expert_load": _Evaluation.measure_expert_load,
    "speed": _Evaluation.measure_speed,
}


@torch.inference_mode()
def complete(
    release: Release, prompts: Sequence[str], max_tokens: int, done: Callable[[int], object] = lambda count: None
) -> list[str]:
    """The model's greedy continuation of each prompt, up to `<eos>`, in batches of similar length."""
    model, tokenizer = release.model, release.tokenizer
    ids = [encode_document(tokenizer, text)[:-1] for text in prompts]  # without the document's <eos>
    texts = [""] * len(ids)
    for batch in batches_by_length(ids, PROMPT_TOKENS_PER_BATCH):
        inputs = tokenizer.pad({"input_ids": [ids[index] for index in batch]}, padding_side="left", return_tensors="pt")
        inputs = inputs.to(model.device)
        width = inputs["input_ids"].shape[1]
        outputs = model.generate(  # pyright: ignore[reportAttributeAccessIssue] (hidden by transformers' lazy imports)
            **inputs,
            do_sample=False,
            max_new_tokens=max(1, min(max_tokens, model.config.max_position_embeddings - width)),
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        answers = tokenizer.batch_decode(outputs[:, width:], skip_special_tokens=True)
        for index, answer in zip(batch, answers, strict=True):
            texts[index] = answer
        done(len(batch))
    return texts


def score(problems: Sequence[Problem], answers: Sequence[str]) -> dict:
    """The number of exact matches and their share, with its 95% interval."""
    correct = sum(parse_answer(problem.answer) == answer for problem, answer in zip(problems, answers, strict=True))
    total = len(problems)
    return {
        "correct": correct,
        "total": total,
        "accuracy": correct / total,
        "interval": wilson_interval(correct, total),
    }


def wilson_interval(correct: int, total: int) -> list[float]:
    """Wilson's 95% score interval of a share, [low, high]; within 0 and 1, and not empty for shares of 0 or 1.

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209–212.
    """
    share, z2 = correct / total, NORMAL_97_5**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = NORMAL_97_5 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return [round(max(0.0, centre - half), 6), round(min(1.0, centre + half), 6)]


def _load(counts_LE: torch.Tensor) -> dict:
    """Multiples of the fair share per layer and expert, and their extremes."""
    load_LE = counts_LE * counts_LE.shape[1] / counts_LE.sum(dim=1, keepdim=True)
    return {
        "layers": [[round(load, 4) for load in row] for row in load_LE.tolist()],
        "lowest": round(load_LE.min().item(), 4),
        "highest": round(load_LE.max().item(), 4),
    }
