"""Sources that teach to think: the rule by which a problem is thought through, right workings, nothing held out."""

import re
from itertools import islice

import pytest

from axion.data.encoding import DocumentEncoder
from axion.data.format import ANSWER, ANSWER_HEADING, CHOICE, REASONING, prompt
from axion.data.holdout import is_held_out, is_reserved, shows_held_out
from axion.data.recipe import DataRecipe
from axion.data.sources import Events, Gsm8k, Phrasings, Stories
from axion.data.sources.phrasings import OPERATIONS, phrasings_tests
from axion.data.split import Side, Split
from axion.data.working_check import check_reasoning
from axion.errors import AxionError
from axion.tokenizer import train_tokenizer
from tests.data.conftest import digest, write_jsonl

HOLDOUT = 0.05
SPLIT = Split(0.05, 0, HOLDOUT)
SOURCES = {
    "phrasings": Phrasings(count=400, thinking=True, digits=(1, 3)),
    "long sums": Phrasings(count=150, thinking=True, digits=(2, 10), operations=("+", "-"), canonical=0.5),
    "stories": Stories(count=300, thinking=True, reasoning=1.0, careless=0),
    "events": Events(count=120, thinking=True),
}


@pytest.fixture(scope="module")
def tokenizer():
    documents = islice(Phrasings(count=400, thinking=True, canonical=0.3).documents(SPLIT, 9), 400)
    return train_tokenizer((document.text for document in documents), 600)


@pytest.mark.parametrize("name", SOURCES)
def test_every_line_is_right_and_leads_to_the_answer(name):
    texts = [document.text for document in SOURCES[name].documents(SPLIT, 3)]
    thought = [text for text in texts if REASONING in text]
    assert len(thought) == len(texts) if name != "phrasings" else 0 < len(thought) < len(texts)
    for text in thought:
        reasoning, answer = text.partition(REASONING)[2].split(ANSWER)
        equations = check_reasoning(reasoning)
        result = str(equations[-1].result)
        assert result == answer or (name == "events" and result in answer.replace(":", " ").split()), text
        if name != "events":
            assert not shows_held_out(text, HOLDOUT), text


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("phrasings", 4, "6b583bd8a1a31bd6"),
        ("long sums", 4, "a36f4f8d6376513f"),
        ("stories", 3, "6843fd4f067316e2"),
        ("events", 4, "9ce12bae6424c14b"),
    ],
)
def test_the_output_matches_its_version(name, version, expected):
    """If you change what is thought, such as a working, increase the source's version and update the digest."""
    assert (SOURCES[name].version, digest(SOURCES[name])) == (version, expected)


def test_one_digit_is_answered_at_once_and_more_is_thought_through():
    for problem in SOURCES["phrasings"].problems(3, HOLDOUT):
        (step,) = problem.steps
        assert (problem.reasoning is None) == (max(step.left, step.right) < 10)
    assert all(problem.reasoning for problem in SOURCES["stories"].problems(3, HOLDOUT))


def test_long_pairs_are_held_out_and_asked_in_tests():
    for problem in SOURCES["long sums"].problems(3, HOLDOUT):
        assert not is_reserved(problem.steps[0].left, problem.steps[0].right, HOLDOUT)
    for sign in OPERATIONS:
        asked = phrasings_tests("en", sign, 4, 5, seed=0)
        assert len(asked) == 5 and all(is_reserved(*problem.steps[0][::2], HOLDOUT) for problem in asked)


@pytest.mark.parametrize("source", [Phrasings(count=300, thinking=True, reasoning=0, canonical=1.0, digits=(2, 2))])
def test_a_heading_that_is_asked_for_carries_no_loss(source, tokenizer):
    document = next(iter(source.documents(SPLIT, 3)))
    question = re.match(r"# Pergunta:\n(.*)\n--\n", document.text)[1]
    assert re.fullmatch(r"(?:What is|Quanto é) \d+ [-+*/] \d+\?", question)
    assert [span.text for span in document.spans if not span.has_loss] == [ANSWER_HEADING]
    assert document.text.startswith(prompt(question))
    with DocumentEncoder(tokenizer) as encoder:
        ((_, encoded),) = encoder.encode([(document, True)])
    whole = tokenizer(document.text, add_special_tokens=False).input_ids
    assert encoded.ids.tolist()[1:-1] == whole  # the spans end where tokens end
    given = tokenizer(prompt(question, reasoning=None), add_special_tokens=False).input_ids
    heading = tokenizer(ANSWER_HEADING, add_special_tokens=False).input_ids
    learned = [*encoded.loss.tolist()]
    assert learned == [False, *[True] * len(given), *[False] * len(heading), *learned[1 + len(given) + len(heading) :]]
    assert all(learned[1 + len(given) + len(heading) :]) and learned[-1]  # the answer and its end


def test_prompts_end_where_tokens_end(tokenizer):
    """What a model is asked has the tokens with which the documents of its training begin."""
    for question in ("What is 46 - 19?", "quanto e 5+3", "Subtraia 3 de 90."):
        for reasoning in (None, False, True):
            asked = tokenizer(prompt(question, reasoning), add_special_tokens=False).input_ids
            text = prompt(question, reasoning is True) + "46-19\n16=9+7;4-1;7"
            assert tokenizer(text, add_special_tokens=False).input_ids[: len(asked)] == asked


def test_half_the_questions_may_be_asked_in_the_plain_way():
    asked = [problem.question for problem in SOURCES["long sums"].problems(3, HOLDOUT)]
    plain = [question for question in asked if re.fullmatch(r"(?:What is|Quanto é) \d+ [-+] \d+\?", question)]
    assert 50 < len(plain) < 105


def test_a_recipe_says_whether_it_teaches_to_think():
    assert DataRecipe(sources=({"kind": "events", "thinking": True},)).teaches_thinking
    assert not DataRecipe().teaches_thinking


def test_real_problems_come_several_times_where_generated_ones_come_once(tmp_path):
    rows = [{"question": f"Ana has {n} of 5 apples?", "answer": f"She has {n}.\n#### {n}"} for n in range(60)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    once, thrice = (Gsm8k(files=[str(path)], direct_fraction=0, repeat=repeat) for repeat in (1, 3))
    texts = [document.text for document in once.documents(SPLIT, 1) if document.side is Side.TRAIN]
    held_out = [document.text for document in once.documents(SPLIT, 1) if document.side is Side.VALIDATION]
    assert [each.text for each in thrice.documents(SPLIT, 1) if each.side is Side.TRAIN] == texts * 3
    assert [each.text for each in thrice.documents(SPLIT, 1) if each.side is Side.VALIDATION] == held_out != []
    assert "repeat" not in once.identity() and thrice.identity()["repeat"] == 3


def test_problems_that_people_wrote_are_thought_through_in_whole_numbers(tmp_path):
    rows = [
        {
            "question": "Bob got number1 figs more than number0.",
            "numbers": [41, 12],
            "equation": "+ number0 number1",
        },
        {
            "question": "A tea is number0 and a bun number1.",
            "numbers": [1.5, 2.5],
            "equation": "+ number0 number1",
        },
        {
            "question": "From number0, number1 and number2 what is left?",
            "numbers": [9, 2, 20],
            "equation": "- number2 - number1 number0",
        },
    ]
    answers = (53, 4.0, 27)
    rows = [row | {"answer": answer} for row, answer in zip(rows, answers, strict=True)]
    source = Stories(count=20, thinking=True, reasoning=1.0, file_share=1.0, careless=0)
    usable = source.model_copy(update={"files": [str(write_jsonl(tmp_path / "a.jsonl", rows))]})
    told = [problem.question for problem in usable.problems(0, 0)]
    assert len(told) == 20 and all(question.startswith("Bob got") for question in told)
    none = source.model_copy(update={"files": [str(write_jsonl(tmp_path / "b.jsonl", rows[1:]))]})
    with pytest.raises(AxionError, match="whole numbers"):
        list(none.problems(0, 0))


def test_two_digits_are_never_a_held_out_pair():
    for document in Stories(count=300, thinking=True).documents(SPLIT, 4):
        reasoning = document.text.partition(REASONING)[2].partition(CHOICE)[0]
        pairs = re.findall(r"(\d+)[-+*/](?=(\d+))", reasoning)
        assert not any(is_held_out(int(a), int(b), HOLDOUT) for a, b in pairs)
