"""What the page offers to ask a model: problems in the form of its training data, openings of text, or questions."""

from collections.abc import Mapping

from axion.data.format import Problem
from axion.data.format import prompt as problem
from axion.inference.chat import ChatError, conversation_prompt
from axion.release import Release
from playground.generate.catalogue import can_chat
from playground.generate.request import DEFAULTS, read_example, settings_of
from playground.locales import Language

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

PROBLEMS = {
    "Quanto é 5 + 3?": problem("Quanto é 5 + 3?"),
    "What is 46 - 19?": problem("What is 46 - 19?"),
    "Problema, passo a passo": problem(WORKED["pt"].question, reasoning=True),
    "Word problem, step by step": problem(WORKED["en"].question, reasoning=True),
}
"""Button → prompt, in the exact form of the training data. The page shows all of them in every language."""

LEFT_TO_THE_MODEL = PROBLEMS | {
    question: problem(question, reasoning=None) for question in ("Quanto é 5 + 3?", "What is 46 - 19?")
}
"""The same for a model that chooses between answering at once and thinking first."""

FIRST_PROBLEM = next(iter(PROBLEMS.values()))
STEP_BY_STEP = PROBLEMS["Problema, passo a passo"]

QUESTIONS = (
    "What is your name?",
    "Quem é você?",
    "What is the capital of Brazil?",
    "O que você pode fazer?",
)
"""For a model that was taught to chat. The page shows all of them in every language."""

TEXT_SETTINGS = DEFAULTS | {"temperature": 0.8, "top_p": 0.95}
"""A small model of text repeats itself where it always takes the likeliest token. Cards sample with these, too."""

NUM_PRESETS = len(PROBLEMS)
LONGEST_NAME = 34


def presets(release: Release | None) -> Mapping[str, str]:
    """Button → prompt, at most NUM_PRESETS.

    Problems; for a model of text, openings of texts that it has not read; for one that can chat, questions in the form
    of its chat template.
    """
    if release and can_chat(release):
        return {question: _asked(release, question) for question in QUESTIONS}
    openings = release.openings[:NUM_PRESETS] if release else []
    problems = LEFT_TO_THE_MODEL if release and release.thinks else PROBLEMS
    return {_shorten(opening): opening for opening in openings} or problems


def starters(release: Release) -> list[str]:
    """What a conversation may start with: questions, or openings of text; none where the page has its own problems."""
    return list(QUESTIONS) if can_chat(release) else release.openings[:NUM_PRESETS]


def reads_problems(release: Release) -> bool:
    """Whether the presets are problems."""
    return not starters(release)


def first_settings(release: Release | None) -> Mapping[str, object]:
    """The sampling settings that the page starts with where a release has no recorded example."""
    is_of_text = release is not None and release.openings and not can_chat(release)
    return TEXT_SETTINGS if is_of_text else DEFAULTS


def first_prompt(release: Release | None) -> str:
    """The prompt that the page starts with where a release has no recorded example."""
    return next(iter(presets(release).values()))


def first_request(release: Release | None) -> tuple[str, Mapping[str, object]]:
    """The prompt and the settings that the page starts with: those of the release's recorded example, if it has one."""
    example = read_example(release and release.trace)
    return (example[0], settings_of(example[1])) if example else (first_prompt(release), first_settings(release))


def comparison_prompt(release: Release | None) -> str:
    """The prompt that a comparison starts with: one with a long answer."""
    return STEP_BY_STEP if release is None or reads_problems(release) else first_prompt(release)


def _asked(release: Release, question: str) -> str:
    try:
        return conversation_prompt(release.tokenizer, [{"role": "user", "content": question}], release.name)
    except ChatError:  # a template that rejects it
        return question


def _shorten(opening: str) -> str:
    """The start of an opening, on one line."""
    text = " ".join(opening.split())
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1].rstrip() + "…"
