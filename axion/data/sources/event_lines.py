"""The lines of `templates/events_*.txt`, read and checked: the worlds that multi-step problems are told from.

The head of these files explains their format.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import NamedTuple

from axion.data.sources.formulas import Formula, parse_formulas
from axion.data.templates import Template, read_templates
from axion.data.templates.slots import PEOPLE
from axion.errors import AxionError

ROLES = ("opening", "event", "extra", "closing", "whole")
DIALOGUE_ROLES = ("follow", "fix", "why", "because")
WITHOUT_FORMULAS = ("extra", "fix", "why", "because")
EVERY_WORLD = "any"
"""The group whose lines fit every world."""
TENSES = ("past", "present")
IRRELEVANT = "z"
"""Letter of a number that changes nothing."""

# What the letters of numbers stand for, unless a line gives another range: (lowest, highest, step).
RANGES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        **dict.fromkeys("abc", (2, 30, 1)),  # some
        **dict.fromkeys("jk", (2, 6, 1)),  # a few: groups, boxes, days
        **dict.fromkeys("pq", (2, 12, 1)),  # prices
        **dict.fromkeys("st", (20, 90, 1)),  # many
        "y": (6, 14, 1),  # a child's age
        IRRELEVANT: (2, 20, 1),
    }
)

SLOT = re.compile(r"\{([a-z])(?::(\d+)-(\d+)(?:/(\d+))?)?\}")
_WORD = re.compile(r"\{([A-Za-z_=]+)\}")
_PERSON = re.compile(rf"(?<=[{{:])[{PEOPLE}](?=[}}\]])")
_WORDS = {*PEOPLE, "things", "thing", "others", "other", "a_thing", "a_other"}


class Noun(NamedTuple):
    """What a story counts."""

    one: str
    many: str
    gender: str


@dataclass(frozen=True)
class Line:
    """One sentence of a story, and what it does to the quantities."""

    template: Template
    role: str
    tense: str
    """past, present, or "" for both."""
    formulas: tuple[Formula, ...]
    answer: str
    """The form of the answer, such as "{h}:{m}", where that is not the last result alone."""

    @property
    def text(self) -> str:
        return self.template.text

    @cached_property
    def slots(self) -> dict[str, tuple[int, int, int]]:
        """Letter → lowest, highest and step of the numbers that the sentence names."""
        slots: dict[str, tuple[int, int, int]] = {}
        for letter, low, high, step in SLOT.findall(self.text):
            if low or letter not in slots:
                slots[letter] = (int(low), int(high), int(step or 1)) if low else RANGES[letter]
        return slots

    @cached_property
    def people(self) -> list[str]:
        """The letters of the people whom the line is about, the first one first."""
        named = _PERSON.findall(self.text)
        return list(dict.fromkeys([*named, *(letter for letter in self.quantities if letter in PEOPLE)]))

    @cached_property
    def quantities(self) -> list[str]:
        """The letters of the quantities of the story, not of numbers of this line."""
        letters = [letter for formula in self.formulas for letter in (*formula.operands, formula.target)]
        return [letter for letter in letters if letter.isupper()]


@dataclass(frozen=True)
class World:
    """A set of lines from which any story stays plausible."""

    name: str
    nouns: tuple[Noun, ...]
    lines: tuple[Line, ...]
    groups: tuple[str, ...]
    """Whose lines they are."""
    steps: Mapping[str, tuple[str, ...]]
    """What the reasoning says of a step that changes a quantity: by its letter and sign, and by its letter alone."""

    def step_texts(self, formula: Formula) -> tuple[str, ...]:
        """Ways to say a step in the reasoning."""
        if formula.text:
            return (formula.text,)
        letter = "N" if formula.target in PEOPLE else formula.target
        texts = self.steps.get(f"{letter} {formula.sign}") or self.steps.get(letter, ())
        return tuple(re.sub(r"\b[NMO](?=[}\]])", formula.target, text) for text in texts)

    def side(self, held_out: bool) -> tuple[Line, ...]:
        """The lines that are held out for tests, or the others."""
        return tuple(line for line in self.lines if line.template.is_held_out == held_out)


@cache
def read_worlds(language: str, *kinds: str) -> tuple[World, ...]:
    """All worlds of a language in the files of some kinds, by default of `events`.

    Raises:
        AxionError: a line breaks the rules of the format.
    """
    return worlds(template for kind in kinds or ("events",) for template in read_templates(kind, language))


def worlds(templates: Iterable[Template]) -> tuple[World, ...]:
    """The worlds of a file's templates. Raises AxionError as `read_worlds`."""
    lines: dict[str, list[Line]] = {}
    steps: dict[str, dict[str, tuple[str, ...]]] = {}
    heads: list[Template] = []
    groups: dict[str, Template] = {}
    for template in templates:
        groups.setdefault(template.group, template)
        role, *fields = template.fields or ("",)
        if role == "world":
            heads.append(template)
        elif role == "step":
            said = steps.setdefault(template.group, {})
            said[fields[0]] = (*said.get(fields[0], ()), template.text)
        else:
            lines.setdefault(template.group, []).append(_line(template, role, fields))
    built = tuple(_world(head, lines, steps) for head in heads)
    for head, world in zip(heads, built, strict=True):
        if missing := [group for group in world.groups if group not in groups and group != EVERY_WORLD]:
            raise AxionError(f"{head.where}: there is no group [{missing[0]}]")
        for line in world.lines:
            _check_steps(world, line)
    if unused := groups.keys() - {group for world in built for group in world.groups}:
        raise AxionError(f"{groups[min(unused)].where}: no world has the group [{min(unused)}]")
    return built


def _world(head: Template, lines: dict[str, list[Line]], steps: dict[str, dict[str, tuple[str, ...]]]) -> World:
    if len(head.fields) != 3:
        raise AxionError(f"{head.where}: a world is `world | groups | nouns | description`, with - for none")
    uses, nouns_listed = ("" if listed == "-" else listed for listed in head.fields[1:])
    groups = (head.group, *uses.split(), EVERY_WORLD)
    nouns = tuple(Noun(*_noun(word.split(), head.where)) for word in filter(None, nouns_listed.split(", ")))
    said: dict[str, tuple[str, ...]] = {}
    for group in reversed(groups):
        said |= steps.get(group, {})
    return World(head.group, nouns, tuple(line for group in groups for line in lines.get(group, ())), groups, said)


def _noun(words: list[str], where: str) -> tuple[str, str, str]:
    """A noun from `figurinha/figurinhas f`; blanks inside it are written as `_`."""
    one, slash, many = words[0].replace("_", " ").partition("/")
    if not slash or words[1:] not in ([], ["m"], ["f"]):
        raise AxionError(f"{where}: {' '.join(words)!r} is no noun; one looks like figurinha/figurinhas f")
    return one.replace("_", " "), many.replace("_", " "), words[1] if words[1:] else "m"


def _line(template: Template, role: str, fields: list[str]) -> Line:
    role, _, tense = role.partition(" ")
    roles = (*ROLES, *DIALOGUE_ROLES)
    if role not in roles or tense not in ("", *TENSES) or len(fields) > 1:
        raise AxionError(f"{template.where}: a line is one of {', '.join(roles)}, perhaps with a tense, and formulas")
    formulas, _, answer = (fields[0] if fields else "").partition("=>")
    line = Line(template, role, tense, parse_formulas(formulas, template.where), answer.strip())
    _check(line)
    return line


def _check(line: Line) -> None:
    """Refuses a line whose sentence and formulas do not fit together."""
    where = line.template.where
    if bool(line.formulas) == (line.role in WITHOUT_FORMULAS):
        some = "no" if line.formulas else "some"
        raise AxionError(f"{where}: {line.role} needs {some} formulas")
    if unknown := {letter for letter, low, *_ in SLOT.findall(line.text) if not low} - {*RANGES, *_ranged(line.text)}:
        raise AxionError(f"{where}: {{{min(unknown)}}} needs a range, such as {{{min(unknown)}:2-9}}")
    ranged = [(letter, int(low), int(high)) for letter, low, high, _ in SLOT.findall(line.text) if low]
    for letter, low, high in ranged:
        if low > high or len([each for each in ranged if each[0] == letter]) > 1:
            raise AxionError(f"{where}: {letter} has more than one range, or an empty one; give one such as 2-9")
    words = {word if word in PEOPLE else word.lower() for word in _WORD.findall(line.text)}
    if unknown := {word for word in words if len(word) > 1 or word.isupper()} - _WORDS:
        raise AxionError(f"{where}: nothing is called {{{min(unknown)}}}")
    known = set(line.slots)
    for formula in line.formulas:
        if missing := {letter for letter in formula.operands if letter.islower()} - known:
            raise AxionError(f"{where}: nothing says what {min(missing)} is")
        if formula.target in line.slots:
            raise AxionError(f"{where}: {formula.target} is a number of the sentence; give the result another letter")
        known.add(formula.target)
    read = {letter for formula in line.formulas for letter in formula.operands} | {*re.findall(r"\w", line.answer)}
    if line.role not in WITHOUT_FORMULAS and (unused := set(line.slots) - read - {IRRELEVANT}):
        raise AxionError(f"{where}: no formula reads {min(unused)}")


def _ranged(text: str) -> set[str]:
    return {letter for letter, low, *_ in SLOT.findall(text) if low}


def _check_steps(world: World, line: Line) -> None:
    for formula in line.formulas:
        if formula.sign and not world.step_texts(formula):
            raise AxionError(
                f"{line.template.where}: nothing says how the reasoning tells {formula.target} in [{world.name}]"
            )
