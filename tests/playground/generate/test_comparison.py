"""Two generations side by side: their events, without a page."""

import pytest

from axion.errors import AxionError
from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from playground.generate.catalogue import Catalogue
from playground.generate.comparison import compared_events
from playground.generate.refusal import Refusal
from playground.generate.request import Request

PROMPT = "# Pergunta:\nQuanto é 2 + 2?\n"
GREEDY = Sampling(max_new_tokens=12)
DRAWN = Sampling(temperature=0.9, seed=4, max_new_tokens=12)


def open_catalogue(releases, stream=stream):
    return Catalogue([str(releases / name) for name in ("plain", "endless")], stream)


@pytest.fixture(scope="module")
def catalogue(releases):
    return open_catalogue(releases)


def request(sampling, name="plain"):
    return Request(name, PROMPT, sampling)


def test_each_side_has_its_own_stream_and_they_alternate(catalogue):
    events = list(compared_events(catalogue, {"a": request(GREEDY), "b": request(DRAWN)}))
    for side, sampling in (("a", GREEDY), ("b", DRAWN)):
        model = catalogue.open("plain").release
        start, *steps, end = [event for event in events if event["side"] == side]
        expected = [step.to_record() for step in stream(model.model, model.tokenizer, PROMPT, sampling)]
        assert [{key: step[key] for key in record} for step, record in zip(steps, expected, strict=True)] == expected
        assert (start["kind"], end["kind"]) == ("start", "end")
    both_run = events[: 2 * min(sum(event["side"] == side for event in events) for side in "ab")]
    assert {event["side"] for event in both_run[::2]} == {"a"} and {event["side"] for event in both_run[1::2]} == {"b"}


def test_a_failing_side_reports_it_in_the_language_of_the_page(catalogue):
    requests = {"a": Refusal("no_prompt"), "b": AxionError("broken")}
    events = list(compared_events(catalogue, requests, language="pt"))
    assert [event["message"] for event in events] == [Refusal("no_prompt").tell("pt"), "broken"]


def test_seconds_count_only_the_work_of_their_own_side(releases, monkeypatch):
    now = 0.0

    def slow_stream(*arguments, **named):
        nonlocal now
        for step in stream(*arguments, **named):
            now += 1.0 if arguments[3].temperature else 0.25
            yield step

    monkeypatch.setattr("playground.generate.comparison.time.perf_counter", lambda: now)
    sides = (("a", GREEDY), ("b", DRAWN))
    events = list(
        compared_events(open_catalogue(releases, slow_stream), {side: request(chosen) for side, chosen in sides})
    )
    for side, seconds in (("a", 0.25), ("b", 1.0)):
        own = [event["s"] for event in events if event["kind"] == "step" and event["side"] == side]
        assert own == [seconds * number for number in range(1, len(own) + 1)]


def test_a_side_that_cannot_run_reports_it_and_the_other_continues(catalogue):
    events = list(compared_events(catalogue, {"a": AxionError("it is broken"), "b": request(GREEDY)}))
    assert [event for event in events if event["side"] == "a"] == [
        {"side": "a", "kind": "error", "message": "it is broken"}
    ]
    assert events[-1]["side"] == "b" and events[-1]["kind"] == "end"


def test_closing_closes_both_streams(releases):
    closed = []

    def watched(*arguments, **named):
        try:
            yield from stream(*arguments, **named)
        finally:
            closed.append(arguments[3])

    endless = Sampling(max_new_tokens=500)
    events = compared_events(open_catalogue(releases, watched), {side: request(endless, "endless") for side in "ab"})
    for _ in range(9):
        next(events)
    events.close()
    assert closed == [endless, endless]


def test_the_time_limit_applies_to_both_sides(catalogue):
    endless = Sampling(max_new_tokens=500)
    requests = {side: request(endless, "endless") for side in "ab"}
    ends = [event for event in compared_events(catalogue, requests, max_seconds=0) if event["kind"] == "end"]
    assert [(event["side"], event["reason"]) for event in ends] == [("a", "time"), ("b", "time")]
