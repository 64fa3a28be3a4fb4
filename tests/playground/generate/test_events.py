"""The events of a generation, and their lines of NDJSON."""

import json
from dataclasses import replace
from itertools import count, pairwise

import pytest
import torch

from axion.inference.routing import routers
from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from playground.generate import events as session
from playground.generate.catalogue import Catalogue
from playground.generate.request import Request
from playground.locales import LANGUAGES, texts

PROMPT = "# Pergunta:\nQuanto é 2 + 2?\n"


@pytest.fixture(scope="module")
def model(releases):
    return Catalogue([str(releases / "plain")]).open("plain")


@pytest.fixture(scope="module")
def endless(releases):
    return Catalogue([str(releases / "endless")]).open("endless")


def events_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_events_match_the_steps_of_the_stream(model):
    sampling = Sampling(temperature=0.8, seed=5, max_new_tokens=20)
    start, *steps, end = session.live_events(model, Request("plain", PROMPT, sampling))
    expected = stream(model.release.model, model.release.tokenizer, PROMPT, sampling)
    assert [{key: value for key, value in step.items() if key not in ("kind", "s")} for step in steps] == [
        step.to_record() for step in expected
    ]
    assert (start["kind"], start["layers"], start["experts"], start["experts_per_token"]) == ("start", 2, 4, 2)
    assert start["sampling"]["seed"] == 5 and not start["recorded"]
    assert end["kind"] == "end"


def test_the_last_event_has_the_finish_reason(endless, model):
    def reason(chosen, **settings):
        return list(session.live_events(chosen, Request("plain", PROMPT, Sampling(**settings))))[-1]["reason"]

    assert reason(endless, max_new_tokens=3) == "length"
    assert reason(model, max_new_tokens=500, temperature=0, repetition_penalty=1.5) in ("eos", "context")
    late = session.live_events(endless, Request("plain", PROMPT, Sampling(max_new_tokens=500)), max_seconds=0)
    assert list(late)[-1] == {"kind": "end", "reason": "time", "limit": 0}


def test_the_start_describes_the_model(model):
    start = next(session.live_events(model, Request("plain", PROMPT, Sampling())))
    config, tokenizer = model.release.config, model.release.tokenizer
    assert start["context"] == config.max_position_embeddings
    assert start["ends"] == [tokenizer.eos_token_id]
    assert (len(start["bias"]), len(start["bias"][0])) == (start["layers"], start["experts"])
    assert start["dropped"] == 0 and start["forced"] == []


def test_the_bias_matches_the_router(model, monkeypatch):
    router = list(routers(model.release.model).values())[1]
    monkeypatch.setitem(router._buffers, "e_score_correction_bias", torch.tensor([0.125, -0.25, 0.0, 0.00004]))
    start = next(session.live_events(model, Request("plain", PROMPT, Sampling())))
    assert start["bias"][1] == [0.125, -0.25, 0.0, 0.0]


def test_a_prompt_longer_than_the_context_is_truncated_at_the_start(model):
    prompt, context = "0123456789" * 30, model.facts.context
    start, *steps, end = session.live_events(model, Request("plain", prompt, Sampling(max_new_tokens=20)))
    ids = model.release.tokenizer(prompt).input_ids
    read = [step["id"] for step in steps if step["prompt"]]
    assert start["dropped"] == len(ids) - len(read) > 0
    assert read == ids[:1] + ids[1 - len(read) :]
    assert len(read) == context - 20, "there is room for the requested number of tokens"
    assert end["kind"] == "end"


def test_a_long_answer_takes_no_more_than_half_of_the_context(model):
    prompt, context = "0123456789" * 30, model.facts.context
    _, *steps, _ = session.live_events(model, Request("plain", prompt, Sampling(max_new_tokens=500)))
    assert sum(step["prompt"] for step in steps) == context - context // 2


def test_a_prompt_that_just_fits_is_not_cut(model):
    tokenizer, context = model.release.tokenizer, model.facts.context
    prompt = next(text for size in range(900) if len(tokenizer(text := "7" * size).input_ids) == context - 1)
    start, *steps, end = session.live_events(model, Request("plain", prompt, Sampling(max_new_tokens=20)))
    assert start["dropped"] == 0 and sum(step["prompt"] for step in steps) == context - 1
    assert end["reason"] in ("context", "eos")


def test_a_prompt_that_does_not_fit_and_must_not_be_cut_is_an_error(model):
    [event] = session.live_events(model, Request("plain", "1" * 500, Sampling()), cut=False)
    assert event["kind"] == "error" and "context" in event["message"]


def test_a_branch_is_the_stream_with_forced_tokens(model):
    sampling = Sampling(temperature=0.9, seed=11, max_new_tokens=12)
    release = model.release
    drawn = [step.token_id for step in stream(release.model, release.tokenizer, PROMPT, sampling) if not step.is_prompt]
    forced = (*drawn[:3], (drawn[3] + 1) % 256 + 11)
    start, *steps, _ = session.live_events(model, Request("plain", PROMPT, sampling, forced))
    expected = stream(release.model, release.tokenizer, PROMPT, sampling, forced=forced)
    assert start["forced"] == list(forced)
    assert [(step["id"], step["e"]) for step in steps] == [(step.token_id, step.routing.experts) for step in expected]
    assert [step["id"] for step in steps if not step["prompt"]][:4] == list(forced)


def test_a_forced_end_ends_the_text(model):
    end_id = model.release.tokenizer.eos_token_id
    _, *steps, end = session.live_events(model, Request("plain", PROMPT, Sampling(max_new_tokens=9), (40, end_id)))
    assert [step["id"] for step in steps if not step["prompt"]] == [40]
    assert end["reason"] == "eos"


def test_a_request_that_must_fail_never_starts(model):
    [event] = session.live_events(model, Request("plain", PROMPT, Sampling(), (10**6,)))
    assert event["kind"] == "error" and "no token 1000000" in event["message"]


def test_an_error_names_its_cause():
    assert events_of(session.error_text("wrong")) == [{"kind": "error", "message": "wrong"}]
    assert events_of(session.error_text("wrong", of="link")) == [{"kind": "error", "message": "wrong", "of": "link"}]


def test_a_failure_is_told_without_its_details(model, caplog):
    def fail(*_, **__):
        raise RuntimeError("secret")

    failing, request = replace(model, stream=fail), Request("plain", PROMPT, Sampling())
    messages = [list(session.live_events(failing, request, language=language))[-1]["message"] for language in LANGUAGES]
    assert messages == [texts("errors", language)["failed"] for language in LANGUAGES]
    assert "secret" in caplog.text


def test_the_text_only_grows_and_ends_complete():
    events = [{"kind": "step", "i": i} for i in range(100)]
    ticks = iter(range(10**6))
    texts = list(session.growing_text(iter(events), clock=lambda: next(ticks) * 0.004))
    assert 1 < len(texts) < len(events)
    assert all(later.startswith(earlier) and later.endswith("\n") for earlier, later in pairwise(texts))
    assert events_of(texts[-1]) == events


def test_closing_the_text_closes_the_models_stream(endless):
    closed = []

    def watched(*arguments, **settings):
        try:
            yield from stream(*arguments, **settings)
        finally:
            closed.append(True)

    events = session.live_events(
        replace(endless, stream=watched), Request("plain", PROMPT, Sampling(max_new_tokens=500))
    )
    texts = session.growing_text(events, clock=count(step=0.01).__next__)
    for _ in range(3):
        next(texts)
    texts.close()
    assert closed == [True]


def test_a_recorded_example_keeps_its_steps_and_says_so(model):
    start, *steps, end = session.recorded_events(model)
    assert start["recorded"] and start["sampling"] == model.release.trace["sampling"]
    assert steps == [{"kind": "step", **record} for record in model.release.trace["steps"]]
    assert end["reason"] == "recorded"


def test_a_model_without_an_example_has_no_events(endless):
    assert list(session.recorded_events(endless)) == []


def test_lines_contain_no_markup_and_preserve_the_text():
    event = {"t": "</script><img src=x onerror=alert(1)>"}
    assert "<" not in session.to_line(event)
    assert json.loads(session.to_line(event)) == event


def test_lines_refuse_values_that_json_cannot_represent():
    with pytest.raises(ValueError, match="JSON"):
        session.to_line({"p": float("nan")})
    assert session.to_line({"t": "a\nb\u2028"}).count("\n") == 1
