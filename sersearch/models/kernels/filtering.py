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

# Frames of a tile when the points are roots of unity. Smaller tiles need more products per output, larger tiles need
# larger transforms.
UNITY_TILE = 64
# Windows of at most this many numbers are copied and multiplied directly, which is faster for products this small.
GATHER_LIMIT = 128
# About how many numbers a block of transformed kernels or of products holds, to stay in the cache: 2.5 MiB in float32.
BLOCK_NUMBERS = 5 * 2**17


def correlate(x_QRV: Tensor, kernel_GVJ: Tensor, dilation: int = 1) -> Tensor:
    """Slide a window of J frames over x: y[q] is the sum over j of kernel[:, :, j] x[q + j * dilation].

    Args:
        x_QRV: [Q, R, V], at least as many frames as the window spans.
        kernel_GVJ: [G, V, J].
        dilation: distance in frames between two neighbouring frames of the window.

    Returns:
        [Q - (J - 1) * dilation, R, G].
    """
    frames, taps = len(x_QRV), kernel_GVJ.shape[2]
    if taps == 1 or taps * x_QRV.shape[2] <= GATHER_LIMIT:
        columns = [x_QRV[j * dilation :][: frames - (taps - 1) * dilation] for j in range(taps)]
        windows_QRN = torch.cat(columns, dim=2) if taps > 1 else x_QRV
        # The kernel is stored with inputs before outputs: in the other order, its gradient is the slowest product.
        return windows_QRN @ kernel_GVJ.permute(2, 1, 0).contiguous().flatten(0, 1)
    y_QRG: Tensor = _Correlate.apply(x_QRV, kernel_GVJ, dilation)  # type: ignore[no-untyped-call]
    return y_QRG


def gather_windows(x_QRV: Tensor, taps: int, dilation: int) -> Tensor:
    """Copy the window at each position into one vector: [Q, R, V] to [Q - (J - 1) * dilation, R, V * J]."""
    return x_QRV.unfold(0, (taps - 1) * dilation + 1, 1)[..., ::dilation].flatten(2)


class FilterAlgorithm(NamedTuple):
    """Three matrices that filter a tile x of N frames with J taps w: y = output @ ((input @ x) * (kernel @ w))."""

    input_MN: Tensor
    kernel_MJ: Tensor
    output_mM: Tensor


@cache
def filter_algorithm(taps: int) -> FilterAlgorithm:
    """The matrices for a number of taps, in float64."""
    return _toom_cook(taps) if taps < 4 else _roots_of_unity(taps, max(UNITY_TILE, 2 * taps))


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
        input_MN, kernel_MJ, output_mM = (matrix.to(x_QRV) for matrix in filter_algorithm(taps))
        frames, rows = len(x_QRV) - (taps - 1) * dilation, x_QRV.shape[1]
        hop = len(output_mM)
        tiles = -(-frames // (hop * dilation))
        products_MRV = _tiles_to_products(input_MN, _split_phases(x_QRV, dilation), hop, tiles)
        y_QRG = x_QRV.new_empty(tiles * hop, dilation * rows, gates)
        block = _outputs_per_block(products_MRV)
        for kernel_gVJ, y_QRg in zip(torch.split(kernel_GVJ, block), torch.split(y_QRG, block, 2), strict=True):
            transformed_MVg = _transform_kernel(kernel_MJ, kernel_gVJ).transpose(1, 2)
            y_QRg.copy_(_products_to_tiles(output_mM, products_MRV @ transformed_MVg, tiles).view(y_QRg.shape))
        ctx.save_for_backward(products_MRV, kernel_GVJ)
        ctx.dilation = dilation
        return y_QRG.view(-1, rows, gates)[:frames]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (products_MRV, kernel_GVJ), dilation, d_y_QRG = ctx.saved_tensors, ctx.dilation, gradients[0]
        frames, rows, _ = d_y_QRG.shape
        _, inputs, taps = kernel_GVJ.shape
        input_MN, kernel_MJ, output_mM = (matrix.to(d_y_QRG) for matrix in filter_algorithm(taps))
        hop, overlap = len(output_mM), taps - 1
        tiles = -(-frames // (hop * dilation))
        d_kernel_GVJ = torch.empty_like(kernel_GVJ)
        d_products_MRV = torch.zeros_like(products_MRV) if ctx.needs_input_grad[0] else None

        def back(kernel_gVJ: Tensor, d_kernel_gVJ: Tensor, d_y_QRg: Tensor) -> None:
            d_products_MRg = _tiles_to_products(output_mM.T, _split_phases(d_y_QRg, dilation), hop, tiles)
            d_kernel_MgV = d_products_MRg.transpose(1, 2) @ products_MRV
            d_kernel_gVJ.view(-1, taps).T.copy_(kernel_MJ.T @ d_kernel_MgV.flatten(1))
            if d_products_MRV is not None:
                d_products_MRV.baddbmm_(d_products_MRg, _transform_kernel(kernel_MJ, kernel_gVJ))

        block = _outputs_per_block(products_MRV)
        blocks = torch.split(kernel_GVJ, block), torch.split(d_kernel_GVJ, block), torch.split(d_y_QRG, block, 2)
        for each in zip(*blocks, strict=True):
            back(*each)
        if d_products_MRV is None:
            return None, d_kernel_GVJ, None
        d_tiles_nNS = _products_to_tiles(input_MN.T, d_products_MRV, tiles)
        # The last frames of a tile are the first frames of the next one, so their gradients add up.
        d_x_nmS = functional.pad(d_tiles_nNS[:, :hop], (0, 0, 0, 0, 0, 1))
        d_x_nmS[1:, :overlap] += d_tiles_nNS[:, hop:]
        return d_x_nmS.view(-1, rows, inputs)[: frames + overlap * dilation], d_kernel_GVJ, None


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
    outputs = max(BLOCK_NUMBERS / (products * max(rows, inputs)), inputs / 6)
    return int(2 ** max(0, round(math.log2(outputs))))


def _transform_kernel(kernel_MJ: Tensor, kernel_GVJ: Tensor) -> Tensor:
    """Evaluate a kernel at the points of the algorithm: [G, V, J] to [M, G, V]."""
    gates, inputs, taps = kernel_GVJ.shape
    return (kernel_MJ @ kernel_GVJ.view(-1, taps).T).view(-1, gates, inputs)


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
