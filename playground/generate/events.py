"""The events of a generation, which every view reads as NDJSON: one JSON object per line, and lines are only appended.

    {"kind": "start", "model": …, "prompt": …, "layers": …, "experts": …, …}          see start_event
    {"kind": "step", "s": seconds since the start, …Step.to_record()}                 one for each token
    {"kind": "end", "reason": "eos" | "length" | "context" | "time" | "recorded"}     always last; perhaps with "check":
                                                                                      see playground.generate.verdicts
    {"kind": "error", "message": …}                                                   instead of the end, or alone
    {"kind": "open", "model": …, "prompt": …, "sampling": …, "forced": …, …}          alone: a request to be made

Gradio sends only the added part of a text that grows, which is the fastest way to stream here.
"""

import json
import logging
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from axion.errors import AxionError
from axion.inference.readers import SharedDraws
from axion.inference.routing import routers
from axion.inference.rows import layer_passes
from axion.inference.stream import Step, encode_prompt, end_tokens
from axion.inference.variants import with_loops, with_tampering
from axion.model.mixture_axion import AxionRouter
from axion.model.modeling_axion import AxionForCausalLM
from axion.tampering import NOTHING, Tampering
from playground.generate.catalogue import OpenModel, recorded_example
from playground.generate.questions import to_type
from playground.generate.refusal import Refusal, tell
from playground.generate.request import Request
from playground.generate.verdicts import check_written
from playground.locales import DEFAULT, Language

UPDATES_PER_SECOND = 40
"""At most: the page draws once per frame and skips frames while it does."""
MAX_SECONDS = 60.0
"""Time limit of one generation."""

log = logging.getLogger(__name__)


def start_event(
    model: OpenModel,
    prompt: str,
    sampling: Mapping,
    forced: Sequence[int] = (),
    recorded: bool = False,
    dropped: int = 0,
    tampering: Tampering = NOTHING,
    question: str | None = None,
) -> dict:
    """The first event: what is generated, and everything needed to generate it again.

    Args:
        forced: the first new tokens, which were given and not drawn.
        dropped: how many tokens were cut off the start of a prompt that was longer than the context.
        question: what was typed, where the prompt is the form of it that the model was taught.

    Returns:
        Besides the arguments: "run", an id that differs when the same request is made again; the model's shape, context
        in tokens and cache bytes per token; "rows", the layer and the loop of each row of routing; "passes", the same
        of all layers; "groups", how many groups of experts there are and how many of them a token may choose from;
        "ends", the ids of the tokens that end a text; "special", those of the tokens that never have a text; "release",
        a hash of the files that decide it (see `OpenModel.fingerprint`); "tampering", what was changed in the model, as
        texts by name; and "bias" [L][E], which load balancing adds to each expert's affinity when experts are chosen.
    """
    facts, release = model.facts, model.release
    read = with_loops(release.model, sampling.get("num_loops", 0))
    rows, deeper = routers(read), read.config.depth() / release.config.depth()
    return {
        "kind": "start",
        "model": model.name,
        "run": secrets.token_hex(4),
        "recorded": recorded,
        "prompt": prompt,
        "question": question,
        "sampling": dict(sampling),
        "forced": list(forced),
        "dropped": dropped,
        "context": facts.context,
        "ends": sorted(end_tokens(release.model, release.tokenizer)),
        "special": sorted(id_ for id_, token in release.tokenizer.added_tokens_decoder.items() if token.special),
        "release": model.fingerprint,
        "layers": len(rows),
        "first_layer": facts.first_layer if rows else None,
        "rows": [list(row) for row in rows],
        "passes": [list(row) for row in layer_passes(read.config)],
        "attention": facts.attention,
        "all_layers": facts.all_layers,
        "heads": facts.heads,
        "vocabulary": read.config.vocab_size,
        "groups": [read.config.n_group, read.config.topk_group],
        "experts": facts.experts,
        "experts_per_token": tampering.experts_per_token(read.config) if rows else 0,
        "shared_experts": facts.shared_experts,
        "cache_bytes": round(facts.cache_bytes * deeper),
        "plain_cache_bytes": round(facts.plain_cache_bytes * deeper),
        "tampering": tampering.to_texts(),
        "bias": [_round(tampering.bias(row.layer, _own_bias(router))) for row, router in rows.items()],
    }


def _own_bias(router: AxionRouter) -> np.ndarray:
    return router.e_score_correction_bias.cpu().numpy()


def _round(numbers: np.ndarray) -> list[float]:
    return [round(number, 4) for number in numbers.tolist()]


@lru_cache(maxsize=16)
def _changed(model: AxionForCausalLM, tampering: Tampering) -> AxionForCausalLM:
    """`with_tampering`, which copies all modules of a model: once for all texts of a request, and for repeated ones."""
    return with_tampering(model, tampering)


def live_events(
    model: OpenModel,
    request: Request,
    max_seconds: float = MAX_SECONDS,
    cut: bool = True,
    language: Language = DEFAULT,
    shared: SharedDraws | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Generate, and yield the events. Closing this iterator closes the model's stream at once.

    Args:
        model: the one that `request` names, opened.
        cut: whether a prompt that is longer than the context is cut at its start; otherwise it is an error.
        language: of the error messages, where they are translated.
        shared: as in `axion.inference.stream.stream`.
    """
    try:
        ids, dropped = _fit(model, request) if cut else (_encode(model, request), 0)
        steps = model.stream(
            _changed(model.release.model, request.tampering) if request.tampering else model.release.model,
            model.release.tokenizer,
            ids,
            request.sampling,
            forced=request.forced,
            processors=request.processors,
            shared=shared,
        )
        last: Step | None = None
        new_tokens, written = 0, []
        with closing(steps):  # it has checked its arguments: a request that must fail never starts
            yield start_event(
                model,
                request.prompt,
                asdict(request.sampling),
                request.forced,
                dropped=dropped,
                tampering=request.tampering,
                question=request.question,
            )
            deadline = time.monotonic() + max_seconds
            for last in steps:
                new_tokens += not last.is_prompt
                written += [] if last.is_prompt else [last.text]
                yield {"kind": "step", "s": round(last.seconds, 4), **last.to_record()}
                if time.monotonic() > deadline:
                    yield {"kind": "end", "reason": "time", "limit": max_seconds}
                    return
        reason = _reason(model, request, last, new_tokens)
        checked = check_written(request.prompt, "".join(written)) if reason == "eos" else {}
        yield {"kind": "end", "reason": reason, **checked}
    except AxionError as error:
        yield {"kind": "error", "message": tell(error, language)}
    except Exception:
        log.exception("a generation failed")
        yield {"kind": "error", "message": Refusal("failed").tell(language)}


def _encode(model: OpenModel, request: Request) -> list[int]:
    return encode_prompt(model.release.tokenizer, request.prompt) if request.ids is None else list(request.ids)


def _fit(model: OpenModel, request: Request) -> tuple[list[int], int]:
    """The prompt's token ids, and how many were cut off.

    A prompt that fills the context keeps its first token, which starts every text, and as much of its end as leaves
    room for the new tokens that were asked for, but for at most half of the context.
    """
    ids = _encode(model, request)
    context = model.release.config.max_position_embeddings
    if len(ids) < context:
        return ids, 0
    kept = context - min(request.sampling.max_new_tokens, context // 2)
    return ids[:1] + ids[len(ids) - kept + 1 :], len(ids) - kept


def recorded_events(model: OpenModel, language: Language = DEFAULT) -> Iterator[dict[str, Any]]:
    """The events of the release's recorded example in this language; none where it has no example."""
    if example := recorded_example(model.release, language):
        prompt = example["prompt"]
        typed, _ = to_type(model.release, prompt, language)
        question = typed if typed != prompt else None
        yield start_event(model, prompt, example["sampling"], recorded=True, question=question)
        yield from ({"kind": "step", **record} for record in example["steps"])
        written = "".join(record["t"] for record in example["steps"] if not record["prompt"])
        yield {"kind": "end", "reason": "recorded", **check_written(prompt, written)}


def recorded_text(model: OpenModel, language: Language = DEFAULT) -> str:
    """The text of a trace's view for the release's recorded example in this language."""
    return "".join(map(to_line, recorded_events(model, language)))


def error_text(message: str, of: str | None = None) -> str:
    """The whole text of a view that shows only this error.

    Args:
        of: what failed when it was not a generation: the "link" that was opened, or a model's "example".
    """
    return to_line({"kind": "error", "message": message} | ({"of": of} if of else {}))


def to_line(event: Mapping) -> str:
    """One event as a line of NDJSON. Every `<` is escaped, so that nothing on the way to the view reads it as markup.

    Raises:
        ValueError: a number is NaN or infinite, which no browser parses.
    """
    line = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return line.replace("<", "\\u003c") + "\n"


def growing_text(events: Iterable[dict], clock: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """Yield all lines so far as events arrive, at most UPDATES_PER_SECOND times a second and at the end.

    Every text starts with the previous one. Closing this iterator closes `events`.
    """
    text, sent, last_sent = "", 0, -float("inf")
    try:
        for event in events:
            text += to_line(event)
            if clock() - last_sent >= 1 / UPDATES_PER_SECOND:
                yield text
                sent, last_sent = len(text), clock()
        if len(text) > sent:
            yield text
    finally:
        if isinstance(events, Generator):
            events.close()


def _reason(model: OpenModel, request: Request, last: Step | None, new_tokens: int) -> str:
    """Why the generation ended: the model's end-of-text token, the requested length, or a full context."""
    if new_tokens >= request.sampling.max_new_tokens:
        return "length"
    positions = 0 if last is None else last.position + 1
    return "context" if positions >= model.release.config.max_position_embeddings else "eos"
