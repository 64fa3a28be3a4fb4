"""A quantized weight, for tests of code that reads weights."""

import torch
from torch import nn


class Int8Weight(torch.Tensor):
    """An int8 weight like torchao's: a tensor subclass that only `F.linear` supports."""

    @staticmethod
    def __new__(cls, weight: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(cls, weight.shape, dtype=weight.dtype, requires_grad=False)

    def __init__(self, weight: torch.Tensor):
        self.scale = weight.abs().amax(dim=1, keepdim=True) / 127
        self.stored = (weight / self.scale).round().to(torch.int8)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is nn.functional.linear:
            inputs, weight, *bias = args
            return nn.functional.linear(inputs, weight.stored * weight.scale, *bias)
        return super().__torch_function__(function, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(f"{function} on an int8 weight")
