"""What experts are worth, and models that read without some of them."""

import numpy as np
import pytest
import torch

from axion.data.prepare import ValidationDocument
from axion.errors import AxionError
from axion.evaluation import experts
from axion.evaluation.experts import measure_experts
from axion.evaluation.subject import Subject
from axion.inference.readers import pick_backend
from axion.inference.routing import expert_load
from axion.inference.sampling import Sampling
from axion.inference.scoring import log_probabilities
from axion.inference.stream import stream
from axion.inference.variants import with_tampering
from axion.release import open_release
from axion.tampering import read_tampering
from axion.training.validation import document_losses, total_loss
from tests.conftest import TINY

IDS = torch.arange(11, 60).unsqueeze(0)


@pytest.fixture(scope="module")
def model(tiny_release):
    return open_release(tiny_release).model


def with_muted(model, experts):
    return with_tampering(model, read_tampering({"mute": experts}))


def test_a_muted_expert_is_never_chosen_and_the_next_best_takes_its_place(model):
    router = model.model.layers[1].mlp.gate
    hidden_TD = torch.randn(200, TINY["hidden_size"], generator=torch.Generator().manual_seed(1))
    muted = with_muted(model, "L2.E2")
    _, weights_TK, experts_TK = muted.model.layers[1].mlp.gate(hidden_TD)
    scores_TE = router(hidden_TD)[0].sigmoid()
    scores_TE[:, 1] = -1
    assert experts_TK.sort().values.equal((scores_TE + router.e_score_correction_bias).topk(2).indices.sort().values)
    best_TK = scores_TE.gather(1, experts_TK)
    torch.testing.assert_close(weights_TK, best_TK / best_TK.sum(1, keepdim=True))
    load_LE = expert_load(muted, IDS.tolist())
    assert load_LE[1, 1] == 0 and (load_LE[0] == expert_load(model, IDS.tolist())[0]).all()
    assert router.e_score_correction_bias.abs().max() < 1
    assert muted.model.embed_tokens.weight is model.model.embed_tokens.weight
    assert muted(IDS).logits.isfinite().all()


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_a_muted_expert_reads_nothing_while_text_is_written(tiny_release, backend):
    release = open_release(tiny_release)
    muted = with_muted(release.model, "L1.E1,L1.E4,L2.E3")
    try:
        steps = list(stream(muted, release.tokenizer, "Quanto é 4?", Sampling(max_new_tokens=8), backend=backend))
    except AxionError as reason:
        pytest.skip(str(reason))
    for step in steps:
        first, second = step.routing.experts
        assert set(first) == {1, 2} and 2 not in second and len(second) == 2


def test_variants_that_follow_each_other_are_not_confused(model):
    if pick_backend(model).name != "native":
        pytest.skip("the kernels cannot be built here")
    for expert in range(4):  # each is freed before the next is made, and its memory used again
        native, torch_ = (
            log_probabilities(with_muted(model, f"L2.E{expert + 1}"), IDS.tolist(), backend)[0]
            for backend in ("native", "torch")
        )
        np.testing.assert_allclose(native, torch_, atol=2e-4)


class Documents(Subject):
    """A subject whose held-out documents are given."""

    def __init__(self, release, validation):
        super().__init__(release, None)
        self.validation = validation


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 30, 12)
    ids = [rng.integers(11, 300, length) for length in lengths]
    return [ValidationDocument(each, each, 3 * len(each), "text") for each in ids]


def test_an_experts_worth_is_the_loss_that_its_absence_adds(tiny_release, documents, monkeypatch):
    monkeypatch.setattr(experts, "FEWEST_DOCUMENTS", 2)
    monkeypatch.setattr(experts, "PASSES", 8 * 8)
    release = open_release(tiny_release)
    result = measure_experts(Documents(release, documents))
    chosen = [documents[place] for place in (0, 1, 3, 4, 6, 7, 9, 10)]
    assert (result["documents"], result["tokens"]) == (8, sum(len(each.ids) - 1 for each in chosen))
    whole = total_loss(document_losses(release.model, chosen)).nats_per_token
    assert result["nats_per_token"] == pytest.approx(whole)
    assert [(each["layer"], each["expert"]) for each in result["worth"]] == [
        (layer, expert) for layer in (1, 2) for expert in (1, 2, 3, 4)
    ]
    last = result["worth"][-1]
    without = total_loss(document_losses(with_muted(release.model, "L2.E4"), chosen)).nats_per_token
    assert last["nats_per_token"] == pytest.approx(without - whole, abs=2e-6) and last["nats_per_token"] != 0
    assert last["interval"][0] <= last["nats_per_token"] <= last["interval"][1]
    for row in result["rows"]:
        assert sum(row["load"]) == pytest.approx(4, abs=1e-3) and 0 < row["entropy"] <= 1 and row["dead"] == []


def test_an_expert_that_reads_nothing_is_dead_and_worth_nothing(tiny_release, documents):
    release = open_release(tiny_release)
    vars(release)["_model"] = with_muted(release.model, "L1.E2")
    result = measure_experts(Documents(release, documents))
    first, second = result["rows"]
    assert (first["dead"], first["load"][1], second["dead"]) == ([2], 0, [])
    assert first["entropy"] <= np.log(3) / np.log(4) + 1e-4
    [dead] = [each for each in result["worth"] if (each["layer"], each["expert"]) == (1, 2)]
    assert dead["nats_per_token"] == 0 and dead["interval"] == [0, 0]


def test_no_worth_is_given_where_too_few_experts_would_be_left(tiny_release, documents):
    release = open_release(tiny_release)
    vars(release)["_model"] = with_muted(release.model, "L1.E1,L1.E2")
    worth = measure_experts(Documents(release, documents))["worth"]
    # those that are muted already are worth nothing
    assert [each["expert"] for each in worth if each["layer"] == 1 and each["nats_per_token"] == 0] == [1, 2]
    assert [each["expert"] for each in worth] == [1, 2, 1, 2, 3, 4]


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_absences_are_differences_to_the_whole_model(tiny_release, documents, backend, monkeypatch):
    monkeypatch.setenv("AXION_BACKEND", backend)
    model, texts = open_release(tiny_release).model, [each.ids.tolist() for each in documents]
    try:
        pick_backend(model)
    except AxionError as reason:
        pytest.skip(str(reason))
    result = experts.measure_absences(model, [*texts, [11]])
    assert (result["documents"], result["tokens"]) == (12, sum(len(ids) - 1 for ids in texts))
    with torch.no_grad():
        logits = [with_muted(model, "L2.E3")(torch.tensor([ids])).logits[0, :-1] for ids in texts]
    targets = [torch.tensor(ids[1:]) for ids in texts]
    nats = torch.nn.functional.cross_entropy(torch.cat(logits), torch.cat(targets)).item()
    right = (torch.cat(logits).argmax(-1) == torch.cat(targets)).float().mean().item()
    [found] = [each for each in result["absences"] if (each["layer"], each["expert"]) == (2, 3)]
    assert len(result["absences"]) == 8
    assert found["nats_per_token"] + result["nats_per_token"] == pytest.approx(nats, abs=1e-5)
    assert found["accuracy"] + result["accuracy"] == pytest.approx(right, abs=1e-6)
