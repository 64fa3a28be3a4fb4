"""Requests and responses of the OpenAI-compatible API, without a server."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from axion.release import open_release
from playground.api.requests import NEUTRAL, PARAMETERS, ApiError, parse_json, read_body
from playground.api.responses import LEAST_LOGPROB, StopCut, _byte_letters, token_bytes, with_logprobs
from playground.generate.request import LIMITS, settings_of

letters = st.text("ab", max_size=12)
stops = st.lists(st.text("ab", min_size=1, max_size=4), max_size=4)


def cut(pieces, stops):
    """The text that a client gets, and what was ready after each piece."""
    cutter, ready = StopCut(stops), []
    for piece in pieces:
        ready.append(cutter.feed(piece))
        if cutter.found:
            return ready
    return [*ready, cutter.rest()]


@given(st.lists(letters, max_size=6), stops)
def test_a_stop_string_is_found_across_pieces(pieces, stops):
    whole = "".join(pieces)
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    expected = whole[: min(ends)[1]] if ends else whole
    assert "".join(cut(pieces, stops)) == expected
    assert "".join(cut(list(whole), stops)) == expected


def test_only_a_possible_stop_string_is_held_back():
    assert cut(["one", " t", "wo ", "thr"], [" three"]) == ["one", "", " two", "", " thr"]
    assert cut(["end", "ing"], ["x"]) == ["end", "ing", ""]


def test_token_bytes_match_the_tokenizer(tiny_release):
    assert set(_byte_letters()) == set(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = open_release(tiny_release).tokenizer
    text = "Quanto é 2 + 2? 🦜\n\ttoo"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert b"".join(token_bytes(tokenizer, token) for token in ids) == text.encode()
    assert token_bytes(tokenizer, tokenizer.eos_token_id) == b"<eos>"
    assert token_bytes(tokenizer, 10**6) == b""


def test_a_probability_of_zero_has_a_finite_logarithm(tiny_release):
    tokenizer = open_release(tiny_release).tokenizer
    event = {"id": 20, "p": 0.0, "alt": [[20, "x", 0.5], [21, "y", 0.25]], "prompt": False}
    token = with_logprobs(event, tokenizer, 1)["token"]
    assert token["logprob"] == LEAST_LOGPROB
    assert [other["logprob"] for other in token["top_logprobs"]] == [round(math.log(0.5), 6)]


def completion(**more):
    return {"model": "m", "prompt": "x", **more}


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_an_unsupported_parameter_is_accepted_only_with_a_neutral_value(name):
    for value in [*NEUTRAL[name], None]:
        read_body("completion", completion(**{name: value}))
    for value in (2, True, "something", {"type": "json_object"}, [{"type": "function"}]):
        with pytest.raises(ApiError, match=name) as error:
            read_body("completion", completion(**{name: value}))
        assert error.value.status == 400 and error.value.param == name


def test_the_defaults_match_openais():
    request = read_body("completion", completion(), draw_seed=lambda: 77)
    assert settings_of(request.sampling) == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "min_new_tokens": 0,
        "num_loops": 0,
        "max_new_tokens": 16,
        "seed": 77,
    }
    chat = read_body("chat", {"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    assert chat.sampling.max_new_tokens == LIMITS["max_new_tokens"].high


def test_random_seeds_differ():
    assert len({read_body("completion", completion()).sampling.seed for _ in range(20)}) > 15


def test_null_is_the_same_as_a_missing_parameter():
    optional = PARAMETERS["completion"] - {"model", "prompt"}
    request = read_body("completion", completion(seed=5) | dict.fromkeys(optional - {"seed"}))
    assert request == read_body("completion", completion(seed=5))


def test_both_names_of_the_length_are_equivalent():
    assert read_body("chat", _chat(max_tokens=7)).sampling.max_new_tokens == 7
    assert read_body("completion", completion(max_completion_tokens=7)).sampling.max_new_tokens == 7
    assert read_body("completion", completion(max_completion_tokens=7, max_tokens=7)).sampling.max_new_tokens == 7
    with pytest.raises(ApiError, match="mean the same"):
        read_body("completion", completion(max_completion_tokens=7, max_tokens=8))
    with pytest.raises(ApiError, match=r"^max_completion_tokens must be") as error:
        read_body("completion", completion(max_completion_tokens=-1))
    assert error.value.param == "max_completion_tokens"


def test_the_length_is_capped_at_the_limit_and_may_be_zero():
    highest = LIMITS["max_new_tokens"].high
    for kind, body in (("completion", completion()), ("chat", _chat())):
        assert read_body(kind, body | {"max_completion_tokens": 10**9}).sampling.max_new_tokens == highest
    assert not read_body("completion", completion(max_tokens=0)).generates
    assert read_body("completion", completion(max_tokens=1)).generates
    with pytest.raises(ApiError, match="max_tokens"):
        read_body("chat", _chat(max_tokens=0))


def test_messages_may_have_all_of_openais_forms():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    asked = [{"role": "developer", "content": "Contas."}, {"role": "user", "content": parts, "name": "me"}]
    expected = [{"role": "system", "content": "Contas."}, {"role": "user", "content": "one\ntwo"}]
    assert read_body("chat", _chat(messages=asked)).messages == expected
    for wrong in ([{"type": "image_url", "image_url": {"url": "x"}}], [{"type": "text"}], ["text"], []):
        with pytest.raises(ApiError) as error:
            read_body("chat", _chat(messages=[{"role": "user", "content": wrong}]))
        assert error.value.param == "messages"


def _chat(**more):
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}


def test_errors_name_the_clients_parameters():
    with pytest.raises(ApiError, match=r"^min_tokens \(9\) must not exceed max_tokens \(3\)$") as error:
        read_body("completion", completion(min_tokens=9, max_tokens=3))
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
def test_anything_but_a_json_object_is_refused(body):
    with pytest.raises(ApiError) as error:
        parse_json(body)
    assert error.value.status == 400 and len(str(error.value)) < 200
