"""Muon for matrices, AdamW for everything else, in one optimizer that Trainer can schedule and save.

Muon (Keller Jordan, 2024) replaces a matrix's momentum by the nearest orthogonal matrix, approximated by a few
Newton–Schulz steps. The update is scaled by 0.2·√(largest side), which gives it the RMS of an AdamW update (Liu et al.,
arXiv 2502.16982). torch.optim.Muon accepts 2-D parameters only; here each expert's gate, up and down projections are
matrices of their own, and all matrices of one shape are orthogonalised in one batch. The kernels compute the same,
matrix by matrix.

Shape suffixes in names: N matrices, R rows, C columns.
"""

import ctypes
import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from axion.kernels.dimensions import NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS
from axion.kernels.muon import muon_update
from axion.model.mixture_axion import AxionExperts, AxionRouter
from axion.recipe import TrainingRecipe
from axion.training import eight_bit
from axion.training.sharding import has_part_of_matrix, held, on_whole_matrices, same_mesh, shard_like


def orthogonalise(matrices_NRC: torch.Tensor) -> torch.Tensor:
    """Approximates the nearest (semi-)orthogonal matrices: all singular values end between about 0.7 and 1.2.

    Args:
        matrices_NRC: N matrices of R rows and C columns, R ≤ C.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices_NRC / (matrices_NRC.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class MuonAdamW(torch.optim.AdamW):
    """AdamW, with Muon for the parameter groups that have `muon` set.

    Args:
        groups: parameter groups. A `muon` group also has `momentum`; its parameters are matrices `[R, C]` or stacks of
            them `[N, R, C]`.
        splits: for stacked parameters, how many matrices each slice holds, one below the other (gate and up: 2).
        betas, eps, weight_decay: as in torch.optim.AdamW.
        kernels: from `axion.kernels.build.library`, or None for PyTorch. The optimizer state is the same.
    """

    def __init__(
        self,
        groups: list[dict],
        splits: dict[nn.Parameter, int],
        betas,
        eps: float,
        weight_decay: float = 0.0,
        kernels: ctypes.CDLL | None = None,
    ):
        super().__init__(groups, lr=0.0, betas=betas, eps=eps, weight_decay=0.0, fused=True)
        self._splits = splits
        self._kernels = kernels

    @torch.no_grad()
    def step(self, closure=None):
        groups = self.param_groups
        for group in groups:
            if group["muon"]:
                self._muon_step(group)
        self.param_groups = [
            {**group, "params": parameters}
            for group in groups
            if not group["muon"]
            for parameters in same_mesh(group["params"])
        ]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups

    def load_state_dict(self, state_dict: dict) -> None:
        """Loads the state of whole tensors; of sharded parameters, this process keeps its part."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        state = {
            place: {name: shard_like(value, parameters[place]) for name, value in values.items()}
            for place, values in state_dict["state"].items()
        }
        super().load_state_dict({**state_dict, "state": state})

    def _muon_step(self, group: dict) -> None:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
                state["step"] = torch.zeros(())  # AdamW expects it in every state that it loads
        if self._kernels is not None:
            stacks = [
                (
                    self._as_matrices(parameter, parameter),
                    self._as_matrices(parameter, parameter.grad.contiguous()),
                    self._as_matrices(parameter, self.state[parameter]["momentum"]),
                )
                for parameter in parameters
            ]
            muon_update(self._kernels, stacks, group["lr"], group["momentum"], group["weight_decay"])
            return
        by_shape: dict[tuple, list] = {}
        rows_by_shape: dict[tuple, list] = {}
        for parameter in parameters:
            gradient, momentum = held(parameter.grad), held(self.state[parameter]["momentum"])
            momentum.lerp_(gradient, 1 - group["momentum"])
            nesterov = gradient.lerp(momentum, group["momentum"])
            if has_part_of_matrix(parameter):
                rows_by_shape.setdefault(parameter.shape, []).append((parameter, nesterov))
                continue
            matrices = self._as_matrices(parameter, nesterov)
            if matrices.shape[1] > matrices.shape[2]:
                matrices = matrices.mT
            by_shape.setdefault(matrices.shape[1:], []).append((parameter, matrices))
        for entries in by_shape.values():
            updates = _muon_direction(torch.cat([matrices for _, matrices in entries]))
            for (parameter, _), update in zip(entries, updates.split([len(m) for _, m in entries]), strict=True):
                target = self._as_matrices(parameter, held(parameter))
                _apply(update if target.shape == update.shape else update.mT, target, group)
        for entries in rows_by_shape.values():
            updates = on_whole_matrices(_muon_direction, [rows for _, rows in entries], like=entries[0][0])
            for (parameter, _), update in zip(entries, updates, strict=True):
                _apply(update, held(parameter), group)

    def _as_matrices(self, parameter: nn.Parameter, values: torch.Tensor) -> torch.Tensor:
        """A view `[N, R, C]` of values that have the parameter's shape, or of the part of it that is held here."""
        rows, columns = parameter.shape[-2] // self._splits.get(parameter, 1), parameter.shape[-1]
        return values.view(values.numel() // (rows * columns), rows, columns)


def _muon_direction(matrices_NRC: torch.Tensor) -> torch.Tensor:
    """The orthogonal matrices, scaled to the size of an AdamW update."""
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    orthogonal_NRC = orthogonalise(matrices_NRC.mT).mT if tall else orthogonalise(matrices_NRC)
    return orthogonal_NRC * (0.2 * max(matrices_NRC.shape[1:]) ** 0.5)


def _apply(update: torch.Tensor, target: torch.Tensor, group: dict) -> None:
    """Decays a weight and moves it against an update, in place."""
    target.mul_(1 - group["lr"] * group["weight_decay"])
    target.sub_(update, alpha=group["lr"])


def build_optimizer(
    model: PreTrainedModel, training: TrainingRecipe, kernels: ctypes.CDLL | None = None
) -> torch.optim.Optimizer:
    """The recipe's optimizer: Muon (or AdamW) for matrices and experts, AdamW for embeddings, norms and router.

    Frozen parameters are left out. "adamw8bit" is built as such; see `axion.training.eight_bit.unavailable_reason`.
    """
    # in the model's order: the optimizer's state is saved by position
    routers = [
        parameter
        for module in model.modules()
        if isinstance(module, AxionRouter)
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    special = set(routers)
    embeddings = {p for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    if (head := model.get_output_embeddings()) is not None:
        embeddings.update(head.parameters())
    experts = [module for module in model.modules() if isinstance(module, AxionExperts)]
    splits = {module.get_parameter("gate_up_proj"): 2 for module in experts}
    matrices, others = [], []
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.numel() and parameter not in special:  # no shared expert: width 0
            (matrices if parameter.ndim >= 2 and parameter not in embeddings else others).append(parameter)
    muon = training.optimizer == "muon"
    groups = [
        {
            "params": matrices,
            "muon": muon,
            "momentum": training.muon_momentum,
            "lr": training.muon_learning_rate if muon else training.learning_rate,
            "weight_decay": training.weight_decay,
        },
        {"params": others, "muon": False, "lr": training.learning_rate},
        {"params": routers, "muon": False, "lr": training.router_learning_rate},
    ]
    if training.optimizer == "adamw8bit":
        # as in transformers' Trainer, the state of embeddings stays whole
        groups = [{"weight_decay": 0.0, "whole_state": group["params"] is not matrices, **group} for group in groups]
    groups = [group for group in groups if group["params"]]
    if training.optimizer == "adamw8bit":
        return eight_bit.make(groups, betas=training.adam_betas, eps=training.adam_epsilon)
    return MuonAdamW(groups, splits, betas=training.adam_betas, eps=training.adam_epsilon, kernels=kernels)


def build_schedule(optimizer: torch.optim.Optimizer, training: TrainingRecipe, steps: int) -> LambdaLR:
    """The learning-rate factor of each step: warm-up, constant, then decay, which is linear (wsd) or half a cosine.

    The warm-up ends with a factor of 1, and the last step has `final_rate`, unless the schedule has no decay: it is all
    warm-up, or has a `decay_fraction` of 0. The schedule "cosine" decays from the warm-up on. After each of
    `training.restarts` it starts again, and runs its course over the steps up to the next one or the end.
    """
    ends = [*training.restarts, steps]

    def factor(step: int) -> float:
        """For the step after `step` others."""
        end = next((end for end in ends if step < end), steps)
        begin = max((restart for restart in training.restarts if restart < end), default=0)
        return factor_of(step - begin, end - begin)

    def factor_of(step: int, steps: int) -> float:
        """For the step after `step` others of a schedule over `steps`."""
        warmup = min(training.warmup_steps, steps)
        if step < warmup:
            return (step + 1) / warmup
        left = max(steps - 1 - step, 0)
        if training.schedule == "cosine":
            remaining = left / max(steps - warmup, 1)
        else:
            decay_steps = round(steps * training.decay_fraction)
            remaining = min(left / decay_steps, 1.0) if decay_steps else 1.0
        if training.schedule != "wsd":
            remaining = 0.5 * (1 - math.cos(math.pi * remaining))
        return training.final_rate + (1 - training.final_rate) * remaining

    return LambdaLR(optimizer, factor)
