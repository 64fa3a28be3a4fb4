"""Dialogues of two to four turns, in Portuguese and English: problems and what follows them, small talk, and questions
that a tiny model can't know.

What people say is written down in `templates/smalltalk_*.txt` and `templates/dialogues_*.txt`; the stories are those of
`events`. Training sees two thirds of it. The tests are made of the rest.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import ClassVar, Literal, get_args

from axion.data.holdout import is_held_out, shows_held_out
from axion.data.sources.base import Document, Source, Span
from axion.data.sources.chat import Message, message_spans
from axion.data.sources.dialogue_turns import SUMS, Expected, Talk, Turn, TurnKind, read_topics, worlds_for_talk
from axion.data.sources.event_lines import World, read_worlds
from axion.data.sources.event_stories import Teller
from axion.data.sources.events import may_test
from axion.data.split import Side, Split
from axion.data.templates import LANGUAGES, Template
from axion.data.templates.careless import type_carelessly
from axion.errors import AxionError
from axion.settings import Positive, Share

TURNS = (2, 4)
TALK_SHARE = 0.55
"""How often a dialogue turns to a problem, while it has none yet."""
SUMS_SHARE = 0.4
"""How many problems are sums."""
FIRST = {"greeting"}
"""Topics that open a dialogue."""
LATER = {"thanks", "goodbye", "praise"}
"""Topics that do not."""
TRIES = 50
DIALOGUES_PER_TEST = 500
"""So many dialogues are begun for one test at most."""


@dataclass(frozen=True)
class Dialogue:
    """A conversation."""

    turns: tuple[Turn, ...]
    language: str

    @property
    def messages(self) -> tuple[Message, ...]:
        """What both say, as a chat template takes it."""
        return tuple(
            message
            for turn in self.turns
            for message in ({"role": "user", "content": turn.user}, {"role": "assistant", "content": turn.reply})
        )

    @property
    def spans(self) -> tuple[Span, ...]:
        """The conversation as a document."""
        return tuple(span for message in self.messages for span in message_spans(**message))


@dataclass(frozen=True)
class DialogueTest:
    """A conversation that ends with a user's message, and what is a right answer to it."""

    messages: tuple[Message, ...]
    expected: Expected
    kind: TurnKind
    """Of the last turn."""
    num_turns: int
    language: str
    templates: tuple[Template, ...]
    """What the user's messages are made of."""


class Dialogues(Source):
    """Synthetic dialogues."""

    kind: Literal["dialogues"] = "dialogues"
    version: ClassVar[int] = 5
    """Increase it when the dialogues of the same count and seed, their order, text or split change."""
    label: ClassVar[str] = "synthetic dialogues from written sentences, Portuguese and English"
    form = "chat"
    is_real: ClassVar[bool] = False

    count: Positive = 10_000
    """Number of dialogues."""
    careless: Share = 0.2
    """Share of the user's messages that are typed carelessly."""

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        for dialogue in dialogues(self.count, seed, split.holdout_fraction, self.careless):
            spans = dialogue.spans
            side = Side.VALIDATION if split.is_validation("".join(span.text for span in spans)) else Side.TRAIN
            yield Document(spans, self.kind, side, dialogue.language)


def dialogues(count: int, seed: int, holdout: float, careless: float = 0.0) -> Iterator[Dialogue]:
    """`count` dialogues for training, half in each language: no held-out template, no pair held out for the tests.

    Args:
        count: how many.
        seed: of the draw.
        holdout: share of operand pairs that the tests keep for themselves.
        careless: share of the user's messages that are typed as people type who are in a hurry.
    """
    rng = random.Random(f"dialogues {seed}")
    endless = {language: _dialogues(Teller(rng, language), False) for language in LANGUAGES}
    for number in range(count):
        dialogue = next(
            dialogue
            for dialogue in endless[LANGUAGES[number % len(LANGUAGES)]]
            if not any(shows_held_out(message["content"], holdout) for message in dialogue.messages)
        )
        yield replace(dialogue, turns=tuple(_typed(turn, careless, rng) for turn in dialogue.turns))


def _typed(turn: Turn, careless: float, rng: random.Random) -> Turn:
    return replace(turn, user=type_carelessly(turn.user, rng)) if rng.random() < careless else turn


def dialogues_tests(
    language: str, count: int, seed: int, holdout: float = 0.05, kind: TurnKind | None = None
) -> list[DialogueTest]:
    """`count` different tests, from held-out templates only; a new result needs a held-out pair of operands.

    There are fewer where a tiny `holdout` leaves too few pairs.

    Args:
        language: `pt` or `en`.
        count: how many.
        seed: of the draw.
        holdout: share of operand pairs that the model's training did not show.
        kind: of the last turn; by default all kinds, equally often.

    Raises:
        AxionError: another language or kind, or a `holdout` of 0.
    """
    kinds: tuple[TurnKind, ...] = get_args(TurnKind)
    if language not in LANGUAGES or kind not in (None, *kinds):
        raise AxionError(f"tests are of {', '.join(kinds)} in pt or en, not of {kind} in {language!r}")
    if holdout <= 0:
        raise AxionError("data.holdout_fraction is 0: it holds no pair out; 0.05 is a good value")
    wanted = (kind,) if kind else kinds
    each = -(-count // len(wanted))
    rng = random.Random(f"dialogue tests {language} {kind} {seed}")
    teller = Teller(rng, language, partial(may_test, holdout=holdout))
    endless = _dialogues(teller, True)
    found: dict[str, DialogueTest] = {}
    counts = Counter[TurnKind]()
    for dialogue in islice(endless, DIALOGUES_PER_TEST * count):
        suitable = [
            number
            for number, turn in enumerate(dialogue.turns, start=1)
            if turn.kind in wanted and counts[turn.kind] < each and _is_new(turn, holdout)
        ]
        if suitable:  # one test of a dialogue, so that they are independent
            test = _test(dialogue, min(suitable, key=lambda number: counts[dialogue.turns[number - 1].kind]))
            counts[test.kind] += str(test.messages) not in found
            found.setdefault(str(test.messages), test)
            teller.use(step.equation for turn in dialogue.turns[: test.num_turns] for step in turn.steps)
        if sum(counts.values()) == each * len(wanted):
            break
    return list(found.values())[:count]


def _is_new(turn: Turn, holdout: float) -> bool:
    """Whether training cannot have shown all steps of the turn's answer. Text has no steps; asking why repeats them."""
    pairs = [(step.equation.left, step.equation.right) for step in turn.steps]
    return not pairs or turn.kind == "why" or any(is_held_out(*pair, holdout) for pair in pairs)


def _test(dialogue: Dialogue, number: int) -> DialogueTest:
    """The test whose last question is that of this turn."""
    turns = dialogue.turns[:number]
    return DialogueTest(
        dialogue.messages[: 2 * number - 1],
        turns[-1].expected,
        turns[-1].kind,
        number,
        dialogue.language,
        tuple(template for turn in turns for template in turn.templates),
    )


def _dialogues(teller: Teller, held_out: bool) -> Iterator[Dialogue]:
    """Dialogues without end."""
    worlds = worlds_for_talk(read_worlds(teller.language, "events", "dialogues"))
    while True:
        number = teller.rng.randint(*TURNS)
        turns: list[Turn] = []
        topics = set[str]()
        while len(turns) < number:
            is_talk = not any(turn.kind == "problem" for turn in turns) and teller.rng.random() < TALK_SHARE
            if is_talk:
                turns += _talk(teller, worlds, held_out, number - len(turns))
            else:
                turns += _small_talk(teller, held_out, topics, is_first=not turns)
        yield Dialogue(tuple(turns), teller.language)


def _talk(teller: Teller, worlds: tuple[World, ...], held_out: bool, longest: int) -> list[Turn]:
    """A problem, and up to `longest` - 1 turns after it."""
    is_sum = teller.rng.random() < SUMS_SHARE
    suitable = [world for world in worlds if (world.name == SUMS) == is_sum]
    for _ in range(TRIES):
        talk = Talk(teller, teller.rng.choice(suitable), held_out)
        if turn := talk.first():
            turns = [turn]
            while len(turns) < longest and teller.rng.random() < 0.85 and (turn := talk.next()):
                turns.append(turn)
            return turns
    return []


def _small_talk(teller: Teller, held_out: bool, used: set[str], is_first: bool) -> list[Turn]:
    """One turn about a topic that the dialogue has not had."""
    avoided = used | (LATER if is_first else FIRST)
    topics = [topic for topic in read_topics(teller.language) if topic.name not in avoided]
    is_known = teller.rng.random() < 0.5
    topic = teller.rng.choice([topic for topic in topics if topic.can_be_known == is_known])
    used.add(topic.name)
    turn = topic.turn(teller.rng, held_out)
    return [turn] if turn else []
