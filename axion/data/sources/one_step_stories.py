"""Stories that one step solves, in Portuguese and English, from a seed: gains and losses, comparisons, groups, shares.

Each is told from a template of `axion/data/templates/stories_en.txt` or `stories_pt.txt`. A third of the templates is
held out.

With `thinking`, the reasoning is the story's equation and its working, as `axion.data.working` does it.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from axion.data.format import Equation, Problem, write_steps
from axion.data.holdout import LARGEST_TESTED, is_held_out, shows_held_out
from axion.data.sources.base import Document, FileSource, on_demand, plain
from axion.data.sources.written import FIELDS, Written, read_written
from axion.data.split import Side, Split
from axion.data.templates import LANGUAGES, Template, on_side, read_templates
from axion.data.templates.careless import type_carelessly
from axion.data.templates.numbers import number_word
from axion.data.templates.slots import fill, value_slots
from axion.data.working import shows_reserved, working
from axion.errors import AxionError
from axion.settings import Portion, Positive

USUAL_RANGES = MappingProxyType(
    {
        "+": (("3", "90"), ("2", "60")),
        "-": (("8", "99"), ("2", "a")),
        "*": (("2", "12"), ("2", "20")),
        "/": (("4", "240"), ("2", "12")),
    }
)
"""Sign → the usual ranges of the two numbers."""
USUAL_RESULT = ("2", "20")
"""The usual range of a quotient."""
USUAL_EXTRA = ("2", "20")
"""The usual range of a number that a story doesn't need."""
WORDS = range(3, 13)
"""Numbers that may be written as words: they have the same form beside every noun."""
TRIES = 1_000

_EQUATION = re.compile(r"([a-z]) ([-+*/]) ([a-z]|\d+)")
_RANGE = re.compile(r"([a-z])=(\d+)\.\.([a-z]|\d+)")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))[a-z]")


@dataclass(frozen=True)
class Story:
    """A template of a story with its equation and the ranges of its numbers."""

    template: Template
    left: str
    sign: str
    right: str
    """A letter, or a number that the story names in words: 12 for "a dozen"."""
    ranges: Mapping[str, tuple[str, str]]
    """Letter → lowest and highest value; a letter as the highest means less than that number."""

    def draw(self, rng: random.Random) -> dict[str, int] | None:
        """Numbers for the story, or None if those that were drawn do not work out."""
        values: dict[str, int] = {}

        def drawn(letter: str, usual: tuple[str, str]) -> int:
            low, high = self.ranges.get(letter, usual)
            highest = values[high] - 1 if high.isalpha() else int(high)
            return rng.randint(int(low), max(int(low), highest))

        first, second = USUAL_RANGES[self.sign]
        is_letter = self.right.isalpha()
        if self.sign == "/":
            divisor = drawn(self.right, second) if is_letter else int(self.right)
            values[self.left] = divisor * drawn("r", USUAL_RESULT)
            if is_letter:
                values[self.right] = divisor
            low, high = self.ranges.get(self.left, first)
            if self.left in self.ranges and not int(low) <= values[self.left] <= int(high):
                return None
        else:
            values[self.left] = drawn(self.left, first)
            if is_letter:
                values[self.right] = drawn(self.right, second)
        for letter in value_slots(self.template.text):
            if letter not in values:
                values[letter] = drawn(letter, USUAL_EXTRA)
        return values if self.equation(values).result > 0 else None

    def equation(self, values: Mapping[str, int]) -> Equation:
        """The step that solves the story."""
        return Equation(values[self.left], self.sign, int(values.get(self.right, self.right)))


class Stories(FileSource):
    """Synthetic one-step stories, and problems that people wrote with other numbers."""

    kind: Literal["stories"] = "stories"
    version: ClassVar[int] = 3
    """Increase it when the problems of the same settings, files and seed, their order, text or split change."""
    label: ClassVar[str] = "synthetic one-step stories, Portuguese and English"
    form = "problem"
    is_real: ClassVar[bool] = False

    count: Positive = 50_000
    """Number of problems."""
    reasoning: Portion = 0.5
    """Share of the problems whose steps are written before the answer."""
    words: Portion = 0.05
    """Share of the problems with numbers from three to twelve written as words."""
    careless: Portion = 0.1
    """Share of the questions that are typed carelessly."""
    file_share: Portion = 0.2
    """Share of the problems that are told from those of `files`, English ones that people wrote."""
    thinking: bool = False
    """Whether the reasoning works the equation out. Problems without reasoning then have a heading that carries no
    loss, so that a model learns to obey it, but not to choose it; written problems with fractions are left out."""

    @property
    def data_name(self) -> str:
        return self.kind

    def num_bytes(self) -> int | None:
        """Unknown: the files are only what some of the problems are told from."""
        return None

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        """Held out by a hash of the text."""
        for problem in self.problems(seed, split.holdout_fraction):
            text = problem.document()
            side = Side.VALIDATION if split.is_validation(text) else Side.TRAIN
            if self.thinking and problem.reasoning is None:
                yield on_demand(problem, self.kind, side)
            else:
                yield plain(text, self.kind, side, problem.language)

    def problems(self, seed: int, holdout: float) -> Iterator[Problem]:
        """`count` problems for training, none from a held-out template or with a held-out pair.

        Args:
            seed: of all draws.
            holdout: the share of operand pairs that `is_held_out`.

        Raises:
            AxionError: a file cannot be read, or has other fields.
        """
        rng = random.Random(f"stories {seed}")
        written = self._written()

        def endless() -> Iterator[Problem]:
            while True:
                if written and rng.random() < self.file_share:
                    problem = rng.choice(written).draw(rng)
                else:
                    language = rng.choice(LANGUAGES)
                    problem = tell(rng, rng.choice(stories(language, held_out=False)), language, self.words)
                if problem and self.thinking:
                    problem = think(problem, holdout)
                elif problem and _shows_held_out(problem, holdout):
                    problem = None
                if problem:
                    yield self._vary(rng, problem)

        return islice(endless(), self.count)

    def _written(self) -> list[Written]:
        """The problems of the files that are not held out."""
        if not (self.files or self.local_files or self.hub_id):
            return []
        found = [each for each in read_written(self.records(*FIELDS)) if not each.template.is_held_out]
        if self.thinking:
            found = [each for each in found if (told := each.draw(random.Random(0))) and think(told, 0)]
            if not found:
                raise AxionError("no problem in the files of the stories source can be worked out in whole numbers")
        return found

    def _vary(self, rng: random.Random, problem: Problem) -> Problem:
        """The problem, perhaps typed carelessly, perhaps without its reasoning."""
        question = type_carelessly(problem.question, rng) if rng.random() < self.careless else problem.question
        reasoning = problem.reasoning if rng.random() < self.reasoning else None
        return replace(problem, question=question, reasoning=reasoning)


def tell(
    rng: random.Random, story: Story, language: str, words: float = 0, wanted: Callable[[Equation], bool] | None = None
) -> Problem | None:
    """A story with drawn numbers, people and things; None if no numbers were found.

    Args:
        rng: draws all of them.
        story: of `stories(language, …)`.
        language: `pt` or `en`.
        words: the share of problems with small numbers written as words.
        wanted: which equations may be used; by default all.
    """
    for _ in range(TRIES):
        values = story.draw(rng)
        if values is None or (wanted and not wanted(story.equation(values))):
            continue
        equation = story.equation(values)
        shown: dict[str, Any] = dict(values)
        if rng.random() < words:
            plain_slots = [slot for slot in values if f"${{{slot}}}" not in story.template.text]
            shown |= {slot: number_word(values[slot], language) for slot in plain_slots if values[slot] in WORDS}
        question = fill(story.template.text, shown, language, rng)
        question = _SENTENCE_START.sub(lambda match: match[0].upper(), question)
        steps = (equation,)
        return Problem(
            question,
            str(equation.result),
            write_steps(steps),
            language=language,
            steps=steps,
            template=story.template.text,
        )
    return None


def think(problem: Problem, holdout: float) -> Problem | None:
    """The problem with the working of its steps; None if they show a held-out pair, or some numbers are not whole.

    Nor are negative numbers worked out, except as a result.
    """
    if not problem.steps or any(min(step.left, step.right) < 0 for step in problem.steps):
        return None
    reasoning = "\n".join(line for step in problem.steps for line in working(step))
    if shows_reserved(reasoning, holdout) or shows_held_out(problem.question, holdout):
        return None
    return replace(problem, reasoning=reasoning)


def stories_tests(language: str, count: int, seed: int, holdout: float = 0.05) -> list[Problem]:
    """Up to `count` different problems for testing, from held-out templates only.

    Their numbers are held-out pairs, or some are too large for training to have seen many. Templates whose numbers are
    all small, such as the days of some weeks, are left out.

    Args:
        language: `pt` or `en`.
        count: the result is shorter if there are no more.
        seed: of all draws.
        holdout: the share of operand pairs that `is_held_out`.

    Raises:
        AxionError: another language, or a `holdout` of 0.
    """
    if not holdout:
        raise AxionError(f"data.holdout_fraction is {holdout}: it holds no pair out; 0.05 is a good value")
    rng = random.Random(f"stories tests {language} {seed}")

    def is_new(equation: Equation) -> bool:
        pair = (equation.left, equation.right)
        return max(pair) > LARGEST_TESTED or is_held_out(*pair, holdout)

    told = list(stories(language, held_out=True))
    found: dict[str, Problem] = {}
    while told and len(found) < count:
        before = len(found)
        for story in rng.sample(told, len(told)):
            problem = tell(rng, story, language, wanted=is_new)
            if problem is None:
                told.remove(story)
            elif len(found) < count:
                found.setdefault(problem.question, problem)
        if len(found) == before:
            break
    return list(found.values())


@cache
def stories(language: str, held_out: bool) -> tuple[Story, ...]:
    """The stories of a language on one side.

    Raises:
        AxionError: there is no such language, or a template is not one of a story.
    """
    return tuple(parse_story(template) for template in on_side(read_templates("stories", language), held_out))


def parse_story(template: Template) -> Story:
    """The story of a template. Raises AxionError where its fields or slots are not those of a story."""
    equation, *ranges = template.fields or ("",)
    match = _EQUATION.fullmatch(equation)
    limits = [_RANGE.fullmatch(each) for each in " ".join(ranges).split()]
    if not match or not all(limits) or len(ranges) > 1:
        raise AxionError(f"{template.where}: begin with an equation and ranges, such as 'a - b | a=20..60 b=2..a | …'")
    left, sign, right = match.groups()
    limited: dict[str, tuple[str, str]] = {}
    for letter, low, high in (each.groups() for each in limits if each):
        if letter in limited:
            raise AxionError(f"{template.where}: {letter} has two ranges; give one")
        if int(low) > int(high) if high.isdigit() else (high != left or letter == left or sign == "/"):
            raise AxionError(
                f"{template.where}: {letter}={low}..{high} is no range; one goes up to a larger number, or to the "
                "first number of a sum, difference or product"
            )
        limited[letter] = (low, high)
    story = Story(template, left, sign, right, limited)
    slots = value_slots(template.text)
    if missing := {each for each in (left, right) if each.isalpha()} - {*slots}:
        raise AxionError(f"{template.where}: the text does not tell the number {sorted(missing)[0]} of the equation")
    if unknown := story.ranges.keys() - {*slots, "r"}:
        raise AxionError(f"{template.where}: the text has no {sorted(unknown)[0]}; leave its range out")
    return story


def _shows_held_out(problem: Problem, holdout: float) -> bool:
    pairs = ((step.left, step.right) for step in problem.steps)
    return any(is_held_out(*pair, holdout) for pair in pairs) or shows_held_out(problem.document(), holdout)
