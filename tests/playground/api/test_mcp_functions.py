"""The public functions over Gradio's own API: their answers and errors, and that nothing else is public."""

import json
import math
import random
from itertools import count
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError, ValidationError

from axion import tampering
from axion.evaluation.results import with_current_names
from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from axion.release import open_release
from playground.api.mcp import FAVOURITES, summarise_experts
from playground.generate.rate_limits import BURST
from playground.generate.request import LIMITS, MAX_PROMPT_CHARACTERS
from tests.support.measured import expert_load, favourites, make_release, write_info, write_trace

SETTINGS = (name for name in LIMITS if name != "num_loops")
NAMES = ("prompt", "model", *SETTINGS, "routing", "num_loops", *tampering.NAMES)
GOOD = {
    "prompt": "# Pergunta:\n",
    "model": "plain",
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "max_new_tokens": 3,
    "min_new_tokens": 0,
    "seed": 0,
    "routing": False,
    "num_loops": 0,
    **dict.fromkeys(tampering.NAMES, ""),
    "top_experts": 0,
}
_visitors = (f"203.0.113.{number}" for number in count(1))


def public(server) -> dict:
    return json.load(urlopen(f"{server.address}/gradio_api/info"))


def call(server, function: str, data: list) -> tuple[str, object]:
    """Kind and content of the answer to a raw call, which can contain data that no client library would send."""
    address = f"{server.address}/gradio_api/call/{function}"
    headers = {"Content-Type": "application/json", "X-Forwarded-For": next(_visitors)}
    request = Request(address, json.dumps({"data": data}).encode(), headers)
    with urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urlopen(f"{address}/{event}", timeout=60) as answer:
        text = answer.read().decode()
    kind, _, content = text.strip().split("\n\n")[-1].partition("\ndata: ")
    return kind.removeprefix("event: "), json.loads(content)


def generate(server, **changes: object) -> tuple[str, object]:
    values = GOOD | changes
    return call(server, "generate_text", [values[name] for name in NAMES])


def test_three_functions_are_public_and_nothing_else(server):
    info = public(server)
    assert set(info["named_endpoints"]) == {"/generate_text", "/list_models", "/show_experts"}
    assert info["unnamed_endpoints"] == {}
    parameters = info["named_endpoints"]["/generate_text"]["parameters"]
    assert tuple(parameter["parameter_name"] for parameter in parameters) == NAMES
    assert [parameter["parameter_name"] for parameter in parameters if not parameter["parameter_has_default"]] == [
        "prompt"
    ]


def test_the_defaults_are_those_of_the_command_line(server):
    parameters = public(server)["named_endpoints"]["/generate_text"]["parameters"]
    defaults = {parameter["parameter_name"]: parameter["parameter_default"] for parameter in parameters}
    assert {name: defaults[name] for name in LIMITS} == {name: getattr(Sampling(), name) for name in LIMITS}


def test_the_answer_contains_the_settings_that_reproduce_it(server, releases):
    seed = random.randrange(2**53)
    prompt = f"# Pergunta:\nQuanto é {random.randrange(90)} + 3?\n"
    client = Client(server.address, verbose=False, headers={"X-Forwarded-For": next(_visitors)})
    asked = {"prompt": prompt, "model": "endless", "temperature": 1.3, "seed": seed, "max_new_tokens": 6}
    answer = client.predict(**asked, routing=True, api_name="/generate_text")

    release = open_release(releases / "endless")
    sampling = Sampling(temperature=1.3, seed=seed, max_new_tokens=6)
    steps = list(stream(release.model, release.tokenizer, prompt, sampling))
    assert answer["text"] == "".join(step.text for step in steps if not step.is_prompt)
    assert answer["sampling"]["seed"] == seed  # beyond 32 bits too
    assert (answer["model"], answer["ended_by"], answer["finish_reason"]) == ("endless", "length", "length")
    assert answer["completion_tokens"] == 6
    assert answer["prompt_tokens"] == len(steps) - 6
    told = answer["routing"]["steps"]
    assert all(step.pop("s") >= 0 for step in told)
    assert told == json.loads(json.dumps([step.to_record() for step in steps]))
    bias = [router.e_score_correction_bias.tolist() for router in release.model.modules() if _is_router(router)]
    assert answer["routing"]["bias"] == [[pytest.approx(value, abs=1e-4) for value in layer] for layer in bias]
    config = release.config
    assert answer["routing"]["experts"] == config.n_routed_experts
    assert answer["routing"]["layers"] == len(bias)

    again = client.predict(**asked, api_name="/generate_text")
    assert again["text"] == answer["text"]
    assert "routing" not in again


def _is_router(module) -> bool:
    return hasattr(module, "e_score_correction_bias")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"temperature": math.nan}, "temperature must be a number from 0 to 2, not nan"),
        ({"top_p": math.inf}, "top_p must be a number"),
        ({"top_p": 0}, "top_p must be a number from 0.05"),
        ({"min_p": None}, "min_p must be a number from 0 to 0.5, not None"),
        ({"min_p": True}, "min_p must be a number from 0 to 0.5, not True"),
        ({"temperature": 0.001}, "temperature must be 0 "),
        ({"temperature": "0.5"}, "temperature must be a number"),
        ({"temperature": [0.5]}, "temperature must be a number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 2**53}, "seed must be a whole number"),
        ({"top_k": False}, "top_k must be a whole number"),
        ({"repetition_penalty": 5}, "repetition_penalty must be a number from 1 to 2, not 5"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number from 1 to 512, not 0"),
        ({"max_new_tokens": 513}, "max_new_tokens must be a whole number from 1 to 512, not 513"),
        ({"min_new_tokens": 4}, "min_new_tokens (4) must not exceed max_new_tokens (3)"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": None}, "the prompt is empty"),
        ({"prompt": {"text": "a"}}, "the prompt is empty"),
        ({"prompt": "half \ud800"}, "the prompt contains a lone surrogate"),
        ({"prompt": "a" * (MAX_PROMPT_CHARACTERS + 1)}, "the prompt has 8,001 characters; the limit is 8,000"),
        ({"prompt": "a" * 8_000_000}, "the prompt has 8,000,000 characters"),
        ({"prompt": "# 1 " * 200}, "tokens, the model's context"),
        ({"model": "nope"}, "this page does not offer that model; the models are plain, endless"),
        ({"model": None}, "this page does not offer that model"),
        ({"model": ["plain"]}, "this page does not offer that model"),
        ({"model": "../plain"}, "this page does not offer that model"),
        ({"model": "broken"}, "the model broken cannot be opened; the server's log says more"),
        ({"routing": "yes"}, "routing must be true or false"),
        ({"mute": "E4"}, "mute needs L2.E4, layer and expert, not E4"),
        ({"mute": "L3.E1"}, "layer 3 has no experts to change; layers with experts: 1, 2"),
        ({"top_experts": 5}, "top_experts must be from 1 to 4"),
        ({"scale": 0.5}, "scale must be a text such as L1.E2=0.5, not 0.5"),
        ({"routing": None}, "routing must be true or false"),
    ],
)
def test_every_user_error_is_reported_in_one_line(server, changes, told):
    kind, content = generate(server, **changes)
    assert kind == "error"
    message = content["error"] if isinstance(content, dict) else content
    assert told in message
    assert "\n" not in message
    assert "Traceback" not in message


def test_no_call_reads_a_file_of_the_server(server, releases):
    secret = {"path": str(releases / "plain" / "config.json"), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(HTTPError) as refused:
        generate(server, prompt=secret)
    assert refused.value.code == 400
    assert "vocab_size" not in refused.value.read().decode()


def test_a_valid_call_is_answered(server):
    kind, [answer] = generate(server)
    assert kind == "complete"
    assert 0 <= answer["completion_tokens"] <= 3


def test_clients_receive_the_error_message(server):
    client = Client(server.address, verbose=False)
    with pytest.raises(AppError, match=r"^max_new_tokens must be a whole number from 1 to 512, not 0$"):
        client.predict(prompt="a", max_new_tokens=0, api_name="/generate_text")


def test_each_visitor_has_a_separate_rate_limit(server):
    greedy, patient = (
        Client(server.address, verbose=False, headers={"X-Forwarded-For": next(_visitors)}) for _ in range(2)
    )
    asked = {"prompt": "# ", "model": "plain", "max_new_tokens": 1, "api_name": "/generate_text"}
    with pytest.raises(ValidationError, match=r"too many requests; try again in \d+ s$"):
        for _ in range(3 * BURST):
            greedy.predict(**asked)
    assert patient.predict(**asked)["model"] == "plain"


def test_a_body_that_is_not_a_call_is_refused_without_echoing_it(server):
    for body in (b'{"data": NaN}', b'{"data": [NaN], "fn_index": NaN}', b"[", b'{"data": "secret"}'):
        request = Request(f"{server.address}/gradio_api/queue/join", body, {"Content-Type": "application/json"})
        with pytest.raises(HTTPError) as caught:
            urlopen(request)
        assert caught.value.code == 422
        assert b"secret" not in caught.value.read()


def test_models_are_listed_with_their_sizes_and_a_broken_one_without_its_path(server, releases):
    _, [answer] = call(server, "list_models", [])
    models = {model["name"]: model for model in answer["models"]}
    assert list(models)[:4] == ["plain", "endless", "hostile", "broken"]
    assert [name for name, model in models.items() if model.get("default")] == ["plain"]
    real = models["axion1-v0.1"]
    weights = sum(parameter.numel() for parameter in open_release("axion1-v0.1").model.parameters())
    assert real["parameters"]["total"] == weights
    assert real["parameters"]["embedding"] < real["parameters"]["active"] < weights
    assert (real["layers"], real["experts"], real["can_chat"]) == (4, 4, False)
    assert real["context_tokens"] == open_release("axion1-v0.1").config.max_position_embeddings
    assert models["broken"].keys() == {"name", "error"}
    assert str(releases) not in json.dumps(answer)


def test_the_experts_of_the_bundled_model_match_its_release(server):
    _, [answer] = call(server, "show_experts", ["axion1-v0.1"])
    release = open_release("axion1-v0.1")
    measured = with_current_names(release.info["results"])["expert_load"]
    assert answer["load_sets"]
    assert [layer["layer"] for layer in answer["layers"]] == [1, 2, 3, 4]
    for row, layer in enumerate(answer["layers"]):
        for number, expert in enumerate(layer["experts"]):
            assert expert["expert"] == f"L{row + 1}.E{number + 1}"
            assert expert["load"] == {name: measured[name]["layers"][row][number] for name in answer["load_sets"]}
    told = {(entry["layer"], entry["expert"]): entry for entry in release.trace["favourites"]}
    second = answer["layers"][2]["experts"][1]
    assert second["share"] == told[3, 2]["share"]
    assert {favourite["text"] for favourite in second["favourites"]} <= {
        token["text"] for token in told[3, 2]["tokens"]
    }
    assert 0 < len(second["favourites"]) <= FAVOURITES


def test_missing_measurements_are_null(server, tiny_release, tmp_path):
    from playground.generate.catalogue import Catalogue

    _, [answer] = call(server, "show_experts", ["plain"])
    [first, *_] = answer["layers"][0]["experts"]
    assert first == {"expert": "L1.E1", "load": None, "share": None, "favourites": None}
    assert call(server, "show_experts", ["nope"])[0] == "error"

    folder = make_release(tiny_release, tmp_path / "full")
    config = open_release(folder).config
    layers = config.num_hidden_layers - config.first_k_dense_replace
    first_layer = config.first_k_dense_replace + 1
    write_info(folder, results={"expert_load": expert_load(layers, config.n_routed_experts)})
    texts = [f"t{number}" for number in range(FAVOURITES + 3)]
    write_trace(folder, favourites=favourites(layers, config.n_routed_experts, texts, first_layer))
    summary = summarise_experts(Catalogue([str(folder)]).open("full"))
    assert [len(expert["favourites"]) for layer in summary["layers"] for expert in layer["experts"]] == [FAVOURITES] * (
        layers * config.n_routed_experts
    )
