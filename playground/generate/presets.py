"""What the page offers to ask a model: problems in the form of the training data, or openings of text to continue."""

from collections.abc import Mapping

from axion.data.format import Problem
from axion.data.format import prompt as problem
from axion.release import Release
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

FIRST_PROBLEM = next(iter(PROBLEMS.values()))
STEP_BY_STEP = PROBLEMS["Problema, passo a passo"]

NUM_PRESETS = len(PROBLEMS)
LONGEST_NAME = 34


def presets(release: Release | None) -> Mapping[str, str]:
    """Button → prompt, at most NUM_PRESETS: problems, or for a model of text openings of texts that it has not read."""
    openings = release.openings[:NUM_PRESETS] if release else []
    return {_shorten(opening): opening for opening in openings} or PROBLEMS


def first_prompt(release: Release | None) -> str:
    """The prompt that the page starts with where a release has no recorded example."""
    return next(iter(presets(release).values()))


def comparison_prompt(release: Release | None) -> str:
    """The prompt that a comparison starts with: one with a long answer."""
    return release.openings[0] if release and release.openings else STEP_BY_STEP


def _shorten(opening: str) -> str:
    """The start of an opening, on one line."""
    text = " ".join(opening.split())
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1].rstrip() + "…"
