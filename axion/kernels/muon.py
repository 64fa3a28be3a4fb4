"""Muon's update on the kernels: csrc/training/muon.cpp."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from axion.kernels.functions import call


class _Matrix(ctypes.Structure):
    """csrc/training/muon.cpp's struct of this name."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weight", "gradient", "momentum")),
        *((name, ctypes.c_int32) for name in ("rows", "columns")),
    )


def muon_update(
    kernels: ctypes.CDLL,
    stacks: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    rate: float,
    momentum: float,
    decay: float,
) -> None:
    """Moves weights and momenta by one step of Muon, in place.

    Args:
        kernels: from `axion.kernels.build.library`.
        stacks: weight, gradient and momentum of each parameter, all seen as contiguous [N, R, C]: N matrices of R rows.
        rate, momentum, decay: the learning rate, β and the decoupled weight decay.

    Raises:
        MemoryError: there was not enough memory; some matrices may have been moved.
    """
    matrices = []
    for weight, gradient, averaged in stacks:
        count, rows, columns = weight.shape
        size = rows * columns * weight.element_size()
        starts = (weight.data_ptr(), gradient.data_ptr(), averaged.data_ptr())
        matrices += [_Matrix(*(start + n * size for start in starts), rows, columns) for n in range(count)]
    settings = (ctypes.c_float(value) for value in (rate, momentum, decay))
    array = (_Matrix * len(matrices))(*matrices)
    call(kernels.axion_muon, array, len(matrices), *settings, torch.get_num_threads())
