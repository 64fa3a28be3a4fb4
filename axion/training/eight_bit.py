"""AdamW with its state in 8 bits, by bitsandbytes, where that is installed and works."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import version

import torch

from axion.errors import one_line

SMALLEST = 4096
"""Values of the smallest tensor whose state has 8 bits: bitsandbytes' own default."""


@cache
def unavailable_reason() -> str | None:
    """Why bitsandbytes cannot be used on this machine, in one line; None where one step of it works."""
    try:
        parameter = torch.nn.Parameter(torch.ones(SMALLEST, device="cuda" if torch.cuda.is_available() else "cpu"))
        parameter.grad = torch.ones_like(parameter)
        make([{"params": [parameter], "lr": 0.1, "weight_decay": 0.0}], betas=(0.9, 0.95), eps=1e-8).step()
    except ModuleNotFoundError:
        return "bitsandbytes is not installed"
    except Exception as error:  # of a library without this machine's processor or driver: various
        return f"bitsandbytes does not work here: {one_line(error, 120)}"
    moved = parameter.detach()
    return None if (moved < 1).all() else "bitsandbytes does not work here: its step changed nothing"


def make(groups: list[dict], betas, eps: float) -> torch.optim.Optimizer:
    """bitsandbytes' AdamW over parameter groups; those that have `whole_state` keep their state in 32 bits."""
    optim = import_module("bitsandbytes.optim")

    class AdamW8bit(optim.AdamW8bit):
        def get_config(self, gindex, pindex, group):
            config = super().get_config(gindex, pindex, group)
            return config | ({"optim_bits": 32} if group.get("whole_state") else {})

    return AdamW8bit(groups, lr=0.0, betas=betas, eps=eps, weight_decay=0.0, min_8bit_size=SMALLEST)


def description() -> str:
    """The library and its version."""
    return f"bitsandbytes {version('bitsandbytes')}"
