"""Everything that generates, on a real GPU."""

from copy import deepcopy

import pytest
import torch

from axion.evaluation.answers import complete
from axion.inference.readers import pick_backend
from axion.inference.routing import count_reads, expert_favourites
from axion.inference.sampling import Sampling
from axion.inference.stream import make_trace, stream
from axion.inference.torch_reader import TorchReader
from axion.release import Release
from tests.conftest import tiny_documents
from tests.inference.conftest import PROMPT

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SAMPLINGS = [
    Sampling(max_new_tokens=24),
    Sampling(temperature=1.1, top_k=50, top_p=0.95, min_p=0.01, repetition_penalty=1.2, min_new_tokens=9, seed=3),
]


@pytest.fixture(scope="module")
def on_gpu(release):
    return deepcopy(release.model).to("cuda")


def tokens(model, release, sampling, **options):
    return [step.token_id for step in stream(model, release.tokenizer, PROMPT, sampling, backend="auto", **options)]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "sampled"])
def test_a_stream_is_that_of_the_cpu_with_drafts_and_without(sampling, on_gpu, release):
    expected = tokens(release.model, release, sampling)
    assert str(pick_backend(on_gpu)) == "PyTorch: the model is on cuda"
    assert tokens(on_gpu, release, sampling) == expected
    assert tokens(on_gpu, release, sampling, draft_model=on_gpu) == expected
    assert tokens(on_gpu, release, sampling, draft_model=release.model) == expected  # drafts on the CPU
    assert tokens(on_gpu, release, sampling, forced=[30, 31]) == tokens(
        release.model, release, sampling, forced=[30, 31]
    )


def test_a_reader_rewinds_and_verifies(on_gpu, release):
    ids = release.tokenizer(PROMPT).input_ids
    reader = TorchReader(on_gpu, SAMPLINGS[1], len(ids), {2})
    reader.read(ids)
    drawn = [reader.draw().token for _ in range(9)]
    reader.rewind(len(ids) + 3)
    assert [one.token for one in reader.verify([*drawn[3:7], 3])] == drawn[3:7]
    assert [reader.draw().token for _ in range(2)] == drawn[7:]


def test_routing_and_favourites(on_gpu, release):
    documents = [release.tokenizer(text).input_ids for text in tiny_documents()]
    for found, wanted in zip(count_reads(on_gpu, documents), count_reads(release.model, documents), strict=True):
        assert torch.equal(found, wanted)
    assert expert_favourites(on_gpu, release.tokenizer, documents)
    assert make_trace("tiny", on_gpu, release.tokenizer, PROMPT, SAMPLINGS[0], documents)["steps"]


def test_completions(on_gpu, release):
    opened = Release(release.name, release.folder)
    vars(opened)["_model"] = on_gpu
    prompts = ["1 + 1", "2 + 22"]
    assert complete(opened, prompts, 8) == complete(release, prompts, 8)
