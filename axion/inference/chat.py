"""From a conversation to the prompt that a model continues with its answer.

A release that was taught to chat has a chat template, which formats the whole conversation. Any other release only
completes texts: the last question alone is put into the form of its training data, and the model sees nothing before
it. A conversation that ends with the assistant's message asks for the rest of that answer.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Literal

from axion.data.asking import problem_prompt
from axion.errors import AxionError
from axion.inference.sampling import Sampling
from axion.inference.stream import Step, encode_prompt, stream

if TYPE_CHECKING:
    from typing import TypeGuard

    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    from axion.inference.stream import Tokenizer
    from axion.kernels.stored import Decodable
    from axion.stored_tokenizer import StoredTokenizer

Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": "…"}`."""


class ChatError(AxionError):
    """Why a model cannot answer a conversation.

    Args:
        problem: for callers that have a text of their own for it.
        message: the text in English.
        values: what the text names.
    """

    def __init__(
        self,
        problem: Literal["cannot_chat", "template", "empty_template", "special_token", "long_question"],
        message: str,
        /,
        **values: object,
    ):
        super().__init__(message)
        self.problem, self.values = problem, values


def can_chat(tokenizer: PreTrainedTokenizerBase | StoredTokenizer) -> TypeGuard[PreTrainedTokenizerFast]:
    """Whether the model of this tokenizer was taught to chat: there is a chat template."""
    return bool(tokenizer.chat_template)


def question_prompt(
    messages: Sequence[Message], as_problem: bool = True, chooses: bool = False, language: str = "pt"
) -> str:
    """The user's last message alone, for a model that was not taught to chat.

    Args:
        messages: at least one is the user's.
        as_problem: whether it is put into the form of a problem; a model of text continues it as it is.
        chooses, language: see `problem_prompt`.
    """
    last = max(index for index, message in enumerate(messages) if message["role"] == "user")
    begun = "".join(message["content"] for message in messages[last + 1 :] if message["role"] == "assistant")
    question = messages[last]["content"]
    return (problem_prompt(question, chooses, language) if as_problem else question) + begun


def conversation_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], name: str) -> str:
    """The whole conversation as one text, up to where the model's next answer starts or is to be continued.

    The tokenizer's chat template formats it. The token that starts every text is left to `encode_prompt`. The name of a
    special token inside a message is broken by a space, so that no message can pretend to come from another role.

    Args:
        tokenizer: of a model that can chat.
        messages: the last one from the user, or from the assistant as the start of the answer.
        name: the model's, for messages.

    Raises:
        ChatError: the model was not taught to chat, or its template rejects this conversation.
    """
    if not can_chat(tokenizer):
        raise ChatError("cannot_chat", f"{name} was not taught to chat: it has no chat template", model=name)
    safe = [{**message, "content": _break_special(tokenizer, message["content"])} for message in messages]
    begun = safe.pop()["content"] if safe[-1]["role"] == "assistant" else ""
    try:
        prompt = str(tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template is the release's own code, and may raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        message = f"the chat template of {name} rejects this conversation: {reason}"
        raise ChatError("template", message, model=name, reason=reason) from None
    begin = tokenizer.bos_token
    if (
        isinstance(begin, str)
        and begin
        and prompt.startswith(begin)
        and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
    ):
        prompt = prompt.removeprefix(begin)
    if not prompt:
        message = f"the chat template of {name} writes nothing for this conversation"
        raise ChatError("empty_template", message, model=name)
    return prompt + begun


def asked_in_chat(tokenizer: PreTrainedTokenizerBase, question: str, name: str) -> str:
    """The prompt of a conversation's first question; a text with the name of a special token stays as it is.

    Raises:
        ChatError: as `conversation_prompt`.
    """
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content]
    if any(each in question for each in special):
        return question
    return conversation_prompt(tokenizer, [{"role": "user", "content": question}], name)


def fit_conversation(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    name: str,
    context: int,
    max_new_tokens: int,
    most_characters: int | None = None,
) -> tuple[str, int]:
    """The prompt of as much of the conversation as fits the context, and how many messages were left out.

    The oldest turns are dropped first; system messages stay. Room is left for `max_new_tokens`, but for at most half of
    the context.

    Args:
        tokenizer, messages, name: see `conversation_prompt`; at least one message is the user's.
        context: the most tokens that the model reads.
        max_new_tokens: how long the answer may be.
        most_characters: the longest prompt; longer ones are not tokenized.

    Raises:
        ChatError: as `conversation_prompt`, or the last message alone is too long.
    """
    starts = [index for index, message in enumerate(messages) if message["role"] == "user"]
    room = context - min(max_new_tokens, context // 2)

    def since(turn: int) -> list[Message]:
        kept = starts[turn] if turn else 0
        return [message for index, message in enumerate(messages) if index >= kept or message["role"] == "system"]

    def tokens(turn: int) -> float:
        prompt = conversation_prompt(tokenizer, since(turn), name)
        is_short = most_characters is None or len(prompt) <= most_characters
        return len(encode_prompt(tokenizer, prompt)) if is_short else float("inf")

    last = len(starts) - 1
    turn = bisect_left(range(last), True, key=lambda turn: tokens(turn) <= room)
    if turn == last and tokens(last) >= context:
        message = f"the last message is too long for the model's context of {context} tokens; shorten it"
        raise ChatError("long_question", message, context=context)
    return conversation_prompt(tokenizer, since(turn), name), len(messages) - len(since(turn))


def _break_special(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a space after the first character of every special token's name: `<|end|>` → `< |end|>`.

    Raises:
        ChatError: a part of it would still be tokenized as a special token.
    """
    special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    names = sorted(filter(None, special.values()), key=len, reverse=True)
    if names:
        pattern = re.compile("|".join(map(re.escape, names)))
        text = pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    if not special.keys().isdisjoint(tokenizer(text, add_special_tokens=False).input_ids):
        raise ChatError("special_token", "a message contains the name of a special token; leave it out")
    return text


class Conversation:
    """A conversation with a model: its messages, and answers as they are generated.

    Args:
        model, tokenizer, name: of the release; the name is for messages.
        sampling: of every answer.
        system: the system message, for models that were taught to chat.
        backend: see `axion.inference.stream.stream`.
        as_problem, chooses, language: see `question_prompt`.

    Raises:
        ChatError: there is a system message, and the model was not taught to chat.
    """

    def __init__(
        self,
        model: Decodable,
        tokenizer: Tokenizer,
        name: str,
        sampling: Sampling,
        system: str | None = None,
        backend: str = "auto",
        as_problem: bool = True,
        chooses: bool = False,
        language: str = "pt",
    ):
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.sampling, self.backend, self.as_problem, self.chooses = sampling, backend, as_problem, chooses
        self.language = language
        self.messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        if system is not None and not can_chat(tokenizer):
            raise ChatError("cannot_chat", f"{name} was not taught to chat, so it reads no system message", model=name)
        self.left_out = 0
        """Messages that did not fit into the prompt of the last question."""

    def ask(self, question: str) -> Generator[str]:
        """Yields the answer in pieces. What was yielded is part of the conversation, even if the iterator is closed.

        Raises:
            AxionError: the question is empty or too long. It is then not part of the conversation.
        """
        if not question.strip():
            raise AxionError("the message is empty; write something for the model to answer")
        asked = [*self.messages, {"role": "user", "content": question}]
        if can_chat(self.tokenizer):
            context, limit = self.model.config.max_position_embeddings, self.sampling.max_new_tokens
            prompt, self.left_out = fit_conversation(self.tokenizer, asked, self.name, context, limit)
        else:
            prompt = question_prompt(asked, self.as_problem, self.chooses, self.language)
        steps = stream(self.model, self.tokenizer, prompt, self.sampling, backend=self.backend)
        return self._answer(steps, asked)

    def _answer(self, steps: Generator[Step], asked: list[Message]) -> Generator[str]:
        pieces: list[str] = []
        try:
            for step in steps:
                if not step.is_prompt and step.text:
                    pieces.append(step.text)
                    yield step.text
        finally:
            steps.close()
            if pieces:  # a template may reject two questions in a row
                self.messages = [*asked, {"role": "assistant", "content": "".join(pieces)}]
