"""The engine in JavaScript computes what Python does: shapes, angles, random numbers, tokens, checks and events."""

from __future__ import annotations

import copy
import json
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from axion.errors import AxionError
from axion.inference.inspection import inspect
from axion.inference.rows import routing_rows
from axion.inference.sampling import Sampling, Uniforms
from axion.inference.stream import stream
from axion.inference.variants import with_tampering
from axion.kernels.dimensions import dimensions
from axion.kernels.rotary import rotary_angles
from axion.model.configuration_axion import AxionConfig
from axion.model.shape_axion import AxionShape
from axion.recipe import load_recipe
from axion.release import open_release
from axion.tampering import read_tampering
from axion.tokenizer import load_tokenizer, save_tokenizer
from axion.weights import prediction_shapes, weight_shapes
from playground.generate.catalogue import Catalogue, OpenModel, read_facts
from playground.generate.events import start_event
from playground.generate.inspection import inspect_token
from playground.generate.request import read_request
from playground.locales import texts
from tests.conftest import ROOT, TINY
from tests.kernels.conftest import ALL_SHAPES, FACTORS, LOOPED_EXPERTS
from tests.playground.web.engine import needs_node, run_engine
from tests.playground.web.texts import HOSTILE, random_texts
from tests.support.foreign_tokenizers import like_gpt2
from tests.support.measured import make_release

pytestmark = needs_node

BUNDLED = ROOT / "releases" / "axion1-v0.1"
PROMPT = "# Pergunta:\nQuanto é 7 + 8?\n--\n# Resposta:\n"


def config_of(**changes: object) -> dict:
    """The content of a config.json."""
    return json.loads(AxionConfig(**TINY | changes).to_json_string(use_diff=False))


def test_shapes_dimensions_weights_and_angles_are_pythons():
    changes = [
        *ALL_SHAPES.values(),
        {"rope_parameters": {"rope_type": "yarn", "factor": 40, "beta_fast": 20, "beta_slow": 2, "truncate": False}},
    ]
    found = run_engine("shapes", configs=[config_of(**each) for each in changes])
    for each, ours in zip(changes, found, strict=True):
        shape = AxionShape(**TINY | each)
        assert ours["dimensions"] == pytest.approx(dimensions(shape), rel=1e-15)
        wanted = weight_shapes(shape, prediction=bool(shape.num_nextn_predict_layers))
        assert {name: tuple(sizes) for name, sizes in ours["weights"].items()} == wanted
        assert ours["rows"] == [list(row) for row in routing_rows(shape)]
        for numbers, angles in zip((ours["cos"], ours["sin"]), rotary_angles(shape), strict=True):
            np.testing.assert_allclose(np.array(numbers, np.float32), angles.ravel(), rtol=0, atol=1.2e-7)


def test_random_numbers_are_pytorchs():
    seeds = [0, 1, 42, 2**31, 2**32 + 5, 2**53 - 1]
    found = run_engine("uniforms", seeds=seeds, count=700)
    for seed, numbers in zip(seeds, found, strict=True):
        uniforms = Uniforms(seed)
        assert numbers == [uniforms[index] for index in range(700)]


def check_tokens(file: Path, written: list[str]) -> None:
    tokenizer = Tokenizer.from_file(str(file))
    for text, found in zip(written, run_engine("tokens", file=file, texts=written), strict=True):
        ids = tokenizer.encode(text).ids
        assert found["ids"] == ids, repr(text)
        assert found["text"] == tokenizer.decode(ids, skip_special_tokens=False)
        decoder = DecodeStream(skip_special_tokens=True)
        assert found["added"] == [decoder.step(tokenizer, token) or "" for token in ids], repr(text)


def foreign_tokenizer(folder: Path, pattern: str) -> Path:
    from axion import split_patterns

    save_tokenizer(like_gpt2(getattr(split_patterns, pattern)), folder / pattern)
    file = folder / pattern / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model"]["ignore_merges"] = True  # as tiktoken's encodings have it
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_tokens_of_the_bundled_release_are_pythons():
    check_tokens(BUNDLED / "tokenizer.json", [*HOSTILE, *random_texts(300)])


@pytest.mark.parametrize("pattern", ["GPT2", "CL100K_BASE"])
def test_tokens_of_other_encodings_are_pythons(pattern, tmp_path):
    check_tokens(foreign_tokenizer(tmp_path, pattern), [*HOSTILE, *random_texts(100, seed=1)])


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["QWEN2", "GPT2", "CL100K_BASE"])
def test_tokens_of_many_texts_are_pythons(pattern, tmp_path):
    file = BUNDLED / "tokenizer.json" if pattern == "QWEN2" else foreign_tokenizer(tmp_path, pattern)
    check_tokens(file, random_texts(25_000, seed=2))


def randomised(release: Path) -> Path:
    """The release with weights whose likeliest tokens are not almost tied, and biases that displace experts."""
    from safetensors.torch import load_file, save_file

    config = json.loads((release / "config.json").read_text(encoding="utf-8"))
    generator, wider = torch.Generator().manual_seed(3), 0.08 / config["initializer_range"]
    weights = load_file(release / "model.safetensors")
    for name, weight in weights.items():
        if name.endswith("e_score_correction_bias"):
            weight.uniform_(-0.1, 0.1, generator=generator)
        elif "norm" in name:
            weight.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith((".a.weight", ".b.weight")):
            weight.mul_(wider**0.5)  # of each of two factors
        elif "experts" in name or "proj" in name or "embed_tokens" in name or "lm_head" in name:
            weight.mul_(wider)
    save_file(weights, release / "model.safetensors", {"format": "pt"})
    return release


SAME_VOCABULARY = {name: shape for name, shape in ALL_SHAPES.items() if "vocab_size" not in shape} | {
    LOOPED_EXPERTS: {name: value for name, value in ALL_SHAPES[LOOPED_EXPERTS].items() if name != "vocab_size"}
}
SAMPLED = {"temperature": 0.9, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.2, "seed": 11}


def expected_steps(release, request: dict, backend: str = "native") -> list[dict]:
    """The records that Python's stream makes."""
    model = with_tampering(release.model, read_tampering(request.get("tampering", {})))
    sampling = Sampling(**request["sampling"])
    steps = stream(
        model, release.tokenizer, request["prompt"], sampling, forced=request.get("forced", ()), backend=backend
    )
    return [step.to_record() for step in steps]


def assert_same_steps(found: list[dict], expected: list[dict], tolerance: float = 2e-4) -> None:
    assert [step["id"] for step in found] == [step["id"] for step in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert {name: ours[name] for name in ("i", "t", "prompt", "e", "d")} == {
            name: theirs[name] for name in ("i", "t", "prompt", "e", "d")
        }
        assert ours["p"] == pytest.approx(theirs["p"], abs=tolerance)
        assert sorted(token for token, _, _ in ours["alt"]) == sorted(token for token, _, _ in theirs["alt"])
        assert {token: name for token, name, _ in ours["alt"]} == {token: name for token, name, _ in theirs["alt"]}
        for name in ("g", "a"):
            for layer_K, wanted_K in zip(ours[name], theirs[name], strict=True):
                assert layer_K == pytest.approx(wanted_K, abs=tolerance)


def steps_of(events: list[dict]) -> list[dict]:
    assert (events[0]["kind"], events[-1]["kind"]) == ("start", "end"), events[-1]
    return events[1:-1]


@pytest.mark.parametrize("shape", SAME_VOCABULARY)
def test_tokens_and_routing_of_every_family_are_those_of_python(shape, tiny_release, tmp_path, monkeypatch):
    if SAME_VOCABULARY[shape]:
        monkeypatch.setenv("AXION_KERNELS_FLAGS", "-O1")  # as in tests/kernels, which share the builds
    backend = "torch" if shape == LOOPED_EXPERTS else "native"
    folder = randomised(make_release(tiny_release, tmp_path / "model", **SAME_VOCABULARY[shape]))
    requests = [
        {"prompt": PROMPT, "sampling": {"max_new_tokens": 10, "min_new_tokens": 10}},
        {"prompt": PROMPT, "sampling": {"max_new_tokens": 12, **SAMPLED}, "forced": [20, 21]},
    ]
    if shape in (LOOPED_EXPERTS, FACTORS):
        requests.append({"prompt": PROMPT, "sampling": {"max_new_tokens": 6, "num_loops": 2}})
    if shape == "plain":
        change = {
            "mute": "L2.E4",
            "force": "L1.E2",
            "bias": "off,L2.E3=0.2",
            "scale": "L1.E2=0.5",
            "mute_head": "L1.H1",
        }
        requests.append(
            {"prompt": PROMPT, "sampling": {"max_new_tokens": 8}, "tampering": {**change, "top_experts": 3}}
        )
    release = open_release(folder)
    for request, events in zip(requests, run_engine("events", folder=folder, requests=requests), strict=True):
        assert_same_steps(steps_of(events), expected_steps(release, request, backend))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["axion1-debug", "mini-axion1-debug", "nano-deepseek-v3-debug", "axiom-dense-debug"])
def test_long_texts_of_every_debug_recipe_are_those_of_the_kernels(recipe, tiny_release, tmp_path):
    shape = load_recipe(recipe).architecture | {"vocab_size": TINY["vocab_size"]}
    folder = randomised(make_release(tiny_release, tmp_path / "model", **shape))
    request = {"prompt": PROMPT, "sampling": {"max_new_tokens": 400, "min_new_tokens": 400, **SAMPLED}}
    [events] = run_engine("events", folder=folder, requests=[request])
    assert_same_steps(steps_of(events), expected_steps(open_release(folder), request))


def test_the_events_are_those_of_the_page():
    release = open_release(BUNDLED)
    model = OpenModel(release.name, release, read_facts(release))
    request = {"prompt": PROMPT, "sampling": {"max_new_tokens": 12, **SAMPLED}, "tampering": {"mute": "L2.E4"}}
    [events] = run_engine("events", folder=BUNDLED, requests=[request])
    sampling = read_request(Catalogue([str(BUNDLED)]), {"model": release.name, **request}).sampling
    wanted = start_event(model, PROMPT, vars(sampling), tampering=read_tampering(request["tampering"]))
    del wanted["release"], wanted["question"]  # a host may give them
    assert events[0] | {"run": None} == wanted | {"run": None}
    assert_same_steps([{**step, "kind": "step"} for step in steps_of(events)], expected_steps(release, request))
    assert events[-1] == {"kind": "end", "reason": "length"} or events[-1] == {"kind": "end", "reason": "eos"}


@pytest.mark.parametrize("shape", ["plain", LOOPED_EXPERTS])
def test_an_inspected_token_is_pytorchs(shape, tiny_release, tmp_path):
    release = open_release(randomised(make_release(tiny_release, tmp_path / "model", **SAME_VOCABULARY[shape])))
    ids = release.tokenizer(PROMPT).input_ids
    requests = [{"ids": ids, "position": position} for position in (0, 9)]
    for request, found in zip(
        requests, run_engine("inspections", folder=tmp_path / "model", requests=requests), strict=True
    ):
        wanted = inspect(release.model, ids, request["position"], backend="torch")
        np.testing.assert_allclose(found["attention"], wanted.attention_PHT, atol=1e-5)
        np.testing.assert_allclose(found["affinities"], wanted.affinities_LE, atol=1e-5)
        np.testing.assert_allclose(found["after"], wanted.logits_after_V, atol=1e-4)
        assert (found["before"] is None) == (wanted.logits_before_V is None)


def test_a_view_is_told_of_a_token_what_python_tells():
    ids = open_release(BUNDLED).tokenizer(PROMPT).input_ids
    asked = [{"ids": ids, "at": at, "num_loops": 0, "tampering": {"mute": "L2.E4"}} for at in (0, 9)]
    for one, found in zip(asked, run_engine("told", folder=BUNDLED, asked=asked), strict=True):
        wanted = inspect_token(Catalogue([str(BUNDLED)]), {"model": BUNDLED.name, **one})
        assert found["passes"] == wanted["passes"] and (found["before"] is None) == (wanted["before"] is None)
        np.testing.assert_allclose(found["scores"], wanted["scores"], atol=2e-5)
        np.testing.assert_allclose(found["attention"], wanted["attention"], atol=2e-5)
        for (*names, logit, seen), (*wanted_names, wanted_logit, wanted_seen) in zip(
            found["after"]["top"], wanted["after"]["top"], strict=True
        ):
            assert (names, seen) == (wanted_names, wanted_seen) and logit == pytest.approx(wanted_logit, abs=1e-3)
        groups = [sum(count * np.exp(logit) for logit, count, _ in told["after"]["rest"]) for told in (found, wanted)]
        assert groups[0] == pytest.approx(groups[1], rel=1e-3)


@pytest.mark.parametrize("weights", ["bf16", "int8"])
def test_smaller_weights_write_nearly_the_same(weights):
    request = {"prompt": PROMPT, "sampling": {"max_new_tokens": 3}, "forced": [300, 301, 302]}  # unlikely ones
    [exact] = run_engine("events", folder=BUNDLED, requests=[request])
    [rounded] = run_engine("events", folder=BUNDLED, weights=weights, requests=[request])
    first, second = ([step["p"] for step in steps_of(events) if not step["prompt"]] for events in (exact, rounded))
    assert second == pytest.approx(first, abs=0.05) and second != first


def test_the_layer_of_multi_token_prediction_drafts_the_same_text(tiny_release, tmp_path):
    from safetensors.numpy import load_file, save_file

    shape = ALL_SHAPES["a looped layer with experts, multi-token prediction"]
    folder = make_release(tiny_release, tmp_path / "model", **shape)
    weights, source = load_file(folder / "model.safetensors"), np.random.default_rng(0)
    for name, sizes in prediction_shapes(AxionShape(**TINY | shape)).items():
        values = np.ones(sizes) if "norm" in name else 0.1 * source.standard_normal(sizes)
        weights[name] = values.astype(np.float32)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    randomised(folder)
    requests = [
        {"prompt": PROMPT, "sampling": {"max_new_tokens": 60, **SAMPLED}, "forced": [20, 21]},
        {"prompt": PROMPT, "sampling": {"max_new_tokens": 200, "min_new_tokens": 200}},
    ]
    alone, drafted = (run_engine("events", folder=folder, mtp=mtp, requests=requests) for mtp in (False, True))
    for ours, theirs in zip(drafted, alone, strict=True):
        assert_same_steps(steps_of(ours), steps_of(theirs))


def test_generations_that_take_turns_do_not_disturb_each_other():
    requests = [{"prompt": PROMPT, "sampling": {"max_new_tokens": 12, **SAMPLED, "seed": seed}} for seed in (1, 2)]
    apart, in_turns = (run_engine(task, folder=BUNDLED, requests=requests) for task in ("events", "turns"))
    assert [[step["id"] for step in steps_of(events)] for events in in_turns] == [
        [step["id"] for step in steps_of(events)] for events in apart
    ]


def test_memory_stays_flat_over_generations_that_are_stopped():
    sizes = run_engine("memory", folder=BUNDLED, request={"prompt": PROMPT}, rounds=30)
    assert sizes[-1] == sizes[3]


def test_a_long_prompt_is_cut_at_its_start(tiny_release):
    request = {"prompt": "1 + 2 = 3\n" * 200, "sampling": {"max_new_tokens": 4}}
    [events] = run_engine("events", folder=tiny_release, requests=[request])
    ids = load_tokenizer(tiny_release)(request["prompt"]).input_ids
    context = TINY["max_position_embeddings"]
    assert events[0]["dropped"] == len(ids) - (context - 4)
    prompt = [step["id"] for step in events if step.get("prompt") is True]
    assert prompt == ids[:1] + ids[-(context - 5) :]


WRONG = [
    None,
    {},
    {"prompt": ""},
    {"prompt": 3},
    {"prompt": "x" * 8001},
    {"prompt": "x", "sampling": {"temperature": 3}},
    {"prompt": "x", "sampling": {"temperature": 0.001}},
    {"prompt": "x", "sampling": {"top_k": 1.5}},
    {"prompt": "x", "sampling": {"seed": True}},
    {"prompt": "x", "sampling": {"heat": 1}},
    {"prompt": "x", "sampling": {"min_new_tokens": 9, "max_new_tokens": 3}},
    {"prompt": "x", "sampling": {"num_loops": 2}},
    {"prompt": "x", "forced": "12"},
    {"prompt": "x", "forced": [1] * 600},
    {"prompt": "x", "forced": [99999]},
    {"prompt": "x", "tampering": {"mute": "L9.E1"}},
]


def test_wrong_requests_are_refused_in_the_pages_words(tiny_release):
    catalogue = Catalogue([str(tiny_release)])
    expected = []
    for request in WRONG:
        with pytest.raises(AxionError) as refusal:
            read_request(catalogue, None if request is None else {"model": catalogue.names[0], **request})
        expected.append(str(refusal.value).replace(catalogue.names[0], "tiny").replace("True", "true"))
    config = json.loads((tiny_release / "config.json").read_text(encoding="utf-8"))
    assert run_engine("refusals", config=config, requests=WRONG, texts=texts("errors", "en")) == expected


TAMPERINGS = [
    {"mute": "L2.E4, l1.e1", "top_experts": 2, "bias": "off,L1.E2=0.25", "scale": "L1.E2=1.5", "mute_head": ["L1.H2"]},
    {"mute": "E4"},
    {"mute": "L2.H4"},
    {"mute": 4},
    {"lose": "L1.E1"},
    {"mute": "L2.E9"},
    {"mute": "L7.E1"},
    {"mute_head": "L1.H9"},
    {"top_experts": 9},
    {"top_experts": "x"},
    {"mute": "L1.E1", "force": "L1.E1"},
    {"force": "L1.E1,L1.E2,L1.E3"},
    {"mute": "L1.E1,L1.E2,L1.E3"},
    {"bias": "L1.E1=99"},
    {"bias": "L1.E1"},
    {"scale": "L1.E1=1,L1.E1=2"},
    {"scale": "L1.E1=-1"},
]


def test_tampering_is_read_and_refused_as_in_python(tiny_release):
    config = json.loads((tiny_release / "config.json").read_text(encoding="utf-8"))
    shape, expected = open_release(tiny_release).config, []
    for values in TAMPERINGS:
        try:
            tampering = read_tampering(values)
            tampering.check(shape)
            expected.append(tampering.to_texts())
        except AxionError as error:
            expected.append(str(error))
    assert run_engine("tamperings", config=config, values=TAMPERINGS) == expected


def break_config(name: str, value: object):
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(content | {name: value}), encoding="utf-8")

    return change


def break_weights(change):
    def rewrite(folder: Path) -> None:
        file = folder / "model.safetensors"
        content = file.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        changed = json.dumps(change(copy.deepcopy(header)) or header).encode()
        file.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + length :])

    return rewrite


def set_entry(name: str, **values: object):
    return lambda header: header | {name: header[name] | values}


def truncate(size: int):
    return lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:size])


NORM = "model.norm.weight"
BROKEN = {
    "no json": (lambda folder: (folder / "config.json").write_text("{"), "config.json: it is no JSON"),
    "another model": (break_config("model_type", "llama"), "model_type is"),
    "huge width": (break_config("hidden_size", 10**9), "model.safetensors: "),
    "huge context": (break_config("max_position_embeddings", 2**30), "more memory than a page can have"),
    "endless layers": (break_config("num_hidden_layers", 2**31 - 1), "num_hidden_layers is"),
    "many heads": (break_config("num_attention_heads", 2**20), "num_key_value_heads is"),
    "endless loops": (break_config("num_loops", 10**6), "num_loops is"),
    "negative": (break_config("num_hidden_layers", -1), "num_hidden_layers is -1"),
    "fraction": (break_config("n_routed_experts", 2.5), "n_routed_experts is 2.5"),
    "too many chosen": (break_config("num_experts_per_tok", 99), "num_experts_per_tok is 99"),
    "text for a number": (break_config("kv_lora_rank", "</script>"), "kv_lora_rank is"),
    "other positions": (break_config("rope_parameters", {"rope_type": "dynamic"}), "rope_parameters has"),
    "truncated weights": (truncate(2000), "model.safetensors: it is truncated"),
    "cut in the last weight": (truncate(-4), "model.safetensors: it is truncated"),
    "no weights": (truncate(0), "model.safetensors: it is empty"),
    "wrong shape": (break_weights(set_entry(NORM, shape=[3])), f"{NORM} has the shape [3]"),
    "another type": (break_weights(set_entry(NORM, dtype="I8")), f"{NORM} has the type I8"),
    "place beyond the file": (break_weights(set_entry(NORM, data_offsets=[2**50, 2**50 + 256])), "it is truncated"),
    "negative place": (break_weights(set_entry(NORM, data_offsets=[-256, 0])), "it is truncated"),
    "missing weight": (
        break_weights(lambda header: {k: v for k, v in header.items() if k != NORM}),
        f"{NORM} is missing",
    ),
    "further weight": (break_weights(lambda header: header | {"</script>": header[NORM]}), "it has </script>"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json: it cannot be read"),
    "empty tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer.json: it lacks parts"),
    "no ends": (lambda folder: (folder / "generation_config.json").write_text('{"eos_token_id": "x"}'), "eos_token_id"),
}


def test_broken_releases_are_told_in_one_line(tiny_release, tmp_path):
    folders = []
    for name, (damage, _) in BROKEN.items():
        shutil.copytree(tiny_release, folder := tmp_path / name.replace(" ", "-"))
        damage(folder)
        folders.append(folder)
    for (name, (_, wanted)), found in zip(BROKEN.items(), run_engine("loads", folders=folders), strict=True):
        assert found.get("error") == "ReleaseError", (name, found)
        assert wanted in found["message"] and "\n" not in found["message"], (name, found)


def test_values_that_are_not_finite_are_refused(tiny_release, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_release, folder := tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights[NORM][random.Random(0).randrange(len(weights[NORM]))] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    [found] = run_engine("loads", folders=[folder])
    assert found == {"error": "ReleaseError", "message": f"model.safetensors: {NORM} has NaN or infinite values"}
