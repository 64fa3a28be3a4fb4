"""The GGUF file has the model's weights, shapes, vocabulary and origin where llama.cpp expects them."""

import json
import math

import numpy as np
import pytest
import torch
from gguf import GGUFReader, TokenType, dequantize
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from axion import split_patterns
from axion.errors import AxionError
from axion.export import deliver
from axion.export.gguf import DTYPES, check_model, check_tokenizer, write_gguf
from axion.release import RELEASES, open_release
from axion.tokenizer import SPECIAL_TOKENS
from tests.export.conftest import DENSE, YARN
from tests.support.foreign_tokenizers import like_gpt2


@pytest.fixture
def read(tmp_path):
    """Writes a release as GGUF and reads it back: fields, and tensors by name."""

    def write_and_read(release, dtype="f32", **options):
        path = tmp_path / f"model-{dtype}.gguf"
        write_gguf(release, path, dtype, **options)
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        return fields, {tensor.name: tensor for tensor in reader.tensors}

    return write_and_read


def value(tensor) -> torch.Tensor:
    """A tensor of the file in fp32, rows last as in PyTorch."""
    shape = tuple(reversed(tensor.shape.tolist()))
    return torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).reshape(shape).copy())


def test_the_tensors_are_the_models_weights(make_release, read):
    release = make_release(first_k_dense_replace=1, tie_word_embeddings=False)
    weights, config = release.model.state_dict(), release.config
    _, tensors = read(release)
    dense, mixed = "model.layers.0", "model.layers.1"
    gate, up = weights[f"{mixed}.mlp.experts.gate_up_proj"].chunk(2, dim=1)
    up_HxR = weights[f"{mixed}.self_attn.kv_b_proj.weight"].view(config.num_attention_heads, -1, config.kv_lora_rank)
    expected = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "output.weight": weights["lm_head.weight"],
        "output_norm.weight": weights["model.norm.weight"],
        "blk.0.ffn_gate.weight": weights[f"{dense}.mlp.gate_proj.weight"],
        "blk.0.ffn_up.weight": weights[f"{dense}.mlp.up_proj.weight"],
        "blk.0.ffn_down.weight": weights[f"{dense}.mlp.down_proj.weight"],
        "blk.1.attn_norm.weight": weights[f"{mixed}.input_layernorm.weight"],
        "blk.1.attn_q_a.weight": weights[f"{mixed}.self_attn.q_a_proj.weight"],
        "blk.1.attn_q_a_norm.weight": weights[f"{mixed}.self_attn.q_a_layernorm.weight"],
        "blk.1.attn_q_b.weight": weights[f"{mixed}.self_attn.q_b_proj.weight"],
        "blk.1.attn_kv_a_mqa.weight": weights[f"{mixed}.self_attn.kv_a_proj_with_mqa.weight"],
        "blk.1.attn_kv_a_norm.weight": weights[f"{mixed}.self_attn.kv_a_layernorm.weight"],
        "blk.1.attn_k_b.weight": up_HxR[:, : config.qk_nope_head_dim].transpose(1, 2),
        "blk.1.attn_v_b.weight": up_HxR[:, config.qk_nope_head_dim :],
        "blk.1.attn_output.weight": weights[f"{mixed}.self_attn.o_proj.weight"],
        "blk.1.ffn_norm.weight": weights[f"{mixed}.post_attention_layernorm.weight"],
        "blk.1.ffn_gate_inp.weight": weights[f"{mixed}.mlp.gate.weight"],
        "blk.1.exp_probs_b.bias": weights[f"{mixed}.mlp.gate.e_score_correction_bias"],
        "blk.1.ffn_gate_exps.weight": gate,
        "blk.1.ffn_up_exps.weight": up,
        "blk.1.ffn_down_exps.weight": weights[f"{mixed}.mlp.experts.down_proj"],
        "blk.1.ffn_gate_shexp.weight": weights[f"{mixed}.mlp.shared_experts.gate_proj.weight"],
        "blk.1.ffn_up_shexp.weight": weights[f"{mixed}.mlp.shared_experts.up_proj.weight"],
        "blk.1.ffn_down_shexp.weight": weights[f"{mixed}.mlp.shared_experts.down_proj.weight"],
    }
    assert sum(value(tensor).numel() for tensor in tensors.values()) == sum(map(torch.numel, weights.values()))
    assert {name for name in tensors if not name.startswith("blk.0.attn")} >= expected.keys()
    for name, weight in expected.items():
        assert torch.equal(value(tensors[name]), weight), name


def test_a_tied_head_is_stored_once(make_release, read):
    _, tensors = read(make_release())
    assert "output.weight" not in tensors and "token_embd.weight" in tensors


def test_rotary_pairs_become_neighbours(make_release, read):
    release = make_release(rope_interleave=False, qk_rope_head_dim=8)
    _, tensors = read(release)
    attention = release.model.model.layers[0].self_attn
    rotary = attention.kv_a_proj_with_mqa.weight[8:]  # after the latent's 8 rows
    assert torch.equal(value(tensors["blk.0.attn_kv_a_mqa.weight"])[8:], rotary[[0, 4, 1, 5, 2, 6, 3, 7]])
    head = attention.q_b_proj.weight[20:40]  # the second head: 12 plain rows, 8 rotary ones
    order = [*range(12), *(12 + row for row in (0, 4, 1, 5, 2, 6, 3, 7))]
    assert torch.equal(value(tensors["blk.0.attn_q_b.weight"])[20:40], head[order])


@pytest.mark.parametrize("dtype", DTYPES)
def test_only_matrices_are_rounded(dtype, make_release, read):
    release = make_release()
    fields, tensors = read(release, dtype)
    assert fields["general.file_type"] == DTYPES[dtype][1]
    kinds = {
        name.removeprefix("blk.0.").rpartition(".")[0]: tensor.tensor_type.name for name, tensor in tensors.items()
    }
    for name in ("attn_norm", "attn_q_a_norm", "attn_kv_a_norm", "ffn_norm", "exp_probs_b", "ffn_gate_inp"):
        assert kinds[name] == "F32", name
    assert kinds["token_embd"] == kinds["attn_q_a"] == kinds["ffn_gate_exps"] == dtype.upper()  # rows of 32
    narrow = "F16" if dtype == "q8_0" else dtype.upper()
    assert kinds["attn_q_b"] == kinds["attn_k_b"] == kinds["ffn_down_exps"] == narrow  # rows of 8, 12 and 16

    stored, weight = value(tensors["token_embd.weight"]), release.model.model.embed_tokens.weight
    if dtype == "q8_0":
        step = weight.unflatten(1, (-1, 32)).abs().amax(-1, keepdim=True).expand(-1, -1, 32).flatten(1) / 127
        # half a step, plus up to 127 times the rounding error of the step, which is stored in half precision
        assert ((stored - weight).abs() <= step * (0.5 + 127 * 2**-11)).all()
    else:
        assert torch.equal(stored, weight.half().float() if dtype == "f16" else weight)


def test_the_metadata_describes_the_shapes(make_release, read):
    changes = {
        "n_routed_experts": 8,
        "n_group": 4,
        "topk_group": 2,
        "first_k_dense_replace": 1,
        "intermediate_size": 48,
    }
    fields, _ = read(make_release(**changes, norm_topk_prob=False, routed_scaling_factor=2.5))
    told = {
        name.removeprefix("deepseek2."): content for name, content in fields.items() if name.startswith("deepseek2.")
    }
    assert told == {
        "vocab_size": 320,
        "context_length": 128,
        "embedding_length": 32,
        "block_count": 2,
        "feed_forward_length": 48,
        "leading_dense_block_count": 1,
        "attention.head_count": 2,
        "attention.head_count_kv": 1,
        "attention.key_length": 12,  # the latent and the rotary key
        "attention.value_length": 8,
        "attention.key_length_mla": 16,
        "attention.value_length_mla": 16,
        "attention.q_lora_rank": 8,
        "attention.kv_lora_rank": 8,
        "attention.layer_norm_rms_epsilon": np.float32(1e-6),
        "expert_count": 8,
        "expert_used_count": 2,
        "expert_shared_count": 1,
        "expert_feed_forward_length": 16,
        "expert_gating_func": 2,  # sigmoid
        "expert_weights_norm": False,
        "expert_weights_scale": 2.5,
        "expert_group_count": 4,
        "expert_group_used_count": 2,
        "rope.dimension_count": 4,
        "rope.freq_base": 10000.0,
    }


def test_yarn_metadata_matches_deepseeks_converter(make_release, read):
    fields, _ = read(make_release(rope_parameters=YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}))
    told = {name: content for name, content in fields.items() if name.startswith("deepseek2.rope.scaling")}
    assert told == {
        "deepseek2.rope.scaling.type": "yarn",
        "deepseek2.rope.scaling.factor": 4.0,
        "deepseek2.rope.scaling.original_context_length": 32,
        "deepseek2.rope.scaling.yarn_beta_fast": 32.0,
        "deepseek2.rope.scaling.yarn_beta_slow": 1.0,
        "deepseek2.rope.scaling.yarn_log_multiplier": pytest.approx(0.1),
    }


@pytest.mark.parametrize(
    ("extra", "on_rotation", "on_scores"),
    [
        ({}, 1 + 0.1 * math.log(4), 1),
        ({"attention_factor": 1.0}, 1, 1),
        (
            {"mscale": 1.0, "mscale_all_dim": 0.7},
            (1 + 0.1 * math.log(4)) / (1 + 0.07 * math.log(4)),
            1 + 0.07 * math.log(4),
        ),
        ({"mscale_all_dim": 0.8, "attention_factor": 1.0}, 1, 1 + 0.08 * math.log(4)),
    ],
)
def test_both_yarn_factors_match_the_model(extra, on_rotation, on_scores, make_release, read):
    fields, _ = read(make_release(rope_parameters=YARN | extra))
    scaling = {name.rpartition(".")[2]: content for name, content in fields.items() if "rope.scaling" in name}
    # as in llama.cpp (src/llama-context.cpp, src/models/deepseek2.cpp)
    multiplier = scaling.get("yarn_log_multiplier", 0.0) / 0.1
    rotation = scaling.get("attn_factor", 1.0) * (1.0 if multiplier else 1 + 0.1 * math.log(4))
    assert rotation == pytest.approx(on_rotation, rel=1e-6)
    assert rotation * (1 + 0.1 * multiplier * math.log(4)) == pytest.approx(on_scores, rel=1e-6)


def test_the_vocabulary_is_the_tokenizers(make_release, read):
    release = make_release()  # the embedding has more rows than there are tokens
    count, rows = len(release.tokenizer), release.config.vocab_size
    assert count < rows
    fields, _ = read(release)
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert tokens[:count] == release.tokenizer.convert_ids_to_tokens(range(count))
    assert tokens[count:] == [f"[PAD{index}]" for index in range(count, rows)]
    special = len(SPECIAL_TOKENS)
    counts = {TokenType.CONTROL: special, TokenType.NORMAL: count - special, TokenType.UNUSED: rows - count}
    assert kinds == [kind for kind, times in counts.items() for _ in range(times)]
    merges = json.loads(release.tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert fields["tokenizer.ggml.merges"] == [" ".join(merge) for merge in merges]
    told = {name.removeprefix("tokenizer.ggml."): fields[name] for name in fields if name.startswith("tokenizer.ggml.")}
    assert {name: told[name] for name in told if name not in ("tokens", "token_type", "merges")} == {
        "model": "gpt2",
        "pre": "qwen2",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 3,
        "padding_token_id": 0,
        "add_bos_token": True,
        "add_eos_token": False,
    }


def test_the_chat_template_is_included(make_release, read):
    release = make_release()
    assert "tokenizer.chat_template" not in read(release)[0]
    release.tokenizer.chat_template = "{{ messages[0]['content'] }}"
    assert read(release)[0]["tokenizer.chat_template"] == "{{ messages[0]['content'] }}"
    release.tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    assert read(release)[0]["tokenizer.chat_template"] == "{{ messages }}"


def test_the_metadata_names_the_origin(read):
    release = open_release(RELEASES / "axion1-v0.1")
    fields, _ = read(release, repo_id="ana/Axion1-350k-A250k")
    info, url = release.info, "https://huggingface.co/ana/Axion1-350k-A250k"
    expected = {
        "general.architecture": "deepseek2",
        "general.type": "model",
        "general.name": f"{info['title']} v{info['version']}",
        "general.author": "Axion contributors",
        "general.version": info["version"],
        "general.license": info["license"],
        "general.languages": info["languages"],
        "general.source.url": f"{url}/tree/v{info['version']}",
        "general.base_model.count": 1,
        "general.base_model.0.name": info["title"],
        "general.base_model.0.organization": "ana",
        "general.base_model.0.repo_url": url,
        "general.dataset.0.name": info["dataset"],
    }
    assert {name: fields[name] for name in expected} == expected


def test_an_unreleased_run_is_named(make_release, read):
    fields, _ = read(make_release())
    assert fields["general.name"] == "axion-shaped" and "general.license" not in fields


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": True},
        {"rms_norm_eps": 1e-5},
        {"routed_scaling_factor": 0.0},
        {"num_hidden_layers": 26},
        {"num_hidden_layers": 27},
        {"num_hidden_layers": 513},
        {"n_routed_experts": 1025},
        {"n_shared_experts": 0},
        {"rope_parameters": YARN | {"truncate": False}},
        {"rope_parameters": YARN | {"factor": 1.0, "attention_factor": 1.3}},
    ],
    ids=str,
)
def test_what_llama_cpp_cannot_run_is_refused_in_one_line(changes):
    """tests/export/test_llama_cpp.py shows for each that llama.cpp fails or computes something else."""
    from axion.model.configuration_axion import AxionConfig

    check_model(AxionConfig())
    with pytest.raises(AxionError, match=f"^llama.cpp cannot run this model: {next(iter(changes))} is ") as refusal:
        check_model(AxionConfig(**changes))
    assert "\n" not in str(refusal.value)


def test_lite_models_without_a_query_rank_are_accepted():
    from axion.model.configuration_axion import AxionConfig

    check_model(AxionConfig(num_hidden_layers=27, q_lora_rank=None))


def test_a_dense_model_is_llama_cpps_llama(dense_release, tmp_path):
    """transformers reads the file back with code of its own, which undoes what llama.cpp needs."""
    write_gguf(dense_release, tmp_path / "model.gguf", "f32")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32).eval()
    assert type(theirs) is LlamaForCausalLM
    weights = {name: weight for name, weight in dense_release.model.state_dict().items() if "bias" not in name}
    assert theirs.state_dict().keys() == weights.keys()  # it reads no biases
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    for name in ("rms_norm_eps", "num_key_value_heads", "max_position_embeddings", "hidden_size", "head_dim"):
        assert getattr(theirs.config, name) == pytest.approx(getattr(dense_release.config, name))
    assert theirs.config.rope_parameters["rope_theta"] == dense_release.config.rope_parameters["rope_theta"]


def test_biases_of_queries_and_keys_have_the_order_of_their_rows(make_release, read):
    release = make_release(**DENSE | {"attention_bias": True})
    fields, tensors = read(release)
    query = release.model.model.layers[0].self_attn.q_proj
    assert torch.equal(value(tensors["blk.0.attn_q.bias"])[8:16], query.bias[8:16][[0, 4, 1, 5, 2, 6, 3, 7]])
    assert torch.equal(value(tensors["blk.0.attn_q.weight"])[8:16], query.weight[8:16][[0, 4, 1, 5, 2, 6, 3, 7]])
    assert tensors["blk.0.attn_q.bias"].tensor_type.name == "F32"
    told = {name.removeprefix("llama."): content for name, content in fields.items() if name.startswith("llama.")}
    assert told == {
        "vocab_size": 320,
        "context_length": 128,
        "embedding_length": 32,
        "block_count": 2,
        "feed_forward_length": 16,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 8,
        "attention.value_length": 8,
        "attention.layer_norm_rms_epsilon": np.float32(1e-6),
        "rope.dimension_count": 8,
        "rope.freq_base": 10000.0,
    }


@pytest.mark.parametrize(("factor", "expected"), [(None, None), (1.0, 1 / (1 + 0.1 * math.log(4)))])
def test_yarn_of_a_dense_model_has_the_factor_of_the_model(factor, expected, make_release, read):
    rope = YARN | ({} if factor is None else {"attention_factor": factor})
    fields, _ = read(make_release(**DENSE | {"rope_parameters": rope}))
    assert fields["llama.rope.scaling.type"] == "yarn" and fields["llama.rope.scaling.factor"] == 4.0
    assert fields.get("llama.rope.scaling.attn_factor") == (None if expected is None else pytest.approx(expected))


def test_the_layer_of_multi_token_prediction_is_left_out(make_release, read):
    plain_fields, plain = read(make_release(first_k_dense_replace=1))
    fields, tensors = read(make_release(first_k_dense_replace=1, num_nextn_predict_layers=1))
    assert tensors.keys() == plain.keys()
    assert fields.keys() == plain_fields.keys() and fields["deepseek2.block_count"] == 2


@pytest.mark.parametrize(
    ("pattern", "known_as"), [(split_patterns.GPT2, "gpt-2"), (split_patterns.CL100K_BASE, "dbrx")]
)
def test_tokenizers_of_others_have_llama_cpps_name(pattern, known_as, make_release, read):
    release = make_release(**DENSE)
    tokenizer = like_gpt2(pattern)
    release.__dict__["tokenizer"] = tokenizer
    fields, _ = read(release)
    told = {name.removeprefix("tokenizer.ggml."): content for name, content in fields.items()}
    end = tokenizer.eos_token_id
    assert (told["model"], told["pre"]) == ("gpt2", known_as)
    assert [told[f"{name}_token_id"] for name in ("bos", "eos", "padding")] == [end] * 3
    assert "unknown_token_id" not in told
    assert (told["add_bos_token"], told["add_eos_token"]) == (True, False)
    assert (told["tokens"][end], told["token_type"][end]) == ("<|endoftext|>", TokenType.CONTROL)


def test_gpt2s_own_step_splits_by_its_pattern():
    tokenizer = json.loads(like_gpt2().backend_tokenizer.to_str())
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    assert check_tokenizer(tokenizer | {"pre_tokenizer": step}) == "gpt-2"
    with pytest.raises(AxionError, match="does not support this tokenizer"):
        check_tokenizer(tokenizer | {"pre_tokenizer": step | {"add_prefix_space": True}})


@pytest.mark.parametrize("change", ["normalizer", "split"])
def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused(change, tiny_release):
    tokenizer = Tokenizer.from_file(str(tiny_release / "tokenizer.json"))
    check_tokenizer(json.loads(tokenizer.to_str()))
    if change == "normalizer":
        tokenizer.normalizer = normalizers.NFC()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    with pytest.raises(AxionError, match="Qwen2's, GPT-2's or cl100k_base's"):
        check_tokenizer(json.loads(tokenizer.to_str()))


def test_the_same_release_gives_the_same_file(tiny_release, tmp_path):
    for name in ("one", "two"):
        write_gguf(open_release(tiny_release), tmp_path / name, "q8_0")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_failure_leaves_nothing_behind(tiny_release, tmp_path):
    def fail(folder):
        (folder / "half.gguf").write_bytes(b"GGUF")
        raise AxionError("no room")

    with pytest.raises(AxionError, match="no room"):
        deliver(open_release(tiny_release), fail, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
