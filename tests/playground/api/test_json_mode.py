"""JSON mode: what it draws is one JSON object."""

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
def test_what_is_complete_is_an_object_and_the_rest_is_refused_or_unfinished(text):
    try:
        parsed = isinstance(json.loads(text), dict)
    except ValueError:
        parsed = False
    stack = read(START, text)
    assert (stack == ()) == (parsed and not spaced(text))
    for end in range(len(text) if stack is not None else 0):
        assert read(START, text[:end]), "a beginning of an object is neither refused nor complete"


def spaced(text: str) -> bool:
    """Whether there is white space outside of strings, which the grammar does not allow."""
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    return any(char in outside for char in " \n")


@pytest.mark.parametrize("text", ["[", "1", '"', " {", "{ ", "{1", '{"a",', '{"a":01', '{"a":1.}', '{"a":tru}', "{}x"])
def test_what_is_no_object_is_refused(text):
    assert read(START, text) is None


def test_the_nesting_has_a_limit():
    assert read(START, '{"a":' * 20) and read(START, '{"a":' + "[" * 20)
    assert read(START, '{"a":' * 40) is None and read(START, '{"a":' + "[" * 80) is None


def test_the_model_writes_an_object(client, catalogue):
    tokenizer = catalogue.open("chatty").release.tokenizer
    likely = {str(tokenizer.convert_tokens_to_ids(char)): 6 for char in '"}'}  # otherwise random weights rarely end
    wish = {"model": "chatty", "messages": [{"role": "user", "content": "hi"}], "seed": 1, "max_tokens": 60}
    wish |= {"response_format": {"type": "json_object"}, "logit_bias": likely, "temperature": 0.8}
    answer = client.chat.completions.create(**wish, n=12)
    texts = [choice.message.content for choice in answer.choices]
    complete = [choice.ended_by == "eos" for choice in answer.choices]
    assert sum(complete) > 2
    for text, whole in zip(texts, complete, strict=True):
        if whole:
            assert isinstance(json.loads(text), dict)
        else:
            assert read(START, text)
    assert client.chat.completions.create(**wish).choices[0].message.content == texts[0]
