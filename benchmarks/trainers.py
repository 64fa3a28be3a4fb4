"""Training contenders, each run in its own process: `python -m benchmarks.trainers NAME --size v0.1 --threads 2`.

A name is an engine and any switches:

    axion-native     Axion's C++ kernels
    axion-torch      the same model in PyTorch
    transformers     its DeepseekV3ForCausalLM; `transformers:eager` selects that experts_implementation. For a dense
                     model its LlamaForCausalLM
    token-loop       Axion's model with a Python loop over tokens and experts, as in some small projects

    +compile         under torch.compile
    +bf16            under bf16 autocast, which leaves the weights in fp32
    +recipe          with the optimizer of v0.1's recipe instead of AdamW

All have the same initial weights and allocator settings, and take the same step (forward, backward, optimizer) on the
same random tokens. "ready" carries the loss before the first step.
"""

import argparse
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from axion.machine import keep_freed_memory
from axion.model.mixture_axion import AxionMoE
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import load_recipe
from axion.training.optim import build_optimizer
from benchmarks.sizes import BUNDLED, CONTEXT, build_model
from benchmarks.workers import Done, Work, serve, timed

LEARNING_RATE = 1e-4
"""Arbitrary: it does not affect a step's cost."""
WARM_UP_STEPS, COMPILED_WARM_UP_STEPS = 2, 8
"""torch.compile recompiles when the number of tokens per expert changes."""


def prepare(options: argparse.Namespace) -> tuple[dict[str, Work], dict]:
    """The kind of work "step", and what the contender reports about itself."""
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    engine, *switches = options.name.split("+")
    model, report = build(engine, options.size, options.context)
    vocabulary = model.config.vocab_size
    if "recipe" in switches:
        optimizer = build_optimizer(model, load_recipe(BUNDLED).training)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(vocabulary, (options.batch, options.window), generator=generator)
    model.train()
    trained = cast(nn.Module, torch.compile(model)) if "compile" in switches else model
    step = make_step(trained, optimizer, ids, "bf16" in switches)
    report["loss"] = step()
    for _ in range((COMPILED_WARM_UP_STEPS if "compile" in switches else WARM_UP_STEPS) - 1):
        step()

    def work() -> Done:
        return timed(step, ids.numel())

    return {"step": work}, report | {"kinds": ["step"]}


def build(engine: str, size: str, context: int) -> tuple[PreTrainedModel, dict]:
    """The engine's model at that size, and what to report about it."""
    ours = build_model(size, context)
    if engine == "axion-native":
        from axion.kernels.backend import choose
        from axion.kernels.blocks import use_kernels

        choice = choose("native", ours.config, "training")
        use_kernels(ours)
        return ours, {"backend": str(choice)}
    if engine == "axion-torch":
        return ours, {}
    if engine == "token-loop":
        for module in ours.modules():
            if isinstance(module, AxionMoE):
                module.forward = token_loop(module)  # pyright: ignore[reportAttributeAccessIssue] (a module's own forward)
        return ours, {}
    if engine.partition(":")[0] == "transformers":
        return build_transformers(ours, engine.partition(":")[2])
    raise ValueError(f"there is no contender {engine!r}")


def build_transformers(ours: AxionForCausalLM, experts: str) -> tuple[PreTrainedModel, dict]:
    """transformers' own Llama or DeepSeek-V3 with our weights.

    Args:
        experts: the experts_implementation of a DeepSeek-V3; empty for its own choice.
    """
    from transformers import DeepseekV3ForCausalLM, LlamaConfig, LlamaForCausalLM

    from axion.export.native import native_config

    config = native_config(ours.config)
    theirs = LlamaForCausalLM(config) if isinstance(config, LlamaConfig) else DeepseekV3ForCausalLM(config)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    if isinstance(theirs, LlamaForCausalLM):
        return theirs, {}
    if experts:
        theirs.set_experts_implementation(experts)
    return theirs, {"experts": theirs.config._experts_implementation}


def token_loop(mixture: AxionMoE) -> Callable[[torch.Tensor], torch.Tensor]:
    """A forward pass of the mixture that loops over tokens and experts."""
    experts = mixture.experts
    gate_up_ExD, down_EDF = cast(torch.Tensor, experts.gate_up_proj), cast(torch.Tensor, experts.down_proj)

    def forward(hidden_BSD: torch.Tensor) -> torch.Tensor:
        hidden_TD = hidden_BSD.flatten(0, 1)
        _, weights_TK, experts_TK = mixture.gate(hidden_TD)
        outputs = []
        for token_D, weights_K, experts_K in zip(hidden_TD, weights_TK, experts_TK.tolist(), strict=True):
            output = torch.zeros_like(token_D)
            for weight, expert in zip(weights_K, experts_K, strict=True):
                gate, up = F.linear(token_D, gate_up_ExD[expert]).chunk(2)
                output = output + weight * F.linear(F.silu(gate) * up, down_EDF[expert])
            outputs.append(output)
        return torch.stack(outputs).view_as(hidden_BSD) + mixture.shared_experts(hidden_BSD)

    return forward


def make_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, ids_BS: torch.Tensor, bf16: bool
) -> Callable[[], float]:
    """One optimizer step, always on the same tokens; it returns the loss before the step, in nats."""

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(input_ids=ids_BS, labels=ids_BS, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def main() -> None:
    """Serve one contender."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--size", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--window", type=int, default=CONTEXT)
    parser.add_argument("--context", type=int, default=CONTEXT)
    options = parser.parse_args()
    serve(lambda: prepare(options))


if __name__ == "__main__":
    main()
