"""A release that was fine-tuned on conversations answers the official client, on the server that visitors start."""

import json

import openai
import pytest

from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from axion.release import Release, open_release
from axion.tokenizer import special_id
from axion.training.finetune import Settings, finetuning_recipe
from axion.training.run import train
from tests.playground.api.openai_server import text_of
from tests.playground.generate.test_chat import say
from tests.support.servers import served

pytestmark = pytest.mark.slow

WORDS = ("sim", "oui", "yes")


def conversation(number: int) -> dict:
    """One of two turns with a system message, which says what every answer is."""
    word = WORDS[number % 3]
    turns = [("system", f"Say {word}"), ("user", f"{number}?"), ("assistant", word), ("user", "?"), ("assistant", word)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.fixture(scope="module")
def model(tiny_release, tmp_path_factory) -> Release:
    """`axion-tiny-chat`, fine-tuned until it has learned to end its answers."""
    folder = tmp_path_factory.mktemp("taught")
    lines = [json.dumps(conversation(number)) for number in range(400)]
    (folder / "talk.jsonl").write_text("\n".join(lines), encoding="utf-8")
    base = open_release(tiny_release)
    settings = Settings("axion-tiny-chat", epochs=12, batch_size=4)
    recipe = finetuning_recipe(base, [str(folder / "talk.jsonl")], settings)
    return open_release(train(recipe, folder / "axion-tiny-chat", start=base) / "final")


@pytest.fixture(scope="module")
def client(model):
    with (
        served([str(model.folder)]) as server,
        openai.OpenAI(base_url=f"{server.address}/v1", api_key="none") as client,
    ):
        yield client


CONVERSATIONS = {
    "one question": say("7?"),
    "a system message": say("7?", system="Say oui"),
    "two turns": say("7?", "oui", "?", system="Say oui"),
    "three turns": say("7?", "yes", "?", "yes", "8?"),
}


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_its_answers_end_and_are_counted(client, model, messages):
    tokenizer = model.tokenizer
    template = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    steps = list(stream(model.model, tokenizer, template.removeprefix("<bos>"), Sampling(max_new_tokens=20)))
    request = {"model": model.name, "messages": messages, "max_tokens": 20, "temperature": 0}
    answer = client.chat.completions.create(**request, extra_body={"routing": True})
    (choice,) = answer.choices
    read = [step["id"] for step in choice.routing["steps"]]
    prompt = tokenizer(template, add_special_tokens=False).input_ids
    assert read[: len(prompt)] == prompt and special_id(tokenizer, "<|end|>") not in read[len(prompt) :]
    assert (choice.message.role, choice.message.content) == ("assistant", text_of(steps))
    assert choice.message.content in WORDS and choice.finish_reason == "stop"
    assert answer.usage.prompt_tokens == len(prompt) and answer.usage.completion_tokens == len(read) - len(prompt)
    assert answer.usage.total_tokens == len(read)

    chunks = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    *parts, last = chunks
    assert "".join(part.choices[0].delta.content or "" for part in parts) == choice.message.content
    assert parts[0].choices[0].delta.role == "assistant" and parts[-1].choices[0].finish_reason == "stop"
    assert last.usage == answer.usage and last.choices == []


def test_the_system_message_is_heard(client, model):
    for word in WORDS:
        asked = {"model": model.name, "messages": say("3?", system=f"Say {word}"), "temperature": 0, "max_tokens": 9}
        assert client.chat.completions.create(**asked).choices[0].message.content == word


def test_an_answer_that_is_cut_says_so(client, model):
    asked = {"model": model.name, "messages": say("7?", system="Say oui"), "temperature": 0, "max_tokens": 1}
    answer = client.chat.completions.create(**asked)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 1
