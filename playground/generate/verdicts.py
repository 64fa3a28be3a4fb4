"""Whether what a model wrote is right, where code knows the answer: of the page's own examples, and of calculations."""

import re
from typing import Any

from axion.data.calculations import read_calculation
from axion.data.format import ANSWER, ANSWER_HEADING, REASONING_HEADING, parse_answer, question_in
from axion.data.working_check import check_reasoning
from axion.errors import AxionError
from playground.generate.presets import ANSWERS

_WHOLE = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"(?<![0-9.,])-?[0-9]+(?:[.,][0-9]+)*")
_LINE = re.compile(r"line ([0-9]+)")


def check_written(prompt: str, written: str) -> dict[str, Any]:
    """The check of a finished text.

    Args:
        prompt: what the model read; its question is in the form of the training data.
        written: what the model wrote.

    Returns:
        {} where the right answer or the model's is not known for certain; else {"check": {"right", "answer" (the
        model's), "expected"}}, where a working was written with "line": the number of its first wrong line, or None.
    """
    question = question_in(prompt)
    expected = question and known_answer(question)
    answer = _answer_in(prompt, written)
    if expected is None or answer is None:
        return {}
    check = {"right": answer == expected, "answer": answer, "expected": expected}
    reasoning = _reasoning_in(prompt, written)
    return {"check": check | ({"line": _first_wrong_line(reasoning)} if reasoning and _is_working(reasoning) else {})}


def known_answer(question: str) -> str | None:
    """The right answer as whole number in digits; None where it is not known for certain."""
    if question in ANSWERS:
        return ANSWERS[question]
    calculation = read_calculation(question)
    return None if calculation is None else str(calculation.result)


def _answer_in(prompt: str, written: str) -> str | None:
    """The one whole number that stands as the answer, as in "85" or "85 apples."; None for anything else."""
    if not (prompt.endswith(ANSWER) or ANSWER_HEADING in written):
        return None
    answer = parse_answer(written)
    numbers = _NUMBER.findall(answer)
    return str(int(numbers[0])) if len(numbers) == 1 and _WHOLE.fullmatch(numbers[0]) else None


def _reasoning_in(prompt: str, written: str) -> str:
    _, heading, reasoning = f"{prompt}{written}".rpartition(ANSWER)[0].rpartition(REASONING_HEADING)
    return reasoning if heading else ""


def _is_working(reasoning: str) -> bool:
    """Whether it has the form of `axion.data.working`, so that each line can be checked."""
    return ";" in reasoning


def _first_wrong_line(reasoning: str) -> int | None:
    try:
        check_reasoning(reasoning)
    except AxionError as error:
        found = _LINE.search(str(error))
        return int(found[1]) if found else None
    return None
