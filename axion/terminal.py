"""A conversation with a model in the terminal, or through pipes: a question a line, an answer as it is generated."""

import sys
from collections.abc import Generator
from contextlib import closing, suppress
from io import TextIOWrapper

from axion.errors import AxionError
from axion.inference.chat import Conversation

EXIT = "/exit"


def talk(conversation: Conversation) -> None:
    """Asks what is typed or piped in, until the input or a line `/exit` ends it.

    In a terminal, Ctrl-C stops an answer, Ctrl-D ends the conversation, and a question that cannot be answered is
    followed by the reason. Through a pipe, such a question ends the conversation.

    Raises:
        AxionError: from a pipe, a question cannot be answered.
        KeyboardInterrupt: Ctrl-C while the input is not a terminal.
    """
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8")
    if not sys.stdin.isatty():
        for line in sys.stdin:
            if (question := line.strip()) == EXIT:
                return
            if question:
                _write(conversation, conversation.ask(question))
        return
    with suppress(ImportError):
        import readline  # noqa: F401 (gives `input` a history and editing)
    print(f"Ctrl-C stops an answer; Ctrl-D or {EXIT} ends the conversation.", file=sys.stderr)
    while (question := _read()) != EXIT:
        if not question:
            continue
        try:
            _write(conversation, conversation.ask(question))
        except AxionError as error:
            print(f"error: {error}", file=sys.stderr)
        except KeyboardInterrupt:  # what was written of the answer stays part of the conversation
            print()


def _read() -> str:
    """The next line; `/exit` at the end of the input, and nothing where Ctrl-C discards a line."""
    try:
        return input("> ").strip()
    except EOFError:
        print()
        return EXIT
    except KeyboardInterrupt:
        print()
        return ""


def _write(conversation: Conversation, answer: Generator[str]) -> None:
    if left_out := conversation.left_out:
        what = "message does" if left_out == 1 else "messages do"
        print(f"({left_out} earlier {what} not fit the context)", file=sys.stderr)
    with closing(answer):
        for piece in answer:
            print(piece, end="", flush=True)
    print(flush=True)
