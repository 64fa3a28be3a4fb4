"""Conversations: a model learns to write the assistant's messages only."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from axion.data.sources.base import Document, FileSource, Span
from axion.data.sources.files import Record
from axion.data.split import Split
from axion.errors import AxionError, one_line
from axion.tokenizer import END_OF_TURN

ROLES = ("system", "user", "assistant")

CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|assistant|>' -}}
{%- generation -%}
{{- message['content'] + '<|end|>' -}}
{%- endgeneration -%}
{%- elif message['role'] in ['system', 'user'] -%}
{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}
{%- else -%}
{{- raise_exception('the roles are system, user and assistant') -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- endif -%}
"""
"""The form of a conversation as a chat template, for tokenizers; what carries loss stands in `generation` blocks."""

FORMS = "messages, or prompt and completion, or instruction and output"

Message = dict[str, str]
"""`{"role": "user", "content": "…"}`."""


class Chat(FileSource):
    """Conversations from JSONL or Parquet files, or a data set on the Hub.

    A record has one of three forms:

    - `messages`: a list of `{"role": "user", "content": "…"}`
    - `prompt` and `completion`: each a text or a list of messages
    - `instruction` and `output`, and perhaps `input`, which follows the instruction after a blank line

    The document is `<|user|>…<|end|><|assistant|>…<|end|>`; only the assistant's texts and their `<|end|>` carry loss.
    """

    kind: Literal["chat"] = "chat"
    version: ClassVar[int] = 2
    """Increase it when the documents from the same records, their order or their split change."""
    label: ClassVar[str] = "conversations"
    form = "chat"
    is_real: ClassVar[bool] = True

    messages_field: str = "messages"
    """Field of a record that has the list of messages."""
    language: str | None = None
    """Language of the conversations, a code of ISO 639-1."""

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        """Held out by a hash of the text; documents in training show no held-out operand pair."""
        for record in self.records(self.messages_field):
            spans = tuple(span for message in self._messages(record) for span in message_spans(**message))
            text = "".join(span.text for span in spans)
            yield Document(spans, self.kind, split.side(text), self.language)

    def _messages(self, record: Record) -> list[Message]:
        fields = record.fields
        if self.messages_field in fields:
            messages = _listed(record, self.messages_field)
        elif "prompt" in fields and "completion" in fields:
            messages = [*_turn(record, "prompt", "user"), *_turn(record, "completion", "assistant")]
        elif "instruction" in fields and "output" in fields:
            asked = record.text("instruction", "the instruction")
            if fields.get("input"):
                asked = f"{asked}\n\n{record.text('input', 'the input')}"
            messages = [_message("user", asked), _message("assistant", record.text("output", "the output"))]
        else:
            present = one_line(", ".join(fields)) or "none"
            raise AxionError(f"{record.where}: the fields are {present}; a conversation has {FORMS}")
        _check(record, messages)
        return messages


def _turn(record: Record, field: str, role: str) -> list[Message]:
    """The messages of a field that holds a text of this role, or a list of messages."""
    if isinstance(record.fields[field], list):
        return _listed(record, field)
    return [_message(role, record.text(field, f"the {field}"))]


def _listed(record: Record, field: str) -> list[Message]:
    messages = record.fields[field]
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise AxionError(
            f'{record.where}: {field!r} must be a list of {{"role": …, "content": …}} with the roles {", ".join(ROLES)}'
        )
    return [_message(message["role"], message["content"]) for message in messages]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)


def _check(record: Record, messages: list[Message]) -> None:
    """Refuses conversations that teach nothing, or teach what is never asked for: an answer before any question."""
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise AxionError(f"{record.where}: no message of the assistant, so there is nothing to learn")
    for number, message in enumerate(messages, start=1):
        if message["role"] == "assistant" and not message["content"].strip():
            raise AxionError(f"{record.where}: message {number}, the assistant's, is empty; an answer needs a text")
    if "system" in roles[1:]:
        raise AxionError(f"{record.where}: message {roles.index('system', 1) + 1} is the system's; it must come first")
    if "user" not in roles[: roles.index("assistant")]:
        raise AxionError(f"{record.where}: the assistant speaks first; a conversation begins with the user's message")


def message_spans(role: str, content: str) -> tuple[Span, ...]:
    """A message as a part of a document; only the assistant's text and its end carry loss."""
    learned = role == "assistant"
    return (
        Span(f"<|{role}|>", special=True, has_loss=False),
        Span(content, has_loss=learned),
        Span(END_OF_TURN, special=True, has_loss=learned),
    )
