"""Conversations, and answers of which the most frequent counts."""

import json

import pytest

from axion.data.recipe import DataRecipe
from axion.data.sources import Arithmetic, Gsm8k
from axion.data.sources.dialogues import dialogues_tests
from axion.errors import AxionError
from axion.evaluation import dialogues, questions
from axion.evaluation.evaluate import evaluate
from axion.evaluation.subject import Subject
from axion.release import open_release
from tests.support.measured import make_chatty

DATA = DataRecipe(sources=(Arithmetic(count=100),))


@pytest.fixture(scope="module")
def chatty(tiny_release, tmp_path_factory):
    return open_release(make_chatty(tiny_release, tmp_path_factory.mktemp("chat") / "chatty"))


def test_replies_are_judged_by_what_is_expected_by_kind_and_language(chatty, monkeypatch):
    monkeypatch.setattr(dialogues, "PROMPTS", 2)
    tests = {}
    for kind in ("small talk", "follow-up"):
        for test in dialogues_tests("en", 2, dialogues.SEED, DATA.holdout_fraction, kind):
            tests[test.messages[-1]["content"]] = test.expected.accepted[0]
    prompts = []

    def replies(self, given, max_new_tokens, **_):
        """Right ones to the two kinds in English."""
        prompts.extend(chatty.tokenizer.decode(ids) for ids in given)
        last = [text.rpartition("<|user|>")[2].removesuffix("<|end|><|assistant|>") for text in prompts]
        return [[f"I think: {tests.get(asked, 'no idea at all')}"] for asked in last]

    monkeypatch.setattr(Subject, "answers", replies)
    monkeypatch.setattr(chatty.config, "max_position_embeddings", 2000)  # room for whole conversations
    scores = evaluate(chatty, DATA, ["dialogues"])["dialogues"]["scores"]
    assert len(scores) == 12 and all(score["total"] == 2 for score in scores)
    right = {(score["kind"], score["language"]) for score in scores if score["accuracy"] == 1}
    assert right >= {("small talk", "en"), ("follow-up", "en")}
    assert ("problem", "en") not in right and ("follow-up", "pt") not in right
    follow_ups = [text for text in prompts if text.count("<|user|>") > 1]
    assert follow_ups and all("<|assistant|>" in text.partition("<|user|>")[2] for text in follow_ups)


def test_a_long_conversation_loses_its_beginning_and_a_long_message_the_point(chatty, monkeypatch):
    monkeypatch.setattr(dialogues, "PROMPTS", 1)
    prompts = []
    monkeypatch.setattr(Subject, "answers", lambda self, given, *_, **__: prompts.extend(given) or [["?"]] * len(given))
    evaluate(chatty, DATA, ["dialogues"])
    context = chatty.config.max_position_embeddings
    assert all(len(ids) < context for ids in prompts) and max(map(len, prompts)) > context // 3


def test_a_model_that_was_not_taught_to_chat_says_so(tiny_release):
    release = open_release(tiny_release)
    with pytest.raises(AxionError, match="the model was not taught to chat: it has no chat template"):
        evaluate(release, DATA, ["dialogues"])


def test_the_most_frequent_answer_counts(tiny_release, tmp_path, monkeypatch):
    rows = [{"question": f"{n} pens?", "answer": f"so\n#### {n}"} for n in range(3)]
    (file := tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataRecipe(sources=(Gsm8k(files=[str(file)], test_files=[str(file)]),))
    drawn = [["0", "5", "0", "7"], ["9", "1", "9", "1"], ["", "2", "", ""]]

    def answers(self, prompts, max_new_tokens, samples, temperature, seed, label):
        assert (samples, temperature, seed) == (questions.MAJORITY_SAMPLES, questions.MAJORITY_TEMPERATURE, 0)
        assert all(prompt.endswith("# Raciocínio:\n") for prompt in prompts)
        return [[f"so\n--\n# Resposta:\n{one}" if one else "2, no header" for one in each] for each in drawn]

    monkeypatch.setattr(Subject, "answers", answers)
    monkeypatch.setattr(questions, "MAJORITY_SAMPLES", 4)
    result = evaluate(open_release(tiny_release), data, ["gsm8k_majority"])["gsm8k_majority"]
    assert (result["correct"], result["total"]) == (2, 3)  # of two equally frequent ones, that drawn first
    assert result["single_accuracy"] == pytest.approx((2 + 2 + 1) / 12)
    low, high = result["single_interval"]
    assert low <= result["single_accuracy"] <= high
