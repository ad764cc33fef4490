"""Convolution over spliced frames, computed once per utterance (Section 3.1).

A splice is a window of W frames around each frame, and neighbouring splices share all but one column. A valid
convolution over the edge-padded utterance gives each column's value once; stride-1 pooling in time followed by a
second layer with time dilation 2 gives, at the right offsets, exactly what the layers would give on each splice
alone. The splices themselves are never built.

Shapes: B utterances, P padded frames, T frames, C input maps, K maps, M rows, H rows left, W columns of a splice.
"""

import torch
import torch.nn.functional as F
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
        [B, left + T + right, F]; position p of an utterance of n frames holds its frame clamp(p - left, 0, n - 1).
    """
    steps = x_BTF.shape[1]
    position_P = torch.arange(-left, steps + right, device=x_BTF.device)
    frame_BP = position_P.clamp(min=0).minimum(lengths_B.unsqueeze(1) - 1)
    return x_BTF.gather(1, frame_BP.unsqueeze(2).expand(-1, -1, x_BTF.shape[2]))


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

    def forward(self, x_BCMP: Tensor) -> Tensor:
        """Convolve, pool and rectify: [B, C, M, P] to [B, K, H, P'], P' as long as the last splice needs or longer.

        Column j of the splice of frame t lies at position t + j * dilation.
        """
        dilation = 1
        for layer, kernel, bias in zip(self.geometry, self.kernels, self.biases, strict=True):
            x_BCMP = F.conv2d(x_BCMP, kernel, bias, dilation=(1, dilation))
            x_BCMP = _pool(x_BCMP, layer, dilation).relu()
            dilation *= self._stride
        return x_BCMP


def splices(maps_BKHP: Tensor, frames: int, columns: int, dilation: int) -> Tensor:
    """Gather each frame's columns: [B, K, H, P] to [B, T, K * H * columns], in the order of a flattened splice."""
    span = (columns - 1) * dilation + 1
    window_BKHTW = maps_BKHP.unfold(3, span, 1)[:, :, :, :frames, ::dilation]
    return window_BKHTW.permute(0, 3, 1, 2, 4).flatten(2)


def _pool(y_BKHP: Tensor, layer: Layer, dilation: int) -> Tensor:
    if layer.window == (1, 1):
        return y_BKHP
    rows, columns = layer.window
    stride = (POOL_STRIDE if rows > 1 else 1, 1)
    return F.max_pool2d(y_BKHP, (rows, columns), stride, dilation=(1, dilation))
