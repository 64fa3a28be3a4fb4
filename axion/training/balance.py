"""Balancing without an auxiliary loss: routing biases that move after every optimizer step.

Each router's choices are counted while the model trains. After the step, summed over gradient accumulation and over all
processes, the bias of an expert with fewer tokens than the mean goes up by γ, that of one with more goes down
(DeepSeek-V3 report, arXiv 2412.19437, section 2.1.2; Wang et al., arXiv 2408.15664). The biases of a layer keep a mean
of zero, since only their differences count.
"""

import torch
import torch.distributed as dist
from torch import nn

from axion.model.mixture_axion import AxionRouter


class ExpertBalancer:
    """Counts the choices of a model's routers and moves their biases.

    Args:
        model: any model with `AxionRouter`s; forward hooks count while a router is in training mode. A forward pass
            that does not go through the routers calls `count` itself.
        speed: γ; 0 counts without moving.
    """

    def __init__(self, model: nn.Module, speed: float):
        self.routers = [module for module in model.modules() if isinstance(module, AxionRouter)]
        self.speed = speed
        self._counts = [torch.zeros_like(router.e_score_correction_bias, dtype=torch.long) for router in self.routers]
        self._hooks = [router.register_forward_hook(self._counter(layer)) for layer, router in enumerate(self.routers)]

    def _counter(self, layer: int):
        @torch.compiler.disable
        def hook(router: AxionRouter, _inputs, outputs) -> None:
            if router.training:
                _, _, experts_TK = outputs
                self.count(layer, experts_TK)

        return hook

    def count(self, layer: int, experts_TK: torch.Tensor) -> None:
        """Adds the choices of one pass through the router of a mixture layer, numbered from 0."""
        counted = experts_TK.flatten().bincount(minlength=len(self._counts[layer]))
        self._counts[layer] = self._counts[layer].to(counted.device) + counted

    @torch.no_grad()
    def step(self) -> torch.Tensor:
        """Moves every bias by what was counted since the last step; returns those counts `[L, E]`, of all processes."""
        if not self.routers:
            return torch.zeros(0, 0, dtype=torch.long)
        counts_LE = torch.stack(self._counts)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts_LE)
        for router, counts_E in zip(self.routers, counts_LE, strict=True):
            bias_E = router.e_score_correction_bias
            error_E = counts_E.float().mean() - counts_E
            bias_E += self.speed * error_E.sign()
            bias_E -= bias_E.mean()
        for counted in self._counts:
            counted.zero_()
        return counts_LE.cpu()

    def remove(self) -> None:
        """Takes the hooks off the model."""
        for hook in self._hooks:
            hook.remove()


def max_violation(counts_LE: torch.Tensor) -> list[float]:
    """Per layer, how far the busiest expert is above its fair share: 0 is even, 1 is twice the share (2408.15664)."""
    mean_L = counts_LE.float().mean(dim=1).clamp(min=1e-9)
    return (counts_LE.amax(dim=1) / mean_L - 1).tolist()
