"""The model and the optimizer that a run trains, as its recipe asks."""

from contextlib import nullcontext

from axion.errors import AxionError
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import Recipe
from axion.release import Release
from axion.training import eight_bit
from axion.training.balance import ExpertBalancer


def build_model(config: AxionConfig) -> AxionForCausalLM:
    """A model with random weights, with its layer of multi-token prediction where the config has one."""
    model = AxionForCausalLM(config)
    if config.num_nextn_predict_layers:
        model.attach_mtp()
    return model


def load_start(model: AxionForCausalLM, start: Release) -> None:
    """Copies a release's weights into a model of `build_model`.

    A layer of multi-token prediction that only one of the two has is left out, or stays as it is.

    Raises:
        AxionError: both have that layer, and the release's file lacks its weights.
    """
    both_predict = model.mtp is not None and start.config.num_nextn_predict_layers
    source = start.mtp_model if both_predict else start.model
    model.load_state_dict(model.state_dict() | source.state_dict())


def checkpoint_gradients(model: AxionForCausalLM, balancer: ExpertBalancer) -> None:
    """Has every layer computed again in the backward pass, without the balancer counting its tokens twice."""
    options = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), balancer.paused())}
    # renamed in transformers 5.24
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(options)


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
    if earlier == "adamw":
        reason = "the run was started with it"
    if reason:
        return "adamw", f"optimizer AdamW with whole state: {reason}"
    return asked, f"optimizer AdamW with its state in 8 bits: {eight_bit.description()}"
