"""Word problems: correct step by step, varied, and grammatical as far as a program can check."""

import re

import pytest

from axion.data.holdout import shows_held_out
from axion.data.sources.stories import FAMILIES, NAMES
from axion.data.sources.word_problems import WordProblems, word_problems
from tests.data.conftest import digest

HOLDOUT = 0.05
EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
COMPUTE = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": lambda a, b: a / b}


@pytest.fixture(scope="module")
def by_language():
    problems = list(word_problems(2400, seed=7, holdout=HOLDOUT))
    return {"pt": problems[0::2], "en": problems[1::2]}


def test_count_seed_and_holdout(by_language):
    some = list(word_problems(50, 7, HOLDOUT))
    assert some == [problem for pair in zip(*by_language.values(), strict=True) for problem in pair][:50]
    assert some != list(word_problems(50, 8, HOLDOUT))
    assert not any(shows_held_out(problem.document(), HOLDOUT) for problem in some)


def test_the_output_matches_its_version():
    """If you change the problems, increase WordProblems.version and update this digest."""
    source = WordProblems(count=1500)
    assert (source.version, digest(source)) == (1, "a8004148b994d2a2")


@pytest.mark.parametrize("language", ["pt", "en"])
def test_every_step_is_right_and_the_last_is_the_answer(by_language, language):
    for problem in by_language[language]:
        lines = problem.reasoning.split("\n")
        assert 2 <= len(lines) <= 5
        for line in lines:
            ((left, sign, right, result),) = EQUATION.findall(line)
            assert COMPUTE[sign](int(left), int(right)) == int(result) >= 2, line
        assert problem.answer == result


@pytest.mark.parametrize("language", ["pt", "en"])
def test_every_number_of_the_question_is_used(by_language, language):
    """The reasoning uses exactly the numbers of the question."""
    for problem in by_language[language]:
        told = set(re.findall(r"\d+", problem.question))
        used, results = set(), {"2", "4"}  # implied by doubling, halving and the four sides of a square
        for left, _, right, result in EQUATION.findall(problem.reasoning):
            assert {left, right} <= told | results, problem
            used |= {left, right}
            results.add(result)
        assert told <= used, problem


@pytest.mark.parametrize("language", ["pt", "en"])
def test_at_least_300_skeletons(by_language, language):
    """A strict count, with numbers, names, pronouns, connectors and objects masked."""
    names = [name for group in NAMES[language] for name in group]
    things = [thing[language == "pt"] for family in FAMILIES for thing in family.things]
    linking = r"(?:Then|After that,|Later,|Depois,|Em seguida,) "

    def skeleton(text):
        text = re.sub(linking, "", text)
        text = re.sub(rf"\b(?:{'|'.join([*names, 'She', 'He', 'Ela', 'Ele', 'she', 'he', 'ela', 'ele'])})\b", "@", text)
        text = re.sub(rf"\b(?:{'|'.join(sorted(things, key=len, reverse=True))})\b", "%", text)
        text = re.sub(r"\b(\w+?)(?:os|as|o|a|um|uma)\b", r"\1", text)  # endings that only agree with the noun
        return re.sub(r"\d+", "#", text).lower()

    assert len({skeleton(problem.question) for problem in by_language[language]}) >= 300


@pytest.mark.parametrize("language", ["pt", "en"])
def test_no_placeholder_is_left(by_language, language):
    for problem in by_language[language]:
        text = problem.question + problem.reasoning
        assert not re.search(r"[{}\[\]|]|  | [.,?]", text), text
        assert all(re.match(r"[A-ZÀ-Ý\d]", sentence) for sentence in re.split(r"(?<=[.?]) ", problem.question)), text
        assert problem.question.endswith("?")


def test_portuguese_agrees_in_gender(by_language):
    gender = {portuguese: sex for family in FAMILIES for _, portuguese, sex in family.things}
    agreeing = re.compile(
        rf"\b(Quant[oa]s|quant[oa]s|tod[oa]s|[oa]s|d[oa]s) ({'|'.join(sorted(gender, key=len, reverse=True))})\b"
    )
    checked = 0
    for problem in by_language["pt"]:
        for word, thing in agreeing.findall(problem.document()):
            assert word[-2] == {"m": "o", "f": "a"}[gender[thing]], (word, thing, problem)
            checked += 1
    assert checked > 300


def test_every_sentence_of_the_tables_exists_in_both_languages():
    for family in FAMILIES:
        assert len({thing[0] for thing in family.things}) == len(family.things)
        for part in (*family.openings, *family.events, *family.closings):
            assert len(part.en) == len(part.pt)
            for english, portuguese in zip(part.en, part.pt, strict=True):
                letters = [sorted(re.findall(r"\{([a-z])\}", text)) for text in (english, portuguese)]
                assert letters[0] == letters[1], english
