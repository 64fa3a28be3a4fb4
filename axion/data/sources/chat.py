"""Conversations: a model learns to write the assistant's messages only."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from axion.data.sources.base import Document, FileSource, Span
from axion.data.sources.files import Record
from axion.data.split import Split
from axion.errors import AxionError

ROLES = ("system", "user", "assistant")
END = "<|end|>"


class Chat(FileSource):
    """Conversations from JSONL or Parquet files, or a data set on the Hub.

    A record has a list of messages, `{"role": "user", "content": "…"}` each. The document is
    `<|user|>…<|end|><|assistant|>…<|end|>`; only the assistant's texts and their `<|end|>` carry loss.
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
            spans = tuple(span for message in self._messages(record) for span in _spans(**message))
            text = "".join(span.text for span in spans)
            yield Document(spans, self.kind, split.side(text), self.language)

    def _messages(self, record: Record) -> list[dict[str, str]]:
        messages = record.fields.get(self.messages_field)
        if not isinstance(messages, list) or not all(map(_is_message, messages)):
            raise AxionError(
                f'{record.where}: {self.messages_field!r} must be a list of {{"role": …, "content": …}} with the roles '
                f"{', '.join(ROLES)}"
            )
        if not any(message["role"] == "assistant" for message in messages):
            raise AxionError(f"{record.where}: no message of the assistant, so there is nothing to learn")
        return [{"role": message["role"], "content": message["content"]} for message in messages]


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)


def _spans(role: str, content: str) -> tuple[Span, ...]:
    learned = role == "assistant"
    return (
        Span(f"<|{role}|>", special=True, has_loss=False),
        Span(content, has_loss=learned),
        Span(END, special=True, has_loss=learned),
    )
