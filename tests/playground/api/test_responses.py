"""Stops, token names and error bodies of the OpenAI-style interface, without a server."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from axion.release import open_release
from playground.api.requests import NEUTRAL, PARAMETERS, ApiError, parse_json, read_wish
from playground.api.responses import LEAST_LOGPROB, StopCut, _byte_letters, token_bytes, with_logprobs
from playground.generate.request import LIMITS

letters = st.text("ab", max_size=12)
stops = st.lists(st.text("ab", min_size=1, max_size=4), max_size=4)


def cut(pieces, stops):
    """What a client gets, and what was ready after each piece."""
    cutter, ready = StopCut(stops), []
    for piece in pieces:
        ready.append(cutter.feed(piece))
        if cutter.found:
            return ready
    return [*ready, cutter.rest()]


@given(st.lists(letters, max_size=6), stops)
def test_a_stop_is_found_wherever_the_pieces_end(pieces, stops):
    whole = "".join(pieces)
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    expected = whole[: min(ends)[1]] if ends else whole
    assert "".join(cut(pieces, stops)) == expected
    assert "".join(cut(list(whole), stops)) == expected


def test_only_what_may_become_a_stop_is_held_back():
    assert cut(["one", " t", "wo ", "thr"], [" three"]) == ["one", "", " two", "", " thr"]
    assert cut(["end", "ing"], ["x"]) == ["end", "ing", ""]


def test_token_bytes_are_the_tokenizer_s(tiny_release):
    assert set(_byte_letters()) == set(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = open_release(tiny_release).tokenizer
    text = "Quanto é 2 + 2? 🦜\n\ttoo"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert b"".join(token_bytes(tokenizer, token) for token in ids) == text.encode()
    assert token_bytes(tokenizer, tokenizer.eos_token_id) == b"<eos>"
    assert token_bytes(tokenizer, 10**6) == b""


def test_a_chance_of_nothing_is_a_number(tiny_release):
    tokenizer = open_release(tiny_release).tokenizer
    event = {"id": 20, "p": 0.0, "alt": [[20, "x", 0.5], [21, "y", 0.25]], "prompt": False}
    token = with_logprobs(event, tokenizer, 1)["token"]
    assert token["logprob"] == LEAST_LOGPROB
    assert [other["logprob"] for other in token["top_logprobs"]] == [round(math.log(0.5), 6)]


def completion(**more):
    return {"model": "m", "prompt": "x", **more}


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_a_parameter_that_asks_for_nothing_is_taken_and_any_other_value_named(name):
    for value in [*NEUTRAL[name], None]:
        read_wish("completion", completion(**{name: value}))
    for value in (2, True, "something", {"type": "json_object"}, [{"type": "function"}]):
        with pytest.raises(ApiError, match=name) as error:
            read_wish("completion", completion(**{name: value}))
        assert error.value.status == 400 and error.value.param == name


def test_the_defaults_are_openai_s():
    wish = read_wish("completion", completion(), draw_seed=lambda: 77)
    assert wish.settings == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "min_new_tokens": 0,
        "max_new_tokens": 16,
        "seed": 77,
    }
    assert wish.settings.keys() == LIMITS.keys()
    chat = read_wish("chat", {"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    assert chat.settings["max_new_tokens"] == LIMITS["max_new_tokens"].high


def test_seeds_that_nobody_gave_differ():
    assert len({read_wish("completion", completion()).settings["seed"] for _ in range(20)}) > 15


def test_null_stands_for_a_parameter_that_is_not_given():
    optional = PARAMETERS["completion"] - {"model", "prompt"}
    wish = read_wish("completion", completion(seed=5) | dict.fromkeys(optional - {"seed"}))
    assert wish == read_wish("completion", completion(seed=5))


def test_both_names_of_the_length_are_one():
    assert read_wish("chat", _chat(max_tokens=7)).settings["max_new_tokens"] == 7
    assert read_wish("completion", completion(max_completion_tokens=7)).settings["max_new_tokens"] == 7
    assert read_wish("completion", completion(max_completion_tokens=7, max_tokens=7)).settings["max_new_tokens"] == 7
    with pytest.raises(ApiError, match="two names"):
        read_wish("completion", completion(max_completion_tokens=7, max_tokens=8))
    with pytest.raises(ApiError, match=r"^max_completion_tokens must be") as error:
        read_wish("completion", completion(max_completion_tokens=10**9))
    assert error.value.param == "max_completion_tokens"


def _chat(**more):
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}


def test_errors_speak_of_the_client_s_parameters():
    with pytest.raises(ApiError, match=r"^min_tokens \(9\) must not exceed max_tokens \(3\)$") as error:
        read_wish("completion", completion(min_tokens=9, max_tokens=3))
    assert error.value.param == "min_tokens"
    assert json.dumps(error.value.body)
    assert error.value.body["error"] == {
        "message": str(error.value),
        "type": "invalid_request_error",
        "param": "min_tokens",
        "code": None,
    }


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe{}", b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}'),
        *(b'{"a": ' + b"9" * 5000 + b"}", b'{"a": "\\ud800"}', b'{"\\udfff": 1}', b"[" * 100_000),
    ],
    ids=lambda body: body[:12].decode(errors="replace"),
)
def test_what_is_no_json_object_is_refused(body):
    with pytest.raises(ApiError) as error:
        parse_json(body)
    assert error.value.status == 400 and len(str(error.value)) < 200
