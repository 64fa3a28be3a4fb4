"""Grouped products of the experts, which a GPU computes; here on the CPU."""

import pytest
import torch

from axion.training.experts import NAME, use_grouped_experts
from tests.training.test_optim import small_model


@pytest.fixture
def types(monkeypatch) -> list[torch.dtype]:
    """The types of the factors of each grouped product."""
    multiply, seen = torch.nn.functional.grouped_mm, []

    def record(left, right, **options):
        seen.extend((left.dtype, right.dtype))
        return multiply(left, right, **options)

    monkeypatch.setattr(torch.nn.functional, "grouped_mm", record)
    return seen


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_grouped_products_are_those_of_the_experts(types, dtype, tolerance):
    model = small_model()
    ids = torch.arange(30).unsqueeze(0)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            model(ids, labels=ids).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    expected = gradients()
    assert not types
    use_grouped_experts(model, dtype)
    for actual, reference in zip(gradients(), expected, strict=True):
        assert actual.dtype == torch.float32 and (actual - reference).norm() <= tolerance * reference.norm()
    assert len(types) == 8 and set(types) == {dtype}  # two products in each of two layers


def test_rows_have_to_be_multiples_of_16_bytes():
    for width, dtype, grouped in ((20, torch.float32, True), (20, torch.bfloat16, False), (24, torch.bfloat16, True)):
        model = small_model(moe_intermediate_size=width)
        use_grouped_experts(model, dtype)
        assert model.config._experts_implementation == (NAME if grouped else "eager")
