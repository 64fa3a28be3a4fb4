"""The model with compilers, hooks, offloading and quantized weights."""

from __future__ import annotations

import subprocess

import pytest
import torch
from torch import nn
from transformers import DynamicCache, TorchAoConfig

from axion.inference.readers import pick_backend
from axion.model.modeling_axion import AxionForCausalLM
from axion.release import RELEASES
from tests.conftest import ROOT
from tests.model.test_modeling import assert_close, build, tokens
from tests.support.int8 import Int8Weight

PROMPT = 6


def read_with_cache(model, ids: torch.Tensor) -> torch.Tensor:
    """The logits of a prompt that is prefilled, and of the tokens after it, one at a time."""
    with torch.no_grad():
        outputs = model(ids[:, :PROMPT], use_cache=True)
        pieces = [outputs.logits]
        for position in range(PROMPT, ids.shape[1]):
            pieces.append(model(ids[:, position : position + 1], past_key_values=outputs.past_key_values).logits)
    return torch.cat(pieces, dim=1)


def cached_tensors(cache: DynamicCache) -> list[torch.Tensor]:
    """Latents and rotary keys, layer by layer."""
    return [part for layer in cache.layers for part in (layer.keys, layer.values)]


class Prefill(nn.Module):
    """Takes a prompt; returns its logits and the cached tensors."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        outputs = self.model(ids, use_cache=True)
        return outputs.logits, *cached_tensors(outputs.past_key_values)


class CachedStep(nn.Module):
    """Takes a token and the cached tensors; returns its logits and the updated cache."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, *cached):
        cache = DynamicCache()
        for layer, (latent, k_rope) in enumerate(zip(cached[::2], cached[1::2], strict=True)):
            cache.update(latent, k_rope, layer)
        outputs = self.model(ids, past_key_values=cache)
        return outputs.logits, *cached_tensors(cache)


@pytest.mark.parametrize("how", ["export", "compile"])
def test_prefill_and_a_cached_step_are_one_graph(how):
    model = build(num_hidden_layers=2, first_k_dense_replace=1)
    ids = tokens(model, 1, 9)
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits

    def transform(module, *arguments):
        if how == "export":
            return torch.export.export(module, arguments).module()
        torch._dynamo.reset()
        return torch.compile(module, fullgraph=True, backend="aot_eager")

    with torch.no_grad():
        model.set_experts_implementation("grouped_mm")
        logits, *cached = transform(Prefill(model), ids[:, :8])(ids[:, :8])
        assert_close(logits, whole[:, :8], "prefill")
        model.set_experts_implementation("batched_mm")
        logits, *longer = transform(CachedStep(model), ids[:, 8:], *cached)(ids[:, 8:], *cached)
    assert_close(logits, whole[:, 8:], "a cached step")
    assert [part.shape[2] for part in longer] == [9] * 4


@pytest.mark.slow
def test_inductor_compiles_cached_decoding():
    model = build(num_hidden_layers=2)
    model.set_experts_implementation("batched_mm")
    ids = tokens(model, 1, 9)
    expected = read_with_cache(model, ids)
    torch._dynamo.reset()
    assert_close(read_with_cache(torch.compile(model, fullgraph=True, dynamic=True), ids), expected, "compiled logits")


@pytest.mark.parametrize("kind", ["forward hook", "forward pre-hook", "replaced forward"])
def test_a_changed_up_projection_changes_cached_and_full_logits_alike(kind):
    model = build()
    ids = tokens(model, 2, 12)
    with torch.no_grad():
        before = model(ids, use_cache=False).logits
    layer = model.model.layers[1].self_attn.kv_b_proj
    if kind == "forward hook":
        layer.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    elif kind == "forward pre-hook":
        layer.register_forward_pre_hook(lambda module, inputs: (torch.zeros_like(inputs[0]),))
    else:
        layer.forward = lambda latent: latent.new_zeros(*latent.shape[:-1], layer.out_features)
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits
    assert (whole - before).abs().max() > 0.1 * before.abs().max()
    assert_close(read_with_cache(model, ids), whole, "cached logits")


def test_a_quantized_up_projection_gives_cached_and_full_logits_alike():
    model = build()
    ids = tokens(model, 2, 12)
    with torch.no_grad():
        before = model(ids, use_cache=False).logits
        for layer in model.model.layers:
            projection = layer.self_attn.kv_b_proj
            projection.weight = nn.Parameter(Int8Weight(projection.weight.data), requires_grad=False)
        whole = model(ids, use_cache=False).logits
    assert 0 < (whole - before).abs().mean() < 0.1 * before.abs().mean()
    assert_close(read_with_cache(model, ids), whole, "cached logits")


@pytest.mark.slow
def test_torchao_int8_in_an_environment_that_has_it(make_environment):
    """It is not installed here, where it would be imported by every process that loads a model."""
    test = f"{__file__}::{test_torchao_int8.__name__}"
    command = [make_environment("torchao==0.18.0"), "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_torchao_int8(tmp_path):
    torchao = pytest.importorskip("torchao.quantization")
    model = build()
    model.save_pretrained(tmp_path)
    torchao.quantize_(model, config := torchao.Int8WeightOnlyConfig())
    loaded = AxionForCausalLM.from_pretrained(tmp_path, quantization_config=TorchAoConfig(config), device_map="cpu")
    ids = tokens(model, 1, 12)
    for quantized in (model, loaded.eval()):
        assert type(quantized.model.layers[0].self_attn.kv_b_proj.weight) is not nn.Parameter
        with torch.no_grad():
            whole = quantized(ids, use_cache=False).logits
        assert_close(read_with_cache(quantized, ids), whole, "cached logits")
        greedy = [quantized.generate(ids, max_new_tokens=6, do_sample=False, use_cache=use) for use in (True, False)]
        assert torch.equal(*greedy)
        assert pick_backend(quantized).name == "torch"


REWARD = """
import sys
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

release, out = sys.argv[1:]
sums = [(f"Quanto é {a} + {b}?\\n", str(a + b), str(a + b + 1)) for a in range(8) for b in range(8)]
pairs = Dataset.from_list([{"chosen": asked + right, "rejected": asked + wrong} for asked, right, wrong in sums])
model = AutoModelForSequenceClassification.from_pretrained(release, num_labels=1, trust_remote_code=True)
options = {"max_steps": 4, "use_cpu": True, "bf16": False, "report_to": [], "max_length": 64}
trainer = RewardTrainer(
    model=model,
    args=RewardConfig(output_dir=out, **options),
    train_dataset=pairs,
    processing_class=AutoTokenizer.from_pretrained(release),
)
trainer.train()
trainer.save_model(out)
saved = AutoModelForSequenceClassification.from_pretrained(out, trust_remote_code=True)
assert saved.score.weight.equal(trainer.model.score.weight), "other weights"
"""


@pytest.mark.slow
def test_a_reward_model_is_trained_by_trl(make_environment, tmp_path):
    command = [make_environment("trl==1.16.0"), "-c", REWARD, RELEASES / "axion1-v0.1", tmp_path / "reward"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_offloaded_weights(where, tmp_path):
    from accelerate import cpu_offload, disk_offload

    model = build()
    ids = tokens(model, 2, 12)
    expected = read_with_cache(model, ids)
    if where == "cpu":
        cpu_offload(model, torch.device("cpu"), offload_buffers=True)
    else:
        disk_offload(model, str(tmp_path), torch.device("cpu"), offload_buffers=True)
    assert model.model.layers[0].self_attn.kv_b_proj.weight.is_meta
    assert_close(read_with_cache(model, ids), expected, "cached logits")
    generated = model.generate(ids, max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert generated.shape == (2, 15)
