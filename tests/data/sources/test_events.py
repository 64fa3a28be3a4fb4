"""Problems of several steps from written sentences: right step by step, varied, and split by sentence."""

import random
import re
from collections import Counter

import pytest

from axion.data.holdout import is_held_out, shows_held_out
from axion.data.sources.event_lines import read_worlds, worlds
from axion.data.sources.event_stories import Story, Teller, Telling
from axion.data.sources.events import Events, events, events_tests
from axion.data.templates import LANGUAGES, parse_templates
from axion.errors import AxionError
from tests.data.conftest import digest

HOLDOUT = 0.05
LETTERS_OF_WORLDS = "IXSPQCD"


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    return list(events(2_000, seed=7, holdout=HOLDOUT))


@pytest.fixture(scope="module")
def tests() -> list[Story]:
    return [story for language in LANGUAGES for story in events_tests(language, 40, 0)]


def lines_of(language):
    return {line.text: line for world in read_worlds(language) for line in world.lines}.values()


@pytest.mark.parametrize("language", LANGUAGES)
def test_at_least_1000_sentences(language):
    assert len(lines_of(language)) >= 1_000


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_can_be_told(language):
    """With all quantities known before it, those that it gives left out."""
    rng = random.Random(0)
    teller = Teller(rng, language)
    for world in read_worlds(language):
        for line in world.lines:
            told = next((text for _ in range(500) if (text := tell_alone(teller, world, line, rng))), None)
            assert told, f"{line.template.where}: {line.text}"
            assert not re.search(r"[{}\[\]|]|  | [.,?]", told)


def tell_alone(teller, world, line, rng):
    telling = Telling(teller, world, ())
    telling.lines = [line]
    given = {formula.target for formula in line.formulas if formula.target not in formula.operands}
    people = list(telling.pronouns)[len(given & set("NMO")) :]
    known = set() if line.role in ("opening", "whole") else {*LETTERS_OF_WORLDS, *people} - given
    telling.state.values |= {quantity: rng.randrange(20, 140, 10) for quantity in sorted(known)}
    return telling._choose(line.role) and telling._sentences()[0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_world_has_stories_for_training_and_for_tests(language):
    teller = Teller(random.Random(0), language)
    for world in read_worlds(language):
        for held_out in (False, True):
            lines = world.side(held_out)
            assert any(teller.tell(world, lines) for _ in range(200)), (world.name, held_out)


def test_every_step_is_right_and_the_last_is_the_answer(stories, tests):
    for story in [*stories, *tests]:
        for step in story.steps:
            equation = step.equation
            assert eval(f"{equation.left} {equation.sign} {equation.right}") == equation.result >= 2
            assert str(equation) in story.problem.reasoning
        assert 1 <= len(story.steps) == len(story.problem.reasoning.split("\n")) <= 5
        assert re.fullmatch(rf"(\d+:)?{story.steps[-1].equation.result}", story.problem.answer), story


def test_steps_read_numbers_of_the_question_or_earlier_results(stories):
    constants = {2, 3, 4, 5, 7, 10, 12, 24, 60}  # half, a third, a week, a dozen, a day, an hour
    for story in stories:
        known = {int(number) for number in re.findall(r"\d+", story.problem.question)} | constants
        for step in story.steps:
            assert {step.equation.left, step.equation.right} <= known, story
            known.add(step.equation.result)


def test_training_sees_no_held_out_sentence_and_no_held_out_pair(stories):
    assert not any(template.is_held_out for story in stories for template in story.templates)
    assert not any(shows_held_out(story.problem.document(), HOLDOUT) for story in stories)


def test_tests_are_told_from_held_out_sentences_and_need_a_held_out_pair(tests):
    assert len(tests) == 80
    assert all(template.is_held_out for story in tests for template in story.templates)
    for story in tests:
        assert any(is_held_out(step.equation.left, step.equation.right, HOLDOUT) for step in story.steps)


@pytest.mark.parametrize("language", LANGUAGES)
def test_tests_of_a_number_of_steps(language):
    found = events_tests(language, 5, seed=1, steps=3)
    assert [len(story.steps) for story in found] == [3] * 5
    assert {story.problem.language for story in found} == {language}
    assert found == events_tests(language, 5, seed=1, steps=3) != events_tests(language, 5, seed=2, steps=3)


def test_tests_vary_their_held_out_pairs():
    pairs = Counter(
        (step.equation.left, step.equation.right)
        for story in events_tests("en", 60, seed=2)
        for step in story.steps
        if is_held_out(step.equation.left, step.equation.right, HOLDOUT)
    )
    assert len(pairs) > 40 and max(pairs.values()) <= 6


def test_tests_refuse_what_there_is_not():
    with pytest.raises(AxionError, match="1 to 5 steps in pt or en, not of 6"):
        events_tests("en", 5, 0, steps=6)
    with pytest.raises(AxionError, match="not of None in 'fr'"):
        events_tests("fr", 5, 0)
    with pytest.raises(AxionError, match="holds no pair out"):
        events_tests("en", 5, 0, holdout=0)


def test_variety(stories):
    for language in LANGUAGES:
        told = [story for story in stories if story.problem.language == language]
        assert len({story.templates for story in told}) > 0.7 * len(told)
        assert len({story.world for story in told}) == len(read_worlds(language))
        assert {len(story.steps) for story in told} == {1, 2, 3, 4, 5}


def test_count_and_seed(stories):
    assert list(events(20, 7, HOLDOUT)) == stories[:20] != list(events(20, 8, HOLDOUT))


def test_the_output_matches_its_version():
    """If you change the problems, increase Events.version and update this digest."""
    source = Events(count=300, reasoning=0.8)
    assert (source.version, digest(source)) == (4, "ca9e0985b792ec31")


# --- The format of the lines ------------------------------------------------------------------------------------------

SMALL = """
[small]
world | - | apple/apples | a test
step | N | {N} has {=} {things}.
opening | N = a | {N} has {a:20-40} {things}.
event | N = N - b ; M = M + b | {N} gives {M} {b:2-9}.
extra | {M} is {z} years old.
closing | N | How many {things} has {N}?
"""


def small(text=SMALL):
    return worlds(parse_templates(text, "small.txt"))


def test_what_changes_nothing_does_not_change_the_answer():
    (world,) = small()
    rng = random.Random(0)
    teller = Teller(rng, "en")
    told = [story for _ in range(300) if (story := teller.tell(world, world.lines))]
    with_extra = [story for story in told if "years old" in story.problem.question]
    assert len(with_extra) > 20
    for story in told:
        owner, has, giver, _, given = re.search(
            r"(\w+) has (\d+).* (\w+) gives (\w+) (\d+)", pronouns_out(story)
        ).groups()
        change = -int(given) if giver == owner else int(given)
        assert story.problem.answer == str(int(has) + change)


def pronouns_out(story):
    """The question with the owner's name for a pronoun."""
    owner = re.search(r"(\w+) has \d", story.problem.question)[1]
    return re.sub(r"\b(He|She) gives", f"{owner} gives", story.problem.question)


BUS = """
[bus]
world | - | - | a test
step | X | {=} people.
opening | C = s ; X = s - a | Of {s:20-30} seats, {a:2-15} are free.
event | X = X + b | {b:5-20} people get on.
closing | X | How many people are on the bus?
"""


def test_nothing_exceeds_its_capacity():
    (world,) = worlds(parse_templates(BUS, "bus.txt"))
    teller = Teller(random.Random(0), "en")
    told = [story for _ in range(100) if (story := teller.tell(world, world.lines))]
    assert any("get on" in story.problem.question for story in told)
    for story in told:
        seats = re.search(r"Of (\d+) seats", story.problem.question)
        assert seats and int(story.problem.answer) <= int(seats[1]), story.problem.question


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("event | N = N - c | {N} eats {b}.", "nothing says what c is"),
        ("event | N = N - 2 | {N} eats {b} of them.", "no formula reads b"),
        ("event | N - b | {N} eats {b}.", "'N - b' is no formula; one looks like N = N - a"),
        ("event | b = N - b | {N} eats {b}.", "b is a number of the sentence"),
        ("event | N = N - d | {N} eats {d}.", r"\{d\} needs a range, such as \{d:2-9\}"),
        ("event | N = N - b | {N} eats {b:9-2}.", "b has more than one range, or an empty one"),
        ("event | N = N - b | {N} eats {b:2-9} or {b:3-5}.", "b has more than one range, or an empty one"),
        ("event | N = N - b | {N} eats {b} {thongs}.", r"nothing is called \{thongs\}"),
        ("event | X = X - b | {N} eats {b}.", r"nothing says how the reasoning tells X in \[small\]"),
        ("extra | N = N - b | {N} eats {b}.", "extra needs no formulas"),
        ("event | {N} is tired.", "event needs some formulas"),
        ("events | N = N - b | {N} eats {b}.", "a line is one of opening, event, extra, closing, whole"),
    ],
)
def test_lines_that_do_not_fit_are_refused(line, message):
    with pytest.raises(AxionError, match=f"^small.txt, line 9: .*{message}"):
        small(SMALL + line)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL.replace("world | -", "world | smal"), r"line 3: there is no group \[smal\]"),
        (SMALL + "[smal]\nclosing | N | How many?", r"line 10: no world has the group \[smal\]"),
    ],
)
def test_a_misspelt_group_is_refused(text, message):
    with pytest.raises(AxionError, match=message):
        small(text)


def test_a_noun_needs_two_forms():
    with pytest.raises(AxionError, match="'apple' is no noun; one looks like figurinha/figurinhas f"):
        small(SMALL.replace("apple/apples", "apple"))
