"""The evaluation tasks, one function each, and `TASKS`, their names.

A task returns its figures as JSON, and beside a figure that is made of items their outcomes, see
`axion.evaluation.outcomes`. One that reads data also names it: "data" for tables, and "dataset", the data set on the
Hub, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from axion.data.sources import FileSource
from axion.evaluation import choices, speed
from axion.evaluation.calibration import measure_calibration
from axion.evaluation.dialogues import measure_dialogues
from axion.evaluation.experts import measure_experts
from axion.evaluation.intervals import bits_interval
from axion.evaluation.loops import measure_loops
from axion.evaluation.outcomes import OUTCOMES, Outcomes
from axion.evaluation.prose import measure_prose
from axion.evaluation.questions import (
    measure_arithmetic,
    measure_arithmetic_reasoning,
    measure_events,
    measure_gsm8k_majority,
    measure_gsm8k_test,
    measure_long_sums,
    measure_phrasings,
    measure_singleop,
    measure_stories,
)
from axion.evaluation.subject import NotApplicable, Subject
from axion.inference.routing import expert_load
from axion.training.validation import document_losses, total_loss


def measure_validation(subject: Subject) -> dict:
    """Loss on whole held-out documents, each in its own form: those of real text, or all if there is none."""
    documents: Any = subject.validation  # their ids are arrays, which work as sequences
    losses = document_losses(subject.release.model, documents)
    texts = subject.release.tokenizer.batch_decode(
        [each.ids.tolist() for each in documents], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    measured = {document.source for document in documents}
    sources = [source for source in subject.data.sources if source.kind in measured]
    return {
        "data": ", ".join(dict.fromkeys(source.data_name for source in sources)),
        "dataset": _dataset(sources[0]) if len(sources) == 1 else None,
        "documents": len(documents),
        **asdict(total_loss(losses)),
        "interval": bits_interval(losses),
        OUTCOMES: [Outcomes.of_losses(texts, losses)],
    }


def measure_expert_load(subject: Subject) -> dict:
    """Each expert's share of the tokens as a multiple of the fair share, over each set and over all together."""
    if not subject.release.config.mixture_layers:
        raise NotApplicable("the model has no experts: every token passes through all of its weights")
    sets = subject.load_documents()
    counts = {name: expert_load(subject.release.model, documents) for name, documents in sets.items()}
    return {name: _load(counts_LE) for name, counts_LE in {"together": sum(counts.values()), **counts}.items()}


def measure_speed(subject: Subject) -> dict:
    """Tokens per second and memory on this machine."""
    return speed.measure(subject.release)


TASKS: MappingProxyType[str, Callable[[Subject], dict]] = MappingProxyType(
    {
        "validation": measure_validation,
        "prose": measure_prose,
        "arithmetic": measure_arithmetic,
        "arithmetic_reasoning": measure_arithmetic_reasoning,
        "phrasings": measure_phrasings,
        "long_sums": measure_long_sums,
        "calibration": measure_calibration,
        "stories": measure_stories,
        "events": measure_events,
        "singleop": measure_singleop,
        "dialogues": measure_dialogues,
        "gsm8k_test": measure_gsm8k_test,
        "gsm8k_majority": measure_gsm8k_majority,
        "blimp": choices.measure_blimp,
        "arc_easy": choices.measure_arc_easy,
        "expert_load": measure_expert_load,
        "experts": measure_experts,
        "loops": measure_loops,
        "speed": measure_speed,
    }
)
"""Task → what measures it. It raises NotAvailable without its data, NotApplicable for a model of another kind."""

SAMPLES: MappingProxyType[str, Callable[[Subject], dict]] = MappingProxyType(
    {
        "blimp": partial(choices.measure_blimp, pairs=choices.QUICK_PAIRS),
        "arc_easy": partial(choices.measure_arc_easy, count=choices.QUICK_QUESTIONS),
    }
)
"""Task → what measures it on a fixed sample of its items, where it is wanted for the set `quick` alone."""

READ_DATA = frozenset({"validation", "gsm8k_test", "gsm8k_majority", "expert_load", "experts", "loops"})
"""The tasks that read data, which may be local files."""

CARD = ("validation", "arithmetic", "arithmetic_reasoning", "gsm8k_test", "expert_load", "experts", "loops", "speed")
QUICK = "quick"
SETS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "card": CARD,
        QUICK: (
            *("validation", "prose", "arithmetic", "phrasings", "long_sums", "calibration", "stories", "singleop"),
            *("dialogues", "blimp", "arc_easy", "experts"),
        ),
        "all": tuple(TASKS),
    }
)
"""Name → tasks: those that a release's card states, those that take about a minute for a small model, and all. A task
gives the same figures in each, but for those of SAMPLES."""


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
