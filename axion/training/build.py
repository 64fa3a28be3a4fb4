"""The model and the optimizer that a run trains, as its recipe asks."""

from contextlib import nullcontext

from safetensors.torch import load_file

from axion.errors import AxionError
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import Recipe
from axion.release import WEIGHTS, Release
from axion.training import eight_bit
from axion.training.balance import ExpertBalancer


def build_model(config: AxionConfig) -> AxionForCausalLM:
    """A model with random weights, with its layer of multi-token prediction where the config has one."""
    model = AxionForCausalLM(config)
    if config.num_nextn_predict_layers:
        model.attach_mtp()
    return model


def load_start(model: AxionForCausalLM, start: Release) -> None:
    """Copies a release's weights into a model of `build_model`, with those of multi-token prediction.

    Raises:
        AxionError: the model has that layer, and the release's file lacks its weights.
    """
    weights = start.model.state_dict()  # without that layer
    if model.mtp is not None:
        prefix = f"model.layers.{model.config.num_hidden_layers}."
        stored = load_file(start.folder / WEIGHTS)
        weights |= {name: weight for name, weight in stored.items() if name.startswith(prefix)}
        if missing := sorted(model.state_dict().keys() - weights.keys()):
            raise AxionError(
                f"{start.name} has no weights of multi-token prediction ({missing[0]}), which its config.json names; "
                "start from a release that has them, or from one with num_nextn_predict_layers: 0"
            )
    model.load_state_dict(weights)


def checkpoint_gradients(model: AxionForCausalLM, balancer: ExpertBalancer) -> None:
    """Has every layer computed again in the backward pass, without the balancer counting its tokens twice."""
    options = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), balancer.paused())}
    # renamed in transformers 5.24
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(options)


PLAIN = {"muon": "muon", "adamw": "adamw", "adamw8bit": "adamw"}
"""The optimizer that a recipe names → the one of PyTorch that is used where bitsandbytes is not."""


def choose_optimizer(recipe: Recipe, earlier: str | None) -> tuple[str, str | None]:
    """The optimizer of a run, and where the recipe asks for 8 bits, one line that says which it is and why.

    Args:
        recipe: the run's.
        earlier: the optimizer that a resumed run was started with.

    Raises:
        AxionError: the run was started with bitsandbytes, which does not work here.
    """
    asked = recipe.training.optimizer
    if asked != "adamw8bit":
        return asked, None
    reason = eight_bit.unavailable_reason()
    if recipe.training.distributed.is_sharded:
        reason = "bitsandbytes does not take sharded weights"
    if earlier == asked and reason:
        raise AxionError(f"the run was started with adamw8bit: {reason}; install it, or start a new run with --out DIR")
    if earlier == PLAIN[asked]:
        reason = "the run was started with it"
    if reason:
        return PLAIN[asked], f"optimizer AdamW with whole state: {reason}"
    return asked, f"optimizer AdamW with its state in 8 bits: {eight_bit.description()}"
