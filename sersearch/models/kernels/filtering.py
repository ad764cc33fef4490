"""Filters over time with fewer multiplications than the plain sum, which they equal except for rounding.

A window of J frames that moves one frame at a time is a filter of J taps, and to filter is to multiply polynomials:
evaluate both factors at enough points, multiply the values, interpolate. Here the values are matrices, so evaluation
and interpolation cost little beside the products, and fewer products save most of the time. The transposed algorithm
(Winograd, Arithmetic Complexity of Computations, 1980) gives m consecutive outputs of a filter from m + J - 1 inputs.
Time is cut into tiles of that many inputs.

Shapes: Q frames; R rows (any number of sequences side by side); V inputs per frame; G outputs per frame, g of them in a
block; J taps; n tiles; N frames of a tile; m outputs of a tile; M products of a tile; S = R * V.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sersearch.models.kernels.products import add_products, differentiable_product, multiply

# Frames of a tile when the points are roots of unity. Smaller tiles need more products per output, larger tiles need
# larger transforms.
UNITY_TILE = 64
# The same in bfloat16, whose products are so fast that transforms count for more.
UNITY_TILE_BF16 = 32
# Filters of fewer taps are computed with the algorithm of Toom and Cook. In bfloat16 that would triple the errors, so
# they are computed as the plain sum.
FEW_TAPS = 4
# Windows of at most this many numbers are copied and multiplied directly, which is faster for products this small.
GATHER_LIMIT = 128
# About how many numbers a block of transformed kernels or of products holds, to stay in the cache: 2.5 MiB in float32.
# In bfloat16, few large products matter more.
BLOCK_NUMBERS = 5 * 2**17
BLOCK_NUMBERS_BF16 = 8 * BLOCK_NUMBERS


def correlate(x_QRV: Tensor, kernel_GVJ: Tensor, dilation: int = 1) -> Tensor:
    """Slide a window of J frames over x: y[q] is the sum over j of kernel[:, :, j] x[q + j * dilation].

    If x is in bfloat16, so are the factors and the results of all matrix products, forward and backward, unless the
    window has at most GATHER_LIMIT numbers. Sums within a product are in float32.

    Args:
        x_QRV: [Q, R, V], at least as many frames as the window spans.
        kernel_GVJ: [G, V, J]; in the precision of x, or in float32.
        dilation: distance in frames between two neighbouring frames of the window.

    Returns:
        [Q - (J - 1) * dilation, R, G], in the precision of the kernel.
    """
    _, inputs, taps = kernel_GVJ.shape
    if taps * inputs <= GATHER_LIMIT:
        # In bfloat16, such a product saves less time than the conversion of its results takes.
        return _sum_at_once(x_QRV.to(kernel_GVJ.dtype), kernel_GVJ, dilation)
    y_QRG: Tensor
    if x_QRV.dtype == torch.bfloat16 and taps < FEW_TAPS:
        y_QRG = _PlainSum.apply(x_QRV, kernel_GVJ, dilation)  # type: ignore[no-untyped-call]
    elif taps == 1:
        y_QRG = _sum_at_once(x_QRV, kernel_GVJ, dilation)
    else:
        y_QRG = _Correlate.apply(x_QRV, kernel_GVJ, dilation)  # type: ignore[no-untyped-call]
    return y_QRG


def gather_windows(x_QRV: Tensor, taps: int, dilation: int) -> Tensor:
    """Copy the window at each position into one vector: [Q, R, V] to [Q - (J - 1) * dilation, R, V * J]."""
    return x_QRV.unfold(0, (taps - 1) * dilation + 1, 1)[..., ::dilation].flatten(2)


class FilterAlgorithm(NamedTuple):
    """Three matrices that filter a tile x of N frames with J taps w: y = output @ ((input @ x) * (kernel @ w))."""

    input_MN: Tensor
    kernel_MJ: Tensor
    output_mM: Tensor


def filter_algorithm(taps: int, dtype: torch.dtype) -> FilterAlgorithm:
    """The matrices for a number of taps, in a precision."""
    tile = UNITY_TILE_BF16 if dtype == torch.bfloat16 else UNITY_TILE
    return FilterAlgorithm(*(matrix.to(dtype) for matrix in _exact_algorithm(taps, max(tile, 2 * taps))))


@cache
def _exact_algorithm(taps: int, tile: int) -> FilterAlgorithm:
    return _toom_cook(taps) if taps < FEW_TAPS else _roots_of_unity(taps, tile)


def _toom_cook(taps: int) -> FilterAlgorithm:
    """The algorithm of Toom and Cook at the points 0, 1, -1, 2 and infinity, one product per point.

    More points or larger ones would lose digits to rounding.
    """
    points = torch.tensor([0.0, 1.0, -1.0, 2.0], dtype=torch.float64)
    size = len(points) + 1
    infinity = torch.zeros(1, size, dtype=torch.float64)
    infinity[0, -1] = 1

    def evaluate(length: int) -> Tensor:
        return torch.cat((points.unsqueeze(1) ** torch.arange(length), infinity[:, -length:]))

    return FilterAlgorithm(torch.linalg.inv(evaluate(size)).T, evaluate(taps), evaluate(size - taps + 1).T)


def _roots_of_unity(taps: int, size: int) -> FilterAlgorithm:
    """Evaluation at the roots of unity, as a Fourier transform does; rounding errors do not grow with their number.

    The points 1 and -1 take one product each, a pair of conjugate complex points takes three real products.
    """
    angle_MN = torch.outer(torch.arange(1, size // 2), torch.arange(size)).double() * (2 * math.pi / size)
    cos, sin = angle_MN.cos(), angle_MN.sin()
    ones = torch.ones(1, size, dtype=torch.float64)
    signs = (-1.0) ** torch.arange(size, dtype=torch.float64).unsqueeze(0)
    evaluate = torch.cat((ones, signs, cos, sin, cos + sin))
    interpolate = torch.cat((ones, signs, 2 * (cos - sin), -2 * (cos + sin), 2 * sin)) / size
    return FilterAlgorithm(interpolate, evaluate[:, :taps], evaluate[:, : size - taps + 1].T)


class _Correlate(torch.autograd.Function):
    """The filter as one node of autograd's graph.

    It computes one block of outputs after the other, each so small that its transformed kernels stay in the cache.
    """

    @staticmethod
    def forward(ctx: Any, x_QRV: Tensor, kernel_GVJ: Tensor, dilation: int) -> Tensor:
        gates, _, taps = kernel_GVJ.shape
        input_MN, kernel_MJ, output_mM = filter_algorithm(taps, x_QRV.dtype)
        frames, rows = len(x_QRV) - (taps - 1) * dilation, x_QRV.shape[1]
        hop = len(output_mM)
        tiles = -(-frames // (hop * dilation))
        products_MRV = _tiles_to_products(input_MN, _split_phases(x_QRV, dilation), hop, tiles)
        y_QRG = kernel_GVJ.new_empty(tiles * hop, dilation * rows, gates)
        block = _outputs_per_block(products_MRV)
        for kernel_gVJ, y_QRg in zip(torch.split(kernel_GVJ, block), torch.split(y_QRG, block, 2), strict=True):
            transformed_MVg = _transform_kernel(kernel_MJ, kernel_gVJ).transpose(1, 2)
            y_QRg.copy_(_products_to_tiles(output_mM, multiply(products_MRV, transformed_MVg), tiles).view(y_QRg.shape))
        ctx.save_for_backward(products_MRV, kernel_GVJ)
        ctx.dilation = dilation
        return y_QRG.view(-1, rows, gates)[:frames]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (products_MRV, kernel_GVJ), dilation, d_y_QRG = ctx.saved_tensors, ctx.dilation, gradients[0]
        dtype = products_MRV.dtype
        frames, rows, _ = d_y_QRG.shape
        _, inputs, taps = kernel_GVJ.shape
        input_MN, kernel_MJ, output_mM = filter_algorithm(taps, dtype)
        hop, overlap = len(output_mM), taps - 1
        tiles = -(-frames // (hop * dilation))
        d_kernel_GVJ = torch.empty_like(kernel_GVJ)
        d_products_MRV = torch.zeros_like(products_MRV, dtype=d_y_QRG.dtype) if ctx.needs_input_grad[0] else None

        def back(kernel_gVJ: Tensor, d_kernel_gVJ: Tensor, d_y_QRg: Tensor) -> None:
            d_products_MRg = _tiles_to_products(output_mM.T, _split_phases(d_y_QRg.to(dtype), dilation), hop, tiles)
            d_kernel_MgV = multiply(d_products_MRg.transpose(1, 2), products_MRV)
            d_kernel_gVJ.view(-1, taps).T.copy_(kernel_MJ.T @ d_kernel_MgV.flatten(1))
            if d_products_MRV is None:
                return
            transformed_MgV = _transform_kernel(kernel_MJ, kernel_gVJ)
            if dtype == torch.bfloat16:
                d_products_MRV.add_(d_products_MRg @ transformed_MgV)
            else:
                add_products(d_products_MRV, d_products_MRg, transformed_MgV)

        block = _outputs_per_block(products_MRV)
        blocks = torch.split(kernel_GVJ, block), torch.split(d_kernel_GVJ, block), torch.split(d_y_QRG, block, 2)
        for each in zip(*blocks, strict=True):
            back(*each)
        if d_products_MRV is None:
            return None, d_kernel_GVJ, None
        d_tiles_nNS = _products_to_tiles(input_MN.T, d_products_MRV.to(dtype), tiles)
        # The last frames of a tile are the first frames of the next one, so their gradients add up.
        d_x_nmS = functional.pad(d_tiles_nNS[:, :hop], (0, 0, 0, 0, 0, 1))
        d_x_nmS[1:, :overlap] += d_tiles_nNS[:, hop:]
        return d_x_nmS.view(-1, rows, inputs)[: frames + overlap * dilation], d_kernel_GVJ, None


def _sum_at_once(x_QRV: Tensor, kernel_GVJ: Tensor, dilation: int) -> Tensor:
    """The filter as one product of all windows, which are copied, and the kernel."""
    windows_QRN = _join_windows(x_QRV, kernel_GVJ.shape[2], dilation)
    # The kernel is stored with inputs before outputs: in the other order, its gradient is the slowest product.
    weight_NG = kernel_GVJ.permute(2, 1, 0).contiguous().flatten(0, 1)
    return differentiable_product(windows_QRN.flatten(0, 1), weight_NG).view(*windows_QRN.shape[:2], -1)


class _PlainSum(torch.autograd.Function):
    """The filter in bfloat16 as one product of all windows and the kernel, forward and for each of the gradients."""

    @staticmethod
    def forward(ctx: Any, x_QRV: Tensor, kernel_GVJ: Tensor, dilation: int) -> Tensor:
        # Rows stay rows, because to transpose a kernel of millions of numbers takes a tenth of the product's time.
        kernel_GJV = kernel_GVJ.to(x_QRV.dtype).transpose(1, 2).contiguous()
        ctx.save_for_backward(x_QRV, kernel_GJV)
        ctx.dilation = dilation
        return (_join_windows(x_QRV, kernel_GJV.shape[1], dilation) @ kernel_GJV.flatten(1).T).to(kernel_GVJ.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (x_QRV, kernel_GJV), dilation = ctx.saved_tensors, ctx.dilation
        taps = kernel_GJV.shape[1]
        d_y_QRG = gradients[0].to(x_QRV.dtype)
        windows_SN = _join_windows(x_QRV, taps, dilation).flatten(0, 1)
        d_kernel_GJV = (d_y_QRG.flatten(0, 1).T @ windows_SN).view_as(kernel_GJV)
        d_kernel_GVJ = d_kernel_GJV.transpose(1, 2).to(gradients[0].dtype, memory_format=torch.contiguous_format)
        if not ctx.needs_input_grad[0]:
            return None, d_kernel_GVJ, None
        # The gradient of the inputs is the filter with the flipped kernel, over zeros at both ends.
        margin = (taps - 1) * dilation
        padded_QRG = functional.pad(d_y_QRG, (0, 0, 0, 0, margin, margin)) if margin else d_y_QRG
        flipped_JGV = kernel_GJV.transpose(0, 1).flip(0)
        return _join_windows(padded_QRG, taps, dilation) @ flipped_JGV.flatten(0, 1), d_kernel_GVJ, None


def _join_windows(x_QRV: Tensor, taps: int, dilation: int) -> Tensor:
    """Copy the frames of each window side by side: [Q, R, V] to [Q - (J - 1) * dilation, R, J * V]."""
    frames = len(x_QRV) - (taps - 1) * dilation
    columns = [x_QRV[j * dilation :][:frames] for j in range(taps)]
    return torch.cat(columns, dim=2) if taps > 1 else x_QRV


def _split_phases(x_QRV: Tensor, dilation: int) -> Tensor:
    """Split time into `dilation` sequences, each of every dilation-th frame: [Q, R, V] to [Q', dilation * R, V]."""
    frames, rows, inputs = x_QRV.shape
    if frames % dilation:
        x_QRV = functional.pad(x_QRV, (0, 0, 0, 0, 0, -frames % dilation))
    return x_QRV.reshape(-1, dilation * rows, inputs)


def _outputs_per_block(products_MRV: Tensor) -> int:
    """The number of outputs per block, a power of two.

    With other sizes the matrix product is left with a remainder, which takes as long as a whole tile of its own. Blocks
    of much fewer outputs than inputs would lose more by reading the inputs for each block than they save.
    """
    products, rows, inputs = products_MRV.shape
    numbers = BLOCK_NUMBERS_BF16 if products_MRV.dtype == torch.bfloat16 else BLOCK_NUMBERS
    outputs = max(numbers / (products * max(rows, inputs)), inputs / 6)
    return int(2 ** max(0, round(math.log2(outputs))))


def _transform_kernel(kernel_MJ: Tensor, kernel_GVJ: Tensor) -> Tensor:
    """Evaluate a kernel at the points of the algorithm: [G, V, J] to [M, G, V]."""
    gates, inputs, taps = kernel_GVJ.shape
    return (kernel_MJ @ kernel_GVJ.view(-1, taps).T.to(kernel_MJ.dtype)).view(-1, gates, inputs)


def _tiles_to_products(matrix_MN: Tensor, x_QRV: Tensor, hop: int, tiles: int) -> Tensor:
    """Multiply a matrix by each tile of N frames; tiles start `hop` frames apart: [Q, R, V] to [M, tiles * R, V]."""
    products, size = matrix_MN.shape
    x_QS = x_QRV.flatten(1)
    missing = (tiles - 1) * hop + size - len(x_QS)
    if missing > 0:
        x_QS = functional.pad(x_QS, (0, 0, 0, missing))
    x_nNS = x_QS.unfold(0, size, hop).transpose(1, 2)
    y_MnS = x_QS.new_empty(products, tiles, x_QS.shape[1])
    torch.bmm(matrix_MN.expand(tiles, -1, -1), x_nNS[:tiles], out=y_MnS.transpose(0, 1))
    return y_MnS.view(products, -1, x_QRV.shape[2])


def _products_to_tiles(matrix_NM: Tensor, x_MRV: Tensor, tiles: int) -> Tensor:
    """Multiply a matrix by the products of each tile: [M, tiles * R, V] to [tiles, N, R * V]."""
    return matrix_NM @ x_MRV.view(len(x_MRV), tiles, -1).transpose(0, 1)
