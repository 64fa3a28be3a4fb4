"""Muon against its definition, AdamW against torch's, schedules at their endpoints, balancing step by step."""

import pytest
import torch

from axion.kernels.build import library
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import TrainingRecipe
from axion.training.balance import ExpertBalancer, max_violation
from axion.training.optim import build_optimizer, build_schedule, orthogonalise


def small_model(**changes) -> AxionForCausalLM:
    torch.manual_seed(0)
    shape = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "moe_intermediate_size": 24}
    return AxionForCausalLM(AxionConfig(**{**shape, "max_position_embeddings": 32, **changes}))


def test_orthogonalise_flattens_singular_values():
    matrices = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.6 and values.max() < 1.3
    # the singular vectors are kept: the result approximates U Vᵀ of the input
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(orthogonalise(matrices).flatten(1), (u @ vt).flatten(1)).min() > 0.95


def test_muon_step_moves_every_expert_gate_and_up_by_its_own_orthogonal_matrix():
    model = small_model()
    training = TrainingRecipe(weight_decay=0.1)
    optimizer = build_optimizer(model, training)
    experts = model.model.layers[0].mlp.experts
    before = experts.gate_up_proj.detach().clone()
    ids = torch.arange(30).unsqueeze(0)
    model(ids, labels=ids).loss.backward()
    gradient = experts.gate_up_proj.grad.clone()
    optimizer.step()
    rate, momentum = training.muon_learning_rate, training.muon_momentum
    for expert in range(4):
        for half in (slice(0, 24), slice(24, 48)):
            # first step: momentum is (1 − β)·g, Nesterov's look-ahead a multiple of g; the scale does not matter
            direction = orthogonalise(gradient[expert, half].unsqueeze(0) * (1 - momentum**2))[0]
            expected = before[expert, half] * (1 - rate * 0.1) - rate * 0.2 * 32**0.5 * direction
            assert torch.allclose(experts.gate_up_proj[expert, half], expected, atol=1e-6)


def test_the_kernels_optimizer_step_matches_pytorch(monkeypatch):
    monkeypatch.setenv("AXION_KERNELS_FLAGS", "-O1")  # compiled in half the time
    model, twin = small_model(q_lora_rank=5, v_head_dim=9), small_model(q_lora_rank=5, v_head_dim=9)
    training = TrainingRecipe(weight_decay=0.1)
    optimizers = [build_optimizer(model, training), build_optimizer(twin, training, library(twin.config, "training"))]
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            ours.grad = torch.randn(ours.shape, generator=generator)
            theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert (ours - theirs).abs().max() < 1e-5 * ours.abs().max()
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    assert all(one.keys() == other.keys() for one, other in zip(states[0].values(), states[1].values(), strict=True))


def test_groups_hold_every_parameter_once_and_plain_adamw_is_torchs():
    model, twin = small_model(), small_model()
    training = TrainingRecipe(optimizer="adamw", learning_rate=1e-2, router_learning_rate=1e-2)
    optimizer = build_optimizer(model, training)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    order = {id(parameter): place for place, parameter in enumerate(model.parameters())}
    for group in optimizer.param_groups:  # a resumed run matches the state by position
        assert [order[id(parameter)] for parameter in group["params"]] == sorted(order[id(p)] for p in group["params"])
    assert {id(p) for p in held} == {id(p) for p in model.parameters()} and len(held) == len(set(map(id, held)))
    reference = torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    ids = torch.arange(30).unsqueeze(0)
    for _ in range(3):
        for network, stepper in ((model, optimizer), (twin, reference)):
            stepper.zero_grad()
            network(ids, labels=ids).loss.backward()
            stepper.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_empty_matrices_of_a_model_without_shared_experts_are_left_out():
    model = small_model(n_shared_experts=0)
    optimizer = build_optimizer(model, TrainingRecipe())
    assert all(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
    ids = torch.arange(30).unsqueeze(0)
    before = model(ids, labels=ids).loss
    before.backward()
    optimizer.step()
    assert model(ids, labels=ids).loss < before


def test_router_embeddings_and_norms_stay_with_adamw():
    model = small_model()
    optimizer = build_optimizer(model, TrainingRecipe())
    muon = {id(p) for group in optimizer.param_groups if group["muon"] for p in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in muon}
    assert not any("norm" in name or "mlp.gate." in name or "embed" in name for name in names)
    assert "model.layers.1.mlp.experts.down_proj" in names and "model.layers.0.self_attn.kv_b_proj.weight" in names


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("wsd", {0: 0.1, 9: 1.0, 10: 1.0, 49: 1.0, 74: 0.55, 99: 0.1}),
        ("three_phase", {0: 0.1, 9: 1.0, 10: 1.0, 49: 1.0, 74: 0.55, 99: 0.1}),
        ("cosine", {0: 0.1, 9: 1.0, 54: 0.55, 99: 0.1}),
    ],
)
def test_the_schedule_rises_to_the_peak_and_ends_at_the_final_rate(schedule, expected):
    parameter = torch.nn.Parameter(torch.zeros(1))
    training = TrainingRecipe(schedule=schedule, warmup_steps=10, decay_fraction=0.5, final_rate=0.1)
    scheduler = build_schedule(torch.optim.SGD([parameter], lr=1.0), training, steps=100)
    factor = scheduler.lr_lambdas[0]
    assert {step: factor(step) for step in expected} == pytest.approx(expected)


def test_the_three_phases_decay_along_a_cosine_to_the_final_rate():
    training = TrainingRecipe(
        schedule="three_phase", learning_rate=3e-4, warmup_steps=4, decay_fraction=0.5, final_rate=1e-5 / 3e-4
    )
    scheduler = build_schedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), training, steps=40)
    rates = [training.learning_rate * scheduler.lr_lambdas[0](step) for step in range(40)]
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4), T_max=20, eta_min=1e-5
    )
    expected = []
    for _ in range(21):
        expected.append(reference.get_last_lr()[0])
        reference.optimizer.step()
        reference.step()
    assert rates[3:20] == [pytest.approx(3e-4)] * 17 and rates[19:] == pytest.approx(expected)


def test_a_schedule_without_decay_stays_at_the_peak():
    training = TrainingRecipe(warmup_steps=0, decay_fraction=0.0, final_rate=0.1)
    scheduler = build_schedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), training, steps=10)
    assert [scheduler.lr_lambdas[0](step) for step in (0, 9)] == [1.0, 1.0]


@pytest.mark.parametrize("schedule", ["wsd", "three_phase", "cosine"])
@pytest.mark.parametrize("warmup", [10, 20])
def test_a_run_that_is_all_warm_up_ends_at_the_peak(schedule, warmup):
    training = TrainingRecipe(schedule=schedule, warmup_steps=warmup, decay_fraction=0.5, final_rate=0.1)
    scheduler = build_schedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), training, steps=10)
    factors = [
        scheduler.lr_lambdas[0](step) for step in range(11)
    ]  # the scheduler is called once more after the last step
    assert factors == pytest.approx([0.1 * step for step in range(1, 11)] + [0.1])


def test_balancer_lifts_idle_experts_and_lowers_busy_ones():
    model = small_model(num_experts_per_tok=1).train()
    balancer = ExpertBalancer(model, speed=0.01)
    ids = torch.arange(30).unsqueeze(0)
    for _ in range(2):  # accumulation: both passes count
        model(ids)
    counts = balancer.step()
    assert counts.shape == (2, 4) and counts.sum(dim=1).tolist() == [60, 60]
    for layer, counted in zip(model.model.layers, counts, strict=True):
        bias = layer.mlp.gate.e_score_correction_bias
        moved = 0.01 * (counted.float().mean() - counted).sign()
        assert torch.allclose(bias, moved - moved.mean(), atol=1e-7)
    model.eval()(ids)
    assert balancer.step().sum() == 0  # nothing is counted outside of training
    balancer.remove()
    model.train()(ids)
    assert balancer.step().sum() == 0


def test_balancing_evens_out_an_unbalanced_router():
    model = small_model(num_hidden_layers=1).train()
    with torch.no_grad():
        model.model.layers[0].mlp.gate.e_score_correction_bias.copy_(torch.tensor([0.3, 0.1, -0.1, -0.3]))
    balancer = ExpertBalancer(model, speed=0.003)
    ids = torch.arange(50).repeat(2).unsqueeze(0)[:, :32]
    violations = []
    for _ in range(150):
        model(ids)
        violations.append(max_violation(balancer.step())[0])
    assert violations[0] > 0.7 and max(violations[-10:]) < 0.4


def test_max_violation():
    assert max_violation(torch.tensor([[10, 10, 10, 10], [40, 0, 0, 0]])) == pytest.approx([0.0, 3.0])
    assert max_violation(torch.zeros(0, 0)) == []  # a dense model
