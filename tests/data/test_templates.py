"""Template files: how they are read, and which templates are held out."""

import random
import re
from collections import Counter
from itertools import chain, product

import pytest

from axion.data.sources.arithmetic import PHRASINGS, arithmetic
from axion.data.sources.dialogues import dialogues, dialogues_tests
from axion.data.sources.phrasings import OPERATIONS, Phrasings, phrasings_tests
from axion.data.sources.stories import FAMILIES
from axion.data.templates import LANGUAGES, Template, on_side, parse_templates, read_templates
from axion.data.templates.careless import without_accents
from axion.data.templates.relatives import kinship
from axion.data.templates.slots import NAMES, fill, value_slots
from axion.errors import AxionError

KINDS = ("phrasings", "dialogues", "stories", "events", "smalltalk")
CONTENT = """\
# a comment

[gain]
a + b | {N} has {a} [old|new] cards.
{N} finds {b} more.
[loss]
a - b | b=2..9 |  {N} loses {b}.
"""


def test_groups_fields_and_texts():
    first, second, third = parse_templates(CONTENT, "cards_en.txt")
    assert first == Template("{N} has {a} [old|new] cards.", ("a + b",), "gain", "cards_en.txt, line 4")
    assert (second.text, second.fields, second.group) == ("{N} finds {b} more.", (), "gain")
    assert (third.text, third.fields, third.group) == ("{N} loses {b}.", ("a - b", "b=2..9"), "loss")


def test_the_text_alone_decides_which_third_is_held_out():
    templates = [Template(f"template {word}") for word in map("".join, product("abcdfghijk", repeat=3))]
    assert 0.29 < len(on_side(templates, held_out=True)) / 1000 < 0.38
    assert len(on_side(templates, True)) + len(on_side(templates, False)) == 1000
    # fixed for ever: releases were trained on one side and are tested on the other
    found = "".join(each.text[-1] for each in templates[:10] if each.is_held_out)
    assert found == "adgij"
    assert Template("template aab", ("a + b",), "gain", "x").is_held_out == templates[1].is_held_out


@pytest.mark.parametrize(
    "relatives",
    [
        ("What is {e}?", "What's {a} + {b}?", "so what is {a:2-20} times {b:2-9} please", "Hi! whats {a}-{b}="),
        ("Quanto é {e}?", "Por favor, quanto é {a:2-90} vezes {b}?", "E quanto e {a} × {b}"),
        ("How many {things} does {N} have now?", "{N} buys {a} {x:cards/pens}. How many {x} does [he|she] have?"),
        ("Quant[os|as] {things} {N} tem agora?", "Quantas {x:balas/cartas} Vitória tem?"),
        ("How many more {things} does {N} have than {M}?", "How many fewer {things} does {M} have than {N}?"),
        ("Divide {a} por {b} pra mim.", "Divida {a} por {b}."),
    ],
)
def test_near_relatives_are_on_the_same_side(relatives):
    assert len({kinship(text) for text in relatives}) == 1, [kinship(text) for text in relatives]


def test_other_questions_are_no_relatives():
    texts = ["How many {things} does {N} have?", "How much is {e}?", "What is {e}?", "What does {e} make?", "Name {e}."]
    assert len({kinship(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\n[x]\nb | a", "line 3: the same text as in x.txt, line 1"),
        ("a + b |  ", "line 1"),
        ("two  blanks", "line 1.*single blanks"),
        ("e\u0301", "composed"),
    ],
)
def test_what_is_not_a_template_is_refused(content, said):
    with pytest.raises(AxionError, match=said):
        parse_templates(content, "x.txt")


def test_a_language_without_templates_is_refused():
    with pytest.raises(AxionError, match="no templates stories_fr"):
        read_templates("stories", "fr")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["stories", "events", "dialogues", "smalltalk"])
def test_careless_typing_does_not_make_one_template_of_another(kind, language):
    typed = Counter(
        without_accents(re.sub(r"[.,!?'’-]", "", each.text)).casefold()
        for each in read_templates(kind, language)
        if each.fields[:1] not in (("step",), ("reply",), ("accept",))
    )
    assert typed.most_common(1)[0][1] == 1, typed.most_common(1)


def said(kind, language):
    """What people say, of the templates of a file."""
    templates = read_templates(kind, language)
    return [
        each
        for each in templates
        if each.fields[:1] not in (("world",), ("step",), ("reply",), ("accept",), ("because",))
        and not each.group.startswith("write")
    ]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_about_a_third_of_each_file_is_held_out(kind, language):
    templates = said(kind, language)
    assert 0.25 <= len(on_side(templates, held_out=True)) / len(templates) <= 0.40


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_held_out_in_one_file_is_trained_by_no_source(language):
    """Compared in simpler words than `kinship`."""
    trained = {plainly(each.text) for kind in KINDS for each in said(kind, language) if not each.is_held_out}
    trained |= {plainly(text) for (of, _), texts in PHRASINGS.items() if of == language for text in texts}
    parts = [part for family in FAMILIES for part in (*family.openings, *family.events, *family.closings)]
    trained |= {plainly(text) for part in parts for text in part.texts(language)}
    held_out = [each for kind in KINDS for each in said(kind, language) if each.is_held_out]
    assert [f"{each.where}: {each.text}" for each in held_out if plainly(each.text) in trained] == []


def plainly(text):
    last = re.split(r"(?<=[.?!]) +", text)[-1]
    last = re.sub(r"\[(.*?)\|.*?\]", r"\1", re.sub(r"\{.*?\}", "0", last))
    return re.sub(r"\W", "", re.sub(r"0( ?[-+−*/x×÷:] ?0)+", "0", without_accents(last).casefold()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_test_asks_no_sum_as_training_does(language):
    def asked(questions):
        return {plainly(re.sub(r"\d+", "0", question)) for question in questions}

    trained = asked(
        chain(
            (each.question for each in arithmetic(500, 0, 0.05)),
            (each.question for each in Phrasings(count=1_000, careless=0, words=0).problems(0, 0.05)),
            (turn.user for each in dialogues(200, 0, 0.05) for turn in each.turns if turn.kind == "problem"),
        )
    )
    tests = (phrasings_tests(language, sign, 2, 30, 0) for sign in OPERATIONS)
    talks = dialogues_tests(language, 20, 0, kind="problem")
    held_out = asked(chain((each.question for each in chain(*tests)), (each.messages[-1]["content"] for each in talks)))
    assert len(held_out) > 50 and trained & held_out == set()


# --- Slots ------------------------------------------------------------------------------------------------------------


def test_slots_are_filled_the_same_in_the_whole_text():
    text = "{N} had {a} {x:cards/coins}. [He|She] gave {M} {b} of [his|her] {x}. Did [he|she:M] count [his|her:M] {x}?"
    pattern = r"(\w+) had 12 (cards|coins)\. (He|She) gave (\w+) 5 of (his|her) \2\. Did (he|she) count (his|her) \2\?"
    seen = set()
    for seed in range(40):
        rng = random.Random(seed)
        match = re.fullmatch(pattern, fill(text, {"a": 12, "b": 5}, "en", rng))
        assert match
        name, word, first, other, first_his, second, second_his = match.groups()
        is_woman, other_is_woman = (each in NAMES["en"][1] for each in (name, other))
        assert name != other
        assert (first, first_his) == (("He", "his"), ("She", "her"))[is_woman]
        assert (second, second_his) == (("he", "his"), ("she", "her"))[other_is_woman]
        seen.add((word, is_woman, other_is_woman))
    assert len(seen) == 8
    assert value_slots(text) == ["a", "b"]


def test_no_name_is_both_a_mans_and_a_womans():
    for language in LANGUAGES:
        men, women = NAMES[language]
        assert len({*men, *women}) == len(men) + len(women) > 100


@pytest.mark.parametrize(
    "text",
    [
        *("{N} has {c} cards.", "{N has {a} cards.", "[he|she:X] has {a}.", "{X} has {a}."),
        "{a} {x:cards/coins} and {x:balls/pens}",
    ],
)
def test_a_slot_that_cannot_be_filled_is_refused(text):
    with pytest.raises(AxionError, match=r"slot|value"):
        fill(text, {"a": 12}, "en", random.Random(0))
