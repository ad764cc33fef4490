"""A model's configuration and all that follows from it by arithmetic: shapes, parameters, multiply-adds.

Plain Python without torch, so that a study can be planned before anything heavy is imported. Symbols are the
paper's: h and w are a kernel's height (Mel bands) and width (frames), M the spectral dimensionality; Section 3.1,
Tables 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Network = Literal["LDNN", "S-CLDNN", "T-CLDNN", "ST-CLDNN", "FST-CLDNN"]
Model = Network | Literal["SVM"]
Features = Literal["log-mels", "mfccs"]
Normalisation = Literal["corpus", "utterance", "none"]
Precision = Literal["float32", "tf32", "bf16"]


POOL_SIZE = 3
POOL_STRIDE = 2

_Positive = Annotated[int, Field(ge=1)]
_Kernel = Annotated[int, Field(ge=1)] | None


class Configuration(BaseModel):
    """Everything that decides how one network is built and trained, seed and data aside.

    The defaults are the paper's. Kernel sizes that the model's type fixes (Table 1) are filled in, so that two ways
    of writing the same model are one configuration: T has h = 1, S has w = 1, FST has h1 = M and h2 = 1, LDNN has
    none.

    `precision` is that of products, convolutions and recurrences on a GPU; a CPU computes in float32 whatever it says.

    Raises:
        ValueError: a kernel size that the type fixes is given otherwise, or one that it needs is missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Network
    features: Features = "log-mels"
    h1: _Kernel = None
    w1: _Kernel = None
    h2: _Kernel = None
    w2: _Kernel = None

    bands: Annotated[int, Field(ge=2)] = 40
    cepstra: Annotated[int, Field(ge=2)] = 13
    deltas: Annotated[int, Field(ge=0, le=2)] = 0
    left: Annotated[int, Field(ge=0)] = 10
    right: Annotated[int, Field(ge=0)] = 5
    normalisation: Normalisation = "corpus"

    maps: _Positive = 32
    cells: _Positive = 128
    dense: tuple[_Positive, ...] = (128, 32, 32)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2

    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    minibatch: _Positive = 10
    patience: _Positive = 3
    epochs: _Positive = 100
    precision: Precision = "float32"

    @model_validator(mode="before")
    @classmethod
    def _fill_fixed_kernels(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        given = {name: value for name, value in data.items() if value is not None}
        fixed = fixed_kernels(given.get("model"), _rows(given))
        for name, value in fixed.items():
            if name in given and given[name] != value:
                rule = "has no convolution" if value is None else f"fixes {name} = {value} (Table 1)"
                raise ValueError(f"{name} = {given[name]} was given, but {given['model']} {rule}; leave {name} out")
        return given | fixed

    @model_validator(mode="after")
    def _kernels_complete(self) -> Self:
        if self.model != "LDNN":
            missing = [name for name in ("h1", "w1", "h2", "w2") if getattr(self, name) is None]
            if missing:
                raise ValueError(f"{self.model} needs {', '.join(missing)}")
            assert self.h1 is not None
            assert self.w1 is not None
            if self.h1 > self.rows:
                unit = "Mel bands" if self.features == "log-mels" else "cepstra"
                raise ValueError(f"h1 = {self.h1} is larger than the spectrum: M = {self.rows} {unit}")
            if self.w1 > self.columns:
                raise ValueError(f"w1 = {self.w1} is larger than the splice: W = {self.columns} frames")
        if self.cepstra > self.bands:
            raise ValueError(f"cepstra = {self.cepstra} was given, but there are only {self.bands} Mel bands")
        return self

    @property
    def rows(self) -> int:
        """M, the spectral dimensionality of the model's input: Mel bands or cepstra."""
        return self.bands if self.features == "log-mels" else self.cepstra

    @property
    def channels(self) -> int:
        """C, the input's maps: the static coefficients and their deltas."""
        return 1 + self.deltas

    @property
    def columns(self) -> int:
        """W, the frames of a splice: left context, the frame itself, right context (Section 6.2: 16)."""
        return self.left + 1 + self.right

    @property
    def kernels(self) -> tuple[tuple[int, int], ...]:
        """((h1, w1), (h2, w2)), or nothing for the LDNN."""
        if self.h1 is None or self.w1 is None or self.h2 is None or self.w2 is None:
            return ()
        return ((self.h1, self.w1), (self.h2, self.w2))

    def canonical(self) -> dict[str, Any]:
        """The configuration as plain JSON values with every field, for hashing and for the record."""
        return self.model_dump(mode="json")


Protocol = Literal["partition", "loso"]


class SVMConfiguration(BaseModel):
    """Everything that decides how one support vector machine is trained (Section 6.1), data aside.

    A number that the kernel does not use is set to its default, so that two ways of writing the same machine are one
    configuration.

    Attributes:
        features: name of a set of functionals, or of any table of one row an utterance.
        kernel: see `sersearch.models.svm.kernel_matrix`, also for gamma and degree.
        C: the price of an error.
        protocol: trained on the training part and chosen on validation, or, leaving one subject out after another,
            trained on all others and chosen by leaving each of these out in turn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["SVM"] = "SVM"
    features: Annotated[str, Field(min_length=1)]
    kernel: Literal["linear", "polynomial", "rbf"] = "linear"
    C: Annotated[float, Field(gt=0)] = 1.0
    gamma: Annotated[float, Field(gt=0)] = 1.0
    degree: _Positive = 3
    protocol: Protocol = "partition"

    @model_validator(mode="before")
    @classmethod
    def _drop_unused(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {name: value for name, value in data.items() if name not in unused(data.get("kernel", "linear"))}

    @property
    def kernels(self) -> tuple[tuple[int, int], ...]:
        """Sizes of convolutions: there are none."""
        return ()

    def canonical(self) -> dict[str, Any]:
        """The configuration as plain JSON values with every field, for hashing and for the record."""
        return self.model_dump(mode="json")


def unused(kernel: object) -> tuple[str, ...]:
    """The numbers that an SVM's kernel does not use."""
    return {"linear": ("gamma", "degree"), "rbf": ("degree",)}.get(str(kernel), ())


System = Configuration | SVMConfiguration
"""What a trial trains."""


def fields(model: object) -> tuple[str, ...]:
    """Names of the parameters of a model."""
    return tuple((SVMConfiguration if model == "SVM" else Configuration).model_fields)


def parse_configuration(record: Mapping[str, Any]) -> System:
    """The configuration of a record or a table of values.

    Raises:
        ValidationError: a value is missing, unknown, or not as it should be.
    """
    kind = SVMConfiguration if record.get("model") == "SVM" else Configuration
    return kind.model_validate(record)


def fixed_kernels(model: str | None, rows: int | None) -> dict[str, int | None]:
    """The kernel sizes that a model's type fixes (Table 1); `rows` is M."""
    match model:
        case "LDNN":
            return {"h1": None, "w1": None, "h2": None, "w2": None}
        case "S-CLDNN":
            return {"w1": 1, "w2": 1}
        case "T-CLDNN":
            return {"h1": 1, "h2": 1}
        case "FST-CLDNN":
            return {"h1": rows, "h2": 1}
        case _:
            return {}


def pools(model: Network) -> tuple[bool, bool]:
    """Whether a model pools along the (spectral, temporal) direction: where it convolves (Table 1)."""
    return model in ("S-CLDNN", "ST-CLDNN"), model in ("T-CLDNN", "ST-CLDNN", "FST-CLDNN")


def _rows(given: Mapping[str, Any]) -> int | None:
    fields = Configuration.model_fields
    name = "cepstra" if given.get("features") == "mfccs" else "bands"
    rows = given.get(name, fields[name].default)
    return rows if isinstance(rows, int) else None


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


@dataclass(frozen=True)
class Shapes:
    """The layers of a configuration, or why it can't be built.

    Attributes:
        layers: one entry a convolutional layer that fits; none for the LDNN.
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


def shapes(configuration: System) -> Shapes:
    """Sizes after each layer of one M x W splice: valid convolutions, floor pooling (Section 3.1).

    An SVM has no layers, and can always be built.

    The second layer's temporal pooling window shrinks to the columns that are left, because the paper exhausts
    w1 in {7, 8} with w2 = 3, which leave 2; its spectral window does not, because the paper ends its sweep of h1 at
    30 "to allow pooling and convolution in the second layer" (Section 7.4).
    """
    if isinstance(configuration, SVMConfiguration):
        return Shapes((), 0, None)
    size = (configuration.rows, configuration.columns)
    channels = configuration.channels
    layers: list[Layer] = []
    for number, kernel in enumerate(configuration.kernels, start=1):
        layer, reason = _layer(number, channels, size, kernel, pools(configuration.model))
        if layer is None:
            return Shapes(tuple(layers), 0, reason)
        layers.append(layer)
        size, channels = layer.pooled, configuration.maps
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


def parameters(configuration: Configuration, emotions: int) -> Modules:
    """Trained parameters of a feasible configuration with N = `emotions` classes; one bias a unit, as in Keras."""
    found = shapes(configuration)
    assert found.feasible, found.reason
    cnn = sum(configuration.maps * (_taps(layer) + 1) for layer in found.layers)
    blstm = 2 * 4 * configuration.cells * (found.vector + configuration.cells + 1)
    widths = (2 * configuration.cells, *configuration.dense, emotions)
    mlp = sum((n_in + 1) * n_out for n_in, n_out in pairwise(widths))
    return Modules(cnn, blstm, mlp)


def multiply_adds(configuration: Configuration, emotions: int) -> Modules:
    """Multiply-adds of a forward pass for one frame, each convolution computed once per utterance.

    The MLP works once an utterance, not once a frame: its entry is that of one utterance.
    """
    found = shapes(configuration)
    assert found.feasible, found.reason
    cnn = sum(configuration.maps * _taps(layer) * layer.convolved[0] for layer in found.layers)
    blstm = 2 * 4 * configuration.cells * (found.vector + configuration.cells)
    widths = (2 * configuration.cells, *configuration.dense, emotions)
    return Modules(cnn, blstm, sum(n_in * n_out for n_in, n_out in pairwise(widths)))


def _taps(layer: Layer) -> int:
    return layer.channels * layer.kernel[0] * layer.kernel[1]
