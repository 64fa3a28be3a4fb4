"""The measured models: the bundled release and larger models with random weights."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from transformers import GenerationConfig
from transformers.utils.logging import disable_progress_bar

from axion.families import family_of
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import load_recipe
from axion.release import RELEASES, Release, open_release
from axion.tokenizer import save_tokenizer

BUNDLED = "axion1-v0.1"
CONTEXT = 512


def _shape_of(recipe: str) -> partial[AxionConfig]:
    """The shape of a recipe's model, without dropout."""
    loaded = load_recipe(recipe)
    return partial(AxionConfig, **loaded.architecture | {"vocab_size": loaded.tokenizer.vocab_size, "dropout": 0.0})


SIZES: dict[str, Callable[..., AxionConfig]] = {
    "v0.1": AxionConfig,
    "M": partial(
        AxionConfig,
        vocab_size=2048,
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        q_lora_rank=32,
        kv_lora_rank=16,
        qk_nope_head_dim=24,
        qk_rope_head_dim=8,
        v_head_dim=32,
        n_routed_experts=4,
        moe_intermediate_size=96,
    ),
    "L": partial(
        AxionConfig,
        vocab_size=4096,
        hidden_size=256,
        num_hidden_layers=8,
        num_attention_heads=8,
        q_lora_rank=64,
        kv_lora_rank=32,
        qk_nope_head_dim=24,
        qk_rope_head_dim=8,
        v_head_dim=32,
        n_routed_experts=8,
        moe_intermediate_size=256,
    ),
    "dense": partial(
        AxionConfig,
        attention="gqa",
        vocab_size=4096,
        hidden_size=256,
        num_hidden_layers=6,
        first_k_dense_replace=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        intermediate_size=768,
    ),
    "mini": _shape_of("mini-axion1-0.9m"),
    "24M": partial(
        AxionConfig,
        vocab_size=8192,
        hidden_size=320,
        num_hidden_layers=8,
        num_attention_heads=8,
        q_lora_rank=96,
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=40,
        n_routed_experts=8,
        moe_intermediate_size=288,
    ),
    "100M": partial(
        AxionConfig,
        vocab_size=16384,
        hidden_size=512,
        num_hidden_layers=12,
        num_attention_heads=8,
        q_lora_rank=192,
        kv_lora_rank=128,
        qk_nope_head_dim=48,
        qk_rope_head_dim=16,
        v_head_dim=64,
        n_routed_experts=8,
        moe_intermediate_size=512,
    ),
    "386M": partial(
        AxionConfig,
        vocab_size=32768,
        hidden_size=1024,
        num_hidden_layers=16,
        num_attention_heads=16,
        q_lora_rank=384,
        kv_lora_rank=256,
        qk_nope_head_dim=48,
        qk_rope_head_dim=16,
        v_head_dim=64,
        n_routed_experts=8,
        moe_intermediate_size=704,
    ),
}
"""Size → a function of further config fields. All have tied embeddings, and all with experts a shared one and two
chosen ones. "dense" is a Llama of 6 million parameters."""
SPREAD = 0.02
"""Standard deviation of random weights in training, AxionConfig's default."""
WIDE_SPREAD = 0.1
"""The same in generation: with 0.02, random weights repeat one token."""


def config_of(size: str, context: int = CONTEXT, spread: float = SPREAD) -> AxionConfig:
    """The config of one of SIZES with a context of `context` tokens."""
    return SIZES[size](max_position_embeddings=context, initializer_range=spread)


def recipe_of(
    size: str, steps: int, batch: int, window: int = CONTEXT, documents: int = 20_000, **training: object
) -> dict:
    """A recipe that trains one of SIZES for so many steps on `documents` generated sums and as many word problems."""
    fields = dict(getattr(SIZES[size], "keywords", {}))
    vocabulary = fields.pop("vocab_size", AxionConfig.vocab_size)
    return {
        "name": f"axion1-{size.lower()}",
        "title": f"Axion1 {size}",
        "family": family_of(config_of(size)).name,
        "version": "0",
        "repo_name": f"Axion1-{size}",
        "architecture": fields | {"max_position_embeddings": window},
        "tokenizer": {"vocab_size": vocabulary},
        "data": {
            "sources": [{"kind": kind, "count": documents} for kind in ("arithmetic", "word_problems")],
            "val_fraction": 0.01,
        },
        "training": {
            "window": window,
            "batch_size": batch,
            "epochs": 1_000,
            "max_steps": steps,
            "checkpoints": 1,
            "evaluations": 1,
            **training,
        },
    }


def build_model(size: str, context: int = CONTEXT, spread: float = SPREAD) -> AxionForCausalLM:
    """A model with random weights from a fixed seed."""
    torch.manual_seed(0)
    return AxionForCausalLM(config_of(size, context, spread))


def make_release(size: str, folder: Path, context: int = CONTEXT) -> Release:
    """The bundled release for its own size and context, otherwise one with random weights, written into `folder`.

    The remote code and the tokenizer are those of the bundled release. The tokenizer covers only the first tokens of
    a larger vocabulary, which does not matter: the text is not measured.
    """
    disable_progress_bar()  # transformers shows one for every file it writes
    bundled = open_release(RELEASES / BUNDLED)
    if size == "v0.1" and context == CONTEXT:
        return bundled
    model = build_model(size, context, WIDE_SPREAD).eval()
    tokenizer = bundled.tokenizer
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    model.generation_config = GenerationConfig(**{name: getattr(tokenizer, name) for name in ids})
    model.save_pretrained(folder)
    tokenizer.model_max_length = context
    save_tokenizer(tokenizer, folder)
    for code in bundled.folder.glob("*_axion.py"):
        shutil.copy(code, folder)
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    fields["auto_map"] = bundled.config.auto_map
    (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    return open_release(folder)
