"""From a generation to the text that the trace view reads: one JSON object a line, and lines are only ever added.

    {"kind": "start", "model": …, "prompt": …, "layers": …, "experts": …, …}          what is drawn; see start_event
    {"kind": "step", "s": seconds since the start, …Step.to_record()}                 one for each token
    {"kind": "end", "reason": "eos" | "length" | "context" | "time" | "recorded"}     nothing follows
    {"kind": "error", "message": …}                                                   in the place of the end, or alone
    {"kind": "open", "model": …, "prompt": …, "sampling": …, "forced": …}             alone: the view shall ask for this

A flat text that grows is what Gradio streams fastest: it sends the added part alone.
"""

import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict

from axion.errors import AxionError
from axion.inference.routing import routers
from axion.inference.stream import Step, encode_prompt, end_tokens
from playground.generate.catalogue import OpenModel
from playground.generate.request import Request

UPDATES_PER_SECOND = 40
"""At most. The page draws what has come at every frame, and misses some while it does so."""
MAX_SECONDS = 60.0

log = logging.getLogger(__name__)


def start_event(
    model: OpenModel,
    prompt: str,
    sampling: Mapping,
    forced: Sequence[int] = (),
    recorded: bool = False,
    dropped: int = 0,
) -> dict:
    """The first event: what is drawn, and all that somebody needs to draw it again.

    Args:
        forced: the new tokens that were given and not drawn: those before a branch, and the one that it took.
        dropped: how many tokens were cut off the beginning of a prompt that was longer than the context.

    Returns:
        Beside these: "run", which tells a repeated generation from the one before; the model's shape, and its context
        in tokens; its cache's bytes per token; "ends", the ids of the tokens that end a text; and "bias" [L][E], what
        balancing adds to each expert's affinity when it chooses.
    """
    facts, release = model.facts, model.release
    return {
        "kind": "start",
        "model": model.name,
        "run": secrets.token_hex(4),
        "recorded": recorded,
        "prompt": prompt,
        "sampling": dict(sampling),
        "forced": list(forced),
        "dropped": dropped,
        "context": facts.context,
        "ends": sorted(end_tokens(release.model, release.tokenizer)),
        "layers": facts.layers,
        "first_layer": facts.first_layer,
        "experts": facts.experts,
        "experts_per_token": facts.experts_per_token,
        "shared_experts": facts.shared_experts,
        "cache_bytes": facts.cache_bytes,
        "plain_cache_bytes": facts.plain_cache_bytes,
        "bias": [
            [round(bias, 4) for bias in router.e_score_correction_bias.tolist()]
            for router in routers(release.model).values()
        ],
    }


def live_events(
    model: OpenModel, request: Request, max_seconds: float = MAX_SECONDS, cut: bool = True
) -> Iterator[dict]:
    """Generate, and yield the events. Closing this iterator closes the model's own stream at once.

    Args:
        cut: whether a prompt that is longer than the context loses its beginning; else it is an error.
    """
    try:
        ids, dropped = _fit(model, request) if cut else (encode_prompt(model.release.tokenizer, request.prompt), 0)
        steps = model.stream(model.release.model, model.release.tokenizer, ids, request.sampling, forced=request.forced)
        last: Step | None = None
        new_tokens = 0
        with closing(steps):  # which has checked its arguments: nothing is drawn of a wish that cannot be granted
            yield start_event(model, request.prompt, asdict(request.sampling), request.forced, dropped=dropped)
            deadline = time.monotonic() + max_seconds
            for last in steps:
                new_tokens += not last.is_prompt
                yield {"kind": "step", "s": round(last.seconds, 4), **last.to_record()}
                if time.monotonic() > deadline:
                    yield {"kind": "end", "reason": "time", "limit": max_seconds}
                    return
        yield {"kind": "end", "reason": _reason(model, request, last, new_tokens)}
    except AxionError as error:
        yield {"kind": "error", "message": str(error)}
    except Exception:
        log.exception("a generation failed")
        yield {"kind": "error", "message": "the server failed while it generated; its log says more"}


def _fit(model: OpenModel, request: Request) -> tuple[list[int], int]:
    """The prompt's tokens and how many were cut off.

    A prompt that fills the context keeps its first token, which begins every text, and its end, with room for what was
    asked for, though for no more than half of the context.
    """
    ids = encode_prompt(model.release.tokenizer, request.prompt)
    context = model.release.config.max_position_embeddings
    if len(ids) < context:
        return ids, 0
    kept = context - min(request.sampling.max_new_tokens, context // 2)
    return ids[:1] + ids[len(ids) - kept + 1 :], len(ids) - kept


def recorded_events(model: OpenModel) -> Iterator[dict]:
    """The events of the release's recorded example; none when the release carries no example."""
    if trace := model.release.trace:
        yield start_event(model, trace["prompt"], trace["sampling"], recorded=True)
        yield from ({"kind": "step", **record} for record in trace["steps"])
        yield {"kind": "end", "reason": "recorded"}


def error_text(message: str, of: str | None = None) -> str:
    """The whole text of a view that has nothing to show but `message`.

    Args:
        of: what is at fault, where it is no generation: "link", which was opened, or a model's "example".
    """
    return to_line({"kind": "error", "message": message} | ({"of": of} if of else {}))


def to_line(event: Mapping) -> str:
    """One event as a line of NDJSON, with every `<` as an escape: on no way to the view can it be taken for markup.

    NaN is refused, since no browser would read it.
    """
    line = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return line.replace("<", "\\u003c") + "\n"


def growing_text(events: Iterable[dict], clock: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """All lines so far, again and again as events arrive, at most UPDATES_PER_SECOND times a second and at the end.

    Every text starts with the one before it. Closing this iterator closes `events`.
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
        if hasattr(events, "close"):
            events.close()


def _reason(model: OpenModel, request: Request, last: Step | None, new_tokens: int) -> str:
    """Why the model stopped by itself: its end-of-text token, the asked length, or a full context."""
    if new_tokens >= request.sampling.max_new_tokens:
        return "length"
    positions = 0 if last is None else last.position + 1
    return "context" if positions >= model.release.config.max_position_embeddings else "eos"
