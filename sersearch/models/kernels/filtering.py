"""Filters over time with fewer multiplications, as exact as the plain sum but for rounding.

A window of J frames that moves one frame at a time is a filter of J taps, and filters are products of polynomials:
evaluate both factors at enough points, multiply the values, interpolate. Between matrices this pays a great deal,
because evaluation and interpolation are cheap beside the products. Transposing the algorithm (Winograd, Arithmetic
Complexity of Computations, 1980) gives a filter's `outputs` consecutive values from `outputs + taps - 1` inputs.

Shapes: Q frames, R rows (any number of sequences side by side), V inputs, G outputs, J taps; n tiles, N frames of a
tile, M products.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Frames of a tile when the points lie on the unit circle: fewer mean more products, more mean larger transforms.
CIRCLE = 64
# Windows of no more numbers than this are gathered after all: the products are too small for transforms to pay.
GATHERED = 128
# About so many numbers are in a block of transformed kernels or of products: 2.5 MiB in float32.
BLOCK = 5 * 2**17


def correlate(x_QRV: Tensor, kernel_GVJ: Tensor, dilation: int = 1) -> Tensor:
    """Slide a window of J frames over x: y[q] = sum over j of kernel[:, :, j] x[q + j * dilation].

    Args:
        x_QRV: [Q, R, V], at least as many frames as the window spans.
        kernel_GVJ: [G, V, J].
        dilation: frames from one frame of the window to the next.

    Returns:
        [Q - (J - 1) * dilation, R, G].
    """
    frames, taps = len(x_QRV), kernel_GVJ.shape[2]
    if taps == 1 or taps * x_QRV.shape[2] <= GATHERED:
        columns = [x_QRV[j * dilation :][: frames - (taps - 1) * dilation] for j in range(taps)]
        windows_QRN = torch.cat(columns, dim=2) if taps > 1 else x_QRV
        # Inputs before outputs: the other way round, the kernel's gradient is the slowest product of all.
        return windows_QRN @ kernel_GVJ.permute(2, 1, 0).contiguous().flatten(0, 1)
    y_QRG: Tensor = _Correlation.apply(x_QRV, kernel_GVJ, dilation)  # type: ignore[no-untyped-call]
    return y_QRG


def gather_windows(x_QRV: Tensor, taps: int, dilation: int) -> Tensor:
    """Each position's window as one vector: [Q, R, V] to [Q - (J - 1) * dilation, R, V * J]."""
    return x_QRV.unfold(0, (taps - 1) * dilation + 1, 1)[..., ::dilation].flatten(2)


class Algorithm(NamedTuple):
    """How to filter a tile: y = output @ ((input @ x) * (kernel @ w)), x of N frames, w of J taps, M products."""

    input_MN: Tensor
    kernel_MJ: Tensor
    output_mM: Tensor


@cache
def algorithm(taps: int) -> Algorithm:
    """The algorithm for so many taps, in float64."""
    return _on_the_line(taps) if taps < 4 else _on_the_circle(taps, max(CIRCLE, 2 * taps))


def _on_the_line(taps: int) -> Algorithm:
    """Real points 0, 1, -1, 2, infinity: one product each (Toom and Cook). More or larger points lose digits."""
    points = torch.tensor([0.0, 1.0, -1.0, 2.0], dtype=torch.float64)
    size = len(points) + 1
    infinity = torch.zeros(1, size, dtype=torch.float64)
    infinity[0, -1] = 1

    def evaluate(length: int) -> Tensor:
        return torch.cat((points.unsqueeze(1) ** torch.arange(length), infinity[:, -length:]))

    return Algorithm(torch.linalg.inv(evaluate(size)).T, evaluate(taps), evaluate(size - taps + 1).T)


def _on_the_circle(taps: int, size: int) -> Algorithm:
    """The roots of unity: 1 and -1 take one product, a conjugate pair three, and rounding errors don't grow."""
    angle_MN = torch.outer(torch.arange(1, size // 2), torch.arange(size)).double() * (2 * math.pi / size)
    cos, sin = angle_MN.cos(), angle_MN.sin()
    ones = torch.ones(1, size, dtype=torch.float64)
    signs = (-1.0) ** torch.arange(size, dtype=torch.float64).unsqueeze(0)
    evaluate = torch.cat((ones, signs, cos, sin, cos + sin))
    interpolate = torch.cat((ones, signs, 2 * (cos - sin), -2 * (cos + sin), 2 * sin)) / size
    return Algorithm(interpolate, evaluate[:, :taps], evaluate[:, : size - taps + 1].T)


class _Correlation(torch.autograd.Function):
    """A block of outputs after the other, so that a block's transformed kernels stay in the cache."""

    @staticmethod
    def forward(ctx: Any, x_QRV: Tensor, kernel_GVJ: Tensor, dilation: int) -> Tensor:
        gates, _, taps = kernel_GVJ.shape
        input_MN, kernel_MJ, output_mM = (matrix.to(x_QRV) for matrix in algorithm(taps))
        frames, rows = len(x_QRV) - (taps - 1) * dilation, x_QRV.shape[1]
        hop = len(output_mM)
        tiles = -(-frames // (hop * dilation))
        products_MRV = _to_products(input_MN, _beside(x_QRV, dilation), hop, tiles)
        y_QRG = x_QRV.new_empty(tiles * hop, dilation * rows, gates)
        block = _block(products_MRV)
        for kernel_gVJ, y_QRg in zip(torch.split(kernel_GVJ, block), torch.split(y_QRG, block, 2), strict=True):
            transformed_MVg = _transformed(kernel_MJ, kernel_gVJ).transpose(1, 2)
            y_QRg.copy_(_to_tiles(output_mM, products_MRV @ transformed_MVg, tiles).view(y_QRg.shape))
        ctx.save_for_backward(products_MRV, kernel_GVJ)
        ctx.dilation = dilation
        return y_QRG.view(-1, rows, gates)[:frames]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (products_MRV, kernel_GVJ), dilation, d_y_QRG = ctx.saved_tensors, ctx.dilation, gradients[0]
        frames, rows, _ = d_y_QRG.shape
        _, inputs, taps = kernel_GVJ.shape
        input_MN, kernel_MJ, output_mM = (matrix.to(d_y_QRG) for matrix in algorithm(taps))
        hop, overlap = len(output_mM), taps - 1
        tiles = -(-frames // (hop * dilation))
        d_kernel_GVJ = torch.empty_like(kernel_GVJ)
        d_products_MRV = torch.zeros_like(products_MRV) if ctx.needs_input_grad[0] else None

        def back(kernel_gVJ: Tensor, d_kernel_gVJ: Tensor, d_y_QRg: Tensor) -> None:
            d_products_MRg = _to_products(output_mM.T, _beside(d_y_QRg, dilation), hop, tiles)
            d_kernel_MgV = d_products_MRg.transpose(1, 2) @ products_MRV
            d_kernel_gVJ.view(-1, taps).T.copy_(kernel_MJ.T @ d_kernel_MgV.flatten(1))
            if d_products_MRV is not None:
                d_products_MRV.baddbmm_(d_products_MRg, _transformed(kernel_MJ, kernel_gVJ))

        block = _block(products_MRV)
        blocks = torch.split(kernel_GVJ, block), torch.split(d_kernel_GVJ, block), torch.split(d_y_QRG, block, 2)
        for each in zip(*blocks, strict=True):
            back(*each)
        if d_products_MRV is None:
            return None, d_kernel_GVJ, None
        d_tiles_nNS = _to_tiles(input_MN.T, d_products_MRV, tiles)
        # A tile's last frames are the next one's first.
        d_x_nmS = functional.pad(d_tiles_nNS[:, :hop], (0, 0, 0, 0, 0, 1))
        d_x_nmS[1:, :overlap] += d_tiles_nNS[:, hop:]
        return d_x_nmS.view(-1, rows, inputs)[: frames + overlap * dilation], d_kernel_GVJ, None


def _beside(x_QRV: Tensor, dilation: int) -> Tensor:
    """Every dilation-th frame as a sequence of its own, beside the others: [Q, R, V] to [Q', dilation * R, V]."""
    frames, rows, inputs = x_QRV.shape
    if frames % dilation:
        x_QRV = functional.pad(x_QRV, (0, 0, 0, 0, 0, -frames % dilation))
    return x_QRV.reshape(-1, dilation * rows, inputs)


def _block(products_MRV: Tensor) -> int:
    """Outputs of a block.

    Products whose sides are powers of two have no remainders, which cost as much as whole tiles. With much fewer
    outputs than inputs, reading the inputs again for each block would cost more than the block saves.
    """
    products, rows, inputs = products_MRV.shape
    outputs = max(BLOCK / (products * max(rows, inputs)), inputs / 6)
    return int(2 ** max(0, round(math.log2(outputs))))


def _transformed(kernel_MJ: Tensor, kernel_GVJ: Tensor) -> Tensor:
    """[G, V, J] to [M, G, V]."""
    gates, inputs, taps = kernel_GVJ.shape
    return (kernel_MJ @ kernel_GVJ.view(-1, taps).T).view(-1, gates, inputs)


def _to_products(matrix_MN: Tensor, x_QRV: Tensor, hop: int, tiles: int) -> Tensor:
    """Apply a matrix to each tile of N frames, `hop` apart: [Q, R, V] to [M, tiles * R, V]."""
    products, size = matrix_MN.shape
    x_QS = x_QRV.flatten(1)
    missing = (tiles - 1) * hop + size - len(x_QS)
    if missing > 0:
        x_QS = functional.pad(x_QS, (0, 0, 0, missing))
    x_nNS = x_QS.unfold(0, size, hop).transpose(1, 2)
    y_MnS = x_QS.new_empty(products, tiles, x_QS.shape[1])
    torch.bmm(matrix_MN.expand(tiles, -1, -1), x_nNS[:tiles], out=y_MnS.transpose(0, 1))
    return y_MnS.view(products, -1, x_QRV.shape[2])


def _to_tiles(matrix_NM: Tensor, x_MRV: Tensor, tiles: int) -> Tensor:
    """Apply a matrix to each tile's products: [M, tiles * R, V] to [tiles, N, R * V]."""
    return matrix_NM @ x_MRV.view(len(x_MRV), tiles, -1).transpose(0, 1)
