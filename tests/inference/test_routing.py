"""The routing trace, the load of the experts, and their favourite tokens."""

import math
from itertools import product

import pytest
import torch

from axion.data.batches import batches_by_length
from axion.inference.routing import (
    RoutingRecorder,
    RoutingRow,
    TokenRouting,
    count_reads,
    expert_favourites,
    expert_load,
    log_likelihood_ratio,
    route,
    routers,
)
from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.tokenizer import encode_documents
from tests.conftest import TINY, tiny_documents


@pytest.fixture(scope="module")
def documents(release):
    return encode_documents(release.tokenizer, tiny_documents())


def test_route_gives_the_experts_that_the_layers_used(release, documents):
    used = []
    hooks = [
        layer.mlp.experts.register_forward_pre_hook(lambda module, inputs: used.append(inputs[1:]))
        for layer in release.model.model.layers
    ]
    with torch.inference_mode():
        logits = release.model(torch.tensor(documents[:1]), output_router_logits=True).router_logits
    for hook in hooks:
        hook.remove()
    routing = route(release.model, logits)
    for (gates_TK, experts_TK), (ids_TK, weights_TK) in zip(routing.values(), used, strict=True):
        order_TK = weights_TK.argsort(dim=-1, descending=True)
        assert torch.equal(experts_TK, ids_TK.gather(1, order_TK))
        assert torch.equal(gates_TK, weights_TK.gather(1, order_TK))


def test_the_bias_changes_the_choice_and_gates_stay_sorted(release):
    router = routers(release.model)[RoutingRow(1)]
    logits_TE = torch.tensor([[3.0, 2.0, -1.0, -2.0]])
    before = router.e_score_correction_bias.clone()
    try:
        router.e_score_correction_bias[:] = torch.tensor([0.0, 0.0, 0.0, 5.0])
        gates_TK, experts_TK = route(release.model, [logits_TE, logits_TE])[RoutingRow(1)]
    finally:
        router.e_score_correction_bias[:] = before
    assert experts_TK.tolist() == [[0, 3]]  # expert 3 is chosen by its bias, but its gate is small
    assert gates_TK[0, 0] > gates_TK[0, 1]


def test_recorded_affinities_exclude_the_bias_and_displaced_experts_are_named(release):
    router = routers(release.model)[RoutingRow(1)]
    logits_TE = torch.tensor([[3.0, 2.0, -1.0, -2.0], [-1.0, 2.0, -3.0, 3.0]])
    before = router.e_score_correction_bias.clone()
    try:
        router.e_score_correction_bias[:] = torch.tensor([0.0, 0.0, 0.0, 5.0])
        first, second = RoutingRecorder(release.model)([logits_TE, logits_TE], 2)
    finally:
        router.e_score_correction_bias[:] = before
    assert first.experts[0] == [0, 3] and first.displaced[0] == [1]  # 1 had more affinity than 3
    assert first.affinities[0] == pytest.approx(torch.tensor([3.0, -2.0]).sigmoid().tolist())
    assert sum(first.gates[0]) == pytest.approx(1)
    assert second.experts[0] == [3, 1] and second.displaced == [[], []]


def test_rows_are_labelled_with_the_model_s_own_layers(release):
    model = AxionForCausalLM(AxionConfig(**TINY | {"num_hidden_layers": 4, "first_k_dense_replace": 2})).eval()
    assert list(routers(model)) == [RoutingRow(layer=3, loop=1), RoutingRow(layer=4, loop=1)]
    assert routers(model)[RoutingRow(4)] is model.model.layers[3].mlp.gate
    favourites = expert_favourites(model, release.tokenizer, [[20, 21, 22]])
    assert [(entry["layer"], entry["loop"]) for entry in favourites] == [(3, 1)] * 4 + [(4, 1)] * 4
    [step] = stream(model, release.tokenizer, [1], Sampling(max_new_tokens=1), stop=lambda: True, backend="torch")
    assert step.routing.rows == (RoutingRow(3), RoutingRow(4)) and len(step.routing.experts) == 2


def test_a_row_is_named_by_its_loop_where_its_layer_has_several():
    rows = [RoutingRow(1), RoutingRow(2, 1), RoutingRow(2, 2)]
    assert [row.label(rows) for row in rows] == ["layer 1", "layer 2, loop 1", "layer 2, loop 2"]


def test_a_model_without_experts_has_no_rows():
    model = AxionForCausalLM(
        AxionConfig(
            hidden_size=16,
            num_hidden_layers=1,
            first_k_dense_replace=1,
            vocab_size=16,
            intermediate_size=16,
            max_position_embeddings=16,
        )
    )
    assert RoutingRecorder(model)((), 3) == [TokenRouting((), [], [], [], [])] * 3


def test_load_counts_every_token_once_for_any_batching(release, documents, monkeypatch):
    counts_LE = expert_load(release.model, documents)
    tokens = sum(map(len, documents))
    assert counts_LE.sum(dim=1).tolist() == [tokens * 2, tokens * 2]
    monkeypatch.setattr("axion.inference.routing.TOKENS_PER_BATCH", 1)  # one document per batch, so no padding
    assert torch.equal(expert_load(release.model, documents), counts_LE)


def test_documents_longer_than_the_context_are_cut(release):
    reads_LEV, seen_V = count_reads(release.model, [[20] * 300])
    assert seen_V.sum() == seen_V[20] == 300
    assert reads_LEV.sum(dim=(1, 2)).tolist() == [600, 600]


def test_evidence_grows_with_the_lift_and_with_the_count():
    """Both numbers from the 2 × 2 table: 2 Σ observed · ln(observed / expected)."""
    assert log_likelihood_ratio(9, 10, 0.5) == pytest.approx(2 * (9 * math.log(1.8) + math.log(0.2)))
    assert log_likelihood_ratio(1000, 1000, 0.5) > log_likelihood_ratio(10, 10, 0.5) > log_likelihood_ratio(9, 10, 0.5)
    assert log_likelihood_ratio(5, 10, 0.5) == pytest.approx(0)
    assert log_likelihood_ratio(1, 10, 0.5) == pytest.approx(-log_likelihood_ratio(9, 10, 0.5))


def test_favourites_match_a_plain_count(release, documents):
    reads_LEV, seen_V = count_reads(release.model, documents)
    favourites = expert_favourites(release.model, release.tokenizer, documents, top=3, min_count=5)
    texts = [release.tokenizer.decode(document) for document in documents]
    assert [(entry["layer"], entry["expert"]) for entry in favourites] == list(product((1, 2), (1, 2, 3, 4)))
    for entry in favourites:
        reads_V = reads_LEV[entry["layer"] - 1, entry["expert"] - 1]
        share = reads_V.sum().item() / seen_V.sum().item()
        assert entry["share"] == pytest.approx(share, abs=1e-4)
        lifts = {
            token: reads_V[token].item() / seen_V[token].item() / share for token in range(320) if seen_V[token] >= 5
        }
        strength = {
            token: log_likelihood_ratio(reads_V[token].item(), seen_V[token].item(), share)
            for token, lift in lifts.items()
            if lift > 1
        }
        best = [lifts[token] for token in sorted(strength, key=lambda token: -strength[token])[:3]]
        assert [token["lift"] for token in entry["tokens"]] == pytest.approx(best, abs=1e-3)
        for token in entry["tokens"]:
            seen, chance = token["seen"], token["seen"] * share
            assert token["lift"] == pytest.approx(token["count"] / chance, abs=1e-3)
            deviation = (seen * share * (1 - share)) ** 0.5
            assert token["z"] == pytest.approx((token["count"] - chance) / deviation, abs=0.06)
            before, text, after = token["context"]
            assert text == token["text"] and any(before + text + after in text_ for text_ in texts)
    assert any(entry["tokens"] for entry in favourites)


def test_batches_contain_every_sequence_once_within_the_limit():
    sequences = [[0] * length for length in (3, 50, 7, 1, 20, 20, 0)]
    batches = list(batches_by_length(sequences, 40))
    assert sorted(index for batch in batches for index in batch) == [0, 1, 2, 3, 4, 5]  # the empty one has no tokens
    assert all(len(batch) == 1 or len(batch) * max(len(sequences[i]) for i in batch) <= 40 for batch in batches)
