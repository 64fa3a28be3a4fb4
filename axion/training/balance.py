"""Load balancing without an auxiliary loss: routing biases that are updated after every optimizer step.

Each router's choices are counted during training and summed over gradient accumulation and processes. After the step,
the bias of an expert with fewer tokens than the mean rises by γ, and that of an expert with more falls by γ
(DeepSeek-V3 report, arXiv 2412.19437, section 2.1.2; Wang et al., arXiv 2408.15664). The biases of a layer are centred
on zero: only their differences matter.

Shape suffixes in names: L mixture layers, E routed experts, T tokens, K experts per token.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from axion.model.mixture_axion import AxionRouter
from axion.training import parallel


class ExpertBalancer:
    """Counts the choices of a model's routers and updates their biases.

    Args:
        model: any model with `AxionRouter`s. Forward hooks count the choices of routers in training mode; a forward
            pass that does not call the routers has to call `count` itself.
        speed: γ; 0 counts without updating.
    """

    def __init__(self, model: nn.Module, speed: float):
        self.routers = [module for module in model.modules() if isinstance(module, AxionRouter)]
        self.speed = speed
        self._is_paused = False
        self._counts = [torch.zeros_like(_bias(router), dtype=torch.long) for router in self.routers]
        self._hooks = [router.register_forward_hook(self._counter(layer)) for layer, router in enumerate(self.routers)]

    def _counter(self, layer: int) -> Callable[[nn.Module, tuple, tuple], None]:
        def hook(router: nn.Module, _inputs: tuple, outputs: tuple) -> None:
            if router.training and not self._is_paused:
                _, _, experts_TK = outputs
                self.count(layer, experts_TK)

        return torch.compiler.disable(hook)  # pyright: ignore[reportReturnType]  # its stub loses the type

    def count(self, layer: int, experts_TK: torch.Tensor) -> None:
        """Adds the choices `[T, K]` of one pass through the router of a mixture layer, numbered from 0."""
        counted = experts_TK.flatten().bincount(minlength=len(self._counts[layer]))
        self._counts[layer] = self._counts[layer].to(counted.device) + counted

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block nothing is counted, as where a forward pass is repeated for the backward pass."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    @torch.no_grad()
    def step(self) -> torch.Tensor:
        """Updates every bias by the counts since the last step, and returns these counts `[L, E]` of all processes."""
        if not self.routers:
            return torch.zeros(0, 0, dtype=torch.long)
        counts_LE = parallel.sum_over_processes(torch.stack(self._counts))
        for router, counts_E in zip(self.routers, counts_LE, strict=True):
            if self.speed:  # centring alone could change the last bits of a bias
                bias_E = _bias(router)
                error_E = counts_E.float().mean() - counts_E
                bias_E += self.speed * error_E.sign()
                bias_E -= bias_E.mean()
        for counted in self._counts:
            counted.zero_()
        return counts_LE.cpu()

    def remove(self) -> None:
        """Removes the hooks from the model."""
        for hook in self._hooks:
            hook.remove()


def _bias(router: AxionRouter) -> torch.Tensor:
    return router.get_buffer("e_score_correction_bias")


def max_violation(counts_LE: torch.Tensor) -> list[float]:
    """MaxVio of arXiv 2408.15664 per layer: the busiest expert's load over the mean load, minus 1. 0 is even."""
    if not len(counts_LE):
        return []
    mean_L = counts_LE.float().mean(dim=1).clamp(min=1e-9)
    return (counts_LE.amax(dim=1) / mean_L - 1).tolist()
