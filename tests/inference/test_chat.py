"""A conversation: what the model reads, and what is kept of it."""

import shutil

import pytest

from axion.data.asking import problem_prompt
from axion.errors import AxionError
from axion.inference.chat import ChatError, Conversation, conversation_prompt, fit_conversation
from axion.inference.sampling import Sampling
from axion.inference.stream import encode_prompt, stream
from axion.release import open_release
from tests.support.measured import make_chatty

SAMPLING = Sampling(max_new_tokens=6)


@pytest.fixture(scope="module")
def chatty(tiny_release, tmp_path_factory):
    return open_release(make_chatty(tiny_release, tmp_path_factory.mktemp("chat") / "chatty"))


def converse(release, **options) -> Conversation:
    return Conversation(release.model, release.tokenizer, release.name, SAMPLING, **options)


def written(release, prompt: str) -> str:
    steps = stream(release.model, release.tokenizer, prompt, SAMPLING)
    return "".join(step.text for step in steps if not step.is_prompt)


def test_each_answer_sees_the_conversation_before_it(chatty):
    conversation, messages = converse(chatty, system="Contas."), [{"role": "system", "content": "Contas."}]
    for question in ("1 + 2?", "Por quê?"):
        messages.append({"role": "user", "content": question})
        expected = written(chatty, conversation_prompt(chatty.tokenizer, messages, "chatty"))
        assert expected and "".join(conversation.ask(question)) == expected
        messages.append({"role": "assistant", "content": expected})
        assert conversation.messages == messages and conversation.left_out == 0


def test_old_turns_are_left_out_when_the_context_is_full(chatty):
    conversation = converse(chatty, system="S")
    for _ in range(8):
        list(conversation.ask("Quanto é 5 + 3?"))
    assert 0 < conversation.left_out < len(conversation.messages) and conversation.left_out % 2 == 0
    context = chatty.config.max_position_embeddings
    asked = [*conversation.messages, {"role": "user", "content": "E agora?"}]
    prompt, _ = fit_conversation(chatty.tokenizer, asked, "chatty", context, SAMPLING.max_new_tokens)
    assert prompt.startswith("<|system|>S<|end|><|user|>")
    assert len(encode_prompt(chatty.tokenizer, prompt)) <= context - SAMPLING.max_new_tokens


def test_a_stopped_answer_is_part_of_the_conversation(chatty):
    conversation = converse(chatty)
    answer = conversation.ask("1 + 2?")
    begun = next(answer)
    answer.close()
    assert conversation.messages[-1] == {"role": "assistant", "content": begun}


def test_what_cannot_be_answered_leaves_the_conversation_as_it_was(chatty):
    conversation = converse(chatty)
    list(conversation.ask("1 + 2?"))
    before = list(conversation.messages)
    for question, problem in ((" ", "the message is empty"), ("7 " * 200, "too long for the model's context of 128")):
        with pytest.raises(AxionError, match=problem):
            conversation.ask(question)
        assert conversation.messages == before


def test_a_model_that_was_not_taught_to_chat_reads_the_last_question_alone(tiny_release):
    plain = open_release(tiny_release)
    conversation = converse(plain)
    for question in ("1 + 2", "Quanto é 5 + 3?"):
        assert "".join(conversation.ask(question)) == written(plain, problem_prompt(question))
    with pytest.raises(ChatError, match="was not taught to chat, so it reads no system message"):
        converse(plain, system="S")


def test_generation_ends_where_the_model_ends_its_turn(tiny_release, tmp_path):
    """Whatever it writes first is made the end of a turn, by the generation config of a release that can chat."""
    from axion.tokenizer import END_OF_TURN, generation_config

    plain = open_release(shutil.copytree(tiny_release, tmp_path / "plain"))
    assert generation_config(plain.config, plain.tokenizer).eos_token_id == plain.tokenizer.eos_token_id
    plain.tokenizer.chat_template = "{{ messages[0].content }}"
    end = plain.tokenizer.convert_tokens_to_ids(END_OF_TURN)
    assert generation_config(plain.config, plain.tokenizer).eos_token_id == [plain.tokenizer.eos_token_id, end]
