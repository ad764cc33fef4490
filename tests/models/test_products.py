"""Products in float32 by either library: against float64, and the gradients against autograd's own."""

import pytest
import torch

from sersearch.models.kernels import products
from sersearch.models.kernels.products import LEAST_MULTIPLY_ADDS, add_products, differentiable_product, multiply

PRECISE = 2e-6
"""Relative to the norm; sums of a thousand products in float32 differ from float64's by 3e-7."""


@pytest.fixture(params=["MKL", "oneDNN"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either library, whatever the processor."""
    if request.param == "oneDNN" and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "uses_onednn", lambda: request.param == "oneDNN")
    return str(request.param)


def draw(*size: int, transposed: bool = False) -> torch.Tensor:
    if transposed:
        size = (*size[:-2], size[-1], size[-2])
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(sum(size)))
    return drawn.transpose(-1, -2) if transposed else drawn


def assert_precise(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found.double() - expected).norm() / expected.norm()) < PRECISE


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("many", [(), (3,)])
def test_a_product_is_that_of_float64(library: str, first: bool, second: bool, many: tuple[int, ...]) -> None:
    a, b = draw(*many, 365, 300, transposed=first), draw(*many, 300, 257, transposed=second)
    assert a.shape[-2] * a.shape[-1] * b.shape[-1] > LEAST_MULTIPLY_ADDS
    assert_precise(multiply(a, b), a.double() @ b.double())
    assert torch.equal(multiply(a, b), multiply(a, b))


def test_products_are_added_to_sums(library: str) -> None:
    a, b, sums = draw(3, 365, 300), draw(3, 300, 257, transposed=True), draw(3, 365, 257)
    found = sums.clone()
    add_products(found, a, b)
    add_products(found, a, b)
    assert_precise(found, sums.double() + 2 * a.double() @ b.double())


def test_gradients_are_those_of_autograd(library: str) -> None:
    a, b, weight = draw(400, 300), draw(300, 200), draw(400, 200)
    ours = [each.clone().requires_grad_() for each in (a, b)]
    theirs = [each.double().requires_grad_() for each in (a, b)]
    (differentiable_product(*ours) * weight).sum().backward()
    (theirs[0] @ theirs[1] * weight).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        assert_precise(mine.grad, other.grad)


def test_what_is_small_or_not_float32_goes_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "uses_onednn", lambda: True)
    small, doubled = (draw(10, 20), draw(20, 30)), (draw(365, 300).double(), draw(300, 257).double())
    for a, b in (small, doubled):
        assert torch.equal(multiply(a, b), a @ b)
