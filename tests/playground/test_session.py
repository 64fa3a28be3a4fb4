"""From a generation to the lines that the view reads."""

import json
from itertools import pairwise

import pytest

from axion.generation import Sampling, stream
from playground import session
from playground.models import Catalogue
from playground.requests import Request

PROMPT = "# Pergunta:\nQuanto é 2 + 2?\n"


@pytest.fixture(scope="module")
def model(releases):
    return Catalogue([str(releases / "plain")]).open("plain")


@pytest.fixture(scope="module")
def endless(releases):
    return Catalogue([str(releases / "endless")]).open("endless")


def events_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_events_are_the_stream_s_own_steps(model):
    sampling = Sampling(temperature=0.8, seed=5, max_new_tokens=20)
    start, *steps, end = session.live_events(model, Request(PROMPT, sampling))
    expected = stream(model.release.model, model.release.tokenizer, PROMPT, sampling)
    assert [{key: value for key, value in step.items() if key not in ("kind", "s")} for step in steps] == [
        step.to_record() for step in expected
    ]
    assert (start["kind"], start["layers"], start["experts"], start["experts_per_token"]) == ("start", 2, 4, 2)
    assert start["sampling"]["seed"] == 5 and not start["recorded"]
    assert end["kind"] == "end"


def test_the_end_says_why(endless, model):
    def reason(chosen, **settings):
        return list(session.live_events(chosen, Request(PROMPT, Sampling(**settings))))[-1]["reason"]

    assert reason(endless, max_new_tokens=3) == "length"
    assert reason(model, max_new_tokens=500, temperature=0, repetition_penalty=1.5) in ("eos", "context")
    late = session.live_events(endless, Request(PROMPT, Sampling(max_new_tokens=500)), max_seconds=0)
    assert list(late)[-1] == {"kind": "end", "reason": "time", "limit": 0}


def test_a_prompt_that_does_not_fit_is_an_error_event(model):
    *_, last = session.live_events(model, Request("1" * 500, Sampling()))
    assert last["kind"] == "error" and "context" in last["message"]


def test_a_failure_is_told_without_its_details(model, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(session, "stream", fail)
    *_, last = session.live_events(model, Request(PROMPT, Sampling()))
    assert last["kind"] == "error" and "secret" not in last["message"]
    assert "secret" in caplog.text


def test_the_text_only_grows_and_ends_complete():
    events = [{"kind": "step", "i": i} for i in range(100)]
    ticks = iter(range(10**6))
    texts = list(session.growing_text(iter(events), clock=lambda: next(ticks) * 0.004))
    assert 1 < len(texts) < len(events)
    assert all(later.startswith(earlier) and later.endswith("\n") for earlier, later in pairwise(texts))
    assert events_of(texts[-1]) == events


def test_closing_the_text_closes_the_model_s_stream(endless, monkeypatch):
    closed = []

    def watched(*arguments):
        try:
            yield from stream(*arguments)
        finally:
            closed.append(True)

    monkeypatch.setattr(session, "stream", watched)
    texts = session.growing_text(session.live_events(endless, Request(PROMPT, Sampling(max_new_tokens=500))))
    for _ in range(3):
        next(texts)
    texts.close()
    assert closed == [True]


def test_a_recorded_example_keeps_its_steps_and_says_so(model):
    start, *steps, end = session.recorded_events(model)
    assert start["recorded"] and start["sampling"] == model.release.trace["sampling"]
    assert steps == [{"kind": "step", **record} for record in model.release.trace["steps"]]
    assert end["reason"] == "recorded"


def test_no_example_no_events(endless):
    assert list(session.recorded_events(endless)) == []


def test_lines_hold_no_markup_and_keep_the_text():
    event = {"t": "</script><img src=x onerror=alert(1)>"}
    assert "<" not in session.to_line(event)
    assert json.loads(session.to_line(event)) == event


def test_lines_refuse_what_json_cannot_say():
    with pytest.raises(ValueError, match="JSON"):
        session.to_line({"p": float("nan")})
    assert session.to_line({"t": "a\nb\u2028"}).count("\n") == 1
