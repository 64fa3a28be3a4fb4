"""The kernels compute the losses, logits and gradients of PyTorch, for every shape and any split of a batch."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch

from axion.kernels import blocks
from axion.kernels.blocks import use_kernels
from axion.kernels.build import Unavailable
from axion.kernels.coverage import unsupported_reason
from axion.labels import IGNORED
from axion.recipe import known_versions, load_recipe
from axion.training.balance import ExpertBalancer
from axion.training.build import build_model, checkpoint_gradients
from axion.training.losses import next_token_loss, sequence_balance_loss, smooth_labels
from tests.kernels.conftest import FAMILY_SHAPES, SHAPES
from tests.support.int8 import Int8Weight

EXACT = 1e-5
"""Tolerance, relative to the largest absolute value of a tensor."""
SINGLE = 5e-5
"""The same for a tensor of one number."""


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def pair(model, label_smoothing=0.0):
    """The model on PyTorch, and a copy of it on the kernels."""
    fast = copy.deepcopy(model)
    use_kernels(fast, label_smoothing=label_smoothing)
    if label_smoothing:
        smooth_labels(model, label_smoothing)
    return model, fast


def tokens(model, batch: int, positions: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, model.config.vocab_size, (batch, positions), generator=generator)


def backward(model, ids, labels=None, alpha=0.1, scale=1.0, **kwargs) -> torch.Tensor:
    """Accumulate gradients of the loss, with all that the model's parts add to it; returns the loss."""
    labels = ids if labels is None else labels
    if model.mtp is not None:
        kwargs["mtp_weight"] = 0.3
    output = model(ids, labels=labels, use_cache=False, output_router_logits=True, **kwargs)
    loss = output.loss
    if output.router_logits:
        loss = loss + alpha * sequence_balance_loss(output.router_logits, model.config, len(ids))
    (loss * scale).backward()
    return loss.detach()


def assert_close(got: torch.Tensor, wanted: torch.Tensor, name: str = "", tolerance: float = EXACT) -> None:
    error = (got - wanted).abs().max() / wanted.abs().max()
    assert error <= tolerance, f"{name}: {error:.1e}"


def assert_same_gradients(slow, fast, tolerance: float = EXACT) -> None:
    for (name, wanted), got in zip(slow.named_parameters(), fast.parameters(), strict=True):
        assert (wanted.grad is None) == (got.grad is None), name
        if wanted.grad is not None and wanted.numel():
            # a single number, such as a loop's gate, is a sum of all tokens with no larger ones to compare it with
            assert_close(got.grad, wanted.grad, name, max(tolerance, SINGLE) if wanted.numel() == 1 else tolerance)


def of_family(make_model, shape: str, **changes):
    """A model of one of FAMILY_SHAPES, with its layer of multi-token prediction."""
    model = make_model(**FAMILY_SHAPES[shape] | changes)
    if model.config.num_nextn_predict_layers:
        model.attach_mtp()
    return model


@pytest.mark.parametrize("shape", SHAPES | FAMILY_SHAPES)
def test_loss_logits_and_every_gradient(make_model, shape):
    slow, fast = pair(of_family(make_model, shape) if shape in FAMILY_SHAPES else make_model(**SHAPES[shape]))
    for batch, positions in ((3, 37), (1, 1 + 64), (2, 128)):
        ids = tokens(slow, batch, positions)
        assert_close(backward(fast, ids), backward(slow, ids))
    assert_same_gradients(slow, fast)  # accumulated over all three batches
    with torch.inference_mode():
        assert_close(fast(ids, use_cache=False).logits, slow(ids, use_cache=False).logits)
        kept = fast(ids, use_cache=False, logits_to_keep=2).logits
        assert_close(kept, slow(ids, use_cache=False, logits_to_keep=2).logits)
        assert_close(fast(ids, labels=ids, use_cache=False).loss, slow(ids, labels=ids, use_cache=False).loss)


@pytest.mark.slow
def test_without_a_shared_expert(make_model):
    slow, fast = pair(make_model(n_shared_experts=0))
    ids = tokens(slow, 2, 128)
    assert_close(backward(fast, ids), backward(slow, ids))
    assert_same_gradients(slow, fast)


UNTIED, LOOPED, PREDICTING = list(FAMILY_SHAPES)[-3:]


def test_as_many_loops_as_a_call_says(make_model):
    slow, fast = pair(of_family(make_model, LOOPED))
    ids = tokens(slow, 2, 20)
    for loops in (1, 5):
        assert_close(backward(fast, ids, num_loops=loops), backward(slow, ids, num_loops=loops))
        assert_same_gradients(slow, fast)
        slow.zero_grad(), fast.zero_grad()
    with pytest.raises(ValueError, match="num_loops is 0; it must be an integer of at least 1"):
        fast(ids, labels=ids, use_cache=False, num_loops=0)


def test_both_losses_of_multi_token_prediction_and_the_choices_of_every_router(make_model):
    model = of_family(make_model, PREDICTING).train()
    slow, fast = ExpertBalancer(model, speed=0.0), ExpertBalancer(other := copy.deepcopy(model), speed=0.0)
    use_kernels(other, on_routing=fast.count, replaced_hooks=[ExpertBalancer.__module__])
    ids, labels = tokens(model, 2, 30), tokens(model, 2, 30)
    labels[0, 7:15] = IGNORED
    options = {"labels": labels, "use_cache": False, "output_router_logits": True, "mtp_weight": 0.5}
    wanted, got = model(ids, **options), other(ids, **options)
    for name in ("loss", "mtp_loss"):
        assert_close(getattr(got, name), getattr(wanted, name), name)
    assert [len(output.router_logits) for output in (wanted, got)] == [3, 3]  # the looped layer's twice
    counts = slow.step()
    assert counts.sum(dim=1).tolist() == [2 * 120, 120, 120]
    assert torch.equal(fast.step(), counts)
    assert got.mtp_router_logits.shape == (60, 4)
    options["position_ids"] = packed_positions([[11], [1, 20]], 30)
    assert_close(other(ids, **options).mtp_loss, model(ids, **options).mtp_loss)
    del options["mtp_weight"]
    assert_close(other(ids, **options).loss, model(ids, **options).loss)


@pytest.mark.parametrize("items", [None, 50])
def test_smoothed_labels(make_model, items):
    slow, fast = pair(of_family(make_model, UNTIED), label_smoothing=0.1)  # with a vocabulary that is padded
    ids = tokens(slow, 3, 40)
    labels = ids.clone()
    labels[0, 9:20] = IGNORED
    options = {"labels": labels, "num_items_in_batch": items}
    assert_close(backward(fast, ids, **options), backward(slow, ids, **options))
    assert_same_gradients(slow, fast)
    options["use_cache"] = False
    plain = next_token_loss(slow(ids, **options).logits, labels, items)
    assert_close(fast(ids, **options).plain_loss, plain)
    slow.eval(), fast.eval()
    assert_close(fast(ids, **options).loss, slow(ids, **options).loss)
    assert_close(slow(ids, **options).loss, plain.detach())


def mask(dropout: blocks.Dropout, count: int) -> torch.Tensor:
    """What csrc/training/dropout.h multiplies the numbers of a place by."""

    def mix(x: torch.Tensor) -> torch.Tensor:
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        return x ^ (x >> 16)

    mixed = mix(mix(torch.arange(count) ^ dropout.first) ^ dropout.second)
    return torch.where(mixed < dropout.threshold, 0.0, dropout.scale)


@pytest.mark.parametrize("shape", [LOOPED, PREDICTING])
def test_dropout_has_the_same_mask_forwards_and_backwards_at_every_place(make_model, monkeypatch, shape):
    slow, fast = pair(of_family(make_model, shape, dropout=0.25).train())
    ids = tokens(slow, 3, 37)
    torch.manual_seed(3)
    wanted = backward(fast, ids)
    torch.manual_seed(3)
    seed, places = int(torch.randint(2**62, ())), itertools.count()

    def dropout(hidden: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
        assert (rate, training) == (0.25, True)
        return hidden * mask(blocks.Dropout.of(seed, next(places), rate), hidden.numel()).view_as(hidden)

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)
    assert_close(backward(slow, ids), wanted)
    assert_same_gradients(slow, fast)
    monkeypatch.undo()
    assert not torch.isclose(backward(fast, ids), wanted)  # another pass has other masks
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    torch.manual_seed(3)
    assert_close(backward(fast, ids), wanted)
    slow.eval(), fast.eval()
    assert_close(backward(fast, ids), backward(slow, ids))


def test_masks_are_random():
    rate, count = 0.1, 200_000
    masks = [mask(blocks.Dropout.of(seed, place, rate), count) for seed in (7, 8) for place in (0, 1)]
    dropped = torch.stack([each == 0 for each in masks]).double()
    assert set(masks[0].unique().tolist()) == {0.0, torch.tensor(1 / (1 - rate)).item()}
    assert (dropped.mean(dim=1) - rate).abs().max() < 0.004  # six standard deviations
    assert (mask(blocks.Dropout.of(7, 0, 1 - 1e-12), count) == 0).all()
    correlations = torch.corrcoef(dropped)
    assert (correlations - torch.eye(4)).abs().max() < 0.014
    for shift in (1, 2, 16, 64, 256):
        assert torch.corrcoef(torch.stack([dropped[0, shift:], dropped[0, :-shift]]))[0, 1].abs() < 0.014


def test_layers_that_are_computed_again_in_the_backward_pass_give_the_same_gradients(make_model):
    model = of_family(make_model, PREDICTING, dropout=0.25).train()
    found = []
    for checkpoints in (False, True):
        balancer = ExpertBalancer(fast := copy.deepcopy(model), speed=0.0)
        if checkpoints:
            checkpoint_gradients(fast, balancer)
        use_kernels(fast, on_routing=balancer.count, replaced_hooks=[ExpertBalancer.__module__])
        torch.manual_seed(3)
        backward(fast, tokens(fast, 2, 30))
        found.append(([parameter.grad for parameter in fast.parameters()], balancer.step()))
    (plain, counts), (again, same_counts) = found
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    assert torch.equal(counts, same_counts) and counts.sum()


@pytest.mark.parametrize(
    "version",
    [
        version if version == "axion1-v0.1" else pytest.param(version, marks=pytest.mark.slow)
        for version in known_versions()
        if unsupported_reason(load_recipe(version).build_config(), "training") is None
    ],
)
def test_every_recipe(version, monkeypatch):
    """With four layers at most, unless some of them are looped: the same code computes them all."""
    if version.endswith("debug"):
        monkeypatch.setenv("AXION_KERNELS_FLAGS", "-O1")  # as other tests have compiled them
    config, few = load_recipe(version).build_config(), ()
    if config.num_hidden_layers > 4 and not config.num_shared_layers:
        dense = min(config.first_k_dense_replace, 4)
        few = ("architecture.num_hidden_layers=4", f"architecture.first_k_dense_replace={dense}")
    torch.manual_seed(2)
    slow, fast = pair(build_model(load_recipe(version, few).build_config()).eval())
    ids = tokens(slow, 1, 300)
    assert_close(backward(fast, ids), backward(slow, ids))
    assert_same_gradients(slow, fast, EXACT if version == "axion1-v0.1" else 2 * EXACT)  # wider sums, in both


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("batch", "positions"), [(1, 100), (4, 33), (5, 16)])
def test_any_number_of_threads(make_model, threads, batch, positions):
    """All threads share each sequence of a small batch; a large batch is divided among them."""
    slow, fast = pair(make_model())
    ids = tokens(slow, batch, positions)
    wanted = backward(slow, ids)
    torch.set_num_threads(threads)
    assert_close(backward(fast, ids), wanted)
    assert_same_gradients(slow, fast)
    first = [parameter.grad.clone() for parameter in fast.parameters()]
    fast.zero_grad()
    backward(fast, ids)
    assert all(torch.equal(a, b.grad) for a, b in zip(first, fast.parameters(), strict=True))  # bit for bit


def test_one_token(make_model):
    slow, fast = pair(make_model())
    with torch.inference_mode():
        ids = tokens(slow, 1, 1)
        assert_close(fast(ids, use_cache=False).logits, slow(ids, use_cache=False).logits)


def test_more_tokens_than_a_chunk_of_the_experts(make_model):
    slow, fast = pair(make_model())
    ids = tokens(slow, 2, 333)
    backward(slow, ids), backward(fast, ids)
    assert_same_gradients(slow, fast)


def test_ignored_labels_and_padding(make_model):
    slow, fast = pair(make_model())
    ids = tokens(slow, 3, 40)
    labels = ids.clone()
    labels[0, :9] = IGNORED
    mask = torch.ones_like(ids)
    mask[1, 30:] = 0
    labels[mask == 0] = IGNORED
    for given in (None, mask):
        # the balance loss includes padding, whose hidden states differ between the kernels and PyTorch
        wanted = backward(slow, ids, labels, alpha=0.0, attention_mask=given)
        assert_close(backward(fast, ids, labels, alpha=0.0, attention_mask=given), wanted)
        assert_same_gradients(slow, fast)


def test_accumulated_gradients_match_the_whole_batch(make_model):
    slow, fast = pair(make_model())
    ids = tokens(slow, 4, 32)
    backward(slow, ids, alpha=0.0)
    for part in ids.split(2):
        backward(fast, part, alpha=0.0, scale=0.5)
    assert_same_gradients(slow, fast)


def test_the_loss_over_a_given_number_of_items(make_model):
    slow, fast = pair(make_model())
    ids = tokens(slow, 2, 20)
    losses = [model(ids, labels=ids, use_cache=False, num_items_in_batch=100).loss for model in (slow, fast)]
    assert_close(losses[1], losses[0])


def test_invalid_labels_raise_the_error_that_pytorch_raises(make_model):
    _, fast = pair(make_model())
    ids = tokens(fast, 1, 10)
    for label in (fast.config.vocab_size, -5):
        with pytest.raises(IndexError, match="out of bounds"):
            fast(ids, labels=torch.full_like(ids, label), use_cache=False)
    for labels in (ids[:, :7], ids.repeat(1, 2)):
        with pytest.raises(ValueError, match="to match target batch_size"):
            fast(ids, labels=labels, use_cache=False)
    with pytest.raises(RuntimeError, match="Long"):
        fast(ids, labels=ids.int(), use_cache=False)


def test_training_after_an_inference(make_model):
    slow, fast = pair(make_model())
    ids = tokens(slow, 1, 10)
    with torch.inference_mode():
        fast(ids, use_cache=False)
    assert_close(backward(fast, ids), backward(slow, ids))


def test_frozen_parameters_get_no_gradient(make_model):
    _, fast = pair(make_model())
    fast.model.embed_tokens.requires_grad_(False)
    fast.model.layers[0].requires_grad_(False)
    backward(fast, tokens(fast, 2, 20))
    assert fast.model.layers[0].self_attn.o_proj.weight.grad is None
    assert fast.model.layers[1].self_attn.o_proj.weight.grad is not None


def test_calls_that_the_kernels_do_not_cover_use_pytorch(make_model):
    slow, fast = pair(make_model().eval())
    ids = tokens(slow, 2, 12)
    left = torch.ones_like(ids)
    left[0, :3] = 0
    with torch.no_grad():
        for kwargs in (
            {"attention_mask": left, "use_cache": False},
            {"use_cache": True},
            {"use_cache": False, "output_hidden_states": True},
            {"use_cache": False, "is_causal": False},
            {"use_cache": False, "position_ids": torch.arange(5, 17).unsqueeze(0)},  # one row for the whole batch
            {"use_cache": False, "position_ids": torch.arange(12).repeat(2, 1), "attention_mask": torch.ones(2, 12)},
        ):
            wanted, got = slow(ids, **kwargs), fast(ids, **kwargs)
            assert torch.equal(got.logits, wanted.logits), kwargs
            assert got.keys() == wanted.keys()
        assert isinstance(fast(ids, use_cache=False, return_dict=False), tuple)
    embeddings = slow.model.embed_tokens(ids).detach()
    assert torch.equal(fast(inputs_embeds=embeddings).logits, slow(inputs_embeds=embeddings).logits)
    fast(ids, use_cache=False).logits.sum().backward()  # a custom loss must reach the weights too
    assert fast.model.embed_tokens.weight.grad.abs().sum() > 0


def test_the_balancer_counts_match_pytorch(make_model):
    model = make_model().train()
    slow, fast = ExpertBalancer(model, speed=0.0), ExpertBalancer(other := copy.deepcopy(model), speed=0.0)
    use_kernels(other, on_routing=fast.count, replaced_hooks=[ExpertBalancer.__module__])
    ids = tokens(model, 2, 50)
    backward(model, ids), backward(other, ids)
    counts = slow.step()
    assert counts.sum() > 0
    assert torch.equal(fast.step(), counts)
    other.eval()
    backward(other, ids)
    assert fast.step().sum() == 0


BOUNDARIES = [
    [[64], [1, 2, 3]],  # at the end of a block, and documents of one token
    [[47, 48, 49], [5, 96, 143]],  # around tiles of 48 queries
    [[], [100]],  # one sequence without a boundary
]


def packed_positions(boundaries: list[list[int]], length: int) -> torch.Tensor:
    """Positions [B, length] that restart at the boundaries of each sequence."""
    positions = torch.arange(length).repeat(len(boundaries), 1)
    for row, starts in zip(positions, boundaries, strict=True):
        for start in starts:
            row[start:] = torch.arange(length - start)
    return positions


@pytest.mark.parametrize(
    ("shape", "boundaries"), [*(("plain", each) for each in BOUNDARIES), ("grouped", BOUNDARIES[1])], ids=str
)
def test_packed_documents_give_pytorchs_loss_and_gradients(make_model, monkeypatch, shape, boundaries):
    changes = {} if shape == "plain" else next(iter(FAMILY_SHAPES.values()))
    slow, fast = pair(make_model(**changes))
    ids, positions = tokens(slow, 2, 150), packed_positions(boundaries, 150)
    calls, document_starts = [], blocks._document_starts
    monkeypatch.setattr(blocks, "_document_starts", lambda given: calls.append(1) or document_starts(given))
    wanted = backward(slow, ids, position_ids=positions)
    assert not calls
    assert_close(backward(fast, ids, position_ids=positions), wanted)
    assert_same_gradients(slow, fast)
    assert calls and abs(wanted - backward(slow, ids)) > 1e-3  # on the kernels, and the mask matters


def test_a_document_does_not_move_the_next_ones_logits(make_model):
    _, fast = pair(make_model())
    ids, positions = tokens(fast, 2, 120), packed_positions([[50, 70], [49]], 120)
    other = ids.clone()
    other[0, :50] = 5
    other[1, :49] = 5
    with torch.inference_mode():
        before, after = (fast(x, position_ids=positions, use_cache=False).logits for x in (ids, other))
        alone = fast(ids[:1, 50:70], use_cache=False).logits
    assert torch.equal(after[0, 50:], before[0, 50:]) and torch.equal(after[1, 49:], before[1, 49:])
    assert not torch.equal(after[0, :50], before[0, :50])
    assert_close(before[0, 50:70], alone[0])


def changes(model) -> dict[str, Callable[[], object]]:
    """Ways to change what a model computes without changing the shapes of its parameters."""
    attention, mixture = model.model.layers[0].self_attn, model.model.layers[1].mlp

    def quantise():
        attention.kv_b_proj.weight = torch.nn.Parameter(Int8Weight(attention.kv_b_proj.weight.data), False)

    return {
        "forward hook": lambda: mixture.register_forward_hook(lambda _, inputs, output: 2 * output),
        "forward pre-hook": lambda: mixture.register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],)),
        "backward hook": lambda: mixture.register_full_backward_hook(lambda _, gradients, __: (2 * gradients[0],)),
        "replaced forward": lambda: setattr(attention, "forward", lambda hidden, **_: (torch.zeros_like(hidden), None)),
        "another module": lambda: setattr(attention, "o_proj", Doubled(attention.o_proj)),
        "int8 weight": quantise,
    }


class Doubled(torch.nn.Linear):
    """A layer with the parameters of another that computes something else."""

    def __init__(self, layer: torch.nn.Linear):
        super().__init__(layer.in_features, layer.out_features, bias=False)
        self.weight = layer.weight

    def forward(self, inputs):
        return 2 * super().forward(inputs)


@pytest.mark.parametrize(
    "change", ["forward hook", "forward pre-hook", "backward hook", "replaced forward", "another module", "int8 weight"]
)
def test_a_changed_model_is_refused_or_takes_pytorch(make_model, change):
    model = make_model()
    changes(model)[change]()
    with pytest.raises(Unavailable, match=r"unmodified models only|is a Int8Weight"):
        use_kernels(model)

    slow, fast = pair(make_model())  # and the same change after the kernels were put in place
    for either in (slow, fast):
        changes(either)[change]()
    ids = tokens(slow, 2, 12)
    assert torch.equal(backward(fast, ids), backward(slow, ids))
    for wanted, got in zip(slow.parameters(), fast.parameters(), strict=True):
        assert wanted.grad is None or torch.equal(got.grad, wanted.grad)


def test_a_forward_that_was_restored_is_no_change(make_model):
    """Libraries that patch a module's forward put the original back as an attribute of the instance."""
    model = make_model()
    model.model.forward = model.model.forward
    use_kernels(model)


def test_a_copy_of_a_model_computes_with_its_own_weights(make_model):
    _, fast = pair(make_model())
    copied = copy.deepcopy(fast)
    with torch.no_grad():
        copied.model.norm.weight.mul_(3)
        ids = tokens(fast, 1, 9)
        logits = copied(ids, use_cache=False).logits
        assert_close(logits, 3 * fast(ids, use_cache=False).logits)


def test_hooks_of_the_balancer_need_another_way_to_count(make_model):
    model = make_model()
    balancer = ExpertBalancer(model, speed=0.0)
    with pytest.raises(Unavailable, match=r"'model\.layers\.0\.mlp\.gate' was changed"):
        use_kernels(model, on_routing=balancer.count)
    use_kernels(model, on_routing=balancer.count, replaced_hooks=[ExpertBalancer.__module__])


def test_unsupported_models_are_refused(make_model):
    with pytest.raises(Unavailable, match=r"float32 parameters on the CPU, and .* is bfloat16 on cpu"):
        use_kernels(make_model().to(torch.bfloat16))
    with pytest.raises(Unavailable, match="attention_dropout"):
        use_kernels(make_model(attention_dropout=0.1))
    with pytest.raises(Unavailable, match="attention_bias"):
        use_kernels(make_model(attention_bias=True))

    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(make_model(), LoraConfig(target_modules=["o_proj"]))
    with pytest.raises(Unavailable, match="parameters that its config does not describe"):
        use_kernels(wrapped.base_model.model)
