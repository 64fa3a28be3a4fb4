"""From a conversation to the text that a model continues.

A release that was taught to chat carries a chat template, and the whole conversation goes through it. Any other release
only completes texts: each question alone is put into the form that it was taught, and nothing before it is seen.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from transformers import PreTrainedTokenizerBase

from axion.errors import AxionError
from axion.inference.stream import encode_prompt
from playground.generate.catalogue import OpenModel
from playground.generate.events import live_events
from playground.generate.request import LIMITS, MAX_PROMPT_CHARACTERS, Refusal, read_request, tell
from playground.locales import DEFAULT, Language
from playground.locales.controls import BARE_SUM, PROBLEM

ROLES = ("system", "user", "assistant")
MAX_MESSAGES = 200
MAX_CONVERSATION_CHARACTERS = 8 * MAX_PROMPT_CHARACTERS
"""Over all messages. What the model's context cannot hold of them is left out later, oldest first."""

STEP_KEYS = ("kind", "i", "t", "p", "e", "g", "s")
"""What the view of a conversation draws of a step; see `playground.generate.events`."""

_SUM = re.compile(r"([0-9]+) *([-+]) *([0-9]+)")


def answer_events(
    model: OpenModel, wish: object, settings: Mapping[str, object], language: Language = DEFAULT
) -> Iterator[dict]:
    """The events of one answer, as `playground.generate.events` has them, without the prompt's steps.

    Before them stands {"kind": "turn", "turn": the wish's own number, "left_out": messages that were too old to fit}.

    Args:
        wish: {"turn": a whole number, "attempt": how often this question was asked before, "messages": the
            conversation}, all of it from a browser. Another attempt draws with the next seed.
        language: in which a mistake is told, where there are words for it.
    """
    turn = wish.get("turn") if isinstance(wish, Mapping) else None
    turn = turn if _is_count(turn) else 0
    try:
        prompt, left_out, settings = _read_wish(model, wish, settings)
        request = read_request(prompt, settings)
    except AxionError as error:
        yield {"kind": "turn", "turn": turn, "left_out": 0}
        yield {"kind": "error", "message": tell(error, language)}
        return
    yield {"kind": "turn", "turn": turn, "left_out": left_out}
    with closing(live_events(model, request, cut=False)) as events:
        for event in events:
            if event["kind"] != "step":
                yield event
            elif not event["prompt"]:
                yield {key: event[key] for key in STEP_KEYS}


def _read_wish(model: OpenModel, wish: object, settings: Mapping[str, object]) -> tuple[str, int, dict[str, object]]:
    """The prompt, the messages left out of it, and the settings with the seed of this attempt."""
    if not isinstance(wish, Mapping) or not _is_count(wish.get("attempt")):
        raise AxionError("a question must come with its messages and the number of its attempt")
    messages, seed = wish.get("messages"), settings.get("seed")
    if _is_count(seed):
        settings = {**settings, "seed": (seed + wish["attempt"]) % (int(LIMITS["seed"].high) + 1)}
    checked = check_messages(messages)
    if not can_chat(model):
        return problem_prompt(checked[-1][1]), 0, dict(settings)
    most = read_request("-", settings).sampling.max_new_tokens
    prompt, left_out = fit_conversation(model, messages, most)
    return prompt, left_out, dict(settings)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def can_chat(model: OpenModel) -> bool:
    """Whether the release says how a conversation is written down for it."""
    return bool(model.release.tokenizer.chat_template)


def conversation_prompt(model: OpenModel, messages: object) -> str:
    """The whole conversation as one text, up to where the model's next answer begins.

    The release's own chat template writes it. The token that begins every text is left to `encode_prompt`, and the name
    of a special token inside a message is broken by a space, so that no message can pretend to be another role's.

    Args:
        messages: `{"role": "system" | "user" | "assistant", "content": str}` each, the last one a user's. Other keys
            are not looked at.

    Raises:
        AxionError: the messages are not that, or too many, or too long; the model was not taught to chat; its template
            refuses this conversation.
    """
    checked = check_messages(messages)
    tokenizer = model.release.tokenizer
    if not can_chat(model):
        raise AxionError(
            f"{model.name} was not taught to chat: it has no chat template; use completions, which continue a text"
        )
    safe = [{"role": role, "content": _break_special(tokenizer, text)} for role, text in checked]
    try:
        prompt = tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is code of the release's, and may raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise AxionError(f"the chat template of {model.name} refuses this conversation: {reason}") from None
    begin = tokenizer.bos_token
    if begin and prompt.startswith(begin) and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]:
        prompt = prompt.removeprefix(begin)
    if not prompt:
        raise AxionError(f"the chat template of {model.name} writes nothing for this conversation")
    return prompt


def fit_conversation(model: OpenModel, messages: object, max_new_tokens: int) -> tuple[str, int]:
    """The prompt of as much of the conversation as the context holds, and how many messages were left out.

    The oldest turns go first; system messages stay. There remains room for `max_new_tokens`, though for no more than
    half of the context; a prompt has no more characters than the page takes.

    Raises:
        AxionError: as `conversation_prompt`, or when the last message alone is too long.
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


def problem_prompt(question: str) -> str:
    """The question in the form of a problem that the models were taught; a bare sum becomes a question first.

    An empty text, and one that already has a form (it starts with "# "), stay as they are.
    """
    asked = question.strip()
    if not asked or asked.startswith("# "):
        return question
    if total := _SUM.fullmatch(asked):
        asked = BARE_SUM.format(sum=" ".join(total.groups()))
    return PROBLEM.format(question=asked)


def check_messages(messages: object) -> list[tuple[str, str]]:
    """The messages as (role, text). Raises AxionError unless they are a conversation that waits for an answer."""
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise AxionError("messages must be a list of at least one message, each with a role and a content")
    if len(messages) > MAX_MESSAGES:
        raise Refusal("many_messages", count=len(messages), most=MAX_MESSAGES)
    checked = [_check_message(number, message) for number, message in enumerate(messages, start=1)]
    total = sum(len(text) for _, text in checked)
    if total > MAX_CONVERSATION_CHARACTERS:
        raise Refusal("long_conversation", count=total, most=MAX_CONVERSATION_CHARACTERS)
    role, text = checked[-1]
    if role != "user":
        raise AxionError("the last message must be the user's: that is the one to be answered")
    if not text.strip():
        raise AxionError("the last message is empty; write something for the model to answer")
    return checked


def _check_message(number: int, message: object) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise AxionError(f"message {number} must be an object with a role and a content")
    role, text = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise AxionError(f"the role of message {number} must be one of {', '.join(ROLES)}")
    if not isinstance(text, str):
        raise AxionError(f"the content of message {number} must be text")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise Refusal("long_message", number=number, count=len(text), most=MAX_PROMPT_CHARACTERS)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise AxionError(f"message {number} holds half of a character (a lone surrogate); send whole Unicode") from None
    return role, text


def _break_special(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a space after the first character of every special token's name: `<|end|>` → `< |end|>`.

    Raises AxionError where something in it would be read as a special token all the same.
    """
    special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    names = sorted(filter(None, special.values()), key=len, reverse=True)
    if names:
        pattern = re.compile("|".join(map(re.escape, names)))
        text = pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    if not special.keys().isdisjoint(tokenizer(text, add_special_tokens=False).input_ids):
        raise AxionError("a message holds a special token's name, which would be read as a new turn; leave it out")
    return text
