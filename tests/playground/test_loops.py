"""Requests choose how often a looped model runs its shared layers: on the page, in links and in the API."""

import json
import shutil

import pytest
import torch

from axion.inference.routing import expert_favourites, expert_load
from axion.inference.sampling import Sampling
from axion.inference.stream import make_trace
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from playground.api.generation import generate
from playground.api.requests import ApiError, read_body
from playground.api.responses import Response
from playground.content.experts import describe_experts
from playground.content.markup import render
from playground.generate.catalogue import Catalogue
from playground.generate.chat import answer_events
from playground.generate.events import live_events
from playground.generate.links import read_link
from playground.generate.refusal import Refusal
from playground.generate.request import DEFAULTS, read_request
from playground.locales import texts
from tests.conftest import TINY


@pytest.fixture(scope="module")
def looped(tiny_release, tmp_path_factory) -> Catalogue:
    """`plain` beside `looped`, whose two middle layers of four have experts and run twice."""
    root = tmp_path_factory.mktemp("looped")
    for name in ("plain", "looped"):
        shutil.copytree(tiny_release, root / name)
    torch.manual_seed(2)
    shapes = {"num_hidden_layers": 4, "num_shared_layers": 2, "num_loops": 2}
    AxionForCausalLM(AxionConfig(**TINY | shapes)).save_pretrained(root / "looped")
    return Catalogue([str(root / "looped"), str(root / "plain")])


def test_a_request_chooses_the_loops_and_its_events_name_them(looped):
    rows = {
        0: [[1, 1], [2, 1], [3, 1], [2, 2], [3, 2], [4, 1]],
        1: [[1, 1], [2, 1], [3, 1], [4, 1]],
        3: [[1, 1], [2, 1], [3, 1], [2, 2], [3, 2], [2, 3], [3, 3], [4, 1]],
    }
    for loops, expected in rows.items():
        asked = {"model": "looped", "prompt": "2 + 2", "sampling": {"num_loops": loops, "max_new_tokens": 2}}
        request = read_request(looped, asked)
        start, *steps, _ = live_events(looped.open("looped"), request)
        assert start["rows"] == expected
        assert start["layers"] == len(start["bias"]) == len(steps[-1]["e"]) == len(expected)
    link = {"model": "looped", "prompt": "2 + 2", "num_loops": "3"}
    assert read_link(looped, link).sampling.num_loops == 3


def test_the_experts_of_every_loop_are_described(looped, tmp_path):
    release = looped.open("looped").release
    folder = shutil.copytree(release.folder, tmp_path / "measured")
    documents = [release.tokenizer.encode(f"{number} + {number}") for number in range(20)]
    load_LE = expert_load(release.model, documents).tolist()
    results = {"expert_load": {"together": {"layers": load_LE}}}
    (folder / "release.json").write_text(json.dumps({"results": results, "family": "mini-axion1"}))
    favourites = expert_favourites(release.model, release.tokenizer, documents, min_count=1)
    trace = make_trace("measured", release.model, release.tokenizer, "2 + 2", Sampling(max_new_tokens=1))
    (folder / "trace.json").write_text(json.dumps(trace | {"favourites": favourites}))
    described = describe_experts(Catalogue([str(folder)]).open("measured"))
    assert described["rows"] == [[1, 1], [2, 1], [3, 1], [2, 2], [3, 2], [4, 1]]
    assert described["load"]["together"] == load_LE
    assert [len(cards) for cards in described["cards"]] == [4] * 6
    shares = {(entry["layer"], entry["loop"], entry["expert"]): entry["share"] for entry in favourites}
    assert described["cards"][3][1]["share"] == shares[2, 2, 2] and described["cards"][1][1]["share"] == shares[2, 1, 2]


def test_loops_of_a_model_that_has_none_are_refused(looped):
    asked = {"model": "plain", "prompt": "2 + 2", "sampling": {"num_loops": 2}}
    with pytest.raises(Refusal, match="num_loops must be 0 or 1, not 2: plain has no shared layers to loop"):
        read_request(looped, asked)
    assert read_request(looped, asked | {"sampling": {"num_loops": 1}}).sampling.num_loops == 1
    assert (looped.open("looped").facts.is_looped, looped.open("plain").facts.is_looped) == (True, False)
    facts = looped.open("looped").facts
    assert (facts.layers, facts.mixture_layers, facts.all_layers) == (6, 4, 4)
    header = render("facts.html", "en", error=False, facts=facts, text=texts("page", "en"))
    assert "4 layers × 4 experts, top-2" in header and "2 layers looped 2 times" in header
    question = {"turn": 1, "attempt": 0, "messages": [{"role": "user", "content": "2 + 2?"}]}
    *_, error = answer_events(looped.open("plain"), question, DEFAULTS | {"num_loops": 2})
    assert error["kind"] == "error" and "no shared layers" in error["message"]


def test_the_api_takes_loops_as_one_more_parameter(looped):
    body = {"model": "looped", "prompt": "2 + 2", "max_tokens": 3, "temperature": 0, "logprobs": 1, "echo": True}

    def ask(**more):
        asked = read_body("completion", body | more)
        response = Response(asked)
        return response.whole(list(generate(looped, asked)))["choices"][0]

    default, twice, once = ask(), ask(num_loops=2), ask(num_loops=1)
    assert default["logprobs"] == twice["logprobs"] != once["logprobs"]
    with pytest.raises(ApiError, match="no shared layers to loop") as caught:
        list(generate(looped, read_body("completion", body | {"model": "plain", "num_loops": 2})))
    assert (caught.value.status, caught.value.param) == (400, "num_loops")
    with pytest.raises(ApiError, match="num_loops must be a whole number from 0 to 8, not 9") as caught:
        read_body("completion", body | {"num_loops": 9})
    assert caught.value.param == "num_loops"
