"""A simulated accelerator: the meta device, with tensors that have values here and refuse CPU tensors."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")


class Accelerator(TorchDispatchMode):
    """Within this context, operations on meta tensors compute real values, as on a GPU.

    The values are in CPU memory, found by the storage of the meta tensor. An operation that mixes meta tensors and CPU
    tensors other than scalars raises RuntimeError, as CUDA does.
    """

    def __init__(self):
        super().__init__()
        self._memory: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self._functions = _Functions()

    def __enter__(self):
        self._functions.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._functions.__exit__(*error)

    @torch.inference_mode(False)  # views of ordinary tensors must be ordinary tensors
    @torch.no_grad()
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        leaves = pytree.tree_leaves((args, kwargs or {}))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        is_copy = func._schema.name in ("aten::_to_copy", "aten::to", "aten::copy_")
        on_device = any(tensor.is_meta for tensor in tensors)
        if not is_copy and on_device and any(not tensor.is_meta and tensor.ndim for tensor in tensors):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found meta and cpu")
        for device in (leaf for leaf in leaves if isinstance(leaf, torch.device)):
            on_device = device == DEVICE
        args, kwargs = pytree.tree_map_only(torch.device, lambda _: torch.device("cpu"), (args, kwargs or {}))
        args, kwargs = pytree.tree_map_only(torch.Tensor, self.values, (args, kwargs))
        results = func(*args, **kwargs)
        if func._schema.is_mutable:
            return tensors[0] if isinstance(results, torch.Tensor) else results
        return pytree.tree_map_only(torch.Tensor, self._on_device, results) if on_device else results

    def values(self, tensor: torch.Tensor) -> torch.Tensor:
        """The values of a tensor, in CPU memory."""
        if not tensor.is_meta:
            return tensor
        _, memory = self._memory[tensor.untyped_storage()._cdata]
        values = torch.empty(0, dtype=tensor.dtype)
        return values.set_(memory, tensor.storage_offset(), tensor.shape, tensor.stride())

    def _on_device(self, values: torch.Tensor) -> torch.Tensor:
        storage = torch.empty(values.untyped_storage().nbytes(), dtype=torch.uint8, device=DEVICE).untyped_storage()
        self._memory[storage._cdata] = storage, values.untyped_storage()
        tensor = torch.empty(0, dtype=values.dtype, device=DEVICE)
        return tensor.set_(storage, values.storage_offset(), values.shape, values.stride())


class _Functions(TorchFunctionMode):
    """`torch.tensor(…, device=DEVICE)` forgets the values before a dispatch mode sees them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == "meta":
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)
