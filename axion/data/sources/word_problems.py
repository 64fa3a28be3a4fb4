"""Multi-step word problems with worked reasoning, in Portuguese and English, from a seed.

A problem is a story drawn from one family of `stories/`: an opening, some events, and a closing question. Each part
changes the running quantity `v` by formulas, and each formula becomes one line of the reasoning: "Agora Ana tem 12 + 5
= 17 figurinhas."
"""

import operator
import random
import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import ClassVar, Literal

from axion.data.format import Problem
from axion.data.holdout import shows_held_out
from axion.data.sources.base import Document, Source, plain
from axion.data.sources.stories import CONNECTORS, FAMILIES, NAMES, PRONOUNS, Family, Part
from axion.data.split import Side, Split
from axion.data.templates import LANGUAGES
from axion.settings import Positive

# What each letter of a story stands for, and its range. `v` is the quantity that a story is about.
RANGES = MappingProxyType(
    {
        "v": (10, 90),
        "a": (5, 60),
        "b": (5, 60),
        "k": (2, 40),  # some
        "m": (2, 6),  # how many groups, times or days
        "g": (2, 6),  # a small group or amount
        "p": (2, 12),  # a price or a rate
        "y": (4, 15),  # a child's age
        "c": (20, 100),  # cash paid
        "s": (40, 90),  # kilometres an hour
        "t": (20, 300),  # a total or a goal
    }
)
STEPS = (2, 5)
RESULTS = (2, 999)  # at least 2, so that every noun stays plural
TRIES = 30

_SIGNS = MappingProxyType({"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv})
_LETTER = re.compile(r"\{([a-z])\}")
_INFLECTION = re.compile(r"\[(\w*)\|(\w*)\]")


class WordProblems(Source):
    """Synthetic word problems of several steps."""

    kind: Literal["word_problems"] = "word_problems"
    version: ClassVar[int] = 1
    """Increase it when the problems of the same count and seed, their order, text or split change."""
    label: ClassVar[str] = "synthetic problems of several steps, Portuguese and English"
    form = "problem"
    is_real: ClassVar[bool] = False

    count: Positive = 1_500
    """Number of problems."""

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        for problem in word_problems(self.count, seed, split.holdout_fraction):
            text = problem.document()
            side = Side.VALIDATION if split.is_validation(text) else Side.TRAIN
            yield plain(text, self.kind, side, problem.language)


def word_problems(count: int, seed: int, holdout: float) -> Iterator[Problem]:
    """`count` problems of two to five steps, half in each language, none with a pair held out for the tests.

    Every step's arithmetic is exact by construction: results are computed, whole, and between 2 and 999.
    """
    rng = random.Random(f"word problems {seed}")
    drawn = 0
    while drawn < count:
        problem = _draw(rng, LANGUAGES[drawn % len(LANGUAGES)])
        if problem and not shows_held_out(problem.document(), holdout):
            drawn += 1
            yield problem


def _draw(rng: random.Random, language: str) -> Problem | None:
    """One random problem, or None if its numbers do not work out or it has too few or too many steps."""
    family = rng.choice(FAMILIES)
    events = rng.sample(family.events, rng.randint(*family.num_events))
    parts = [rng.choice(family.openings), *events, rng.choice(family.closings)]
    if not STEPS[0] <= sum(len(part.steps) for part in parts) <= STEPS[1]:
        return None

    names = rng.sample([name for group in NAMES[language] for name in group], 3)
    words = {**dict(zip("NMO", names, strict=True)), **_thing(rng, family, language)}
    pronoun = PRONOUNS[language][words["N"] not in NAMES[language][0]]
    values: dict[str, int] = {}
    sentences, lines, previous = [], [], ""
    for number, part in enumerate(parts):
        text = rng.choice(part.texts(language))
        worked = _work_out(rng, part, text, values)
        if worked is None:
            return None
        values, equations = worked
        linked = family.linked and 1 < number < len(parts) - 1
        varied = _vary(rng, text, previous, pronoun, CONNECTORS[language] if linked else ())
        previous = text
        sentences.append(_fill(varied, words | values))
        for step, equation in zip(part.steps, equations, strict=True):
            lines.append(_fill(step.line(family, language), words | values | {"=": equation}))
    return Problem(" ".join(sentences), str(values["v"]), "\n".join(lines), language=language)


def _thing(rng: random.Random, family: Family, language: str) -> dict[str, str]:
    english, portuguese, gender = rng.choice(family.things)
    return {"things": english if language == "en" else portuguese, "gender": gender}


def _work_out(rng: random.Random, part: Part, text: str, before: dict) -> tuple[dict, list[str]] | None:
    """Draws the numbers that `text` names until all steps work out: the new values, and one equation per step."""
    for _ in range(TRIES):
        values = before | {letter: rng.randint(*RANGES[letter]) for letter in dict.fromkeys(_LETTER.findall(text))}
        equations = []
        for step in part.steps:
            first, sign, second = step.formula.split()
            left, right = int(values.get(first, first)), int(values.get(second, second))
            result = _SIGNS[sign](left, right)
            if not RESULTS[0] <= result <= RESULTS[1] or (sign == "/" and left % right):
                break
            values[step.target] = result
            equations.append(f"{left} {sign} {right} = {result}")
        else:
            return values, equations
    return None


def _vary(rng: random.Random, text: str, before: str, pronoun: str, connectors: tuple[str, ...]) -> str:
    """Sometimes adds a connector, or a pronoun for the name if the last sentence was about that person alone."""
    alone = "{N}" in before and "{M}" not in before and "{O}" not in before
    if alone and text.startswith("{N} ") and rng.random() < 0.5:
        text = pronoun + text.removeprefix("{N}")
    if connectors and rng.random() < 0.5:
        text = rng.choice(connectors) + text[0].lower() + text[1:]
    return text


def _fill(template: str, words: dict) -> str:
    """Fills in the words and, of every [masculine|feminine] ending, the one that agrees with the thing."""
    form = 1 if words["gender"] == "m" else 2
    return _INFLECTION.sub(lambda match: match[form], template).format_map(words)
