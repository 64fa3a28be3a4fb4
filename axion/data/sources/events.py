"""Problems of one to five steps, in Portuguese and English, put together from sentences that people wrote.

The sentences are `templates/events_*.txt`; `event_lines` reads them, and `event_stories` tells the stories. Training
sees two thirds of the sentences. The tests are told from the others alone.

With `thinking`, the reasoning works out each step's equation where its sentence has it, as `axion.data.working` does.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import ClassVar, Literal

from axion.data.format import Equation
from axion.data.holdout import LARGEST_TESTED, is_held_out, shows_held_out
from axion.data.sources.base import Document, Source, on_demand, plain
from axion.data.sources.event_lines import read_worlds
from axion.data.sources.event_stories import Story, Teller
from axion.data.split import Side, Split
from axion.data.templates import LANGUAGES
from axion.data.working import shows_reserved, work_through
from axion.errors import AxionError
from axion.settings import Portion, Positive

STEPS = (1, 5)
STORIES_PER_TEST = 2_000
"""So many stories are told for one test at most."""


class Events(Source):
    """Synthetic problems of one to five steps: several people, sentences that change nothing, prices, times, shares."""

    kind: Literal["events"] = "events"
    version: ClassVar[int] = 4
    """Increase it when the problems of the same count and seed, their order, text or split change."""
    label: ClassVar[str] = "synthetic problems of one to five steps from written sentences, Portuguese and English"
    form = "problem"
    is_real: ClassVar[bool] = False

    count: Positive = 10_000
    """Number of problems."""
    reasoning: Portion = 1.0
    """Share of the problems that have the reasoning before the answer."""
    thinking: bool = False
    """Whether the reasoning works out the equations. Problems without reasoning then have a heading that carries no
    loss, so that a model learns to obey it, but not to choose it."""

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        rng = random.Random(f"reasoning of events {seed}")
        for story in events(self.count, seed, split.holdout_fraction, self.thinking):
            is_direct = rng.random() >= self.reasoning
            text = story.problem.document(direct=is_direct)
            side = Side.VALIDATION if split.is_validation(text) else Side.TRAIN
            if self.thinking and is_direct:
                yield on_demand(story.problem, self.kind, side)
            else:
                yield plain(text, self.kind, side, story.problem.language)


def events(count: int, seed: int, holdout: float, thinking: bool = False) -> Iterator[Story]:
    """`count` stories for training, half in each language: no held-out sentence, no pair held out for the tests.

    Args:
        count: how many.
        seed: of the draw.
        holdout: share of operand pairs that the tests keep for themselves.
        thinking: whether their reasoning works out the equations.
    """
    rng = random.Random(f"events {seed}")
    stories = {language: _stories(Teller(rng, language), held_out=False) for language in LANGUAGES}
    for number in range(count):
        suitable = (
            story
            for story in stories[LANGUAGES[number % len(LANGUAGES)]]
            if not shows_held_out(story.problem.document(), holdout)
        )
        yield next(filter(None, (_think(story, holdout) for story in suitable)) if thinking else suitable)


def _think(story: Story, holdout: float) -> Story | None:
    """The story whose reasoning works out its equations; None where that shows a held-out pair."""
    reasoning = "\n".join(work_through(step.text, step.equation) for step in story.steps)
    if shows_reserved(reasoning, holdout):
        return None
    return replace(story, problem=replace(story.problem, reasoning=reasoning))


def events_tests(language: str, count: int, seed: int, holdout: float = 0.05, steps: int | None = None) -> list[Story]:
    """`count` different stories for testing, from held-out sentences only.

    Their numbers are drawn for held-out pairs of operands: every story needs one at least in the steps to its answer,
    and most of those that have two digits are. There are fewer where a tiny `holdout` leaves too few pairs.

    Args:
        language: `pt` or `en`.
        count: how many.
        seed: of the draw.
        holdout: share of operand pairs that the model's training did not show.
        steps: from 1 to 5, or any of them.

    Raises:
        AxionError: another language or number of steps, or a `holdout` of 0.
    """
    if language not in LANGUAGES or steps not in (None, *range(STEPS[0], STEPS[1] + 1)):
        raise AxionError(f"tests are of {STEPS[0]} to {STEPS[1]} steps in pt or en, not of {steps} in {language!r}")
    if holdout <= 0:
        raise AxionError("data.holdout_fraction is 0: it holds no pair out; 0.05 is a good value")
    teller = Teller(
        random.Random(f"event tests {language} {steps} {seed}"),
        language,
        partial(may_test, holdout=holdout),
    )
    found: dict[str, Story] = {}
    for number, story in enumerate(islice(_stories(teller, held_out=True), STORIES_PER_TEST * count)):
        equations = [step.equation for step in story.steps]
        held_out = [each for each in equations if is_held_out(each.left, each.right, holdout)]
        teller.most_uses = number // count  # so that few pairs do not make most of the tests
        if steps in (None, len(story.steps)) and any(teller.uses(each) <= teller.most_uses for each in held_out):
            found.setdefault(story.problem.question, story)
            teller.use(equations)
        if len(found) == count:
            break
    return list(found.values())


def may_test(equation: Equation, holdout: float) -> bool:
    """Whether the pair is held out, or too small or too large to be."""
    low, high = sorted((equation.left, equation.right))
    return high < 10 or high > LARGEST_TESTED or is_held_out(low, high, holdout)


def _stories(teller: Teller, held_out: bool) -> Iterator[Story]:
    """Stories of one to five steps, without end, the worlds in turn at random."""
    worlds = [(world, world.side(held_out)) for world in read_worlds(teller.language)]
    while True:
        world, lines = teller.rng.choice(worlds)
        story = teller.tell(world, lines)
        if story and STEPS[0] <= len(story.steps) <= STEPS[1]:
            yield story
