"""Dialogues: right answers, follow-ups that need what was said before, and tests that training never shows."""

import re
from typing import get_args

import pytest

from axion.data.holdout import is_held_out, shows_held_out
from axion.data.prepare import prepare
from axion.data.recipe import DataRecipe
from axion.data.sources.dialogue_turns import Expected, TurnKind, read_topics, topics
from axion.data.sources.dialogues import Dialogue, Dialogues, DialogueTest, dialogues, dialogues_tests
from axion.data.sources.event_lines import read_worlds
from axion.data.templates import LANGUAGES, parse_templates
from axion.errors import AxionError
from tests.data.conftest import digest

HOLDOUT = 0.05


@pytest.fixture(scope="module")
def told() -> list[Dialogue]:
    return list(dialogues(700, seed=3, holdout=HOLDOUT))


@pytest.fixture(scope="module")
def tests() -> list[DialogueTest]:
    return [test for language in LANGUAGES for test in dialogues_tests(language, 48, 0)]


def turns_of(told):
    return [turn for dialogue in told for turn in dialogue.turns]


def lines_of(language, *roles):
    worlds = read_worlds(language, "events", "dialogues")
    return {line.text: line for world in worlds for line in world.lines if line.role in roles}.values()


@pytest.mark.parametrize("language", LANGUAGES)
def test_how_much_is_written(language):
    """At least 250 turns of small talk, 250 that can't be known, and 60 that follow, a third of each held out."""
    topics = read_topics(language)
    known = [user for topic in topics if topic.can_be_known for user in topic.users]
    unknown = [user for topic in topics if not topic.can_be_known for user in topic.users]
    follow_ups = [line.template for line in lines_of(language, "follow", "fix", "why")]
    assert len(known) >= 250 and len(unknown) >= 250 and len(follow_ups) >= 60
    for templates in (known, unknown, follow_ups):
        assert 0.25 < sum(template.is_held_out for template in templates) / len(templates) < 0.42


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[pets]\nuser | My cat!\nreplay | Nice.",
            "s.txt, line 3: a line of small talk begins with one of user, reply",
        ),
        ("[pets]\nMy cat!", "s.txt, line 2: a line of small talk begins"),
        ("[unknown]\naccept | no idea\n[pets]\nuser | My cat!", r"s.txt, line 4: \[pets\] needs user and reply lines"),
        (
            "[pets]\nuser | My cat!\nreply | Nice.",
            r"s.txt, line 2: \[pets\] needs an accept line, here or",
        ),
    ],
)
def test_lines_of_small_talk_that_do_not_fit_are_refused(text, message):
    with pytest.raises(AxionError, match=f"^{message}"):
        topics(parse_templates(text, "s.txt"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reply_of_a_topic_is_right(language):
    for topic in read_topics(language):
        for reply in topic.replies:
            kind = "small talk" if topic.can_be_known else "unknowable"
            assert Expected(kind, topic.accepted).is_met_by(reply), (topic.name, reply)


def test_nobody_says_the_opposite_of_what_is_right():
    """No reply of small talk passes for "I don't know" where that alone is right."""
    for language in LANGUAGES:
        unknown = next(topic.accepted for topic in read_topics(language) if not topic.can_be_known)
        replies = [reply for topic in read_topics(language) if topic.can_be_known for reply in topic.replies]
        passing = [reply for reply in replies if Expected("unknowable", unknown).is_met_by(reply)]
        assert not passing, passing


def test_every_answer_is_right(told, tests):
    for turn in turns_of(told):
        assert turn.expected.is_met_by(turn.reply), turn
        for step in turn.steps:
            equation = step.equation
            assert eval(f"{equation.left} {equation.sign} {equation.right}") == equation.result
        if turn.steps:
            assert turn.expected.accepted == (str(turn.steps[-1].equation.result),)
    assert {turn.kind for turn in turns_of(told)} == set(get_args(TurnKind))


def test_a_follow_up_goes_on_from_what_was_said(told):
    """Each number of its steps was said by somebody before, or comes from a step."""
    constants = {1, 2, 3, 4, 5, 10}
    for dialogue in told:
        known = set(constants)
        for turn in dialogue.turns:
            known |= {int(number) for number in re.findall(r"\d+", turn.user)}
            for step in turn.steps:
                operands = {step.equation.left, step.equation.right}
                assert operands <= known or turn.kind == "problem", dialogue.messages  # a sum may be asked in words
                known |= {*operands, step.equation.result}
    sums = [turn for turn in turns_of(told) if turn.kind == "follow-up" and len(turn.steps) == 1]
    assert any(str(turn.steps[0].equation.left) not in turn.user for turn in sums)


def test_a_correction_changes_the_answer(told):
    corrected = [
        (before, turn)
        for dialogue in told
        for before, turn in zip(dialogue.turns, dialogue.turns[1:], strict=False)
        if turn.kind == "correction" and before.kind in ("problem", "follow-up", "correction")
    ]
    assert len(corrected) > 40
    assert all(before.expected != turn.expected for before, turn in corrected)


def test_training_sees_no_held_out_template_and_no_held_out_pair(told):
    assert not any(template.is_held_out for turn in turns_of(told) for template in turn.templates)
    assert not any(shows_held_out(message["content"], HOLDOUT) for dialogue in told for message in dialogue.messages)


def test_tests_have_held_out_templates_only_and_end_with_the_user(tests):
    assert len(tests) == 96
    for test in tests:
        assert all(template.is_held_out for template in test.templates)
        assert [message["role"] for message in test.messages] == ["user", "assistant"] * (test.num_turns - 1) + ["user"]
    assert {kind: sum(test.kind == kind for test in tests) for kind in get_args(TurnKind)} == dict.fromkeys(
        get_args(TurnKind), 16
    )


def test_tests_of_one_kind():
    found = dialogues_tests("en", 6, 1, kind="follow-up")
    assert [test.kind for test in found] == ["follow-up"] * 6
    assert found == dialogues_tests("en", 6, 1, kind="follow-up") != dialogues_tests("en", 6, 2, kind="follow-up")
    for test in found:
        said = " ".join(message["content"] for message in test.messages)
        assert test.num_turns >= 2 and re.search(r"\d", said)


def test_a_pair_of_a_test_is_held_out():
    """The answer needs one: the numbers of a first sum are its pair."""
    for test in dialogues_tests("pt", 30, 0, kind="problem"):
        if match := re.fullmatch(r"(\d+) ?[-+x] ?(\d+)\W*", test.messages[-1]["content"]):
            assert is_held_out(int(match[1]), int(match[2]), HOLDOUT)


def test_tests_refuse_what_there_is_not():
    with pytest.raises(AxionError, match=r"tests are of problem, follow-up, .* in pt or en, not of song in 'en'"):
        dialogues_tests("en", 5, 0, kind="song")  # pyright: ignore[reportArgumentType]
    with pytest.raises(AxionError, match="not of None in 'fr'"):
        dialogues_tests("fr", 5, 0)
    with pytest.raises(AxionError, match="holds no pair out"):
        dialogues_tests("en", 5, 0, holdout=0)


@pytest.mark.parametrize(
    ("expected", "answer", "is_right"),
    [
        (Expected("number", ("12",)), "Tom has 7 + 5 = 12 apples.", True),
        (Expected("number", ("12",)), "12", True),
        (Expected("number", ("1200",)), "That is 1,200.", True),
        (Expected("number", ("12",)), "12 - 5 = 7", False),
        (Expected("number", ("12",)), "Twelve", False),
        (Expected("number", ("12",)), "112", False),
        (Expected("number", ("12",)), "", False),
        (Expected("unknowable", ("I don't know", "no idea")), "I DON’T know. I have no clock.", True),
        (Expected("unknowable", ("I don't know", "no idea")), "It is 5 o'clock.", False),
        (Expected("small talk", ("hi", "hello")), "Hi! What shall we count?", True),
        (Expected("small talk", ("hi", "hello")), "This is 5.", False),
    ],
)
def test_scoring(expected, answer, is_right):
    assert expected.is_met_by(answer) is is_right


def test_count_and_seed(told):
    assert list(dialogues(20, 3, HOLDOUT)) == told[:20] != list(dialogues(20, 4, HOLDOUT))
    assert {len(dialogue.turns) for dialogue in told} == {2, 3, 4}
    assert len({str(dialogue.messages) for dialogue in told}) > 660


def test_only_the_answers_carry_loss(told):
    for dialogue in told[:50]:
        learned = "".join(span.text for span in dialogue.spans if span.has_loss)
        assert learned == "".join(f"{turn.reply}<|end|>" for turn in dialogue.turns)


def test_the_output_matches_its_version():
    """If you change the dialogues, increase Dialogues.version and update this digest."""
    source = Dialogues(count=300)
    assert (source.version, digest(source)) == (5, "9ccc95b16e7b7673")


def test_a_recipe_of_both_sources_is_prepared(small_recipe, tmp_path):
    sources = [{"kind": "events", "count": 60}, {"kind": "dialogues", "count": 60}]
    data = DataRecipe.model_validate({"sources": sources, "val_fraction": 0.2})
    assert data.has_chats and data.has_problems
    prepared = prepare(small_recipe().model_copy(update={"data": data}), tmp_path, progress=False)
    assert {document.source for document in prepared.validation} == {"events", "dialogues"}


def test_careless_typing_changes_what_the_user_says_alone():
    turns = turns_of(dialogues(60, 3, HOLDOUT, careless=1.0))
    small_talk = [turn for turn in turns if turn.kind in ("small talk", "unknowable")]
    changed = [turn for turn in small_talk if turn.user != turn.templates[0].text]
    assert len(changed) > len(small_talk) / 2
    assert all(turn.expected.is_met_by(turn.reply) for turn in turns)
