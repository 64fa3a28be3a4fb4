"""The turns of a dialogue: a problem and what is asked after it, and small talk from written topics."""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Literal

from axion.data.sources.event_lines import IRRELEVANT, Line, World
from axion.data.sources.event_stories import State, Teller, Telling, Told
from axion.data.sources.formulas import Step, reasoning
from axion.data.sources.phrasings import Phrasings
from axion.data.templates import Template, read_templates
from axion.errors import AxionError

TurnKind = Literal["problem", "follow-up", "correction", "why", "small talk", "unknowable"]

SUMS = "sums"
"""The world of sums."""
SMALL_TALK_ROLES = ("user", "reply", "accept")
PHRASED_SHARE = 0.6
"""How many sums are asked as the source `phrasings` asks them."""
LONGEST_FIRST = 3
"""Steps of a dialogue's first problem."""
LONGEST_CORRECTED = 4
"""Steps that are worked out anew after a correction."""
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


@dataclass(frozen=True)
class Expected:
    """What a right answer says."""

    kind: Literal["number", "unknowable", "small talk"]
    accepted: tuple[str, ...]
    """The number, which must be the last one of the answer; else words or phrases, of which it must have one."""

    def is_met_by(self, answer: str) -> bool:
        """Whether an answer is right. Upper and lower case, and decorations of a number, do not matter."""
        if self.kind == "number":
            numbers = _NUMBER.findall(answer)
            return bool(numbers) and numbers[-1].replace(",", "") in self.accepted
        plain = answer.casefold().replace("’", "'")
        return any(re.search(rf"(?<!\w){re.escape(words.casefold())}(?!\w)", plain) for words in self.accepted)


@dataclass(frozen=True)
class Turn:
    """What the user says, and a right answer."""

    user: str
    reply: str
    kind: TurnKind
    expected: Expected
    templates: tuple[Template, ...]
    """What the user's text is made of."""
    steps: tuple[Step, ...] = ()
    """Those that the reply tells."""


@dataclass(frozen=True)
class Topic:
    """Something that people talk about."""

    name: str
    users: tuple[Template, ...]
    replies: tuple[str, ...]
    accepted: tuple[str, ...]
    can_be_known: bool

    def turn(self, rng: random.Random, held_out: bool) -> Turn | None:
        """A turn from one of the held-out templates, or one of the others; None where there are none."""
        users = [user for user in self.users if user.is_held_out == held_out]
        if not users:
            return None
        user = rng.choice(users)
        kind = "small talk" if self.can_be_known else "unknowable"
        return Turn(user.text, rng.choice(self.replies), kind, Expected(kind, self.accepted), (user,))


@cache
def read_topics(language: str) -> tuple[Topic, ...]:
    """All topics of a language. Raises AxionError as `topics`."""
    return topics(read_templates("smalltalk", language))


def topics(templates: Iterable[Template]) -> tuple[Topic, ...]:
    """The topics of a file.

    Raises:
        AxionError: a line has another role than `SMALL_TALK_ROLES`, or a topic nothing to say or to answer.
    """
    groups: dict[str, list[Template]] = {}
    for template in templates:
        if len(template.fields) != 1 or template.fields[0] not in SMALL_TALK_ROLES:
            raise AxionError(f"{template.where}: a line of small talk begins with one of user, reply and accept")
        groups.setdefault(template.group, []).append(template)
    unknown = _listed(groups.pop("unknown", []))
    return tuple(_topic(name, lines, unknown) for name, lines in groups.items())


def _topic(name: str, lines: Sequence[Template], unknown: tuple[str, ...]) -> Topic:
    users, replies, accepts = ([line for line in lines if line.fields == (role,)] for role in SMALL_TALK_ROLES)
    accepted = _listed(accepts)
    if not users or not replies or not (accepted or unknown):
        missing = "user and reply lines" if accepted or unknown else "an accept line, here or in [unknown]"
        raise AxionError(f"{lines[0].where}: [{name}] needs {missing}")
    return Topic(name, tuple(users), tuple(reply.text for reply in replies), accepted or unknown, bool(accepted))


def _listed(templates: Sequence[Template]) -> tuple[str, ...]:
    return tuple(words for template in templates for words in template.text.split(", "))


class Talk:
    """A problem about one story or sum, and the turns that go on from it.

    Args:
        teller: of the language.
        world: of the story.
        held_out: whether the user says only held-out templates, or only others.
    """

    def __init__(self, teller: Teller, world: World, held_out: bool):
        self._rng, self._teller, self._world = teller.rng, teller, world
        self._held_out = held_out
        self._lines = [line for line in world.side(held_out) if _goes_on(line)]
        self._telling = Telling(teller, world, self._lines)
        self._asked = ""
        """The quantity that the last question asked for: a name, or a letter of the world; "" if nothing goes on."""
        self._last: tuple[Step, ...] = ()
        self._said = ""
        self._explained = set[int]()
        """The steps that an answer told, by their indices in the state."""

    def first(self) -> Turn | None:
        """The problem; None where the draw leads nowhere."""
        story = self._telling.story()
        if story is None or len(story.steps) > LONGEST_FIRST:
            return None
        line, letters, _ = self._telling.told[-1]
        self._asked = letters.get(line.formulas[-1].target, line.formulas[-1].target)
        self._unexplained(self._asked)
        if self._world.name == SUMS and self._rng.random() < PHRASED_SHARE:
            equation = story.steps[0].equation
            if asked := Phrasings().ask(self._rng, equation, self._teller.language, self._held_out):
                return self._turn("problem", asked.question, story.steps, (Template(asked.template),))
        return self._turn("problem", story.problem.question, story.steps, story.templates)

    def next(self) -> Turn | None:
        """Another turn about the same story; None where nothing fits."""
        if not self._asked:
            return None
        kinds = self._rng.sample((self._follow, self._follow, self._follow, self._correct, self._why), 5)
        return next((turn for kind in kinds if (turn := kind())), None)

    # --- The kinds of turns -------------------------------------------------------------------------------------------

    def _follow(self) -> Turn | None:
        """A question that changes a quantity, or asks for another one."""
        lines = [line for line in self._lines if line.role == "follow"]
        used = {told.line.text for told in self._telling.told}
        for line in self._rng.sample(lines, len(lines)):
            if line.text in used or (letters := self._who(line)) is None:
                continue
            if self._telling.work_out(line, letters):
                return self._followed(line, letters)
        return None

    def _followed(self, line: Line, letters: dict[str, str]) -> Turn:
        state, numbers = self._telling.state, self._telling.told[-1].numbers
        user = self._telling.fill(line.text, letters, numbers)
        targets = [letters.get(formula.target, formula.target) for formula in line.formulas]
        asked = self._asked if self._asked in targets else targets[-1]
        self._asked = asked if asked in state.values else ""
        if steps := self._unexplained(asked):
            return self._turn("follow-up", user, steps, (line.template,))
        self._last = ()
        value = state.values[asked]
        text = self._telling.fill(self._world.step_texts(line.formulas[-1])[0], letters, {})
        return self._answered("follow-up", user, text.replace("{=}", str(value)), value, (line.template,))

    def _unexplained(self, quantity: str) -> tuple[Step, ...]:
        """The steps to a quantity that no answer has told yet; from now on they are told.

        What a question only asks for, such as a sum, is no quantity of the story: its steps are those to the last one.
        """
        state = self._telling.state
        origin = state.origins.get(quantity) if quantity in state.values else len(state.done) - 1
        path = [] if origin is None else [step for step in state.path_to(origin) if step not in self._explained]
        self._explained |= set(path)
        return self._telling.steps(path, state)

    def _who(self, line: Line) -> dict[str, str] | None:
        """Whom the letters of a line name: N is the person last asked about."""
        names = [name for name, _ in self._telling.people]
        told_of = {name for told in self._telling.told for name in told.letters.values()}
        for chosen in self._rng.sample(choices := list(permutations(names, len(line.people))), len(choices)):
            letters = dict(zip(line.people, chosen, strict=True))
            if self._asked in names:
                is_about = all((letter == "N") == (name == self._asked) for letter, name in letters.items())
            else:
                is_about = letters.get("N") is None or letters["N"] in told_of
            if is_about and self._telling.fits(line, letters):
                return letters
        return None

    def _correct(self) -> Turn | None:
        """Another number for one that was said: all is worked out anew."""
        fixes = [line for line in self._lines if line.role == "fix"]
        numbers = re.findall(r"\d+", self._said)
        changes = [
            (index, letter)
            for index, told in enumerate(self._telling.told)
            for letter in told.line.slots
            if letter != IRRELEVANT and numbers.count(str(told.numbers[letter])) == 1
        ]
        if not fixes or not changes:
            return None
        line = self._rng.choice(fixes)
        for index, letter in self._rng.sample(changes, len(changes)):
            low, high, step = self._telling.told[index].line.slots[letter]
            old = self._telling.told[index].numbers[letter]
            meant = [number for number in range(low, high + 1, step) if str(number) not in numbers]
            for new in self._rng.sample(meant, min(5, len(meant))):
                if steps := self._worked_out_anew(index, letter, new):
                    user = self._telling.fill(line.text, {}, {"b": old, "c": new})
                    return self._turn("correction", user, steps, (line.template,))
        return None

    def _worked_out_anew(self, index: int, letter: str, number: int) -> tuple[Step, ...]:
        """The steps to what was asked, with another number in one sentence; none where that does not work out."""
        state, told = State(), list[Told]()
        for place, (line, letters, numbers) in enumerate(self._telling.told):
            own = {slot: numbers[slot] for slot in line.slots} | ({letter: number} if place == index else {})
            if (after := self._telling.apply(state, line, letters, own)) is None:
                return ()
            state, values = after
            told.append(Told(line, letters, values))
        origin = state.origins.get(self._asked)
        path = [] if origin is None else state.path_to(origin)
        steps = self._telling.steps(path, state)
        if not steps or steps[-1].equation.result == self._telling.state.values[self._asked]:
            return ()
        if len(steps) > LONGEST_CORRECTED:
            return ()
        self._telling.state, self._telling.told, self._explained = state, told, set(path)
        return steps

    def _why(self) -> Turn | None:
        """The equations of the last answer once more."""
        lines = [line for line in self._lines if line.role == "why"]
        if not lines or not self._last:
            return None
        line = self._rng.choice(lines)
        because = self._rng.choice([line.text for line in self._world.lines if line.role == "because"])
        equations = ", ".join(str(step.equation) for step in self._last)
        steps, self._last = self._last, ()
        value = steps[-1].equation.result
        return self._answered("why", line.text, because.replace("{=}", equations), value, (line.template,), steps)

    # --- The text -----------------------------------------------------------------------------------------------------

    def _turn(self, kind: TurnKind, user: str, steps: tuple[Step, ...], templates: tuple[Template, ...]) -> Turn:
        self._last = steps
        reply = reasoning(steps).replace("\n", " ")
        return self._answered(kind, user, reply, steps[-1].equation.result, templates, steps)

    def _answered(
        self,
        kind: TurnKind,
        user: str,
        reply: str,
        value: int,
        templates: tuple[Template, ...],
        steps: tuple[Step, ...] = (),
    ) -> Turn:
        self._said = f"{self._said}\n{user}"
        return Turn(user, reply, kind, Expected("number", (str(value),)), templates, steps)


def _goes_on(line: Line) -> bool:
    """Whether a dialogue can go on after the line: a question must ask for a quantity of the world."""
    return line.role not in ("closing", "whole") or line.formulas[-1].target.isupper()


def worlds_for_talk(worlds: Sequence[World]) -> tuple[World, ...]:
    """The worlds that have something to ask after a first problem."""
    return tuple(world for world in worlds if any(line.role == "follow" for line in world.lines))
