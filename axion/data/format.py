"""The plain-text form of a problem, which models read and write.

# Pergunta:
{question}
--
# Raciocínio:
{reasoning}
--
# Resposta:
{answer}

The direct form has no reasoning section. The headers are Portuguese; the problem is Portuguese or English.

A prompt ends behind the heading of what is asked for. A model that was taught to choose between answering at once and
thinking first can also be given a prompt that ends behind the question, and writes the heading itself.
"""

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

QUESTION = "# Pergunta:\n"
CHOICE = "\n--\n"
"""The end of a question. What follows is a new piece for the tokenizer, so that a prompt may end here."""
REASONING_HEADING = "# Raciocínio:\n"
ANSWER_HEADING = "# Resposta:\n"
REASONING = f"{CHOICE}{REASONING_HEADING}"
ANSWER = f"{CHOICE}{ANSWER_HEADING}"

CANONICAL = MappingProxyType({"pt": "Quanto é {} {} {}?", "en": "What is {} {} {}?"})
"""Language → the plain way to ask for the result of two numbers and a sign."""

ENGLISH_HEADINGS = MappingProxyType({"Pergunta": "Question", "Raciocínio": "Reasoning", "Resposta": "Answer"})
"""Heading as it is taught → as English readers write it."""

_TAUGHT = {english: f"# {taught}:" for taught, english in ENGLISH_HEADINGS.items()}
_TAUGHT_HEADING = re.compile(rf"(?<=^# )({'|'.join(ENGLISH_HEADINGS)})(?=:[ \t]*$)", re.MULTILINE)
_ENGLISH_HEADING = re.compile(rf"^# *({'|'.join(_TAUGHT)}):[ \t]*$", re.MULTILINE)
_QUESTION = re.compile(r"# Pergunta:\n(.*?)(?=\n--(?:\n|$))", re.DOTALL)
_CALC_MARK = re.compile(r"<<([^<>]*)>>")


_SIGNS = MappingProxyType({"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv})


class Equation(NamedTuple):
    """One step of a calculation: `34 - 14 = 20`. Quotients are exact."""

    left: int
    sign: str
    """One of `+`, `-`, `*` and `/`."""
    right: int

    @property
    def result(self) -> int:
        return _SIGNS[self.sign](self.left, self.right)

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right} = {self.result}"


def write_steps(steps: Sequence[Equation]) -> str:
    """The reasoning that goes through some steps, one a line."""
    return "\n".join(map(str, steps))


@dataclass(frozen=True)
class Problem:
    """A question, its answer, and optionally the reasoning between them."""

    question: str
    answer: str
    reasoning: str | None = None
    calculations: str = field(default="", compare=False)
    """GSM8K's calculation marks, one per line. Not part of the document, but they say which numbers it combines."""
    language: str | None = field(default=None, compare=False)
    """Code of ISO 639-1, where it is known."""
    steps: tuple[Equation, ...] = field(default=(), compare=False)
    """The calculation that leads to the answer, where it is known."""
    template: str = field(default="", compare=False)
    """The text of the template that the question was made from, if it was."""

    def document(self, direct: bool = False) -> str:
        """The whole text, without `<bos>` and `<eos>`; `direct` leaves out the reasoning."""
        reasoning = "" if direct or self.reasoning is None else REASONING + self.reasoning
        return QUESTION + self.question + reasoning + ANSWER + self.answer


def prompt(question: str, reasoning: bool | None = False) -> str:
    """The prompt that asks a question.

    Args:
        question: the text.
        reasoning: whether the reasoning comes first; None lets the model choose, if it was taught to.
    """
    if reasoning is None:
        return QUESTION + question + CHOICE
    return QUESTION + question + (REASONING if reasoning else ANSWER)


def in_taught_form(text: str) -> str:
    """A text with its headings as the training data has them, where they are English: `# Question:` and so on."""
    return _ENGLISH_HEADING.sub(lambda found: _TAUGHT[found[1]], text)


def in_english_form(text: str) -> str:
    """The same text with English headings, for people to read."""
    return _TAUGHT_HEADING.sub(lambda found: ENGLISH_HEADINGS[found[1]], text)


def question_in(text: str) -> str | None:
    """The question of a text in the form of a problem; None where a text is not in that form."""
    found = _QUESTION.match(text)
    return found and found[1]


def parse_answer(generated: str) -> str:
    """The answer in a generated text: the first line after the last answer header, or the first line without one.

    Dollar signs, thousands separators and a final full stop are removed, so that "$1,200." equals "1200".
    """
    answer = generated.rpartition(ANSWER_HEADING)[2].strip().split("\n")[0]
    return re.sub(r"(?<=\d),(?=\d{3})", "", answer.replace("$", "")).strip().rstrip(".")


def problem_from_gsm8k(question: str, answer: str) -> Problem:
    """A problem from GSM8K's fields: calculation marks `<<48/2=24>>` in the reasoning, the answer after `####`.

    A text without `####` is an answer without reasoning.
    """
    reasoning, mark, final = answer.rpartition("####")
    reasoning = _CALC_MARK.sub("", reasoning).strip()
    calculations = "\n".join(_CALC_MARK.findall(answer))
    return Problem(question.strip(), final.strip(), reasoning if mark and reasoning else None, calculations)
