"""A visitor's conversation: its checks, and the events of the answer. `axion.inference.chat` makes the prompt."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeGuard

from axion.errors import AxionError
from axion.inference import chat
from playground.generate.catalogue import OpenModel, can_chat
from playground.generate.events import live_events, to_line
from playground.generate.presets import starters
from playground.generate.refusal import Refusal, tell
from playground.generate.request import (
    LIMITS,
    MAX_PROMPT_CHARACTERS,
    Request,
    check_loops,
    check_prompt,
    check_settings,
)
from playground.locales import DEFAULT, LANGUAGES, Language

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
        request, left_out = _read_question(model, asked, settings, language)
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


def model_text(model: OpenModel) -> str:
    """The text of a conversation's view for a newly chosen model: what it can do. The conversation stays."""
    described = {"model": model.name, "chat": can_chat(model.release), "context": model.facts.context}
    offered = {language: starters(model.release, language) for language in LANGUAGES}
    return to_line({"kind": "model", **described, "starters": offered})


def _read_question(
    model: OpenModel, asked: object, settings: Mapping[str, object], language: Language
) -> tuple[Request, int]:
    """The request, with the seed of this attempt, and how many messages were left out of its prompt."""
    if not isinstance(asked, Mapping) or not _is_count(attempt := asked.get("attempt")):
        raise Refusal("no_question")
    seed = settings.get("seed")
    if _is_count(seed):
        settings = {**settings, "seed": (seed + attempt) % (int(LIMITS["seed"].high) + 1)}
    sampling = check_settings(settings)
    check_loops(model, sampling)
    messages = asked.get("messages")
    if can_chat(model.release):
        prompt, left_out = fit_conversation(model, messages, sampling.max_new_tokens)
    else:
        prompt, left_out = last_question(model, messages, language), 0
    return Request(model.name, check_prompt(prompt), sampling), left_out


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def answer_prompt(model: OpenModel, messages: object) -> str:
    """The text that the model continues with its answer: the conversation, or without a chat template the question."""
    return conversation_prompt(model, messages) if can_chat(model.release) else last_question(model, messages)


def last_question(model: OpenModel, messages: object, language: str = "pt") -> str:
    """The user's last message alone, in the form of the training data, for a model that was not trained to chat.

    Args:
        model, messages: see `conversation_prompt`.
        language: that of the question about a bare sum.

    Raises:
        Refusal: the messages are not a conversation.
    """
    release = model.release
    checked, as_problem = check_messages(messages), release.thinks or not release.openings
    return chat.question_prompt(checked, as_problem, release.thinks, language)


def conversation_prompt(model: OpenModel, messages: object) -> str:
    """The whole conversation as one text, see `axion.inference.chat.conversation_prompt`.

    Args:
        messages: `{"role": "system" | "user" | "assistant", "content": str}` each, the last one from the user, or from
            the assistant as the start of the answer. Other keys are ignored.

    Raises:
        Refusal: the messages are malformed, too many or too long; the model was not trained to chat; its template
            rejects this conversation.
    """
    checked = check_messages(messages)
    with _refusals():
        return chat.conversation_prompt(model.release.tokenizer, checked, model.name)


def fit_conversation(model: OpenModel, messages: object, max_new_tokens: int) -> tuple[str, int]:
    """The prompt of as much of the conversation as fits, and how many messages were left out.

    See `axion.inference.chat.fit_conversation`. The prompt is at most MAX_PROMPT_CHARACTERS long.

    Raises:
        Refusal: as `conversation_prompt`, or the last message alone is too long.
    """
    checked = check_messages(messages)
    with _refusals():
        return chat.fit_conversation(
            model.release.tokenizer,
            checked,
            model.name,
            model.facts.context,
            max_new_tokens,
            MAX_PROMPT_CHARACTERS,
        )


@contextmanager
def _refusals() -> Iterator[None]:
    """Tells a ChatError in the language of the page."""
    try:
        yield
    except chat.ChatError as error:
        raise Refusal(error.problem, **error.values) from None


def check_messages(messages: object) -> list[chat.Message]:
    """The messages, role and content alone. Raises Refusal unless they are a conversation that asks for an answer."""
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise Refusal("no_messages")
    if len(messages) > MAX_MESSAGES:
        raise Refusal("many_messages", count=len(messages), most=MAX_MESSAGES)
    checked = [_check_message(number, message) for number, message in enumerate(messages, start=1)]
    total = sum(len(message["content"]) for message in checked)
    if total > MAX_CONVERSATION_CHARACTERS:
        raise Refusal("long_conversation", count=total, most=MAX_CONVERSATION_CHARACTERS)
    questions = [message["content"] for message in checked if message["role"] == "user"]
    if checked[-1]["role"] == "system" or not questions:
        raise Refusal("no_user")
    if not questions[-1].strip() or not checked[-1]["content"].strip():
        raise Refusal("empty_message")
    return checked


def _check_message(number: int, message: object) -> chat.Message:
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
    return {"role": role, "content": text}
