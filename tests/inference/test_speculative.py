"""Speculative decoding gives the text of plain decoding, in fewer passes with better drafts."""

import shutil
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from axion.errors import AxionError
from axion.inference.routing import RoutingRow, routers
from axion.inference.sampling import Sampling
from axion.inference.speculative import Acceptance
from axion.inference.stream import stream
from axion.inference.torch_reader import MTPDrafter, TorchReader
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.release import Release, open_release
from tests.conftest import TINY
from tests.inference.conftest import PROMPT

SAMPLINGS = [
    Sampling(max_new_tokens=24),
    Sampling(temperature=1.0, top_k=50, max_new_tokens=24, seed=3),
    Sampling(temperature=1.3, top_p=0.95, repetition_penalty=1.3, min_new_tokens=20, max_new_tokens=24, seed=2**53 - 1),
]


@pytest.fixture(scope="module")
def noisy(release):
    """The tiny model with noise in its weights, which drafts some tokens right and some wrong."""
    model = deepcopy(release.model)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    return model


def smaller(**changes):
    torch.manual_seed(4)
    return AxionForCausalLM(AxionConfig(**TINY | {"num_hidden_layers": 1} | changes)).eval()


def generate(release, sampling, prompt=PROMPT, **options):
    return list(stream(release.model, release.tokenizer, prompt, sampling, **options))


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        same = {"probability": 0.0, "alternatives": [], "routing": None, "seconds": 0.0}
        assert replace(one, **same) == replace(other, **same)
        assert (one.routing.experts, one.routing.displaced) == (other.routing.experts, other.routing.displaced)
        assert [id_ for id_, _, _ in one.alternatives] == [id_ for id_, _, _ in other.alternatives]
        assert (one.probability or 0) == pytest.approx(other.probability or 0, rel=1e-3)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "sampled", "penalised"])
def test_the_text_is_that_of_plain_decoding(sampling, backend, release, noisy):
    plain = generate(release, sampling, backend=backend)
    assert_same(generate(release, sampling, backend=backend, draft_model=noisy), plain)
    forced = [30, 31, plain[-1].token_id]
    assert_same(
        generate(release, sampling, backend=backend, draft_model=noisy, forced=forced),
        generate(release, sampling, backend=backend, forced=forced),
    )


def test_a_smaller_model_can_draft_and_good_drafts_save_passes(release, noisy, monkeypatch):
    passes = []
    decoder = release.model.model
    forward = decoder.forward
    monkeypatch.setattr(decoder, "forward", lambda *args, **named: passes.append(1) or forward(*args, **named))
    counts = {}
    for name, draft_model in {
        "none": None,
        "smaller": smaller(),
        "noisy": noisy,
        "same": deepcopy(noisy).eval(),
    }.items():
        if name == "same":
            draft_model.load_state_dict(release.model.state_dict())
        passes.clear()
        steps = generate(release, SAMPLINGS[2], backend="torch", draft_model=draft_model)
        counts[name] = len(passes)
        if name == "none":
            plain = steps
        assert_same(steps, plain)
    tokens = sum(not step.is_prompt for step in plain)
    assert counts["none"] == 1 + tokens
    assert counts["same"] <= 2 + tokens // 4
    assert counts["same"] < counts["noisy"] < counts["smaller"] <= counts["none"]


def test_the_text_ends_where_it_would_without_drafts(release, noisy, monkeypatch, backend):
    sampling = replace(SAMPLINGS[0], max_new_tokens=1000)
    monkeypatch.setattr("axion.inference.stream.end_tokens", lambda *_: set())
    prompt = list(range(20, 130))
    plain = generate(release, sampling, prompt, backend=backend)
    assert len(plain) == release.config.max_position_embeddings
    assert_same(generate(release, sampling, prompt, backend=backend, draft_model=noisy), plain)
    ends = {plain[-8].token_id}
    monkeypatch.setattr("axion.inference.stream.end_tokens", lambda *_: ends)
    ended = generate(release, sampling, prompt, backend=backend)
    assert len(prompt) <= len(ended) < len(plain)
    assert_same(generate(release, sampling, prompt, backend=backend, draft_model=noisy), ended)


def test_a_draft_model_with_a_shorter_context_stops_drafting(release):
    prompt = len(release.tokenizer(PROMPT).input_ids)
    drafter = smaller(max_position_embeddings=prompt + 10)
    plain = generate(release, SAMPLINGS[1], backend="torch")
    assert_same(generate(release, SAMPLINGS[1], backend="torch", draft_model=drafter), plain)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 319}, r"the draft model has 319 tokens, the model 320; both must share a tokenizer"),
        ({"max_position_embeddings": 8}, r"the prompt has \d+ tokens, the draft model's context 8; shorten it"),
    ],
)
def test_a_draft_model_that_does_not_fit_is_refused_at_the_call(changes, message, release):
    with pytest.raises(AxionError, match=message):
        stream(release.model, release.tokenizer, PROMPT, SAMPLINGS[0], draft_model=smaller(**changes))


# --- Multi-token prediction -------------------------------------------------------------------------------------------

PREDICTS_TWO = TINY | {"num_nextn_predict_layers": 1, "first_k_dense_replace": 1}


@pytest.fixture(scope="module")
def predictor(tiny_release, tmp_path_factory) -> Release:
    """A release with random weights and a layer of multi-token prediction, whose guesses are sometimes right."""
    folder = tmp_path_factory.mktemp("mtp") / "axion-mtp"
    shutil.copytree(tiny_release, folder)
    torch.manual_seed(5)
    model = AxionForCausalLM(AxionConfig(**PREDICTS_TWO))
    model.attach_mtp()
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    text = torch.arange(20, 120).repeat(8).view(8, 100)
    for _ in range(20):  # long enough to learn some of the text, not all of it
        loss = model(text, labels=text, mtp_weight=1.0).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return open_release(folder)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "sampled", "penalised"])
def test_the_layer_that_drafts_changes_no_text(sampling, backend, predictor):
    plain = generate(predictor, sampling, backend="torch")
    acceptance = Acceptance()
    options = {"mtp": True, "acceptance": acceptance, "backend": backend}
    model = predictor.mtp_model
    assert_same(list(stream(model, predictor.tokenizer, PROMPT, sampling, **options)), plain)
    assert 0 <= acceptance.accepted <= acceptance.guessed <= sampling.max_new_tokens
    forced = [30, 31, plain[-1].token_id]
    assert_same(
        list(stream(model, predictor.tokenizer, PROMPT, sampling, forced=forced, **options)),
        generate(predictor, sampling, backend="torch", forced=forced),
    )


def test_both_backends_guess_the_same(predictor, monkeypatch):
    monkeypatch.setattr("axion.inference.stream.end_tokens", lambda *_: set())
    model, tokenizer, counts = predictor.mtp_model, predictor.tokenizer, {}
    for backend in ("torch", "native"):
        counts[backend] = Acceptance()
        options = {"mtp": True, "acceptance": counts[backend], "backend": backend}
        list(stream(model, tokenizer, list(range(20, 30)), Sampling(max_new_tokens=60), **options))
    assert counts["native"] == counts["torch"]
    assert 0 < counts["native"].accepted < counts["native"].guessed


def test_accepted_guesses_save_passes(predictor, monkeypatch):
    model, passes = predictor.mtp_model, []
    forward = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda *args, **named: passes.append(1) or forward(*args, **named))
    monkeypatch.setattr("axion.inference.stream.end_tokens", lambda *_: set())
    sampling, acceptance = Sampling(max_new_tokens=60), Acceptance()
    prompt = list(range(20, 30))
    options = {"mtp": True, "acceptance": acceptance, "backend": "torch"}
    steps = list(stream(model, predictor.tokenizer, prompt, sampling, **options))
    assert_same(steps, list(stream(predictor.model, predictor.tokenizer, prompt, sampling, backend="torch")))
    assert 0 < acceptance.accepted < acceptance.guessed
    assert acceptance.rate == acceptance.accepted / acceptance.guessed
    assert len(passes) == 1 + acceptance.guessed
    assert len(passes) + acceptance.accepted in (61, 62)  # the last pass may read one more than was asked for


def test_a_guess_is_what_the_layer_predicts_from_all_tokens_before(predictor):
    """Against one pass over the whole text, without caches."""
    model, ids = predictor.mtp_model, list(range(20, 60))
    reader = TorchReader(model, Sampling(max_new_tokens=10), len(ids), set())
    drafter, text = MTPDrafter(reader), list(ids)
    reader.read(ids)
    for rejected in (False, True, False):
        token = reader.choose()
        [guess] = drafter.guess(token, 1)
        with torch.no_grad():
            hidden = model.model(torch.tensor([text])).last_hidden_state
            logits = model.lm_head(model.mtp_hidden(torch.tensor([[*text[1:], token]]), hidden))
        assert guess == logits[0, -1].argmax()
        wrong = (reader.choose_after(token, torch.zeros(320)) or 0) + 7
        kept = reader.verify([token, wrong if rejected else guess])
        text += [drawn.token for drawn in kept]
        drafter.rewind(reader.length)


def test_the_context_ends_with_the_layer_as_without_it(predictor, backend, monkeypatch):
    monkeypatch.setattr("axion.inference.stream.end_tokens", lambda *_: set())
    sampling, prompt = Sampling(max_new_tokens=1000), list(range(20, 130))
    plain = generate(predictor, sampling, prompt, backend="torch")
    assert len(plain) == predictor.config.max_position_embeddings
    options = {"mtp": True, "backend": backend}
    assert_same(list(stream(predictor.mtp_model, predictor.tokenizer, prompt, sampling, **options)), plain)


def test_the_plain_model_stays_as_it_is(predictor):
    drafting = predictor.mtp_model
    assert (predictor.model.mtp, len(predictor.model.model.layers)) == (None, 2)
    assert drafting.model.embed_tokens.weight is predictor.model.model.embed_tokens.weight
    assert list(routers(drafting)) == list(routers(predictor.model)) == [RoutingRow(2)]


def test_what_cannot_draft_is_refused(predictor, release, tmp_path):
    with pytest.raises(AxionError, match=r"no layer of multi-token prediction \(num_nextn_predict_layers is 0\)"):
        release.mtp_model  # noqa: B018
    tokenizer = release.tokenizer
    for model, options, message in (
        (release.model, {}, "no layer of multi-token prediction to draft with"),
        (predictor.mtp_model, {"draft_model": release.model}, "cannot draft together"),
    ):
        with pytest.raises(AxionError, match=message):
            stream(model, tokenizer, PROMPT, SAMPLINGS[0], mtp=True, **options)
    shutil.copytree(predictor.folder, folder := tmp_path / "axion-mtp")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.2.eh_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(AxionError, match=r"does not fit config\.json: missing model\.layers\.2\.eh_proj\.weight"):
        open_release(folder).mtp_model  # noqa: B018
