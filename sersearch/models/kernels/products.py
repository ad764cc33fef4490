"""Matrix products in float32 by the faster of torch's two libraries on this processor.

torch multiplies float32 with MKL, which uses half the width of the vectors of processors that are not Intel's. oneDNN,
which torch has for other purposes, uses all of it: 105 to 125 G multiply-adds per second and core instead of 50 to 55
on an AMD EPYC (Zen 5), whatever the order of rows and columns. Intel's processors keep MKL, which is made for them.
Both sum in float32; the last bits of their sums differ, as they do between processors.

Shapes: [..., M, K] times [..., K, N] is [..., M, N]; without further axes, or with one.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

_NOT_INTEL = ("AMD", "Hygon")

LEAST_MULTIPLY_ADDS = 2**24
"""Smaller products stay with MKL, which starts a batch of them at once; oneDNN is called for each."""


@cache
def uses_onednn() -> bool:
    """Whether this processor multiplies float32 faster with oneDNN than with MKL."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return False
    return str(torch.cpu.get_capabilities().get("cpu_name", "")).startswith(_NOT_INTEL)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """The product of two matrices, or of each of several pairs, without a node in autograd's graph.

    Args:
        a: [M, K] or [n, M, K].
        b: [K, N] or [n, K, N], in the precision of a.
    """
    if not _by_onednn(a, b):
        return a @ b
    if a.dim() == 2:
        return _multiply(a, b)
    return torch.stack([_multiply(*pair) for pair in zip(a, b, strict=True)])


def differentiable_product(a_SK: Tensor, b_KN: Tensor) -> Tensor:
    """The product [S, N] of two matrices, as one node of autograd's graph."""
    product_SN: Tensor = _Product.apply(a_SK, b_KN)  # type: ignore[no-untyped-call]
    return product_SN


def add_products(sums: Tensor, a: Tensor, b: Tensor) -> None:
    """Add the product of each pair to one of the sums, in place.

    Args:
        sums: [n, M, N].
        a: [n, M, K].
        b: [n, K, N].
    """
    if not _by_onednn(a, b):
        sums.baddbmm_(a, b)
        return
    for each, *pair in zip(sums, a, b, strict=True):
        each.add_(_multiply(*pair))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a_SK: Tensor, b_KN: Tensor) -> Tensor:
        ctx.save_for_backward(a_SK, b_KN)
        return multiply(a_SK, b_KN)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor]:
        (a_SK, b_KN), (d_SN,) = ctx.saved_tensors, gradients
        d_a_SK = multiply(d_SN, b_KN.T) if ctx.needs_input_grad[0] else None
        return d_a_SK, multiply(a_SK.T, d_SN)


def _by_onednn(a: Tensor, b: Tensor) -> bool:
    is_large = a.shape[-2] * a.shape[-1] * b.shape[-1] >= LEAST_MULTIPLY_ADDS
    return is_large and a.dtype == b.dtype == torch.float32 and a.device.type == "cpu" and uses_onednn()


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")
    return product
