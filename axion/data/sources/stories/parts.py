"""The stories that word problems are told from: tables of sentences, English and Portuguese side by side.

In a sentence, {N}, {M} and {O} are names, {things} is what the family counts, other letters are numbers
(`word_problems.RANGES`), and [os|as] is the ending that agrees with the thing, masculine or feminine. In a line of
reasoning, {=} is the equation. `v` is the quantity that the story is about, and the answer at its end.
"""

from dataclasses import dataclass
from types import MappingProxyType

# Names that take "she" and "ela", then those that take "he" and "ele".
NAMES = MappingProxyType(
    {
        "en": (
            ("Alice", "Amy", "Clara", "Emma", "Grace", "Julia", "Kate", "Laura", "Lily", "Mia", "Nina", "Rose"),
            ("Ben", "Carl", "Daniel", "Eric", "Henry", "Jack", "Leo", "Mark", "Oliver", "Paul", "Sam", "Tom"),
        ),
        "pt": (
            ("Ana", "Beatriz", "Carla", "Elisa", "Gabriela", "Helena", "Júlia", "Lara", "Luísa", "Maria", "Rita"),
            ("Bruno", "Caio", "Davi", "Felipe", "Igor", "João", "Lucas", "Marcos", "Mateus", "Paulo", "Pedro"),
        ),
    }
)
PRONOUNS = MappingProxyType({"en": ("She", "He"), "pt": ("Ela", "Ele")})
# Put before an event that follows another.
CONNECTORS = MappingProxyType({"en": ("Then ", "After that, ", "Later, "), "pt": ("Depois, ", "Em seguida, ")})


@dataclass(frozen=True)
class Step:
    """One line of reasoning, after which `target` is the value of `formula`; without a text, the family's is used."""

    formula: str
    en: str = ""
    pt: str = ""
    target: str = "v"

    def line(self, family: "Family", language: str) -> str:
        own, shared = (self.en, family.now_en) if language == "en" else (self.pt, family.now_pt)
        return own or shared


@dataclass(frozen=True)
class Part:
    """An opening, an event or a closing question: ways to say the same in each language, and what it makes of `v`."""

    en: tuple[str, ...]
    pt: tuple[str, ...]
    steps: tuple[Step, ...] = ()

    def texts(self, language: str) -> tuple[str, ...]:
        return self.en if language == "en" else self.pt


@dataclass(frozen=True)
class Family:
    """Stories about one kind of thing: (English plural, Portuguese plural, m or f) each."""

    things: tuple[tuple[str, str, str], ...]
    now_en: str
    now_pt: str
    openings: tuple[Part, ...]
    events: tuple[Part, ...]
    closings: tuple[Part, ...]
    num_events: tuple[int, int] = (1, 3)
    linked: bool = True  # whether "then" may stand before an event


def part(en: str, pt: str, *steps: Step | str) -> Part:
    """A Part from sentences separated by " | "; a step that is only a formula takes the family's line."""
    as_steps = tuple(Step(step) if isinstance(step, str) else step for step in steps)
    return Part(tuple(en.split(" | ")), tuple(pt.split(" | ")), as_steps)
