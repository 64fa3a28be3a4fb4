"""The models that are measured: the bundled one, and two larger ones with random weights."""

import json
import shutil
from pathlib import Path

import torch
from transformers import GenerationConfig
from transformers.utils.logging import disable_progress_bar

from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.release import RELEASES, Release, open_release
from axion.tokenizer import save_tokenizer

BUNDLED = "axion1-v0.1"
CONTEXT = 512
SIZES: dict[str, dict] = {
    "v0.1": {},  # the configuration's own defaults
    "M": {
        "vocab_size": 2048,
        "hidden_size": 128,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "q_lora_rank": 32,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 24,
        "qk_rope_head_dim": 8,
        "v_head_dim": 32,
        "n_routed_experts": 4,
        "moe_intermediate_size": 96,
    },
    "L": {
        "vocab_size": 4096,
        "hidden_size": 256,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "q_lora_rank": 64,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 24,
        "qk_rope_head_dim": 8,
        "v_head_dim": 32,
        "n_routed_experts": 8,
        "moe_intermediate_size": 256,
    },
}
"""Fields of AxionConfig; all have one shared expert, two chosen of the routed ones, and tied embeddings."""


WIDE = 0.1
"""The spread of random weights that write text: with training's own they say one token again and again."""


def config_of(size: str, context: int = CONTEXT, **more: object) -> AxionConfig:
    """The configuration of one of SIZES, with a context of so many tokens."""
    return AxionConfig(**SIZES[size], max_position_embeddings=context, **more)


def build_model(size: str, context: int = CONTEXT, **more: object) -> AxionForCausalLM:
    """A model with random weights, the same ones every time."""
    torch.manual_seed(0)
    return AxionForCausalLM(config_of(size, context, **more))


def make_release(size: str, folder: Path, context: int = CONTEXT) -> Release:
    """The bundled release for its own size and context, otherwise one with random weights, written into `folder`.

    Its remote code is the bundled one's. So is its tokenizer, which knows the first tokens of the vocabulary: nobody
    measures the text.
    """
    disable_progress_bar()  # one for every file that is written
    bundled = open_release(RELEASES / BUNDLED)
    if size == "v0.1" and context == CONTEXT:
        return bundled
    model = build_model(size, context, initializer_range=WIDE).eval()
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
