"""A conversation with a model in the terminal, or through pipes: a question a line, an answer as it is generated."""

import os
import re
import sys
from collections.abc import Generator
from contextlib import closing, suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING

from axion.data.format import ANSWER_HEADING, CHOICE, REASONING_HEADING
from axion.errors import AxionError
from axion.inference.chat import Conversation
from axion.release import Release

if TYPE_CHECKING:
    from axion.inference.stream import Tokenizer

EXIT = "/exit"
THOUGHT = "  │ "
"""Before each line that a model thinks before it answers."""
COLUMN = 14
"""The width of each part of a line of working: in `7+4=11;263+750;1` the step, what is left, the result so far."""
_WORKING = re.compile(r"[0-9+*/=<()-]+(?:;[0-9+*/()-]*)*;")
_HEADINGS = (REASONING_HEADING, CHOICE.lstrip("\n"), ANSWER_HEADING)


def asked_prompt(release: Release, question: str, tokenizer: "Tokenizer | None" = None) -> str:
    """The prompt that asks a release a question, see `Release.prompt_for`; a bare sum, in the terminal's language.

    Args:
        release: knows what the model was taught.
        question: what is asked.
        tokenizer: the release's, where it is open already.

    Raises:
        AxionError: the question is empty.
    """
    if not question.strip():
        raise AxionError("the question is empty; write something for the model to answer")
    return release.prompt_for(question, terminal_language(), tokenizer)


def terminal_language() -> str:
    """`pt` or `en`, by the first of the variables that say what language messages have."""
    named = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return "pt" if named.startswith("pt") else "en"


class ThoughtPrinter:
    """Prints a text as it arrives: the lines of a reasoning behind a bar, the answer without, the headings not at all.

    The parts of a line of working (`axion.data.working`) stand in columns. A text without headings is an answer.
    """

    def __init__(self):
        self._line = ""
        self._is_shown = self._thinks = False

    def __call__(self, piece: str) -> None:
        for character in piece:
            self._line += character
            if self._line in _HEADINGS:
                self._thinks = self._line == REASONING_HEADING
            elif not self._is_shown and any(heading.startswith(self._line) for heading in _HEADINGS):
                continue  # perhaps a heading
            else:
                new = character if self._is_shown else (THOUGHT if self._thinks else "") + self._line
                if self._thinks and character == ";" and _WORKING.fullmatch(self._line):
                    new = " " * max(2, COLUMN - len(self._line.split(";")[-2]))
                print(new, end="", flush=True)
                self._is_shown = True
            if character == "\n":
                self._line, self._is_shown = "", False


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
        show = ThoughtPrinter()
        for piece in answer:
            show(piece)
    show("\n")
