"""Arithmetic as people ask it: many phrasings, right answers, and nothing that is held out."""

import random
import re
from collections import Counter

import pytest

from axion.data.holdout import is_held_out, shows_held_out
from axion.data.sources import Phrasings
from axion.data.sources import phrasings as module
from axion.data.sources.phrasings import OPERATIONS, phrasings_tests
from axion.data.split import Side, Split
from axion.data.templates import LANGUAGES, on_side, parse_templates, read_templates
from axion.data.templates.careless import slip, type_carelessly, without_accents
from axion.data.templates.numbers import NUMBER_WORDS, number_word
from axion.errors import AxionError
from tests.data.conftest import digest

HOLDOUT = 0.05
GROUPS = [(language, sign) for language in LANGUAGES for sign in OPERATIONS]


def ways(language, sign):
    return [each for each in read_templates("phrasings", language) if each.group in ("ask", f"ask {sign}")]


@pytest.fixture(scope="module")
def problems():
    return list(Phrasings(count=2000, words=0.3, careless=0.5).problems(seed=7, holdout=HOLDOUT))


@pytest.mark.parametrize(("language", "sign"), GROUPS)
def test_there_are_more_than_60_ways_of_asking_and_a_third_is_held_out(language, sign):
    asking = ways(language, sign)
    assert len(asking) > 60
    assert 0.25 < len(on_side(asking, held_out=True)) / len(asking) < 0.42
    writing = [each.text for each in read_templates("phrasings", language) if each.group == f"write {sign}"]
    assert len(writing) >= 4 and all("{a}" in each and "{b}" in each for each in writing)
    for each in asking:
        assert sorted(re.findall(r"\{(\w+)\}", each.text)) in (["e"], ["a", "b"]), each


@pytest.mark.parametrize("language", LANGUAGES)
def test_careless_typing_makes_no_way_of_asking_into_another(language):
    """Else a held-out one would be trained on under another name."""
    texts = [each.text for each in read_templates("phrasings", language) if each.group.startswith("ask")]
    bare = [re.sub(r"[^\w={} ]", "", without_accents(each.lower())) for each in texts]
    assert [each for each, times in Counter(bare).items() if times > 1] == []


def test_count_seed_and_holdout(problems):
    again = list(Phrasings(count=50, words=0.3, careless=0.5).problems(seed=7, holdout=HOLDOUT))
    assert again == problems[:50] != list(Phrasings(count=50, words=0.3, careless=0.5).problems(8, HOLDOUT))
    held_out = {
        each.text for language in LANGUAGES for each in read_templates("phrasings", language) if each.is_held_out
    }
    assert held_out.isdisjoint(problem.template for problem in problems)
    for problem in problems:
        (step,) = problem.steps
        assert not is_held_out(step.left, step.right, HOLDOUT) and not shows_held_out(problem.question, HOLDOUT)
        assert problem.answer == str(step.result)


def test_the_numbers_of_the_question_are_those_of_the_answer(problems):
    for problem in problems:
        if told := re.findall(r"\d+", problem.question):
            step = problem.steps[0]
            assert sorted(map(int, told)) == sorted((step.left, step.right)), problem
        assert not re.search(r"[{}\[\]|]|  ", problem.question), problem
    assert {problem.steps[0].sign for problem in problems} == set(OPERATIONS)
    differences = [problem.steps[0].result for problem in problems if problem.steps[0].sign == "-"]
    assert 0.02 < sum(each < 0 for each in differences) / len(differences) < 0.15


@pytest.mark.parametrize("sign", OPERATIONS)
def test_the_longer_operand_has_the_digits_that_are_asked_for(sign):
    source = Phrasings(count=300, operations=(sign,), digits=(4, 10))
    lengths = {max(len(str(each.steps[0].left)), len(str(each.steps[0].right))) for each in source.problems(1, HOLDOUT)}
    assert lengths == set(range(4, 11))
    if sign == "/":
        assert all(each.steps[0].left % each.steps[0].right == 0 for each in source.problems(1, HOLDOUT))


@pytest.mark.parametrize(("language", "sign"), GROUPS)
@pytest.mark.parametrize("digits", [1, 2, 6])
def test_tests_use_what_is_held_out_only(language, sign, digits):
    found = phrasings_tests(language, sign, digits, 20, seed=3)
    assert len({each.question for each in found}) == 20
    assert found == phrasings_tests(language, sign, digits, 20, seed=3)
    held_out = {each.text for each in on_side(ways(language, sign), held_out=True)}
    for problem in found:
        (step,) = problem.steps
        assert problem.template in held_out and step.sign == sign
        assert len(str(max(step.left, step.right))) == digits
        assert digits != 2 or is_held_out(step.left, step.right, HOLDOUT)


def test_tests_that_cannot_be_made_are_refused():
    for wrong in ({"language": "fr"}, {"operation": "^"}, {"digits": 11}, {"holdout": 0}):
        with pytest.raises(AxionError):
            phrasings_tests(**{"language": "pt", "operation": "+", "digits": 2, "count": 1, "seed": 0} | wrong)


def test_documents_are_split_by_their_text():
    split = Split(0.2, 0, HOLDOUT)
    documents = list(Phrasings(count=400).documents(split, 5))
    sides = Counter(document.side for document in documents)
    assert 20 < sides[Side.VALIDATION] < 120 and not sides[Side.DROPPED]
    assert all((each.side is Side.VALIDATION) <= split.is_validation(each.text) for each in documents)
    assert {each.language for each in documents} == set(LANGUAGES)


def test_a_sample_that_was_read_by_hand():
    asked = [(each.question, each.answer) for each in Phrasings(count=6).problems(11, HOLDOUT)]
    assert asked == [
        ("41 bags of 50, how many is that?", "2050"),
        ("Qula e o produto de 4 e 3", "12"),
        ("diminuindo 444 de 513, qanto dá", "69"),
        ("What's 679 take away 677?", "2"),
        ("Retirando 3 de 826, com quanto fico?", "823"),
        ("Hello! What is 986 over 34, please?", "29"),
    ]


def test_the_output_matches_its_version():
    """If you change the problems, increase Phrasings.version and update this digest."""
    source = Phrasings(count=1500)
    assert (source.version, digest(source)) == (4, "8943c00cb8499a7f")


# --- Careless typing --------------------------------------------------------------------------------------------------


def test_slips_never_touch_a_number():
    rng = random.Random(0)
    text = "Maria tinha 1234 figurinhas e deu vinte e três para João: 1234 - vinte e três = ?"
    typed = [slip(text, rng) for _ in range(300)]
    assert all(re.findall(r"\d+", each) == ["1234", "1234"] and each.count("vinte e três") == 2 for each in typed)
    assert len(set(typed)) > 60 and text not in {each for each in typed if len(each) != len(text)}
    lengths = {len(each) - len(text) for each in typed}
    assert lengths == {-1, 0, 1}  # left out, swapped or neighbouring, doubled


def test_habits_of_typing():
    rng = random.Random(1)
    typed = {type_carelessly("Você sabe quanto é 5 + 3?", rng) for _ in range(400)}
    assert {"voce sabe quanto e 5+3", "você sabe quanto é 5 + 3", "Voce sabe quanto e 5+3?"} <= typed
    assert {type_carelessly("What's 4 x 2?", rng) for _ in range(300)} >= {"whats 4x2", "What's 4 x 2"}
    assert all(re.findall(r"\d", each) == ["5", "3"] for each in typed)


@pytest.mark.parametrize(
    ("number", "english", "portuguese"),
    [
        (0, "zero", "zero"),
        (1, "one", "um"),
        (14, "fourteen", "quatorze"),
        (20, "twenty", "vinte"),
        (21, "twenty-one", "vinte e um"),
        (85, "eighty-five", "oitenta e cinco"),
        (100, "one hundred", "cem"),
    ],
)
def test_numbers_as_words(number, english, portuguese):
    assert (number_word(number, "en"), number_word(number, "pt")) == (english, portuguese)


def test_number_words_are_all_different():
    for language in LANGUAGES:
        assert len({number_word(number, language) for number in range(101)}) == 101
    assert {"eighty", "vinte", "e"} <= NUMBER_WORDS
    with pytest.raises(ValueError, match="101"):
        number_word(101, "en")


def test_portuguese_numbers_agree_with_feminine_nouns():
    source = Phrasings(count=6000, operations=("*", "/"), digits=(1, 2), words=0.99, careless=0)
    asked = " ".join(each.question for each in source.problems(0, 0))
    assert all(said in asked for said in ("uma vez ", "duas vezes", "duas caixas", "duas partes"))
    assert not re.search(r"\b(?:um|dois) (?:[a-z]\w*as|vezes|partes)\b", asked)


def test_a_misspelt_group_is_refused(monkeypatch):
    (template,) = parse_templates("[asks +]\nAdd {a} and {b}.", "phrasings_en.txt")
    monkeypatch.setattr(module, "read_templates", lambda *_: (template,))
    with pytest.raises(AxionError, match=r"^phrasings_en.txt, line 2: \[asks \+\] is none of the groups ask, ask \+"):
        module._ways.__wrapped__("en", "+", False)
