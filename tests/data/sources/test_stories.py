"""One-step stories: many templates, right answers, nothing that is held out; and problems that people wrote."""

import json
import random
import re
from collections import Counter

import pytest

from axion.data.format import write_steps
from axion.data.holdout import LARGEST_TESTED, is_held_out, shows_held_out
from axion.data.sources import Stories
from axion.data.sources.files import Record
from axion.data.sources.one_step_stories import parse_story, stories, stories_tests, tell
from axion.data.sources.written import read_written
from axion.data.split import Side, Split
from axion.data.templates import LANGUAGES, Template, on_side, parse_templates, read_templates
from axion.data.templates.slots import value_slots
from axion.errors import AxionError
from tests.data.conftest import digest

HOLDOUT = 0.05

WRITTEN = [
    {
        "question": "There are number0 red and number1 blue kites. Ann has number2 dogs. How many kites are there?",
        "numbers": [41.0, 9.0, 2.0],
        "equation": "+ number0 number1",
        "answer": 50.0,
    },
    {
        "question": "Ann paid $number0 for a hat and $number1 for a bag. What did she pay?",
        "numbers": [12.5, 3.25],
        "equation": "+ number0 number1",
        "answer": 15.75,
    },
    {
        "question": "number0 dozen eggs are shared by number1 cooks. How many eggs does each get?",
        "numbers": [6.0, 8.0],
        "equation": "/ * number0 12.0 number1",
        "answer": 9.0,
    },
]


@pytest.fixture(scope="module")
def problems():
    return list(Stories(count=2000, words=0.1, careless=0).problems(seed=7, holdout=HOLDOUT))


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_350_templates_and_a_third_is_held_out(language):
    templates = read_templates("stories", language)
    assert len({each.text for each in templates}) >= 350
    assert 0.25 < len(on_side(templates, held_out=True)) / len(templates) < 0.42
    groups = Counter(each.group for each in templates)
    assert len(groups) == 10 and min(groups.values()) >= 15
    assert all(any(each.is_held_out for each in templates if each.group == group) for group in groups)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_template_can_be_told(language):
    rng = random.Random(3)
    for story in (*stories(language, held_out=True), *stories(language, held_out=False)):
        problem = tell(rng, story, language)
        assert problem, story
        assert not re.search(r"[{}\[\]|]|  | [.,?]", problem.question), problem
        (step,) = problem.steps
        assert problem.answer == str(step.result) and step.result > 0
        assert step.sign != "/" or step.left % step.right == 0
        told = set(map(int, re.findall(r"\d+", problem.question)))
        assert {each for each in (step.left, step.right) if str(each) not in (story.left, story.right)} <= told, problem
        assert len(told) <= len(value_slots(story.template.text)), problem


def test_count_seed_and_holdout(problems):
    source = Stories(count=50, words=0.1, careless=0)
    assert problems[:50] == list(source.problems(7, HOLDOUT)) != list(source.problems(8, HOLDOUT))
    held_out = {each.text for language in LANGUAGES for each in read_templates("stories", language) if each.is_held_out}
    assert held_out.isdisjoint(problem.template for problem in problems)
    for problem in problems:
        (step,) = problem.steps
        assert not is_held_out(step.left, step.right, HOLDOUT) and not shows_held_out(problem.document(), HOLDOUT)
        assert problem.reasoning in (None, write_steps(problem.steps))
    shares = Counter((problem.language, problem.reasoning is None) for problem in problems)
    assert all(400 < shares[language, direct] < 600 for language in LANGUAGES for direct in (False, True))


@pytest.mark.parametrize("language", LANGUAGES)
def test_tests_use_what_is_held_out_only(language):
    found = stories_tests(language, 250, seed=3)
    assert len({each.question for each in found}) == 250 and found == stories_tests(language, 250, seed=3)
    held_out = on_side(read_templates("stories", language), held_out=True)
    for problem in found:
        (step,) = problem.steps
        assert max(step.left, step.right) > LARGEST_TESTED or is_held_out(step.left, step.right, HOLDOUT)
    used = {problem.template for problem in found}
    assert used <= {each.text for each in held_out} and len(used) > 0.95 * len(held_out)


def test_tests_that_cannot_be_made_are_refused():
    with pytest.raises(AxionError, match="languages are pt, en"):
        stories_tests("fr", 1, 0)
    with pytest.raises(AxionError, match="holds no pair out"):
        stories_tests("en", 1, 0, holdout=0)


def test_numbers_as_words_begin_sentences_with_a_capital():
    (template,) = parse_templates("a + b | a=4..4 b=9..9 c=5..5 | {a} cats met {b} dogs for ${c}. {b} dogs ran.", "x")
    story = parse_story(template)
    said = {tell(random.Random(seed), story, "en", words=0.5).question for seed in range(20)}
    assert said == {"4 cats met 9 dogs for $5. 9 dogs ran.", "Four cats met nine dogs for $5. Nine dogs ran."}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{N} has {a}.", "begin with an equation"),
        ("a + b | a=3-5 | {a} and {b}", "begin with an equation"),
        ("a + b | {a} cats", "does not tell the number b"),
        ("a + b | c=2..3 | {a} and {b}", "has no c"),
        ("a + b | a=2..3 | b=4..9 | {a} and {b}", "begin with an equation"),
        ("a + b | a=2..3 a=4..9 | {a} and {b}", "a has two ranges"),
        ("a + b | a=30..9 | {a} and {b}", r"a=30\.\.9 is no range"),
        ("a - b | a=2..b | {a} and {b}", r"a=2\.\.b is no range"),
    ],
)
def test_a_template_that_is_no_story_is_refused(line, said):
    (template,) = parse_templates(line, "stories_en.txt")
    with pytest.raises(AxionError, match=rf"stories_en.txt, line 1: .*{said}"):
        parse_story(template)


def test_documents_are_split_by_their_text():
    split = Split(0.2, 0, HOLDOUT)
    documents = list(Stories(count=300).documents(split, 5))
    sides = Counter(document.side for document in documents)
    assert 30 < sides[Side.VALIDATION] < 90 and sides[Side.TRAIN] == 300 - sides[Side.VALIDATION]
    assert all((each.side is Side.VALIDATION) == split.is_validation(each.text) for each in documents)


def test_a_sample_that_was_read_by_hand():
    source = Stories(count=12, words=0.2, careless=0.3)
    told = [(each.question, each.answer, each.reasoning) for each in source.problems(11, HOLDOUT)]
    assert told[::2] == [
        ("O casaco azul custa 24 reais, e o verde e 20 reais mais barato. Quanto custa o verde?", "4", None),
        (
            "How many fish are in the tank if 13 lived there before and the pet shop owner added 6 today?",
            "19",
            "13 + 6 = 19",
        ),
        (
            "a bus was carrying 28 passengers. when it stopped at the mall, 26 got off. how many passengers were still "
            "on it?",
            "2",
            None,
        ),
        (
            "a escpla precisa de 685 reais para um parquinho novo e arrecadou 386 na festa junina. quanto ainda falta",
            "299",
            "685 - 386 = 299",
        ),
        (
            "Tina has 108 minutes for 12 math problems. If she spends the same time on each, how many minutes is that "
            "for one?",
            "9",
            None,
        ),
        (
            "Uma caneta custa 65 centavos, e um caderno custa cinco centavos a mais. Quanto custa o caderno?",
            "70",
            "65 + 5 = 70",
        ),
    ]


def test_the_output_matches_its_version():
    """If you change the problems, increase Stories.version and update this digest."""
    source = Stories(count=1500)
    assert (source.version, digest(source)) == (3, "0256bb2d5f1d28cb")


# --- Problems that people wrote ---------------------------------------------------------------------------------------


def written(*fields):
    return read_written(Record(each, f"x.jsonl, line {number}") for number, each in enumerate(fields, start=1))


def test_problems_that_people_wrote_get_other_numbers_of_the_same_kind():
    kites, prices, eggs = written(*WRITTEN)
    rng = random.Random(0)
    for _ in range(30):
        problem = kites.draw(rng)
        first, second, dogs = map(int, re.findall(r"\d+", problem.question))
        assert 10 <= first <= 99 and 3 <= second <= 9 and dogs == 2  # not in the equation, so it may count something
        assert problem.answer == str(first + second) and problem.reasoning == f"{first} + {second} = {problem.answer}"
        problem = prices.draw(rng)
        hat, bag = re.findall(r"\$(\d+(?:\.\d\d)?)\b", problem.question)
        assert 10 <= float(hat) < 100 and 1 <= float(bag) < 10 and problem.steps == ()
        assert float(problem.answer) == pytest.approx(float(hat) + float(bag), abs=1e-9)
        problem = eggs.draw(rng)
        dozens, cooks = map(int, re.findall(r"\d+", problem.question))
        assert dozens * 12 % cooks == 0 and int(problem.answer) == dozens * 12 // cooks
        assert len(problem.reasoning.splitlines()) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": 40.0},  # the equation gives 50
        {"equation": "+ number0 9.0"},  # its own 9 is number1
        {"equation": "+ 50.0 0.0"},  # uses no number of the story
        {"numbers": [0.3333333, 9.0, 2.0], "answer": 9.33},
    ],
)
def test_problems_that_other_numbers_would_make_wrong_are_left_out(changes):
    (left,) = written(WRITTEN[0] | changes, WRITTEN[1])
    assert left.template.text == WRITTEN[1]["question"]


@pytest.mark.parametrize(
    "changes",
    [
        {"equation": "number0 +"},
        {"equation": "+ number0 number7"},
        {"numbers": "41 and 9"},
        {"numbers": [True, 9.0, 2.0]},
        {"answer": "many"},
        {"question": ""},
        {"question": "number9 kites?"},
    ],
)
def test_records_of_another_form_are_refused(changes):
    with pytest.raises(AxionError, match=r"x\.jsonl, line 1: "):
        written(WRITTEN[0] | changes)


def test_files_are_told_from_recorded_and_held_out_like_templates(tmp_path):
    file = tmp_path / "written.jsonl"
    records = [{**WRITTEN[0], "question": f"{WRITTEN[0]['question']} Say it {number}."} for number in "abcdefghij"]
    file.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    source = Stories(count=400, files=[str(file)], file_share=0.5)
    told = [each for each in source.problems(1, HOLDOUT) if "number0" in each.template]
    assert 120 < len(told) < 280 and {each.language for each in told} == {"en"}
    trained = {each["question"] for each in records if not Template(each["question"]).is_held_out}
    assert {each.template for each in told} == trained and len(trained) < len(records)
    assert not any(shows_held_out(each.document(), HOLDOUT) for each in told)
    released = source.released()
    assert "files" not in released and released["local_files"][0]["name"] == "written.jsonl"
    again = Stories.model_validate(released)
    with pytest.raises(
        AxionError, match=r"was read from written\.jsonl; give --set data\.sources\.stories\.files=FILE"
    ):
        list(again.problems(1, HOLDOUT))
    assert again.data_name == source.data_name == "stories"
