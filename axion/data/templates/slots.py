"""Filling the slots of a template.

In a text,

- `{a}`, a lower-case letter, is a value that is given, such as a number
- `{N}`, `{M}` and `{O}` are the names of three people
- `[he|she]` is the first where N is a man and the second where N is a woman; `[he|she:M]` the same for M
- `{x:cards/coins/stamps}` is one of these words, drawn at random, and `{x}`, anywhere in the text, the same again
"""

import random
import re
from collections.abc import Mapping
from types import MappingProxyType

from axion.errors import AxionError

PEOPLE = "NMO"

_NAMES = MappingProxyType(
    {
        "en": (
            "Aaron Adam Alex Andre Ben Caleb Carlos Charlie Daniel David Dylan Eli Ethan Frank George Harry Henry Hugo "
            "Isaac Jack Jamal James Jayden Joe Jordan Josh Kevin Leo Liam Lucas Luis Marcus Mark Matt Max Mike Nathan "
            "Noah Omar Oscar Owen Paul Pedro Peter Ravi Ryan Sam Steve Theo Tim Tom Tony Victor Will Zach",
            "Abby Alice Amy Anna Ava Bella Beth Carla Chloe Claire Diana Ella Emily Emma Erin Eva Fiona Gina Grace "
            "Hannah Holly Isabel Ivy Jane Jasmine Jenny Julia Kate Kayla Kim Laura Leah Lily Lisa Lucy Maria Maya "
            "Mia Nadia Nina Nora Olivia Priya Rachel Rosa Ruby Sara Sofia Sophie Tara Tina Vera Zoe",
        ),
        "pt": (
            "Alan André Antônio Arthur Beto Breno Bruno Caio Carlos Cauã Daniel Davi Diego Eduardo Enzo Fábio Felipe "
            "Fernando Gabriel Guilherme Gustavo Heitor Henrique Hugo Igor Ivan João Joaquim Jorge José Leandro Léo "
            "Lucas Luís Marcelo Marcos Mateus Miguel Murilo Nicolas Otávio Paulo Pedro Rafael Renato Ricardo Rodrigo "
            "Samuel Sérgio Thiago Tomás Vinícius Vítor",
            "Alice Aline Amanda Ana Bárbara Beatriz Bia Bruna Camila Carla Carolina Cecília Clara Cláudia Débora "
            "Eduarda Elisa Fernanda Flávia Gabriela Giovana Helena Isabela Isadora Joana Júlia Juliana Lara Larissa "
            "Laura Letícia Lívia Lorena Luana Luísa Manuela Marcela Maria Mariana Marina Melissa Natália Patrícia "
            "Paula Rafaela Raquel Renata Rita Sofia Tatiana Valentina Vera Vitória",
        ),
    }
)

NAMES = MappingProxyType({language: (men.split(), women.split()) for language, (men, women) in _NAMES.items()})
"""Language → the names of men and the names of women."""

_GENDERED = re.compile(r"\[([^\[\]|]*)\|([^\[\]|:]*)(?::([NMO]))?\]")
_WORDS = re.compile(r"\{([a-z]):([^{}]+)\}")
_SLOT = re.compile(r"\{([a-zNMO])\}")


def value_slots(text: str) -> list[str]:
    """The lower-case letters whose values have to be given, each once, in their order."""
    drawn = {letter for letter, _ in _WORDS.findall(text)}
    return [slot for slot in dict.fromkeys(_SLOT.findall(text)) if slot not in drawn and slot not in PEOPLE]


def fill(text: str, values: Mapping[str, object], language: str, rng: random.Random) -> str:
    """A text with all of its slots filled.

    Args:
        text: the text of a template.
        values: slot → value, for all of `value_slots`.
        language: whose names are used.
        rng: draws the people and the words.

    Raises:
        AxionError: a value is missing, or a slot is malformed.
    """
    people = _draw_people(language, rng)
    drawn = [letter for letter, _ in _WORDS.findall(text)]
    if len(drawn) != len(set(drawn)):
        raise AxionError(f"{text!r} gives the words of a slot twice; write {{x}} where they come again")
    words = {letter: rng.choice(choices.split("/")) for letter, choices in _WORDS.findall(text)}
    filled = _WORDS.sub(lambda match: words[match[1]], text)
    filled = _GENDERED.sub(lambda match: match[1 + people[match[3] or "N"][1]], filled)
    known = {**words, **values, **{slot: name for slot, (name, _) in people.items()}}
    if missing := [slot for slot in _SLOT.findall(filled) if slot not in known]:
        raise AxionError(f"{text!r} has no value for {{{missing[0]}}}; give one")
    filled = _SLOT.sub(lambda match: str(known[match[1]]), filled)
    if left := re.search(r"[][{}|]", filled):
        raise AxionError(f"{text!r} has a slot that is not one: see {left[0]!r} in {filled!r}")
    return filled


def _draw_people(language: str, rng: random.Random) -> dict[str, tuple[str, bool]]:
    """Slot → a name, different for each, and whether it is a woman's."""
    people: dict[str, tuple[str, bool]] = {}
    taken: set[str] = set()
    for slot in PEOPLE:
        is_woman = rng.random() < 0.5
        name = rng.choice([each for each in NAMES[language][is_woman] if each not in taken])
        taken.add(name)
        people[slot] = (name, is_woman)
    return people
