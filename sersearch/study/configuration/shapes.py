"""Arithmetic of convolutional layers on one splice: sizes, and counts by module (Section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

POOL_SIZE = 3
POOL_STRIDE = 2


@dataclass(frozen=True)
class Layer:
    """One convolutional layer over a single splice; sizes are (rows, columns) = (spectral, temporal).

    Attributes:
        channels: maps that enter.
        kernel: (h, w).
        convolved: size of each map after the valid convolution.
        window: the pooling window; 1 where the layer does not pool.
        pooled: size of each map after pooling.
        shrunk: the temporal window is smaller than 3 because no more columns were left.
    """

    channels: int
    kernel: tuple[int, int]
    convolved: tuple[int, int]
    window: tuple[int, int]
    pooled: tuple[int, int]
    shrunk: bool

    @property
    def taps(self) -> int:
        """Weights of one output map."""
        return self.channels * self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class Shapes:
    """The layers of a configuration, or why it can't be built.

    Attributes:
        layers: one entry per convolutional layer that fits; empty where there is no convolution.
        vector: length of the vector that enters the BLSTM at each frame; 0 where the model can't be built.
        reason: what does not fit, in words; None where all fits.
    """

    layers: tuple[Layer, ...]
    vector: int
    reason: str | None

    @property
    def feasible(self) -> bool:
        """Whether the model can be built."""
        return self.reason is None

    @property
    def shrunk(self) -> bool:
        """Whether a pooling window had to shrink (docs/decisions.md)."""
        return any(layer.shrunk for layer in self.layers)


@dataclass(frozen=True)
class Modules:
    """A count for each module of a model (Section 7.5's modules)."""

    cnn: int
    blstm: int
    mlp: int

    @property
    def total(self) -> int:
        """The whole model's."""
        return self.cnn + self.blstm + self.mlp


def convolve_shapes(
    size: tuple[int, int],
    channels: int,
    maps: int,
    kernels: Sequence[tuple[int, int]],
    pooling: tuple[bool, bool],
) -> Shapes:
    """Sizes after each layer of one splice: valid convolutions, floor pooling (Section 3.1).

    The second layer's temporal pooling window shrinks to the columns that are left, because the paper exhausts
    w1 in {7, 8} with w2 = 3, which leave 2; its spectral window does not, because the paper ends its sweep of h1 at
    30 "to allow pooling and convolution in the second layer" (Section 7.4).

    Args:
        size: (M, W) of the splice.
        channels: maps of the input.
        maps: maps of each layer's output.
        kernels: (h, w) of each layer.
        pooling: whether the layers pool along the (spectral, temporal) direction.
    """
    layers: list[Layer] = []
    for number, kernel in enumerate(kernels, start=1):
        layer, reason = _layer(number, channels, size, kernel, pooling)
        if layer is None:
            return Shapes(tuple(layers), 0, reason)
        layers.append(layer)
        size, channels = layer.pooled, maps
    return Shapes(tuple(layers), channels * size[0] * size[1], None)


def _layer(
    number: int, channels: int, size: tuple[int, int], kernel: tuple[int, int], pooling: tuple[bool, bool]
) -> tuple[Layer | None, str | None]:
    convolved, window, pooled, shrunk = [], [], [], False
    for axis, unit in enumerate(("rows", "columns")):
        left = size[axis] - kernel[axis] + 1
        symbol = f"{'hw'[axis]}{number}"
        if left < 1:
            return None, f"layer {number}: {symbol} = {kernel[axis]} is larger than its {size[axis]} {unit}"
        pool = POOL_SIZE if pooling[axis] else 1
        if pool > left:
            if number == 1 or axis == 0:
                return None, (
                    f"layer {number}: {symbol} = {kernel[axis]} leaves {left} {unit}, pooling needs {POOL_SIZE}"
                )
            pool, shrunk = left, True
        convolved.append(left)
        window.append(pool)
        pooled.append((left - pool) // POOL_STRIDE + 1 if pooling[axis] else left)
    layer = Layer(channels, kernel, _pair(convolved), _pair(window), _pair(pooled), shrunk)
    return layer, None


def _pair(values: list[int]) -> tuple[int, int]:
    rows, columns = values
    return rows, columns
