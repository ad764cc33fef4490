"""Convolution over spliced frames, computed once per utterance (Section 3.1).

A splice is a window of W frames around each frame, and neighbouring splices share all but one column. A valid
convolution over the edge-padded utterance gives each column's value once; stride-1 pooling in time followed by a
second layer with time dilation 2 gives, at the right offsets, exactly what the layers would give on each splice
alone. The splices themselves are never built.

Frames come first and maps last, so that a shift in time is a view and a convolution a matrix product.

Shapes: P padded frames, B utterances, C input maps, K maps, M rows, H rows left, W columns of a splice, V = K * H;
inside a layer R = P * B, and N values of one column and all maps.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sersearch.architecture import POOL_STRIDE, Configuration, Layer, pools, shapes
from sersearch.models import gpu, loops


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
        if gpu.holds(x_PBCM):
            return self._on_gpu(x_PBCM)
        batch = x_PBCM.shape[1]
        x_RMC = x_PBCM.flatten(0, 1).transpose(1, 2).contiguous()
        # One row of R is one frame of one utterance, so a frame later is `batch` rows later.
        dilation = batch
        for layer, kernel, bias in zip(self.geometry, self.kernels, self.biases, strict=True):
            x_RMC = _Layer.apply(x_RMC, kernel, bias, layer.window, dilation)  # type: ignore[no-untyped-call]
            dilation *= self._stride
        return x_RMC.transpose(1, 2).reshape(-1, batch, x_RMC[0].numel())

    def _on_gpu(self, x_PBCM: Tensor) -> Tensor:
        x_BKMP = x_PBCM.permute(1, 2, 3, 0)
        dilation = 1
        for layer, kernel, bias in zip(self.geometry, self.kernels, self.biases, strict=True):
            weights = kernel.to(x_BKMP.dtype), bias.to(x_BKMP.dtype)
            x_BKMP = functional.conv2d(x_BKMP, *weights, dilation=(1, dilation))
            stride = _stride(layer.window), 1
            x_BKMP = functional.max_pool2d(x_BKMP, layer.window, stride, dilation=(1, dilation)).relu()
            dilation *= self._stride
        return x_BKMP.permute(3, 0, 1, 2).flatten(2)


class _Layer(torch.autograd.Function):
    """Convolution, bias, max pooling and ReLU: [R, M, C] to [R', H, K]; `dilation` rows of R from column to column.

    A product over overlapping views, then one pass over what it gives, which leaves the output and a byte for each of
    its values: what was pooled is not kept. Of equal values the first takes the gradient.
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
        rows, columns = window
        stride = _stride(window)
        pooled = len(z_RHK) - (columns - 1) * dilation, (z_RHK.shape[1] - rows) // stride + 1, maps
        y_RHK, winner_RHK = z_RHK.new_empty(pooled), torch.empty(pooled, dtype=torch.uint8)
        z, y, winner = _flat(rows, z_RHK, y_RHK, winner_RHK)
        bias = bias_K.detach() if rows > 1 else bias_K.detach().repeat(pooled[1])
        loops.pool(z, bias.numpy(), window, stride, dilation, y, winner)
        ctx.save_for_backward(x_RMC, kernel_KCHW, winner_RHK)
        ctx.pooling, ctx.shape = (window, stride, dilation), z_RHK.shape
        return y_RHK

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x_RMC, kernel_KCHW, winner_RHK = ctx.saved_tensors
        window, stride, dilation = ctx.pooling
        d_z_RHK = x_RMC.new_zeros(ctx.shape)
        d_y, winner, d_z = _flat(window[0], gradients[0].contiguous(), winner_RHK, d_z_RHK)
        loops.pool_back(d_y, winner, window, stride, dilation, d_z)
        d_bias_K = d_z_RHK.sum((0, 1))
        maps, channels, height, width = kernel_KCHW.shape
        windows = _windows(_columns(x_RMC, width, dilation), height)
        d_weight = (windows.transpose(1, 2) @ _by_row(d_z_RHK, height)).sum(0)
        d_kernel_KCHW = d_weight.view(height, width, channels, maps).permute(3, 2, 0, 1)
        if not ctx.needs_input_grad[0]:
            return None, d_kernel_KCHW, d_bias_K, None, None
        d_x_RMC = torch.zeros_like(x_RMC)
        frames, left, _ = d_z_RHK.shape
        for h in range(height):
            d_x_RHN = d_z_RHK @ kernel_KCHW[:, :, h].transpose(1, 2).flatten(1)
            for w, d_x_RHC in enumerate(d_x_RHN.chunk(width, dim=2)):
                d_x_RMC[w * dilation :][:frames, h : h + left] += d_x_RHC
        return d_x_RMC, d_kernel_KCHW, d_bias_K, None, None


def _stride(window: tuple[int, int]) -> int:
    """Rows from one pooling window to the next; in time it is 1."""
    return POOL_STRIDE if window[0] > 1 else 1


def _flat(heights: int, *tensors_RHK: Tensor) -> list[Any]:
    """Arrays for the loops; where windows are one row high, a row's values are like as many maps."""
    return [(tensor.flatten(1).unsqueeze(1) if heights == 1 else tensor).numpy() for tensor in tensors_RHK]


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
