"""transformers' own DeepSeek-V3 opens the native checkpoint and computes the same."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import torch
import transformers
from packaging.version import Version
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    LlamaForCausalLM,
    modeling_layers,
)

from axion.errors import AxionError
from axion.export import check_export
from axion.export.gguf import write_gguf
from axion.export.native import drafting_line, write_native
from axion.release import RELEASES, open_release
from publish.release.exports import OLDEST_NATIVE_TRANSFORMERS
from tests.export.conftest import DENSE, SHAPES

TOLERANCE = 1e-5
"""Relative to the largest logit: the difference that another order of fp32 sums may make."""
PROMPTS = ("# Pergunta:\nQuanto é 47 + 38?\n--\n# Resposta:\n", "# Pergunta:\nWhat is 12 - 7?\n--\n# Raciocínio:\n")


def native(release, folder: Path) -> DeepseekV3ForCausalLM | LlamaForCausalLM:
    """The export, opened with AutoModelForCausalLM."""
    write_native(release, folder)
    model, report = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, output_loading_info=True)
    assert type(model) is (LlamaForCausalLM if release.config.attention == "gqa" else DeepseekV3ForCausalLM)
    assert not any(report.values()), report
    return model.eval()


@torch.no_grad()
def logits(model, ids) -> torch.Tensor:
    return model(torch.tensor([ids])).logits[0]


def test_an_engine_that_ties_nothing_finds_the_output_head(make_release, tmp_path):
    release = make_release()
    assert release.config.tie_word_embeddings
    write_native(release, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(stored["lm_head.weight"], release.model.lm_head.weight)
    assert torch.equal(stored["model.embed_tokens.weight"], release.model.lm_head.weight)


def random_ids(release, count: int) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(len(release.tokenizer), (count,), generator=generator).tolist()


def test_every_shape_gives_the_same_logits(shaped_release, tmp_path):
    ids = random_ids(shaped_release, 100)
    ours, theirs = logits(shaped_release.model, ids), logits(native(shaped_release, tmp_path), ids)
    assert (ours - theirs).abs().max() <= TOLERANCE * ours.abs().max()


def test_a_dense_model_is_a_llama(dense_release, tmp_path):
    model, ids = native(dense_release, tmp_path), random_ids(dense_release, 100)
    ours, theirs = logits(dense_release.model, ids), logits(model, ids)
    assert (ours - theirs).abs().max() <= TOLERANCE * ours.abs().max()
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("llama", ["LlamaForCausalLM"])
    stored = load_file(tmp_path / "model.safetensors")
    assert ("lm_head.weight" in stored) != dense_release.config.tie_word_embeddings == config["tie_word_embeddings"]


@pytest.mark.skipif(not hasattr(DeepseekV3Config, "get_mtp_config"), reason="this transformers has no MTP")
@pytest.mark.parametrize("dense", [0, 1])
def test_the_layer_of_multi_token_prediction_drafts_there(dense, make_release, tmp_path, monkeypatch):
    if dense and Version(transformers.__version__) < Version("5.15"):
        pytest.skip("this transformers builds a dense layer of multi-token prediction")
    release = make_release(num_nextn_predict_layers=1, first_k_dense_replace=dense)
    write_native(release, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["model.layers.2.mlp.experts.3.gate_proj.weight"].shape == (16, 32)
    for name, original in (("embed_tokens", "model.embed_tokens"), ("shared_head.head", "lm_head")):
        assert torch.equal(stored[f"model.layers.2.{name}.weight"], stored[f"{original}.weight"])
    assert json.loads((tmp_path / "config.json").read_text())["num_nextn_predict_layers"] == 1

    model, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and all(name.startswith("model.layers.2.") for name in report["unexpected_keys"])
    monkeypatch.setattr(DeepseekV3ForCausalLM, "_keys_to_ignore_on_load_unexpected", None)  # restored after the test
    exec(drafting_line(release.config), {"DeepseekV3ForCausalLM": DeepseekV3ForCausalLM})
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = torch.tensor([random_ids(release, 9)])
    settings = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": None}
    ours = release.model.generate(ids, **settings)
    assert torch.equal(model.generate(ids, use_mtp=True, **settings), ours)
    generated = []
    mtp = modeling_layers.MtpModel
    forward = mtp.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mtp, "forward", lambda self, **named: generated.append(forward(self, **named)) or generated[-1])
        model.generate(ids, use_mtp=True, **settings)
    with torch.no_grad():  # its first guess is that of the layer in the release
        drafting = release.mtp_model
        hidden = drafting.model(ids).last_hidden_state
        guess = drafting.lm_head(drafting.mtp_hidden(ours[:, 1:10], hidden))[0, -1].argmax()
    assert generated[0][0].flatten()[0] == guess


@pytest.mark.parametrize("form", ["native", "gguf"])
@pytest.mark.parametrize(
    "changes",
    [
        {"num_shared_layers": 1, "num_loops": 2},
        DENSE | {"num_shared_layers": 1, "num_loops": 2},
        DENSE | {"projection_rank": 4},
        DENSE | {"first_k_dense_replace": 1},
    ],
    ids=["looped experts", "looped", "low rank", "experts with grouped queries"],
)
def test_what_other_programs_cannot_run_is_refused_in_one_line(form, changes, make_release, tmp_path):
    release = make_release(**changes)
    write = {"native": write_native, "gguf": lambda release, folder: write_gguf(release, folder / "x.gguf", "f32")}
    for refused in (
        lambda: write[form](release, tmp_path / "out"),
        lambda: check_export(release.config, release.family, form),
    ):
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(AxionError, match=r"cannot run this model: [a-z_]+ is \d+; it must be ") as caught:
            refused()
        assert "\n" not in str(caught.value) and list((tmp_path / "out").iterdir()) == []


def test_the_bundled_release_writes_the_same_text(tmp_path):
    release = open_release(RELEASES / "axion1-v0.1")
    model, tokenizer = native(release, tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        assert inputs.input_ids.tolist() == release.tokenizer(prompt, return_tensors="pt").input_ids.tolist()
        ours, theirs = (logits(m, inputs.input_ids[0].tolist()) for m in (release.model, model))
        assert (ours - theirs).abs().max() <= TOLERANCE * ours.abs().max()
        ours, theirs = (m.generate(**inputs, max_new_tokens=60, do_sample=False) for m in (release.model, model))
        assert torch.equal(ours, theirs)


def test_the_checkpoint_has_deepseeks_parameter_names(make_release, tmp_path):
    write_native(make_release(), tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        names = set(file.keys())
        assert file.get_tensor("model.layers.1.mlp.experts.3.gate_proj.weight").shape == (16, 32)
    assert "model.layers.0.mlp.gate.e_score_correction_bias" in names
    assert "lm_head.weight" in names  # stored even where it is tied: not every engine ties
    assert not any("gate_up_proj" in name for name in names)

    config = json.loads((tmp_path / "config.json").read_text())
    expected = {
        "model_type": "deepseek_v3",
        "architectures": ["DeepseekV3ForCausalLM"],
        "num_nextn_predict_layers": 0,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "rms_norm_eps": 1e-6,
        "use_cache": True,
        "tie_word_embeddings": False,
        "rope_theta": 10000.0,
    }
    assert {key: config[key] for key in expected} == expected
    assert "auto_map" not in config
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert {key: generation[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")} == {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    tokenizer = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (tokenizer["tokenizer_class"], tokenizer["model_max_length"]) == ("PreTrainedTokenizerFast", 128)


def test_the_chat_template_is_included(make_release, tmp_path):
    release = make_release()
    release.tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    write_native(release, tmp_path)
    chat = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        [{"role": "user", "content": "2"}], tokenize=False
    )
    assert chat == "2"


def test_a_single_routed_expert_is_refused(make_release, tmp_path):
    lone = {"n_routed_experts": 1, "num_experts_per_tok": 1}
    with pytest.raises(AxionError, match="n_routed_experts is 1"):
        write_native(make_release(**lone), tmp_path)
    assert list(tmp_path.glob("*.safetensors")) == []


def test_a_single_routed_expert_without_sparse_layers_is_accepted(make_release, tmp_path):
    release = make_release(n_routed_experts=1, num_experts_per_tok=1, first_k_dense_replace=2)
    ids = random_ids(release, 20)
    assert torch.allclose(logits(release.model, ids), logits(native(release, tmp_path / "native"), ids), atol=1e-5)


@pytest.fixture(scope="module")
def oldest_python(make_environment) -> str:
    """The interpreter of an environment with the oldest transformers."""
    return make_environment(f"transformers=={OLDEST_NATIVE_TRANSFORMERS}.*")


@pytest.mark.slow
def test_transformers_serve_answers_with_the_native_form(tmp_path):
    """It looks classes up in transformers itself, so it serves this form and not the one with remote code."""
    write_native(open_release(RELEASES / "axion1-v0.1"), tmp_path / "native")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(tmp_path / "native")]
    server = subprocess.Popen(
        [*command, "--port", str(port), "--device", "cpu", "--dtype", "float32"],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    try:
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        for _ in range(120):
            with contextlib.suppress(httpx.TransportError):
                if client.get("/health").status_code == 200:
                    break
            assert server.poll() is None
            time.sleep(1)
        request = {"model": str(tmp_path / "native"), "prompt": PROMPTS[0], "max_tokens": 8, "temperature": 0}
        assert client.post("/v1/completions", json=request).json()["choices"][0]["text"] == "85"
    finally:
        server.terminate()
        server.wait()


PRINT_LOGITS = """
import sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt, target = sys.argv[1:]
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
inputs = tokenizer(prompt, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits[0]
torch.save({"version": transformers.__version__, "ids": inputs.input_ids[0], "logits": logits}, target)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["axion1-v0.1", "yarn", "dense"])
def test_the_oldest_transformers_gives_the_same_logits(name, make_release, oldest_python, tmp_path):
    shapes = SHAPES | {"dense": DENSE}
    release = make_release(**shapes[name]) if name in shapes else open_release(RELEASES / name)
    write_native(release, tmp_path / "native")
    arguments = [tmp_path / "native", PROMPTS[0], tmp_path / "answer.pt"]
    subprocess.run([oldest_python, "-I", "-c", PRINT_LOGITS, *map(str, arguments)], check=True, capture_output=True)
    answer = torch.load(tmp_path / "answer.pt")
    assert answer["version"].startswith(OLDEST_NATIVE_TRANSFORMERS + ".")
    ours = logits(release.model, release.tokenizer(PROMPTS[0])["input_ids"])
    assert answer["ids"].tolist() == release.tokenizer(PROMPTS[0])["input_ids"]
    assert (ours - answer["logits"]).abs().max() <= TOLERANCE * ours.abs().max()
