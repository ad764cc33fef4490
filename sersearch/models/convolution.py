"""Convolution over spliced frames, computed once per utterance (Section 3.1).

A splice is a window of W frames around each frame, and neighbouring splices share all but one column. A valid
convolution over the edge-padded utterance gives each column's value once; stride-1 pooling in time followed by a
second layer with time dilation 2 gives, at the right offsets, exactly what the layers would give on each splice
alone. The splices themselves are never built.

Frames come first and maps last, so that a shift in time is a view and a convolution a matrix product.

Shapes: P padded frames, B utterances, C input maps, K maps, M rows, H rows left, W columns of a splice, V = K * H;
inside a layer R = P * B, and N values of one column and all maps.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from sersearch.architecture import POOL_STRIDE, Configuration, Layer, pools, shapes


def edge_pad(x_BTF: Tensor, lengths_B: Tensor, left: int, right: int) -> Tensor:
    """Repeat each utterance's first frame `left` times before it and its last frame `right` times after it.

    Args:
        x_BTF: frames, padded at the end to a common T with anything.
        lengths_B: real frames of each utterance, at least 1.
        left: context before a frame.
        right: context after a frame.

    Returns:
        [P, B, F], P = left + T + right; position p of an utterance of n frames holds frame clamp(p - left, 0, n - 1).
    """
    steps = x_BTF.shape[1]
    position_P = torch.arange(-left, steps + right, device=x_BTF.device)
    frame_PB = position_P.clamp(min=0).unsqueeze(1).minimum(lengths_B - 1)
    return x_BTF.transpose(0, 1).gather(0, frame_PB.unsqueeze(2).expand(-1, -1, x_BTF.shape[2]))


class Convolutions(nn.Module):
    """The convolutional layers of a configuration over edge-padded utterances; for the LDNN there are none.

    Attributes:
        columns: how many columns of a splice are left after the last layer.
        dilation: how many frames lie between them.
    """

    def __init__(self, configuration: Configuration) -> None:
        """Make the layers; parameters are not initialised.

        Args:
            configuration: a feasible configuration.
        """
        super().__init__()
        found = shapes(configuration)
        assert found.feasible, found.reason
        self.geometry: tuple[Layer, ...] = found.layers
        maps = configuration.maps
        self.kernels = nn.ParameterList(torch.empty(maps, layer.channels, *layer.kernel) for layer in found.layers)
        self.biases = nn.ParameterList(torch.empty(maps) for _ in found.layers)
        last = found.layers[-1] if found.layers else None
        self.columns = last.pooled[1] if last else configuration.columns
        self._stride = POOL_STRIDE if pools(configuration.model)[1] else 1
        self.dilation = self._stride ** len(found.layers)

    def forward(self, x_PBCM: Tensor) -> Tensor:
        """Convolve, pool and rectify: [P, B, C, M] to [P', B, V], P' as many frames as the last splice needs.

        Column j of the splice of frame t lies at position t + j * dilation. It computes in the precision of its inputs.
        """
        batch = x_PBCM.shape[1]
        x_RMC = x_PBCM.flatten(0, 1).transpose(1, 2).contiguous()
        # One row of R is one frame of one utterance, so a frame later is `batch` rows later.
        dilation = batch
        for layer, kernel, bias in zip(self.geometry, self.kernels, self.biases, strict=True):
            weights = kernel.to(x_RMC.dtype), bias.to(x_RMC.dtype)
            x_RMC = _Layer.apply(x_RMC, *weights, layer.window, dilation)  # type: ignore[no-untyped-call]
            dilation *= self._stride
        return x_RMC.transpose(1, 2).reshape(-1, batch, x_RMC[0].numel())


class _Layer(torch.autograd.Function):
    """Convolution, bias, max pooling and ReLU: [R, M, C] to [R', H, K]; `dilation` rows of R from column to column.

    Pooling is the maximum of shifted views, so no index is stored: the backward pass compares again. Of equal values
    the first takes the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x_RMC: Tensor, kernel_KCHW: Tensor, bias_K: Tensor, window: tuple[int, int], dilation: int
    ) -> Tensor:
        maps, _, height, width = kernel_KCHW.shape
        x_RMN = _columns(x_RMC, width, dilation)
        z_RHK = x_RMN.new_empty(x_RMN.shape[0], x_RMN.shape[1] - height + 1, maps)
        windows = _windows(x_RMN, height)
        weight = kernel_KCHW.permute(2, 3, 1, 0).flatten(0, 2)
        torch.bmm(windows, weight.expand(len(windows), -1, -1), out=_by_row(z_RHK, height))
        z_RHK += bias_K
        y_RHK = _pool(_pool(z_RHK, 1, window[0]), 0, window[1], dilation).clamp(min=0)
        ctx.save_for_backward(x_RMC, kernel_KCHW, z_RHK, y_RHK)
        ctx.window, ctx.dilation = window, dilation
        return y_RHK

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x_RMC, kernel_KCHW, z_RHK, y_RHK = ctx.saved_tensors
        rows, columns = ctx.window
        pooled = _pool(z_RHK, 1, rows)
        d_y_RHK = torch.ops.aten.threshold_backward(gradients[0], y_RHK, 0)
        d_pooled = _unpool(d_y_RHK, y_RHK, pooled, 0, columns, ctx.dilation)
        d_z_RHK = _unpool(d_pooled, pooled, z_RHK, 1, rows)
        d_bias_K = d_z_RHK.sum((0, 1))
        maps, channels, height, width = kernel_KCHW.shape
        windows = _windows(_columns(x_RMC, width, ctx.dilation), height)
        d_weight = (windows.transpose(1, 2) @ _by_row(d_z_RHK, height)).sum(0)
        d_kernel_KCHW = d_weight.view(height, width, channels, maps).permute(3, 2, 0, 1)
        if not ctx.needs_input_grad[0]:
            return None, d_kernel_KCHW, d_bias_K, None, None
        d_x_RMC = torch.zeros_like(x_RMC)
        frames, left, _ = d_z_RHK.shape
        for h in range(height):
            d_x_RHN = d_z_RHK @ kernel_KCHW[:, :, h].transpose(1, 2).flatten(1)
            for w, d_x_RHC in enumerate(d_x_RHN.chunk(width, dim=2)):
                d_x_RMC[w * ctx.dilation :][:frames, h : h + left] += d_x_RHC
        return d_x_RMC, d_kernel_KCHW, d_bias_K, None, None


def _columns(x_RMC: Tensor, width: int, dilation: int) -> Tensor:
    """Put the columns under a kernel beside each other: [R, M, C] to [R', M, width * C]."""
    rows = len(x_RMC) - (width - 1) * dilation
    return torch.cat([x_RMC[w * dilation :][:rows] for w in range(width)], dim=2) if width > 1 else x_RMC


def _windows(x_RMN: Tensor, height: int) -> Tensor:
    """What lies under a kernel at each of its heights, as a view: [R, M, N] to [H, R, height * N]."""
    frames, rows, values = x_RMN.shape
    if height == 1:
        return x_RMN.view(1, -1, values)
    return x_RMN.as_strided((rows - height + 1, frames, height * values), (values, rows * values, 1))


def _by_row(z_RHK: Tensor, height: int) -> Tensor:
    """The product of `_windows` and a kernel, as a view of its result."""
    return z_RHK.view(1, -1, z_RHK.shape[2]) if height == 1 else z_RHK.transpose(0, 1)


def _shifted(x: Tensor, dim: int, window: int, dilation: int) -> tuple[Tensor, ...]:
    """First, second, third... element of each pooling window; along rows the stride is 2, in time it is 1."""
    stride = POOL_STRIDE if dim == 1 else 1
    return x.unfold(dim, (window - 1) * dilation + 1, stride)[..., ::dilation].unbind(-1)


def _pool(x: Tensor, dim: int, window: int, dilation: int = 1) -> Tensor:
    return reduce(torch.maximum, _shifted(x, dim, window, dilation)) if window > 1 else x


def _unpool(d_y: Tensor, y: Tensor, x: Tensor, dim: int, window: int, dilation: int = 1) -> Tensor:
    """The gradient of `_pool`, which uses `d_y` up; where y was rectified to 0, d_y must be 0."""
    if window == 1:
        return d_y
    d_x = torch.zeros_like(x)
    parts, d_parts = _shifted(x, dim, window, dilation), _shifted(d_x, dim, window, dilation)
    taken = torch.empty_like(d_y)
    for part, d_part in zip(parts[:-1], d_parts[:-1], strict=True):
        torch.eq(part, y, out=taken).mul_(d_y)
        d_part += taken
        d_y -= taken
    d_parts[-1].add_(d_y)
    return d_x
