"""Drafts that the compiled decoder verifies, and the guesses of multi-token prediction."""

from __future__ import annotations

import pytest
import torch

from axion.errors import AxionError
from axion.inference.sampling import Sampling, Uniforms
from axion.kernels.decoder import NativeDecoder
from tests.kernels.conftest import FACTORS, FAMILY_SHAPES, LOOPED_EXPERTS
from tests.kernels.decoding import PROMPT, assert_near, assert_routing, decoder_for, random_ids, reference

PREDICTS = {"num_nextn_predict_layers": 1, "first_k_dense_replace": 1}


@pytest.mark.parametrize("shape", [LOOPED_EXPERTS, FACTORS])
def test_every_shape_rewinds_and_verifies_drafts(shape, make_model):
    model = make_model(**FAMILY_SHAPES[shape]).eval()
    ids = random_ids(model, 40)
    decoder, fresh = NativeDecoder(model), NativeDecoder(model)
    decoder.read(ids)
    text = [decoder.draw() for _ in range(12)]
    decoder.rewind(45)
    assert_near(decoder.logits(), reference(model, [*ids, *text[:5]])[0][-1])
    decoder.rewind(11)  # into the prompt, where the last layer was not computed to its end
    assert_near(decoder.logits(), reference(model, ids[:11])[0][-1])
    fresh.read(ids)
    wrong = (text[7] + 1) % model.config.vocab_size
    assert len(fresh.verify([*text[:7], wrong, *text[8:]], [0.0] * 12)) == 7
    assert [fresh.draw() for _ in range(5)] == text[7:]
    assert_routing(fresh, reference(model, [*ids, *text])[1])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_a_draft_is_accepted_up_to_the_first_difference(kind, threads, release):
    sampling = Sampling(temperature=1.5, repetition_penalty=1.4, min_new_tokens=200, max_new_tokens=200)
    prompt, ends = release.tokenizer(PROMPT).input_ids, {2, 300}
    uniforms = Uniforms(5)
    plain, drafted = (decoder_for(release.model, sampling, prompt, ends, kind, threads) for _ in range(2))
    text, probabilities = [], []
    for index in range(130):
        text.append(plain.draw(uniforms[index]))
        probabilities.append(plain.probabilities())
    done = 0
    for good, bad in [(0, 3), (5, 0), (3, 4), (1, 1), (105, 7), (2, 0)]:  # 105 tokens are read by several threads
        wrong = [(token + 1) % 1024 for token in text[done + good : done + good + bad]]
        draft = text[done : done + good] + wrong
        assert drafted.choose(uniforms[done]) == text[done]
        kept = drafted.verify(draft, [uniforms[done + index] for index in range(len(draft))])
        for found, wanted in zip(kept, probabilities[done : done + good], strict=True):
            assert found.top_ids == wanted.top_ids
            assert [found.probability, *found.top_probabilities] == pytest.approx(
                [wanted.probability, *wanted.top_probabilities], rel=1e-3
            )
        done += good
        assert drafted.length == len(prompt) + done
        assert drafted.choose(uniforms[done]) == text[done]
    fresh = NativeDecoder(release.model, kind)
    fresh.read([*prompt, *text[:done]])
    assert_near(drafted.logits(), fresh.logits(), 1e-4)
    assert [drafted.routing(position)["experts"] for position in range(drafted.length)] == [
        fresh.routing(position)["experts"] for position in range(fresh.length)
    ]


def test_an_end_of_text_token_is_never_accepted(release):
    prompt = release.tokenizer(PROMPT).input_ids
    free = decoder_for(release.model, Sampling(), prompt, set())
    text = [free.draw() for _ in range(6)]
    first = text.index(text[3])
    decoder = decoder_for(release.model, Sampling(), prompt, {text[3]})
    assert len(decoder.verify(text, [0.0] * 6)) == first
    assert decoder.choose() is None and decoder.draw() is None
    with pytest.raises(AxionError, match="2 tokens need as many random numbers, not 1"):
        decoder.verify(text[:2], [0.0])


@pytest.mark.parametrize("threads", [1, 3])
def test_guesses_are_those_of_the_layer_of_multi_token_prediction(threads, make_model):
    """Against one pass over the whole text; the norms of the two heads differ."""
    model = make_model(**PREDICTS).eval()
    torch.manual_seed(3)
    layer = model.attach_mtp().eval()
    for name, weight in layer.state_dict().items():
        if "norm" in name:
            weight.uniform_(0.5, 1.5)
    decoder, text = NativeDecoder(model, threads=threads), random_ids(model, 60)

    def expected(token):
        with torch.no_grad():
            hidden = model.model(torch.tensor([text])).last_hidden_state
            best = model.lm_head(model.mtp_hidden(torch.tensor([[*text[1:], token]]), hidden))[0, -1].topk(2).values
            assert best[0] - best[1] > 1e-4
            return model.lm_head(model.mtp_hidden(torch.tensor([[*text[1:], token]]), hidden))[0, -1].argmax().item()

    decoder.read(text[:-1])
    decoder.draw(forced=text[-1])
    for token in (5, 5, 6):  # the last one replaces what followed the last position
        assert decoder.guess(token) == expected(token)
    for token in (7, 8):
        decoder.draw(forced=token)
        text.append(token)
    assert decoder.guess(9) == expected(9)
    assert len(decoder.verify([wrong := (decoder.choose() + 1) % 320], [0.0])) == 0
    assert decoder.guess(wrong) == expected(wrong)
    decoder.rewind(20)
    del text[20:]
    assert decoder.guess(11) == expected(11)
    decoder.set_sampling(ends=[expected(11)])
    assert decoder.guess(11) is None
    assert_near(decoder.logits(), reference(model, text)[0][-1])
    with pytest.raises(AxionError, match="no token 320"):
        decoder.guess(320)


def test_multi_token_prediction_that_is_not_loaded_changes_nothing(make_model):
    model = make_model(**PREDICTS).eval()
    decoder, ids = NativeDecoder(model), random_ids(model, 20)
    decoder.read(ids)
    assert_near(decoder.logits(), reference(model, ids)[0][-1])
    with pytest.raises(AxionError, match="no layer of multi-token prediction"):
        decoder.guess(1)
