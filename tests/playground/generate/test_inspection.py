"""What a view is told of one token."""

import numpy as np
import pytest

from axion.errors import AxionError
from axion.inference.inspection import inspect
from axion.inference.variants import with_tampering
from axion.tampering import read_tampering
from playground.generate import inspection
from playground.generate.inspection import NAMED, inspect_token
from tests.playground.conftest import example


@pytest.fixture(scope="module")
def asked(catalogue):
    ids = [event["id"] for event in example(catalogue) if event["kind"] == "step"]
    return {"model": "plain", "ids": ids, "at": len(ids) - 2, "num_loops": 0}


def test_a_token_is_told_with_the_passes_of_the_model(catalogue, asked):
    told = inspect_token(catalogue, asked)
    found = inspect(catalogue.open("plain").release.model, asked["ids"], asked["at"])
    assert told["passes"] == [[1, 1], [2, 1]]
    np.testing.assert_allclose(told["attention"], found.attention_PHT, atol=1e-5)
    np.testing.assert_allclose(told["scores"], found.affinities_LE, atol=1e-5)
    assert inspect_token(catalogue, asked | {"at": 0})["before"] is None


def test_named_tokens_and_groups_are_the_whole_distribution(catalogue, asked):
    told = inspect_token(catalogue, asked)
    found = inspect(catalogue.open("plain").release.model, asked["ids"], asked["at"])
    for name, logits_V in (("before", found.logits_before_V), ("after", found.logits_after_V)):
        assert logits_V is not None
        top, rest = told[name]["top"], told[name]["rest"]
        assert len(top) == NAMED and [entry[2] for entry in top] == sorted((entry[2] for entry in top), reverse=True)
        assert len(top) + sum(count for _, count, _ in rest) == len(logits_V)
        whole = sum(np.exp(entry[2]) for entry in top) + sum(count * np.exp(logit) for logit, count, _ in rest)
        assert np.log(whole) == pytest.approx(np.logaddexp.reduce(logits_V.astype(float)), abs=1e-3)
    read = set(asked["ids"][: asked["at"] + 1])
    seen = sum(entry[3] for entry in told["after"]["top"])
    assert seen + sum(count for _, count, in_text in told["after"]["rest"] if in_text) == len(read)


def test_a_tampered_token_is_that_of_the_tampered_model(catalogue, asked):
    tampering = {"mute": "L2.E1"}
    told = inspect_token(catalogue, asked | {"tampering": tampering})
    tampered = with_tampering(catalogue.open("plain").release.model, read_tampering(tampering))
    found = inspect(tampered, asked["ids"], asked["at"])
    top = told["after"]["top"]
    assert [logit for _, _, logit, _ in top] == pytest.approx(
        sorted(found.logits_after_V, reverse=True)[:NAMED], abs=1e-4
    )
    assert top != inspect_token(catalogue, asked)["after"]["top"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": "1"},
        {"ids": [1, -1]},
        {"ids": [True]},
        {"at": None},
        {"at": 10_000},
        {"ids": [1] * 5000, "at": 4000},
        {"ids": [10**9], "at": 0},
        {"num_loops": 2},
        {"num_loops": 1.5},
        {"tampering": {"mute": "L9.E9"}},
        {"model": "absent"},
    ],
    ids=str,
)
def test_a_wrong_request_is_refused(catalogue, asked, wrong):
    with pytest.raises(AxionError):
        inspect_token(catalogue, asked | wrong)
    with pytest.raises(AxionError):
        inspect_token(catalogue, list(asked))


def test_too_many_at_once_are_refused(catalogue, asked, monkeypatch):
    monkeypatch.setattr(inspection, "PATIENCE_SECONDS", 0.01)
    for _ in range(inspection.AT_ONCE):
        inspection._turns.acquire()
    try:
        with pytest.raises(AxionError, match="too many"):
            inspect_token(catalogue, asked)
    finally:
        inspection._turns.release(inspection.AT_ONCE)
    assert inspect_token(catalogue, asked)["attention"]
