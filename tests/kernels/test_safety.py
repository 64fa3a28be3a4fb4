"""What would write out of bounds or end the process: a config that has changed, and too little memory."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from axion.inference.readers import pick_backend
from axion.kernels.blocks import KernelOutput, use_kernels
from axion.kernels.build import Unavailable, library
from axion.kernels.decoder import NativeDecoder
from axion.kernels.functions import _Batch, call
from axion.model.configuration_axion import AxionConfig
from tests.conftest import TINY
from tests.kernels.conftest import GROUPED

CHANGES = [
    ({"dropout": 0.3}, "model was built with dropout 0.0, and it would now be 0.3"),
    ({"rms_norm_eps": 1e-3}, "model was built with rms_norm_eps 1e-06"),
    ({"num_shared_layers": 1}, "model was built with shared_layers range(1, 1)"),
    ({"first_k_dense_replace": 1}, "model.layers.0 was built with experts True, and it would now be False"),
    ({"rope_interleave": False}, "model.layers.0.self_attn was built with rope_interleave True"),
    ({"num_experts_per_tok": 1}, "model.layers.0.mlp.gate was built with num_experts_per_tok 2"),
    ({"n_group": 2}, "model.layers.0.mlp.gate was built with n_group and topk_group (1, 1)"),
    ({"norm_topk_prob": False}, "model.layers.0.mlp.gate was built with norm_topk_prob True"),
    ({"routed_scaling_factor": 2.0}, "model.layers.0.mlp.gate was built with routed_scaling_factor 1.0"),
    ({"v_head_dim": 8, "num_attention_heads": 4, "num_key_value_heads": 4}, "was built with sizes"),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "mscale_all_dim": 1.0}}, "scaling"),
]
"""Values of the config that a model was not built with, and the reason that is given."""


@pytest.mark.parametrize(("changes", "reason"), CHANGES, ids=str)
def test_a_model_whose_config_has_changed_is_refused(make_model, changes, reason):
    model = make_model()
    vars(model.config).update(changes)
    with pytest.raises(Unavailable):
        use_kernels(model)
    with pytest.raises(Unavailable) as refused:
        NativeDecoder(model)
    assert reason in str(refused.value) and "\n" not in str(refused.value)
    assert str(pick_backend(model)) == f"PyTorch: {refused.value}"


def test_a_grouped_model_whose_config_has_changed_is_refused(make_model):
    model = make_model(**GROUPED, first_k_dense_replace=2)
    vars(model.config).update({"head_dim": 16, "qk_head_dim": 16, "num_attention_heads": 2, "num_key_value_heads": 1})
    assert "model.layers.0.self_attn was built with scaling" in pick_backend(model).why


@pytest.mark.parametrize("changes", [{"num_experts_per_tok": 1}, {"vocab_size": 100}, {"routed_scaling_factor": 2.0}])
def test_a_config_that_changes_after_the_kernels_are_in_place_takes_pytorch(make_model, changes):
    """With fewer experts per token the kernels would write beyond the tensor of choices."""
    model = make_model()
    use_kernels(model)
    ids = torch.arange(20).unsqueeze(0)
    with torch.no_grad():
        assert isinstance(model(ids, use_cache=False), KernelOutput)
        model.config.bos_token_id = 7  # changes nothing that is computed
        assert isinstance(model(ids, use_cache=False), KernelOutput)
        vars(model.config).update(changes)
        assert not isinstance(model(ids, use_cache=False), KernelOutput)


def test_a_decoder_keeps_the_sizes_that_it_was_made_with(make_model):
    model = make_model()
    decoder = NativeDecoder(model)
    model.config.max_position_embeddings *= 2
    assert decoder.room == 128


@contextmanager
def little_memory() -> Iterator[None]:
    """Allows 64 MiB more than this process has already."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="the limit holds on Linux alone")
@pytest.mark.parametrize(("count", "threads"), [(1, 1), (2, 2)])
def test_too_little_memory_is_an_error(count, threads):
    """In the caller's thread, and in threads that share the sequences. It is raised before anything is read."""
    kernels = library(AxionConfig(**TINY), "training")
    numbers = torch.zeros(2**16)
    at = numbers.data_ptr()
    parameters = (ctypes.c_void_p * 8)(*[at] * 8)
    batch = _Batch(count=count, tokens=2**28, cos=at, sin=at, hidden=at, heads=at, sums=at)
    with little_memory(), pytest.raises(MemoryError, match="for the kernels; a smaller batch_size or a shorter"):
        call(kernels.axion_attention_forward, parameters, ctypes.byref(batch), ctypes.c_void_p(at), threads)
