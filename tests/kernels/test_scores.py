"""Scores of given texts against the PyTorch model, and texts that are drawn together, to the last bit."""

import pytest
import torch

from axion.errors import AxionError
from axion.kernels.decoder import NativeDecoder, draw_several
from tests.kernels.conftest import ALL_SHAPES, LOOPED_EXPERTS
from tests.kernels.decoding import NEAR, random_ids, reference


@pytest.mark.parametrize("shape", ["plain", LOOPED_EXPERTS])
def test_scores_are_the_models(shape, make_model):
    model = make_model(**ALL_SHAPES[shape]).eval()
    ids = random_ids(model, 128)
    expected_TV = reference(model, ids)[0].log_softmax(-1)
    near = NEAR * expected_TV.abs().max().item()
    for threads, read in ((1, 0), (3, 0), (1, 17)):
        decoder = NativeDecoder(model, threads=threads)
        if read:
            decoder.read(ids[:read])
        scores = torch.from_numpy(decoder.score(ids[read:]))
        following = torch.tensor(ids[read + 1 :])
        wanted = expected_TV[read:-1].gather(1, following[:, None])[:, 0]
        torch.testing.assert_close(scores, wanted, rtol=0, atol=near)
        assert decoder.length == 128
        decoder.rewind(read)
        for position, found in enumerate(decoder.score_with_alternatives(ids[read:]), start=read):
            assert found.probability == pytest.approx(wanted[position - read].exp().item(), rel=1e-4)
            best = expected_TV[position].exp().topk(5)
            assert found.top_ids == best.indices.tolist()
            assert found.top_probabilities == pytest.approx(best.values.tolist(), rel=1e-4)


def test_a_scored_text_can_be_continued(make_model):
    model = make_model().eval()
    ids = random_ids(model, 30)
    read, scored = NativeDecoder(model), NativeDecoder(model)
    read.read(ids)
    assert len(scored.score(ids[:1])) == 0 and scored.score_with_alternatives(ids[1:2]) == []
    scored.score(ids[2:])
    assert [scored.draw() for _ in range(20)] == [read.draw() for _ in range(20)]
    assert scored.routing(29) == read.routing(29)
    with pytest.raises(AxionError, match="cannot read 0 tokens"):
        scored.score([])


@pytest.mark.parametrize("shape", ["plain", LOOPED_EXPERTS])
def test_a_text_does_not_depend_on_those_that_are_drawn_with_it(shape, make_model):
    """Batches of any size, so that products and experts have one row, a few, and more than fit into registers."""
    model = make_model(**ALL_SHAPES[shape]).eval()
    prompts = [random_ids(model, length, seed=length) for length in range(3, 16)]

    def write(sizes):
        decoders = [NativeDecoder(model) for _ in prompts]
        for decoder, prompt in zip(decoders, prompts, strict=True):
            decoder.read(prompt)
        for _ in range(8):
            left, batches = list(decoders), iter(sizes)
            while left:
                size = next(batches, 1)
                draw_several(left[:size])
                del left[:size]
        return torch.stack([decoder.logits() for decoder in decoders])

    alone_NV = write([])
    for sizes in ([13], [7, 6], [2, 3, 8], [5, 1, 7]):
        assert torch.equal(write(sizes), alone_NV)
