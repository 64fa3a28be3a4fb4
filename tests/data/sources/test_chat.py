"""Conversations: the forms of their records, what is refused, and the chat template of the same form."""

import json

import pytest
from transformers import PreTrainedTokenizerFast

from axion.data.encoding import DocumentEncoder
from axion.data.sources.chat import CHAT_TEMPLATE, Chat
from axion.data.split import Split
from axion.errors import AxionError
from axion.tokenizer import load_tokenizer

ASKED, ANSWERED = {"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Olá!"}
BRIEF = {"role": "system", "content": "Be brief."}


def documents(tmp_path, *records):
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return list(Chat(files=[str(path)]).documents(Split(0.1, 0, 0.0), 1))


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [ASKED, ANSWERED]},
        {"prompt": "Hi?", "completion": "Olá!"},
        {"prompt": [ASKED], "completion": [ANSWERED]},
        {"instruction": "Hi?", "output": "Olá!"},
        {"instruction": "Hi?", "input": "", "output": "Olá!", "lang": "pt"},
    ],
)
def test_the_forms_of_a_record(tmp_path, record):
    (document,) = documents(tmp_path, record)
    assert document.text == "<|user|>Hi?<|end|><|assistant|>Olá!<|end|>"
    assert [span.text for span in document.spans if span.has_loss] == ["Olá!", "<|end|>"]


def test_an_input_follows_its_instruction(tmp_path):
    (document,) = documents(tmp_path, {"instruction": "Translate.", "input": "Hi", "output": "Oi"})
    assert document.text.startswith("<|user|>Translate.\n\nHi<|end|>")


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"question": "Hi", "answer": "Oi"}, "the fields are question, answer; a conversation has messages, or prompt"),
        ({"prompt": "Hi", "completion": ""}, "field 'completion' is ''"),
        ({"instruction": "Hi", "output": None}, "field 'output' is None"),
        ({"instruction": "Hi", "input": 7, "output": "Oi"}, "field 'input' is 7"),
        ({"messages": [ASKED, {"role": "assistant", "content": " "}]}, "message 2, the assistant's, is empty"),
        ({"messages": [ASKED, BRIEF, ANSWERED]}, "message 2 is the system's; it must come first"),
        ({"messages": [BRIEF, ANSWERED]}, "the assistant speaks first"),
        ({"prompt": [ASKED], "completion": [{"role": "bot", "content": "Hi"}]}, "with the roles system, user"),
    ],
)
def test_what_is_refused_names_the_line(tmp_path, record, problem):
    with pytest.raises(AxionError, match=rf"chats\.jsonl, line 2: .*{problem}"):
        documents(tmp_path, {"messages": [ASKED, ANSWERED]}, record)


def test_the_chat_template_writes_what_was_trained_on(tiny_release, tmp_path):
    """The same tokens, the same ones with loss: TRL trains further on them with `assistant_only_loss`."""
    messages = [
        BRIEF,
        ASKED,
        ANSWERED,
        {"role": "user", "content": " 1 + 1\n"},
        {"role": "assistant", "content": " 2\n"},
    ]
    tokenizer: PreTrainedTokenizerFast = load_tokenizer(tiny_release)
    tokenizer.chat_template = CHAT_TEMPLATE
    with DocumentEncoder(tokenizer) as encoder:
        pairs = ((each, True) for each in documents(tmp_path, {"messages": messages}))
        ((_, trained),) = encoder.encode(pairs)
    templated = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    assert [*templated["input_ids"], tokenizer.eos_token_id] == trained.ids.tolist()
    assert [*map(bool, templated["assistant_masks"]), False] == trained.loss.tolist()
    asked = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert asked == "<bos><|system|>Be brief.<|end|><|user|>Hi?<|end|><|assistant|>"
    with pytest.raises(Exception, match="the roles are system, user and assistant"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "7"}], tokenize=False)
