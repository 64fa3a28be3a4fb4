"""Tells stories from the lines of a world, and keeps account of every quantity in them.

A story is one or two openings, some events, perhaps sentences that change nothing, and a closing question; or a single
line that is a whole problem. Each formula that applies is a step. The reasoning has only the steps on which the answer
depends: what the others did is part of the puzzle, not of its solution.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations, product
from typing import NamedTuple

from axion.data.format import Equation, Problem
from axion.data.sources.event_lines import SLOT, TENSES, Line, Noun, World
from axion.data.sources.formulas import Formula, Step, reasoning, work_out
from axion.data.templates import Template
from axion.data.templates.slots import NAMES

RESULTS = (2, 999)
"""At least 2, so that every noun stays plural."""
AMOUNT, CAPACITY = "X", "C"
"""Letters of quantities of which the first never exceeds the second: passengers and seats."""
TRIES = 40
"""How often numbers are drawn for a sentence before another sentence is chosen."""
EVENTS_SHARE = (0.1, 0.4, 0.3, 0.15, 0.05)
"""How often a story has no event, one, two, three and four."""
EXTRA_SHARE = 0.35
SECOND_OPENING_SHARE = 0.4
PRONOUN_SHARE = 0.6
CONNECTOR_SHARE = 0.3
QUESTION_FIRST_SHARE = 0.05

PRONOUNS = {"en": ("He", "She"), "pt": ("Ele", "Ela")}
CONNECTORS = {
    "en": ("Then ", "After that, ", "Later, ", "Later that day, ", "Next, "),
    "pt": ("Depois, ", "Em seguida, ", "Mais tarde, ", "Depois disso, ", "Então, "),
}
_AGREEMENT = re.compile(r"\[([^|\[\]]*)\|([^|\[\]:]*)(?::(\w+))?\]")
_WORD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Story:
    """A problem, and how it came about."""

    problem: Problem
    steps: tuple[Step, ...]
    """Those on which the answer depends."""
    templates: tuple[Template, ...]
    """Its sentences, in their order."""
    world: str


@dataclass(frozen=True)
class Done:
    """A step that a story took."""

    equation: Equation
    formula: Formula
    letters: dict[str, str]
    """Whom the letters of its sentence name."""
    numbers: dict[str, int]
    """Those of its sentence."""
    parents: tuple[int, ...]
    """Indices of the steps whose results it reads."""


@dataclass
class State:
    """What is known at one point of a story."""

    values: dict[str, int] = field(default_factory=dict)
    """Quantity → value: a person's by the name, any other by its letter."""
    origins: dict[str, int | None] = field(default_factory=dict)
    """Quantity → the step that gave its value, None where a sentence did."""
    done: list[Done] = field(default_factory=list)

    def path_to(self, last: int) -> list[int]:
        """A step and all on which it depends, in their order: indices of `done`."""
        return sorted(self._ancestors(last))

    def _ancestors(self, step: int) -> set[int]:
        return {step}.union(*map(self._ancestors, self.done[step].parents))

    def copy(self) -> "State":
        return State(dict(self.values), dict(self.origins), list(self.done))


class Told(NamedTuple):
    """A sentence of a story."""

    line: Line
    letters: dict[str, str]
    """Whom its letters name."""
    numbers: dict[str, int]
    """Small letter → number, of the sentence and of its formulas."""


class Teller:
    """Tells stories of one language.

    Args:
        rng: the source of randomness.
        language: `pt` or `en`.
        prefers: which equations are wanted most: numbers are drawn for them first, and then for any.
    """

    def __init__(
        self,
        rng: random.Random,
        language: str,
        prefers: Callable[[Equation], bool] | None = None,
    ):
        self.rng, self.language = rng, language
        self.prefers = prefers
        self.most_uses = 0
        self._uses = Counter[tuple[int, int]]()

    def tell(self, world: World, lines: Sequence[Line]) -> Story | None:
        """A story from these lines of the world, or None where the draw leads nowhere."""
        return Telling(self, world, lines).story()

    def drawback(self, equations: Iterable[Equation]) -> float:
        """How little the equations are wanted: 0 at best, more where operands were used more than `most_uses` times."""
        if self.prefers is None:
            return 0
        uses = (self.uses(each) if self.prefers(each) else math.inf for each in equations)
        return max(0, max(uses, default=0) - self.most_uses)

    def use(self, equations: Iterable[Equation]) -> None:
        """Remembers the operands, so that others are drawn before them."""
        self._uses.update(map(_pair, equations))

    def uses(self, equation: Equation) -> int:
        """How often its operands were used."""
        return self._uses[_pair(equation)]

    def people(self) -> list[tuple[str, int]]:
        """Three names, each with 0 for a man's and 1 for a woman's."""
        named = [(name, index) for index, group in enumerate(NAMES[self.language]) for name in group]
        return self.rng.sample(named, 3)

    def draw(self, line: Line) -> Iterator[dict[str, int]]:
        """Numbers for the slots of a line, again and again; where there are few, each of them once."""
        slots = {letter: range(low, high + 1, step) for letter, (low, high, step) in line.slots.items()}
        if math.prod(map(len, slots.values())) > TRIES:
            for _ in range(TRIES):
                yield {letter: self.rng.choice(numbers) for letter, numbers in slots.items()}
        else:
            every = list(product(*slots.values()))
            for numbers in self.rng.sample(every, len(every)):
                yield dict(zip(slots, numbers, strict=True))


def _pair(equation: Equation) -> tuple[int, int]:
    return min(equation.left, equation.right), max(equation.left, equation.right)


class Telling:
    """One story while it is told."""

    def __init__(self, teller: Teller, world: World, lines: Sequence[Line]):
        self.teller, self.world, self.rng = teller, world, teller.rng
        tense = self.rng.choice(TENSES)
        self.lines = [line for line in lines if line.tense in ("", tense)]
        self.people = teller.people()
        self.pronouns = dict(self.people)
        nouns = self.rng.sample(world.nouns, min(2, len(world.nouns)))
        self.nouns: dict[str, Noun] = dict(zip(("thing", "other"), nouns, strict=False))
        self.state = State()
        self.told: list[Told] = []

    def story(self) -> Story | None:
        last = self._last_line()
        if last is None:
            return None
        sentences = self._sentences()
        steps = self.steps(self.state.path_to(last), self.state)
        line, _, numbers = self.told[-1]
        answer = SLOT.sub(lambda match: str(numbers[match[1]]), line.answer) or str(steps[-1].equation.result)
        if self._can_start(line) and self.rng.random() < QUESTION_FIRST_SHARE:
            sentences.insert(0, sentences.pop())
        problem = Problem(
            " ".join(sentences),
            answer,
            reasoning(steps),
            language=self.teller.language,
            steps=tuple(step.equation for step in steps),
        )
        return Story(problem, steps, tuple(line.template for line, _, _ in self.told), self.world.name)

    def _can_start(self, line: Line) -> bool:
        """Whether a closing may stand at the start: one sentence, which names nobody by a pronoun, and no number."""
        is_plain = not line.slots and not re.search(r":|[.?!] ", line.text)
        return line.role == "closing" and is_plain and len(self.told) > 1

    # --- The account --------------------------------------------------------------------------------------------------

    def _last_line(self) -> int | None:
        """Tells the whole story: the step that gives the answer, None where no story came about."""
        first = self._choose("opening", "whole")
        if first is None:
            return None
        if first.role == "whole":
            return self._asked(first)
        if self.rng.random() < SECOND_OPENING_SHARE:
            self._choose("opening")
        for _ in range(self.rng.choices(range(len(EVENTS_SHARE)), EVENTS_SHARE)[0]):
            if self._choose("event") is None:
                return None
            if self.rng.random() < EXTRA_SHARE / 2:
                self._choose("extra")
        if len(self.told) > 1 and self.rng.random() < EXTRA_SHARE / 2:
            self._choose("extra")
        closing = self._choose("closing")
        return None if closing is None else self._asked(closing)

    def _asked(self, line: Line) -> int | None:
        """The step that gave what the line asks for."""
        _, letters, _ = self.told[-1]
        target = line.formulas[-1].target
        return self.state.origins.get(letters.get(target, target))

    def _choose(self, *roles: str) -> Line | None:
        """Tells one more line of these roles, if one of a few random ones fits what is known."""
        used = {line.text for line, _, _ in self.told}
        pool = [line for line in self.lines if line.role in roles and line.text not in used]
        for line in self.rng.sample(pool, min(8, len(pool))):
            if self._tell(line):
                return line
        return None

    def _tell(self, line: Line) -> bool:
        names = [name for name, _ in self.people]
        mentioned = list(dict.fromkeys(name for _, letters, _ in self.told for name in letters.values()))
        choices = list(permutations(names, len(line.people)))
        self.rng.shuffle(choices)
        for chosen in choices:
            if chosen and not self._may_lead(line, chosen[0], mentioned):
                continue
            letters = dict(zip(line.people, chosen, strict=True))
            if self.fits(line, letters):
                return self.work_out(line, letters)
        return False

    def work_out(self, line: Line, letters: dict[str, str]) -> bool:
        """Draws the line's numbers until they work out, and looks a while for equations that the teller prefers."""
        best: dict[str, int] | None = None
        fewest = math.inf
        for numbers in self.teller.draw(line):
            if (results := self._results(self.state, line, letters, numbers)) is None:
                continue
            drawback = self.teller.drawback(result for result in results if isinstance(result, Equation))
            if best is None or drawback < fewest:
                best, fewest = numbers, drawback
            if drawback == 0:
                break
        after = None if best is None else self.apply(self.state, line, letters, best)
        if after:
            self.state, values = after
            self.told.append(Told(line, letters, values))
        return after is not None

    def _may_lead(self, line: Line, name: str, mentioned: list[str]) -> bool:
        """Whether the line may be about this person first. One whose quantity it does not change was told of before."""
        if line.people[0] in line.quantities or not mentioned:
            return True
        return name in (mentioned if line.role == "extra" else mentioned[:1])

    def fits(self, line: Line, letters: dict[str, str]) -> bool:
        """Whether what the line reads is known, and what it gives is new: it changes what is known only by reading it.

        Of an event, and of what follows in a dialogue, one formula is enough.
        """
        known = {letter for letter in line.quantities if letters.get(letter, letter) in self.state.values}
        if any(formula.target in known and formula.target not in formula.operands for formula in line.formulas):
            return False
        given = set(known) | set(line.slots)
        applied = []
        for formula in line.formulas:
            if fits := all(letter in given for letter in formula.operands):
                given.add(formula.target)
            applied.append(fits)
        if line.role in ("event", "follow"):
            counts = [formula.target.isupper() or formula is line.formulas[-1] for formula in line.formulas]
            return any(fits and counting for fits, counting in zip(applied, counts, strict=True))
        return all(applied)

    def apply(
        self, before: State, line: Line, letters: dict[str, str], numbers: dict[str, int]
    ) -> tuple[State, dict[str, int]] | None:
        """The state after the line, and the line's numbers; None where they do not work out.

        A formula that reads a quantity that nobody knows leaves its target unknown: who gets five marbles from somebody
        may have any number of them.
        """
        if (results := self._results(before, line, letters, numbers)) is None:
            return None
        state = before.copy()
        state.values |= numbers
        state.origins |= dict.fromkeys(numbers)
        for formula, result in zip(line.formulas, results, strict=True):
            key = letters.get(formula.target, formula.target)
            operands = [letters.get(operand, operand) for operand in (formula.left, formula.right) if operand]
            if result is None:
                state.values.pop(key, None)
            elif isinstance(result, int):
                state.values[key], state.origins[key] = result, state.origins.get(operands[0])
            else:
                parents = tuple(origin for each in operands if (origin := state.origins.get(each)) is not None)
                state.done.append(Done(result, formula, letters, numbers, parents))
                state.values[key], state.origins[key] = result.result, len(state.done) - 1
        own = {letter: value for letter, value in state.values.items() if len(letter) == 1 and letter.islower()}
        for letter in own:
            del state.values[letter]
        return state, own

    def _results(
        self, before: State, line: Line, letters: dict[str, str], numbers: dict[str, int]
    ) -> list[Equation | int | None] | None:
        """What each formula gives: an equation, the value that it names, or None where that stays unknown.

        None where the numbers do not work out.
        """
        values = before.values | numbers
        results: list[Equation | int | None] = []
        for formula in line.formulas:
            operands = [letters.get(operand, operand) for operand in (formula.left, formula.right) if operand]
            read = [values[each] if each in values else int(each) if each.isdigit() else None for each in operands]
            known = [each for each in read if each is not None]
            result = None
            if len(known) == len(operands):
                result = work_out(known[0], formula.sign, known[1]) if formula.sign else known[0]
                if result is None or (isinstance(result, Equation) and not RESULTS[0] <= result.result <= RESULTS[1]):
                    return None
            results.append(result)
            key = letters.get(formula.target, formula.target)
            if result is None:
                values.pop(key, None)
            else:
                values[key] = result.result if isinstance(result, Equation) else result
        return None if values.get(AMOUNT, 0) > values.get(CAPACITY, math.inf) else results

    # --- The text -----------------------------------------------------------------------------------------------------

    def _sentences(self) -> list[str]:
        sentences = []
        before: list[str] = []
        role = ""
        for line, letters, numbers in self.told:
            text = line.text
            people = [letters[letter] for letter in line.people if f"{{{letter}}}" in text]
            if text.startswith("{N} ") and before == [letters["N"]] and self.rng.random() < PRONOUN_SHARE:
                text = PRONOUNS[self.teller.language][self.pronouns[letters["N"]]] + text.removeprefix("{N}")
            if line.role == role == "event" and text.startswith("{N} ") and self.rng.random() < CONNECTOR_SHARE:
                text = self.rng.choice(CONNECTORS[self.teller.language]) + text
            sentences.append(self.fill(text, letters, numbers))
            before, role = people, line.role
        return sentences

    def steps(self, path: Sequence[int], state: State) -> tuple[Step, ...]:
        """The steps of these indices, in words."""
        return tuple(self._step(state.done[index]) for index in path)

    def _step(self, done: Done) -> Step:
        text = self.rng.choice(self.world.step_texts(done.formula))
        return Step(done.equation, self.fill(text, done.letters, done.numbers))

    def fill(self, template: str, letters: dict[str, str], numbers: dict[str, int]) -> str:
        """Fills in numbers, names, nouns, and of every [masculine|feminine] the form that agrees."""
        text = _AGREEMENT.sub(lambda match: match[1] if self._is_masculine(match[3], letters) else match[2], template)
        text = SLOT.sub(lambda match: str(numbers[match[1]]), text)
        text = _WORD.sub(lambda match: letters.get(match[1]) or self._noun(match[1]), text)
        return text[0].upper() + text[1:]

    def _is_masculine(self, with_: str | None, letters: dict[str, str]) -> bool:
        """Whether a word agrees with a masculine noun, or with a man or boy."""
        if with_ in letters:
            return self.pronouns[letters[with_]] == 0
        return self.nouns[with_ or "thing"].gender == "m"

    def _noun(self, word: str) -> str:
        """`thing`, `things` or `a_thing`, and the same of the other noun; `Things` with a capital."""
        if word[0].isupper():
            return (text := self._noun(word.lower()))[0].upper() + text[1:]
        name = word.removeprefix("a_")
        noun = self.nouns[name.removesuffix("s")]
        form = noun.many if name.endswith("s") else noun.one
        article = ("an " if form[0] in "aeiou" else "a ") if word.startswith("a_") else ""
        return article + form
