"""Several texts that the compiled decoder writes at once."""

from __future__ import annotations

import pytest

from axion.errors import AxionError
from axion.inference.sampling import Sampling, Uniforms
from axion.kernels.decoder import NativeDecoder, draw_several
from tests.kernels.conftest import ALL_SHAPES, LOOPED_EXPERTS
from tests.kernels.decoding import assert_near, decoder_for, random_ids


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", ["plain", LOOPED_EXPERTS])
def test_several_texts_are_written_together_as_alone(shape, threads, make_model):
    model = make_model(**ALL_SHAPES[shape]).eval()
    prompts = [random_ids(model, length, seed=length) for length in (3, 40, 17, 1, 29)]
    ends = {random_ids(model, 200)[0]}
    pairs = []
    for prompt in prompts:
        sampling = Sampling(temperature=1.0, repetition_penalty=1.2, max_new_tokens=20)
        pairs.append([decoder_for(model, sampling, prompt, ends, threads=threads) for _ in range(2)])
    pairs[2][1].choose()  # its logits are there already
    uniforms = Uniforms(3)
    for index in range(20):
        numbers = [uniforms[5 * index + text] for text in range(len(pairs))]
        alone = [one.draw(number) for (one, _), number in zip(pairs, numbers, strict=True)]
        assert draw_several([one for _, one in pairs], numbers) == alone
        for one, together in pairs:
            assert together.probabilities().top_ids == one.probabilities().top_ids
    for one, together in pairs:
        assert_near(together.logits(), one.logits(), 1e-4)
        assert [one.routing(i)["experts"] for i in range(one.length)] == [
            together.routing(i)["experts"] for i in range(together.length)
        ]


def test_texts_that_cannot_be_written_together_are_refused(release):
    one, bf16, new = NativeDecoder(release.model), NativeDecoder(release.model, "bf16"), NativeDecoder(release.model)
    one.read([1])
    bf16.read([1])
    for decoders, message in (
        ([], "1 to 96 different decoders, not 0"),
        ([one, one], "different decoders"),
        ([one, bf16], "the same weights"),
        ([one, new], "nothing was read"),
    ):
        with pytest.raises(AxionError, match=message):
            draw_several(decoders)
    with pytest.raises(AxionError, match="1 texts need as many random numbers, not 2"):
        draw_several([one], [0.0, 0.1])
    assert one.length == 1
