"""LoRA: trains adapters of low rank beside frozen weights, by peft (Hu et al., arXiv 2106.09685).

Every linear layer of attention and of the feed-forward parts has an adapter, and so has each routed expert, whose
weights are stacked in parameters of three dimensions. Embeddings, norms and routers stay as they are.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from axion.model.mixture_axion import AxionExperts
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import LoraRecipe, StartRecipe


def add_adapters(model: AxionForCausalLM, lora: LoraRecipe, start: StartRecipe) -> PeftModel:
    """Freezes a model and adds adapters to it, in place; they change nothing until they are trained.

    Args:
        model: what they are trained for.
        lora: their settings.
        start: the release that the model comes from, which they name.

    Returns:
        What saves the adapters and merges them.
    """
    head = model.get_output_embeddings()
    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear) and part is not head]
    experts = [name for name, part in model.named_modules() if isinstance(part, AxionExperts)]
    stacked = [f"{name}.{weight}" for name in experts for weight in ("gate_up_proj", "down_proj")]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=cast(int, lora.alpha),  # peft takes any number
        target_modules=_endings(linear),
        target_parameters=_endings(stacked, parts=2) or None,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # names that peft still uses and transformers has renamed
        adapted = cast(PeftModel, get_peft_model(model, config))
    config.base_model_name_or_path, config.revision = start.repo_id or start.name, start.revision
    return adapted


def save_adapters(adapted: PeftModel, folder: Path) -> None:
    """Writes adapter_config.json, which names the release that was adapted, and adapter_model.safetensors."""
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's template of a card, not filled in


def merge_adapters(adapted: PeftModel) -> AxionForCausalLM:
    """Adds what the adapters have learned to the weights; the model is an ordinary one afterwards."""
    merged = cast(AxionForCausalLM, adapted.merge_and_unload())
    for parameter in merged.parameters():
        parameter.requires_grad_(True)
    return merged


def _endings(names: Sequence[str], parts: int = 1) -> list[str]:
    """The last parts of dotted names, each once: peft adapts everything whose name ends in one of them."""
    return sorted({".".join(name.split(".")[-parts:]) for name in names})
