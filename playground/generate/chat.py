"""From a conversation to the prompt that a model continues.

A release that was trained to chat has a chat template, which formats the whole conversation. Any other release only
completes texts: the last question alone is put into the form of its training data, and the model sees nothing before
it. A conversation that ends with the assistant's message asks for the rest of that answer.
"""

import re
from bisect import bisect_left
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeGuard

from transformers import PreTrainedTokenizerBase

from axion.errors import AxionError
from axion.inference.stream import encode_prompt
from playground.generate.catalogue import OpenModel, can_chat
from playground.generate.events import live_events
from playground.generate.presets import question_prompt
from playground.generate.refusal import Refusal, tell
from playground.generate.request import LIMITS, MAX_PROMPT_CHARACTERS, Request, check_prompt, check_settings
from playground.locales import DEFAULT, Language

ROLES = ("system", "user", "assistant")
MAX_MESSAGES = 200
MAX_CONVERSATION_CHARACTERS = 8 * MAX_PROMPT_CHARACTERS
"""In all messages together. Messages that do not fit the model's context are left out later, oldest first."""

STEP_KEYS = ("kind", "i", "t", "p", "e", "g", "s")
"""The part of a step that the view of a conversation draws; see `playground.generate.events`."""


def answer_events(
    model: OpenModel, asked: object, settings: Mapping[str, object], language: Language = DEFAULT
) -> Generator[dict[str, Any], None, None]:
    """The events of one answer (see `playground.generate.events`), without the prompt's steps.

    The first event is {"kind": "turn", "turn": the number that was sent, "left_out": messages that did not fit}.

    Args:
        asked: {"turn": a whole number, "attempt": how often this question was asked before, "messages": the
            conversation}, unchecked. Each further attempt takes the next seed.
        language: the language of error messages, where they are translated.
    """
    turn = asked.get("turn") if isinstance(asked, Mapping) else None
    turn = turn if _is_count(turn) else 0
    try:
        request, left_out = _read_question(model, asked, settings)
    except AxionError as error:
        yield {"kind": "turn", "turn": turn, "left_out": 0}
        yield {"kind": "error", "message": tell(error, language)}
        return
    yield {"kind": "turn", "turn": turn, "left_out": left_out}
    with closing(live_events(model, request, cut=False, language=language)) as events:
        for event in events:
            if event["kind"] != "step":
                yield event
            elif not event["prompt"]:
                yield {key: event[key] for key in STEP_KEYS}


def _read_question(model: OpenModel, asked: object, settings: Mapping[str, object]) -> tuple[Request, int]:
    """The request, with the seed of this attempt, and how many messages were left out of its prompt."""
    if not isinstance(asked, Mapping) or not _is_count(attempt := asked.get("attempt")):
        raise Refusal("no_question")
    seed = settings.get("seed")
    if _is_count(seed):
        settings = {**settings, "seed": (seed + attempt) % (int(LIMITS["seed"].high) + 1)}
    sampling = check_settings(settings)
    messages = asked.get("messages")
    if can_chat(model.release):
        prompt, left_out = fit_conversation(model, messages, sampling.max_new_tokens)
    else:
        prompt, left_out = last_question(model, messages), 0
    return Request(model.name, check_prompt(prompt), sampling), left_out


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def answer_prompt(model: OpenModel, messages: object) -> str:
    """The text that the model continues with its answer: the conversation, or without a chat template the question."""
    return conversation_prompt(model, messages) if can_chat(model.release) else last_question(model, messages)


def last_question(model: OpenModel, messages: object) -> str:
    """The user's last message alone, in the form of the training data, for a model that was not trained to chat.

    Raises:
        Refusal: the messages are not a conversation.
    """
    checked = check_messages(messages)
    last = max(index for index, (role, _) in enumerate(checked) if role == "user")
    begun = "".join(text for role, text in checked[last + 1 :] if role == "assistant")
    return question_prompt(model.release, checked[last][1]) + begun


def conversation_prompt(model: OpenModel, messages: object) -> str:
    """The whole conversation as one text, up to where the model's next answer starts or is to be continued.

    The release's chat template formats it. The token that starts every text is left to `encode_prompt`. The name of a
    special token inside a message is broken by a space, so that no message can pretend to come from another role.

    Args:
        messages: `{"role": "system" | "user" | "assistant", "content": str}` each, the last one from the user, or from
            the assistant as the start of the answer. Other keys are ignored.

    Raises:
        Refusal: the messages are malformed, too many or too long; the model was not trained to chat; its template
            rejects this conversation.
    """
    checked = check_messages(messages)
    tokenizer = model.release.tokenizer
    if not can_chat(model.release):
        raise Refusal("cannot_chat", model=model.name)
    safe = [{"role": role, "content": _break_special(tokenizer, text)} for role, text in checked]
    begun = safe.pop()["content"] if safe[-1]["role"] == "assistant" else ""
    try:
        prompt = str(tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template is the release's own code, and may raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise Refusal("template", model=model.name, reason=reason) from None
    begin = tokenizer.bos_token
    if (
        isinstance(begin, str)
        and begin
        and prompt.startswith(begin)
        and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
    ):
        prompt = prompt.removeprefix(begin)
    if not prompt:
        raise Refusal("empty_template", model=model.name)
    return prompt + begun


def fit_conversation(model: OpenModel, messages: object, max_new_tokens: int) -> tuple[str, int]:
    """The prompt of as much of the conversation as fits the context, and how many messages were left out.

    The oldest turns are dropped first; system messages stay. Room is left for `max_new_tokens`, but for at most half of
    the context, and the prompt is at most MAX_PROMPT_CHARACTERS long.

    Raises:
        Refusal: as `conversation_prompt`, or the last message alone is too long.
    """
    checked = [{"role": role, "content": text} for role, text in check_messages(messages)]
    starts = [index for index, message in enumerate(checked) if message["role"] == "user"]
    context = model.facts.context
    room = context - min(max_new_tokens, context // 2)

    def since(turn: int) -> list[dict]:
        kept = starts[turn] if turn else 0
        return [message for index, message in enumerate(checked) if index >= kept or message["role"] == "system"]

    def tokens(turn: int) -> int:
        prompt = conversation_prompt(model, since(turn))
        fits = len(prompt) <= MAX_PROMPT_CHARACTERS
        return len(encode_prompt(model.release.tokenizer, prompt)) if fits else MAX_CONVERSATION_CHARACTERS

    last = len(starts) - 1
    turn = bisect_left(range(last), True, key=lambda turn: tokens(turn) <= room)
    if turn == last and tokens(last) >= context:
        raise Refusal("long_question", context=context)
    return conversation_prompt(model, since(turn)), len(checked) - len(since(turn))


def check_messages(messages: object) -> list[tuple[str, str]]:
    """The messages as (role, text). Raises Refusal unless they are a conversation that asks for an answer."""
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise Refusal("no_messages")
    if len(messages) > MAX_MESSAGES:
        raise Refusal("many_messages", count=len(messages), most=MAX_MESSAGES)
    checked = [_check_message(number, message) for number, message in enumerate(messages, start=1)]
    total = sum(len(text) for _, text in checked)
    if total > MAX_CONVERSATION_CHARACTERS:
        raise Refusal("long_conversation", count=total, most=MAX_CONVERSATION_CHARACTERS)
    questions = [text for role, text in checked if role == "user"]
    if checked[-1][0] == "system" or not questions:
        raise Refusal("no_user")
    if not questions[-1].strip() or not checked[-1][1].strip():
        raise Refusal("empty_message")
    return checked


def _check_message(number: int, message: object) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise Refusal("no_message", number=number)
    role, text = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise Refusal("role", number=number, roles=", ".join(ROLES))
    if not isinstance(text, str):
        raise Refusal("content", number=number)
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise Refusal("long_message", number=number, count=len(text), most=MAX_PROMPT_CHARACTERS)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refusal("broken_message", number=number) from None
    return role, text


def _break_special(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a space after the first character of every special token's name: `<|end|>` → `< |end|>`.

    Raises:
        Refusal: a part of it would still be tokenized as a special token.
    """
    special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    names = sorted(filter(None, special.values()), key=len, reverse=True)
    if names:
        pattern = re.compile("|".join(map(re.escape, names)))
        text = pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    if not special.keys().isdisjoint(tokenizer(text, add_special_tokens=False).input_ids):
        raise Refusal("special_token")
    return text
