"""What a looped model gains by running its shared layers more often."""

from __future__ import annotations

import time
from typing import Any

from axion.evaluation.answers import answer, score
from axion.evaluation.intervals import bootstrap_difference
from axion.evaluation.outcomes import OUTCOMES, Outcomes
from axion.evaluation.questions import REASONING_TOKENS, THINKING_TOKENS, event_questions
from axion.evaluation.subject import NotApplicable, Subject
from axion.inference.readers import pick_backend
from axion.machine import machine
from axion.release import Release
from axion.training.validation import document_losses, total_loss

COUNTS_OF_LOOPS = (1, 2, 4, 8)
"""How often the shared layers of a looped model run, besides as often as it was trained with."""


def measure_loops(subject: Subject) -> dict:
    """Loss on the held-out documents and the speed at which they were read, for several numbers of loops.

    For a model that was trained on problems also its exact answers to problems of several steps, and how far their
    share is above that with one loop, over the same problems.
    """
    config = subject.release.config
    if not config.num_shared_layers:
        raise NotApplicable("the model has no shared layers to loop")
    documents: Any = subject.validation
    pick_backend(subject.release.model)  # compiles the kernels, which must not be timed
    scores, first = [], None
    for loops in sorted({*COUNTS_OF_LOOPS, config.num_loops}):
        release, started = subject.release.with_loops(loops), time.perf_counter()
        loss = total_loss(document_losses(release.model, documents))
        speed = loss.tokens / (time.perf_counter() - started)
        figures = {"nats_per_token": loss.nats_per_token, "bits_per_byte": loss.bits_per_byte}
        scores.append({"loops": loops, **figures, "tokens_per_second": round(speed, 1)})
        if subject.data.has_problems and subject.data.holdout_fraction:
            scores[-1]["problems"], outcomes = _problems(subject, release, first)
            first = first or outcomes
    return {"documents": len(documents), "machine": machine(), "scores": scores}


def _problems(subject: Subject, release: Release, first: Outcomes | None) -> tuple[dict, Outcomes]:
    """The score on problems of several steps, and its outcomes.

    Args:
        first: the outcomes with one loop; None where these are them.
    """
    problems = [asked.problem for asked in subject.once(event_questions) if asked.described["steps"] > 1]
    way, tokens = (None, THINKING_TOKENS) if release.thinks else (True, REASONING_TOKENS)
    answers = answer(release, problems, tokens, way, f"{release.config.num_loops} loops", subject.progress)
    measured = score(problems, answers)
    [outcomes] = measured.pop(OUTCOMES)
    if first is not None:
        measured["gain"] = outcomes.value - first.value
        measured["gain_interval"] = bootstrap_difference(first.parts, first.sizes, outcomes.parts, outcomes.sizes)
    return measured, outcomes
