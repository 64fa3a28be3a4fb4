"""Tampering with experts and heads: in links, in requests of the page and of programs, and in what they return."""

import pytest

from axion.errors import AxionError
from axion.tampering import NAMES, read_tampering
from playground.api import snippets
from playground.api.generation import generate
from playground.api.mcp import Tools
from playground.api.requests import ApiError, read_body
from playground.api.snippets import Place
from playground.generate.catalogue import Catalogue
from playground.generate.events import live_events
from playground.generate.links import read_link
from playground.generate.refusal import tell
from playground.generate.request import read_request

CHANGES = {"mute": "L2.E4", "force": "L1.E2", "bias": "off,L2.E1=0.25", "scale": "L1.E2=0.5", "mute_head": "L1.H1"}
PROMPT = "# Pergunta:\n"


@pytest.fixture(scope="module")
def catalogue(releases):
    return Catalogue([str(releases / name) for name in ("plain", "endless")])


def events_of(catalogue, request):
    return list(live_events(catalogue.open(request.model), request))


def test_a_link_tampers_as_it_says(catalogue):
    query = {"model": "endless", "prompt": PROMPT, "max_new_tokens": "8", "seed": "1"}
    plain, request = read_link(catalogue, query), read_link(catalogue, query | CHANGES)
    assert request.tampering == read_tampering(CHANGES) and not plain.tampering
    start, *steps, _ = events_of(catalogue, request)
    assert start["tampering"] == CHANGES
    assert start["bias"] == [[0, 0, 0, 0], [0.25, 0, 0, 0]] and start["experts_per_token"] == 2
    assert all(1 in step["e"][0] and 3 not in step["e"][1] for step in steps)
    before, *plain_steps, _ = events_of(catalogue, plain)
    assert before["tampering"] == {} and before["bias"][0][0] == -0.2
    assert [step["e"] for step in plain_steps] != [step["e"] for step in steps]
    start, *steps, _ = events_of(catalogue, read_link(catalogue, query | {"top_experts": "1"}))
    assert start["experts_per_token"] == 1 and {len(row) for step in steps for row in step["e"]} == {1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mute": "4"}, "mute needs L2.E4"),
        ({"mute": "L3.E1"}, "layer 3 has no experts to change"),
        ({"mute": "L1.E1", "force": "L1.E1"}, "muted and forced"),
    ],
)
def test_mistakes_are_refused_before_anything_is_generated(catalogue, changes, said):
    with pytest.raises(AxionError, match=said):
        read_link(catalogue, {"prompt": PROMPT} | changes)
    with pytest.raises(AxionError, match=said):
        read_request(catalogue, {"model": "plain", "prompt": PROMPT, "tampering": changes})
    with pytest.raises(ApiError, match=said) as error:
        list(generate(catalogue, read_body("completion", {"model": "plain", "prompt": PROMPT} | changes)))
    assert error.value.status == 400 and error.value.param == "mute"


def test_programs_tamper_as_links_do(catalogue):
    settings = {"temperature": 0, "seed": 1}
    link = {"model": "endless", "prompt": PROMPT, "max_new_tokens": "8", "seed": "1"}
    _, *steps, _ = events_of(catalogue, read_link(catalogue, link | CHANGES))
    wanted = "".join(step["t"] for step in steps if not step["prompt"])
    answer = Tools(catalogue).generate_text(PROMPT, "endless", max_new_tokens=8, routing=True, **settings, **CHANGES)
    assert (answer["text"], answer["tampering"], answer["routing"]["tampering"]) == (wanted, CHANGES, CHANGES)

    lists = {name: text.split(",") for name, text in CHANGES.items()}
    body = {"model": "endless", "prompt": PROMPT, "max_tokens": 8, "logprobs": 1, "echo": True, **settings}
    *parts, _ = generate(catalogue, read_body("completion", body | lists))
    assert parts[0].start["tampering"] == CHANGES
    assert "".join(part.delta.text for part in parts).endswith(wanted)
    *plain, _ = generate(catalogue, read_body("completion", body))
    scores = [[step["token"] for part in of for step in part.delta.steps if step["prompt"]] for of in (parts, plain)]
    assert len(scores[0]) == len(scores[1]) > 1 and scores[0] != scores[1]  # the prompt's too


def test_snippets_state_the_changes(catalogue):
    request = read_request(catalogue, {"model": "plain", "prompt": "1", "tampering": CHANGES | {"top_experts": 3}})
    for snippet in (snippets.curl, snippets.openai, snippets.gradio_client):
        text = snippet("http://localhost", request)
        assert all(name in text for name in NAMES) and "L1.E2=0.5" in text
    assert "# reads the model as it is, without --mute L2.E4" in snippets.transformers(Place("x"), request)


def test_what_a_click_may_run_into_is_said_in_the_visitors_language(catalogue):
    for changes, english, portuguese in (
        ({"mute": "L1.E1,L1.E2,L1.E3"}, "layer 1 must keep at least 2", "a camada 1 tem de manter ao menos 2"),
        ({"force": "L2.E1,L2.E2,L2.E3"}, "layer 2 chooses 2 experts", "a camada 2 escolhe 2 especialistas"),
    ):
        with pytest.raises(AxionError, match=english) as error:
            read_request(catalogue, {"model": "plain", "prompt": PROMPT, "tampering": changes})
        assert tell(error.value, "pt").startswith(portuguese)
