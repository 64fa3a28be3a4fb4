"""A model on an accelerator reads and draws as it does on the CPU: its inputs are made on its device."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch

from axion.inference.routing import count_reads
from axion.inference.sampling import Sampling
from axion.inference.several import write_texts
from axion.inference.torch_reader import TorchReader
from tests.inference.conftest import PROMPT
from tests.support.accelerator import DEVICE, Accelerator


def test_the_stand_in_refuses_cpu_tensors():
    with Accelerator():
        on_device = torch.tensor([1.0, 2.0], device=DEVICE)
        assert (on_device * 2 + 1).tolist() == [3.0, 5.0]
        assert on_device.view(2, 1).add_(1).cpu().flatten().tolist() == on_device.tolist() == [2.0, 3.0]
        with pytest.raises(RuntimeError, match="same device"):
            on_device + torch.ones(2)


@pytest.fixture
def elsewhere(release):
    """A copy of the tiny model on the stand-in, in whose context the test runs."""
    with Accelerator():
        model = deepcopy(release.model).to(DEVICE)
        assert model.device == DEVICE
        yield model


SAMPLING = Sampling(temperature=1.2, top_k=50, top_p=0.98, repetition_penalty=1.2, min_new_tokens=8, seed=5)


def write(model, ids):
    """Draws, verifies and rewinds; what a reader returned for it."""
    reader = TorchReader(model, SAMPLING, len(ids), {2})
    prompt = reader.read(ids)
    drawn = [reader.draw() for _ in range(6)]
    reader.rewind(len(ids) + 2)
    kept = reader.verify([one.token for one in drawn[2:5]] + [3])
    return prompt, drawn, kept, reader.draw()


def test_a_reader_draws_the_same_tokens(elsewhere, release):
    ids = release.tokenizer(PROMPT).input_ids
    prompt, drawn, kept, last = write(elsewhere, ids)
    expected = write(release.model, ids)
    assert [one.experts for one in prompt] == [one.experts for one in expected[0]]
    assert [one.token for one in (*drawn, *kept, last)] == [
        one.token for one in (*expected[1], *expected[2], expected[3])
    ]
    assert [one.routing.displaced for one in drawn] == [one.routing.displaced for one in expected[1]]


def test_routing_is_counted_the_same(elsewhere, release):
    documents = [[20, 21, 22, 23], [24, 25]]
    for found, wanted in zip(count_reads(elsewhere, documents), count_reads(release.model, documents), strict=True):
        assert found.device.type == "cpu" and torch.equal(found, wanted)


def test_prompts_of_many_texts_are_moved_to_the_model(release):
    devices = []

    def generate(input_ids, attention_mask, **settings):
        devices.extend((input_ids.device, attention_mask.device))
        return torch.zeros(*input_ids.shape, dtype=torch.long)

    model = SimpleNamespace(device=DEVICE, config=release.model.config, generate=generate)
    write_texts(model, [[1], [1, 2, 3]], Sampling(max_new_tokens=4), {2}, backend="torch")
    assert devices == [DEVICE, DEVICE]
