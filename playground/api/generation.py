"""What the OpenAI-compatible API generates: from a checked request to the parts of its response."""

import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from transformers import LogitsProcessor

from axion.errors import AxionError
from axion.inference.readers import SharedDraws
from axion.inference.stream import encode_prompt, end_tokens
from axion.inference.variants import with_loops, with_tampering
from axion.model.modeling_axion import AxionForCausalLM
from playground.api.json_mode import JsonOnly
from playground.api.logits import LogitBias, Penalties, Score, score_tokens
from playground.api.requests import ApiError, CompletionRequest, refuse
from playground.api.responses import Answer, Delta, Part, Usage, with_logprobs
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.chat import answer_prompt
from playground.generate.events import MAX_SECONDS, live_events
from playground.generate.refusal import Refusal
from playground.generate.request import LIMITS, Prompt, Request, check_loops, check_prompt

TEXTS_AT_ONCE = 16
"""Texts of one request that are generated together, at most."""


@dataclass(frozen=True)
class _Encoded:
    """A prompt, as text and as token ids."""

    text: Prompt
    ids: tuple[int, ...]


def generate(catalogue: Catalogue, asked: CompletionRequest) -> Generator[Part | Usage, None, None]:
    """The parts of the response, of several choices in turns, and at the end the usage.

    Raises:
        ApiError: the model cannot serve the request, or failed.
    """
    try:
        model = catalogue.open_for_program(asked.model)
    except AxionError as error:  # the name is known, so its release is broken
        raise ApiError(500, str(error), "model") from None
    try:
        check_loops(model, asked.sampling)
    except Refusal as error:
        refuse(str(error), "num_loops")
    try:
        asked.tampering.check(model.release.config)
    except AxionError as error:
        refuse(str(error), next(iter(asked.tampering.to_texts())))
    prompts = _encode_prompts(model, asked)
    _check_ids(model, "logit_bias", asked.logit_bias)
    if asked.json_mode and not _end_tokens(model):
        refuse(f"response_format: {model.name} has no token that ends a text", "response_format")
    deadline = time.monotonic() + MAX_SECONDS
    shared = SharedDraws() if asked.generations > 1 else None
    answers = [[Answer(asked.stops) for _ in range(asked.best_of)] for _ in prompts]
    texts = (
        _generate_text(model, asked, prompt, number, answer, deadline, shared)
        for prompt, of_prompt in zip(prompts, answers, strict=True)
        for number, answer in enumerate(of_prompt)
    )
    with closing(_take_turns(texts)) as parts:
        yield from parts if asked.best_of == asked.n else _keep_best(parts, answers, asked.n)
    new_tokens = sum(answer.new_tokens for of_prompt in answers for answer in of_prompt)
    yield Usage(sum(len(prompt.ids) for prompt in prompts), new_tokens)


def _encode_prompts(model: OpenModel, asked: CompletionRequest) -> list[_Encoded]:
    if asked.kind == "completion":
        return [_encode(model, prompt, "prompt") for prompt in asked.prompts]
    try:
        return [_encode(model, check_prompt(answer_prompt(model, asked.messages)), "messages")]
    except AxionError as error:
        refuse(str(error), "messages")


def _encode(model: OpenModel, prompt: Prompt | tuple[int, ...], param: str) -> _Encoded:
    tokenizer, context = model.release.tokenizer, model.facts.context
    if isinstance(prompt, tuple):
        _check_ids(model, param, prompt)
        encoded = _Encoded(Prompt(str(tokenizer.decode(list(prompt), skip_special_tokens=True))), prompt)
    else:
        try:
            encoded = _Encoded(prompt, tuple(encode_prompt(tokenizer, prompt)))
        except AxionError as error:
            refuse(str(error), param)
    if (count := len(encoded.ids)) >= context:
        refuse(
            f"the prompt has {count} tokens; it must leave room in the model's context of {context} tokens",
            param,
            "context_length_exceeded",
        )
    return encoded


def _check_ids(model: OpenModel, param: str, ids: Sequence[int] | Mapping[int, float]) -> None:
    vocabulary = model.release.config.vocab_size
    if wrong := [token for token in ids if token >= vocabulary]:
        refuse(f"{param}: {model.name} has no token {wrong[0]}; its token ids are 0 to {vocabulary - 1}", param)


def _take_turns(texts: Iterator[Generator[Part, None, None]]) -> Generator[Part, None, None]:
    """The parts of all texts, which are numbered from 0: one of each in turn, of TEXTS_AT_ONCE at a time.

    Texts that take turns draw their tokens together. Where one ends the next begins.
    """
    running: list[tuple[int, Generator[Part, None, None]]] = []
    waiting = enumerate(texts)
    try:
        while running := [*running, *islice(waiting, TEXTS_AT_ONCE - len(running))]:
            for number, text in tuple(running):
                if (part := next(text, None)) is None:
                    running.remove((number, text))
                else:
                    yield replace(part, index=number)
    finally:
        for _, text in running:
            text.close()


def _keep_best(parts: Iterable[Part], answers: Sequence[Sequence[Answer]], n: int) -> Generator[Part, None, None]:
    """The parts of the `n` likeliest texts of each prompt, likeliest first, numbered anew."""
    of_text: defaultdict[int, list[Part]] = defaultdict(list)
    for part in parts:
        of_text[part.index].append(part)
    first = 0
    for place, of_prompt in enumerate(answers):
        order = sorted(range(len(of_prompt)), key=lambda number: -of_prompt[number].mean_logprob)
        for rank, number in enumerate(order[:n]):
            yield from (replace(part, index=place * n + rank) for part in of_text[first + number])
        first += len(of_prompt)


def _generate_text(
    model: OpenModel,
    asked: CompletionRequest,
    prompt: _Encoded,
    number: int,
    answer: Answer,
    deadline: float,
    shared: SharedDraws | None,
) -> Generator[Part, None, None]:
    """The parts of the text with this number among those of its prompt."""
    seed = (asked.sampling.seed + number) % (int(LIMITS["seed"].high) + 1)
    sampling = replace(asked.sampling, seed=seed)
    processors = _processors(model, asked, len(prompt.ids))
    request = Request(
        model.name, prompt.text, sampling, ids=prompt.ids, processors=processors, tampering=asked.tampering
    )
    with closing(_generate_events(model, asked, request, deadline, shared)) as events:
        for event in events:
            if event["kind"] == "start":
                yield Part(number, Delta(), start=event)
            else:
                delta = answer.take(event)
                yield Part(number, delta, ending=answer.ending)
            if answer.ended_by:
                return


def _processors(model: OpenModel, asked: CompletionRequest, prompt_length: int) -> tuple[LogitsProcessor, ...]:
    processors: list[LogitsProcessor] = []
    if asked.logit_bias:
        processors.append(LogitBias(asked.logit_bias))
    if asked.presence_penalty or asked.frequency_penalty:
        processors.append(Penalties(prompt_length, asked.presence_penalty, asked.frequency_penalty))
    if asked.json_mode:
        processors.append(JsonOnly(model.release.tokenizer, prompt_length, _end_tokens(model)))
    return tuple(processors)


def _generate_events(
    model: OpenModel, asked: CompletionRequest, request: Request, deadline: float, shared: SharedDraws | None
) -> Generator[dict[str, Any], None, None]:
    """The events of a generation (see `playground.generate.events`), with log probabilities where they were asked for.

    The `end_token` event precedes the end of a completion with log probabilities: clients expect the token that ended
    the text among them.
    """
    assert request.ids is not None, "the prompt was encoded"
    scored_by = _scorer(model, asked)
    ids = list(request.ids)
    is_scored = asked.echo and asked.top is not None
    scores = iter(score_tokens(scored_by, ids, asked.top or 1) if is_scored else ())
    unread = len(ids)
    seconds = max(0.0, deadline - time.monotonic())
    with closing(live_events(model, request, seconds, cut=False, shared=shared)) as events:
        for event in events:
            if event["kind"] == "error":
                raise ApiError(500, event["message"])
            if event["kind"] == "step" and event["prompt"]:
                unread -= 1
            elif event["kind"] != "start":
                if is_scored and unread:  # a text may be cut short, but not the scores of a prompt
                    raise ApiError(503, f"reading the prompts took longer than {MAX_SECONDS} s; send fewer at once")
                if not asked.generates:
                    yield {"kind": "end", "reason": "length"}
                    return
            yield from _for_client(model, asked, event, ids, scores)


def _for_client(
    model: OpenModel, asked: CompletionRequest, event: dict[str, Any], ids: list[int], scores: Iterator[Score]
) -> Iterator[dict[str, Any]]:
    """The event with its log probabilities, after the token that ended a text.

    Args:
        ids: the tokens before this event; a new token is appended.
        scores: of the prompt's tokens after the first, those that have not been used.
    """
    if event["kind"] == "step":
        if not event["prompt"]:
            ids.append(event["id"])
        if asked.top is not None:
            score = next(scores, None) if event["prompt"] and event["i"] > 0 else None
            event = with_logprobs(event, model.release.tokenizer, asked.top, score)
    elif event["kind"] == "end" and event["reason"] == "eos" and asked.kind == "completion" and asked.top is not None:
        yield _end_token(model, asked, ids, asked.top)
    yield event | {"limit": MAX_SECONDS} if "limit" in event else event  # the limit of all texts together


def _end_tokens(model: OpenModel) -> list[int]:
    """The tokens that end a text, of those that the model has."""
    ends = end_tokens(model.release.model, model.release.tokenizer)
    return sorted(token for token in ends if token < model.release.config.vocab_size)


def _scorer(model: OpenModel, asked: CompletionRequest) -> AxionForCausalLM:
    """The model as the request asks for it."""
    return with_tampering(with_loops(model.release.model, asked.sampling.num_loops), asked.tampering)


def _end_token(model: OpenModel, asked: CompletionRequest, ids: Sequence[int], top: int) -> dict[str, Any]:
    """The likeliest of the tokens that end a text, after these tokens."""
    scored_by = _scorer(model, asked)
    score, token = max((score_tokens(scored_by, [*ids, end], top)[-1], end) for end in _end_tokens(model))
    event = {"kind": "end_token", "id": token, "t": "", "prompt": False, "p": score.probability, "alt": []}
    return with_logprobs(event, model.release.tokenizer, top, score)
