"""What the tests of the compiled decoder share."""

from __future__ import annotations

import pytest
import torch

from axion.inference.readers import set_sampling
from axion.inference.routing import RoutingRecorder, TokenRouting
from axion.kernels.decoder import NativeDecoder

PROMPT = "# Pergunta:\nQuanto é 47 + 38?\n--\n# Resposta:\n"
NEAR = 1e-5
"""Tolerance, relative to the largest logit."""


def random_ids(model, count, seed=0):
    return torch.randint(model.config.vocab_size, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.inference_mode()
def reference(model, ids):
    """The model's logits [T, V] and the routing of each token."""
    output = model(torch.tensor([ids]), output_router_logits=True)
    return output.logits[0], RoutingRecorder(model)(output.router_logits, len(ids))


def assert_near(logits_V, expected_V, tolerance=NEAR):
    torch.testing.assert_close(logits_V, expected_V, rtol=0, atol=tolerance * expected_V.abs().max().item())


def assert_routing(decoder, expected):
    for position, wanted in enumerate(expected):
        routing = TokenRouting(wanted.rows, **decoder.routing(position))
        assert (routing.experts, routing.displaced) == (wanted.experts, wanted.displaced)
        for layer_K, wanted_K in zip(routing.gates + routing.affinities, wanted.gates + wanted.affinities, strict=True):
            assert layer_K == pytest.approx(wanted_K, abs=1e-5)


def decoder_for(model, sampling, prompt, ends, weights="fp32", threads=1):
    decoder = NativeDecoder(model, weights, threads)
    set_sampling(decoder, sampling, len(prompt), set(ends))
    decoder.read(prompt)
    return decoder
