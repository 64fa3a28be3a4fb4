"""JSON mode: the generated text is one JSON object."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.api.json_mode import START, read

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
pieces = st.sampled_from([*'{}[]:,"\\-+.0123eEtrufalsn x', "true", "null", '"a"', "\\u00e9", "1.5e-3", "\n"])


@given(st.dictionaries(st.text(max_size=5), values, max_size=4), st.booleans())
def test_every_object_without_white_space_is_allowed(value, ascii_only):
    assert read(START, json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)) == ()


@given(st.lists(pieces, max_size=12).map(lambda parts: "{" + "".join(parts)))
def test_text_is_a_complete_object_a_prefix_of_one_or_refused(text):
    try:
        parsed = isinstance(json.loads(text), dict)
    except ValueError:
        parsed = False
    stack = read(START, text)
    assert (stack == ()) == (parsed and not spaced(text))
    for end in range(len(text) if stack is not None else 0):
        assert read(START, text[:end]), "a prefix of an object is neither refused nor complete"


def spaced(text: str) -> bool:
    """Whether there is white space outside of strings, which the grammar does not allow."""
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    return any(char in outside for char in " \n")


@pytest.mark.parametrize("text", ["[", "1", '"', " {", "{ ", "{1", '{"a",', '{"a":01', '{"a":1.}', '{"a":tru}', "{}x"])
def test_json_other_than_an_object_is_refused(text):
    assert read(START, text) is None


def test_the_nesting_has_a_limit():
    assert read(START, '{"a":' * 20) and read(START, '{"a":' + "[" * 20)
    assert read(START, '{"a":' * 40) is None and read(START, '{"a":' + "[" * 80) is None


@pytest.fixture
def json_request(catalogue):
    """A request in JSON mode, with seed 1."""
    tokenizer = catalogue.open("chatty").release.tokenizer
    likely = {str(tokenizer.convert_tokens_to_ids(char)): 6 for char in '"}'}  # otherwise random weights rarely end
    json_request = {"model": "chatty", "messages": [{"role": "user", "content": "hi"}], "seed": 1, "max_tokens": 60}
    return json_request | {"response_format": {"type": "json_object"}, "logit_bias": likely, "temperature": 0.8}


def assert_objects(choices) -> list[str]:
    """Every text is an object or the beginning of one, and some are complete; returns the texts."""
    for choice in choices:
        if choice.ended_by == "eos":
            assert isinstance(json.loads(choice.message.content), dict)
        else:
            assert read(START, choice.message.content)
    assert sum(choice.ended_by == "eos" for choice in choices) > 2
    return [choice.message.content for choice in choices]


def test_the_model_writes_an_object(client, json_request):
    texts = assert_objects(client.chat.completions.create(**json_request, n=12).choices)
    assert client.chat.completions.create(**json_request).choices[0].message.content == texts[0]


def test_penalties_leave_an_object(client, json_request):
    plain = client.chat.completions.create(**json_request, n=12).choices
    json_request |= {
        "presence_penalty": 2,
        "frequency_penalty": 1,
        "extra_body": {"repetition_penalty": 1.3, "top_k": 5},
    }
    texts = assert_objects(client.chat.completions.create(**json_request, n=12).choices)
    assert texts != [choice.message.content for choice in plain]


def test_a_streamed_object_is_the_whole_one(client, json_request):
    whole = client.chat.completions.create(**json_request, n=4).choices
    streamed = dict.fromkeys(range(4), "")
    for event in client.chat.completions.create(**json_request, n=4, stream=True):
        for choice in event.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert list(streamed.values()) == [choice.message.content for choice in whole]


def test_a_stop_string_ends_an_unfinished_object(client, json_request):
    choices = client.chat.completions.create(**json_request, n=8, stop=[":"]).choices
    stopped = [choice for choice in choices if choice.ended_by == "stop"]
    assert stopped and all(choice.finish_reason == "stop" for choice in stopped)
    for choice in stopped:
        assert ":" not in choice.message.content and read(START, choice.message.content + ":")
