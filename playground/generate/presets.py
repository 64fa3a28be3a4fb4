"""What the page offers to ask a model: problems, openings of text, or questions for a model that can chat.

A preset is what a visitor would type; `playground.generate.questions` makes the prompt of it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from axion.data.format import Problem, in_english_form
from axion.data.format import prompt as problem_prompt
from axion.release import Release
from playground.generate.catalogue import can_chat, recorded_example
from playground.generate.questions import to_type
from playground.generate.request import DEFAULTS, read_example, settings_of
from playground.locales import LANGUAGES, Language

WORKED: dict[Language, Problem] = {
    "en": Problem(
        "Tom has 3 boxes with 6 pencils in each. He gives 4 pencils to Mia. How many pencils does Tom have left?",
        "14",
        "Tom has 3 * 6 = 18 pencils.\nHe has 18 - 4 = 14 pencils left.",
    ),
    "pt": Problem(
        "Ana tem 12 maçãs e compra mais 8. Depois dá metade a Pedro. Com quantas maçãs Ana fica?",
        "10",
        "Ana tem 12 + 8 = 20 maçãs.\nDá 20 / 2 = 10 maçãs a Pedro.",
    ),
}
"""A problem and its solution, in each language."""

ASKED: dict[Language, Sequence[Problem]] = {
    "en": (
        Problem("What is 5 + 3?", "8"),
        Problem("What is 46 - 19?", "27"),
        Problem("Tom has 12 apples. He buys 15 more. How many apples does Tom have now?", "27"),
    ),
    "pt": (
        Problem("Quanto é 5 + 3?", "8"),
        Problem("Quanto é 46 - 19?", "27"),
        Problem("Ana tem 12 maçãs. Ela compra mais 15. Quantas maçãs Ana tem agora?", "27"),
    ),
}
"""Problems that are asked as they are."""

STEP_BY_STEP: dict[Language, str] = {"en": "Word problem, step by step", "pt": "Problema, passo a passo"}
"""The name of the button that asks for the reasoning of WORKED."""

QUESTIONS: dict[Language, Sequence[str]] = {
    "en": ("What is your name?", "What is the capital of Brazil?", "What can you do?", "Who made you?"),
    "pt": ("Quem é você?", "Qual é a capital do Brasil?", "O que você pode fazer?", "Quem fez você?"),
}
"""For a model that was taught to chat."""

ANSWERS = {problem.question: problem.answer for problems in ASKED.values() for problem in problems} | {
    problem.question: problem.answer for problem in WORKED.values()
}
"""Question of a preset → its answer."""

TEXT_SETTINGS = DEFAULTS | {"temperature": 0.8, "top_p": 0.95}
"""A small model of text repeats itself where it always takes the likeliest token. Cards sample with these, too."""

NUM_PRESETS = 4
LONGEST_NAME = 34


class Typed(NamedTuple):
    """What stands in the prompt's field, and whether the model reads exactly that."""

    text: str
    raw: bool


def presets(release: Release | None, language: Language) -> Mapping[str, str]:
    """Button → what it types, at most NUM_PRESETS.

    Problems; for a model of text, openings of texts that it has not read; for one that can chat, questions.
    """
    if release and can_chat(release) and not release.thinks:
        return {question: question for question in QUESTIONS[language]}
    if release and not release.knows_questions:
        return {_shorten(opening): opening for opening in release.openings[:NUM_PRESETS]}
    asked = {_shorten(problem.question): problem.question for problem in ASKED[language]}
    return asked | {STEP_BY_STEP[language]: step_by_step(language)}


def step_by_step(language: Language) -> str:
    """WORKED as a prompt that asks for its reasoning, under headings of this language."""
    asked = problem_prompt(WORKED[language].question, reasoning=True)
    return in_english_form(asked) if language == "en" else asked


def starters(release: Release, language: Language) -> list[str]:
    """What a conversation may start with: questions, or openings of text; none where the page has its own problems."""
    if can_chat(release):
        return list(QUESTIONS[language])
    return [] if release.knows_questions else release.openings[:NUM_PRESETS]


def first_settings(release: Release | None) -> Mapping[str, object]:
    """The sampling settings that the page starts with where a release has no recorded example."""
    is_of_text = release is not None and not release.knows_questions
    return TEXT_SETTINGS if is_of_text else DEFAULTS


def first_prompt(release: Release | None, language: Language) -> Typed:
    """What the page starts with where a release has no recorded example."""
    return Typed(next(iter(presets(release, language).values())), release is not None and not release.knows_questions)


def first_request(release: Release | None, language: Language) -> tuple[Typed, Mapping[str, object]]:
    """What the page starts with, and its settings: those of the release's recorded example, if it has one."""
    example = release and read_example(recorded_example(release, language))
    if release and example:
        return Typed(*to_type(release, example[0], language)), settings_of(example[1])
    return first_prompt(release, language), first_settings(release)


def comparison_prompt(release: Release | None, language: Language) -> Typed:
    """What a comparison starts with: something with a long answer."""
    offered = list(presets(release, language).values())
    has_problems = step_by_step(language) in offered
    return Typed(step_by_step(language), False) if has_problems else first_prompt(release, language)


def in_language(release: Release, typed: str, language: Language, recorded: Mapping[str, str]) -> str | None:
    """The example in this language that stands where `typed`, an example of another one, stands; else None.

    Args:
        recorded: the recorded example in each language, as it is typed.
    """
    examples = {each: [*presets(release, each).values(), recorded.get(each)] for each in LANGUAGES}
    for other, texts in examples.items():
        if other != language and typed in texts:
            return examples[language][texts.index(typed)]
    return None


def _shorten(opening: str) -> str:
    """The start of an opening, on one line."""
    text = " ".join(opening.split())
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1].rstrip() + "…"
