"""Configurations of the paper's networks, and all that follows from them by arithmetic.

Symbols are the paper's: h and w are a kernel's height (Mel bands) and width (frames), M the spectral dimensionality;
Section 3.1, Tables 1 and 2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sersearch.study.configuration.base import Configuration, Module, Value
from sersearch.study.configuration.shapes import Modules, Shapes, convolve_shapes

Network = Literal["LDNN", "S-CLDNN", "T-CLDNN", "ST-CLDNN", "FST-CLDNN"]
Features = Literal["log-mels", "mfccs"]
Normalisation = Literal["corpus", "speaker", "utterance", "none"]
Precision = Literal["float32", "tf32", "bf16"]

KERNELS = ("h1", "w1", "h2", "w2")
FEATURE_SETTINGS = ("bands", "cepstra", "deltas", "left", "right", "normalisation", "trim")
TRAINING_SETTINGS = (
    "maps",
    "cells",
    "dense",
    "dropout",
    "learning_rate",
    "epsilon",
    "minibatch",
    "patience",
    "epochs",
    "precision",
    "keep",
    "class_weights",
)

FLOAT_BYTES = 4

KERAS_2017: dict[str, Any] = {"epsilon": 1e-8, "patience": 4, "keep": "last"}
"""Where Keras 2.0.4, the paper's, differs from the defaults here (docs/decisions.md); no departure from the paper."""

# The entries of `work` in comparison with each other, as fits on a CPU give them.
RELATIVE_WORK = (1.0, 400.0, 1.0, 5e6)

_AMOUNT = re.compile(r"([1-9]\d*) (steps|copies)")


def _check_duration(given: int | str) -> int | str:
    if isinstance(given, str) and given.isdecimal():
        given = int(given)
    if (
        given == 0
        or (isinstance(given, int) and given < 1)
        or (isinstance(given, str) and not _AMOUNT.fullmatch(given))
    ):
        raise ValueError(
            f"{given!r} was given: input should be a whole number of epochs greater than or equal to 1, or a text such "
            'as "16000 steps" or "160000 copies"'
        )
    return given


Duration = Annotated[int | str, AfterValidator(_check_duration)]
"""How long training lasts: epochs, or steps of the optimiser ("16000 steps"), or utterances seen ("160000 copies")."""

_Positive = Annotated[int, Field(ge=1)]
_Kernel = Annotated[int, Field(ge=1)] | None


class NetworkConfiguration(Configuration):
    """Everything that decides how one network is built and trained, seed and data aside.

    The defaults are the paper's. Kernel sizes that the model's type fixes (Table 1) are filled in, so that two ways
    of writing the same model are one configuration: T has h = 1, S has w = 1, FST has h1 = M and h2 = 1, LDNN has
    none.

    Attributes:
        model: LDNN, or the CLDNN of a type of convolution: spectral (S), temporal (T), spectro-temporal (ST), or
            full-spectrum temporal (FST).
        features: features of the frames. Paper: both (Section 4).
        h1: height of the first layer's kernels in Mel bands; free in S and ST. Paper: 4:9 (Table 2).
        w1: width of the first layer's kernels in frames; free in T, ST and FST. Paper: 3:8 (Table 2).
        h2: height of the second layer's kernels; free in S and ST. Paper: 3:4 (Table 2).
        w2: width of the second layer's kernels; free in T, ST and FST. Paper: 2:3 (Table 2).
        bands: Mel bands, M on log-Mels; the store has to hold as many. Paper: 40 (Section 6.2).
        cepstra: cepstra that MFCCs keep, M on MFCCs. Paper: 13 (Section 6.2).
        deltas: orders of deltas beside the static coefficients. Paper: none (decisions#deltas).
        left: frames of context before each frame. Paper: 10 (Section 6.2).
        right: frames of context after each frame. Paper: 5 (Section 6.2).
        normalisation: what each coefficient's mean and standard deviation are computed over: the training speakers'
            frames ("corpus"), the speaker's clean ones ("speaker"), the utterance's own ("utterance"), or neither.
            Paper: silent (decisions#normalisation).
        trim: whether silence at both ends of an utterance is left out. Paper: silent (decisions#trimming).
        maps: feature maps of each convolutional layer. Paper: 32 (Section 3.3).
        cells: LSTM cells in each direction. Paper: 128 (Section 3.3).
        dense: units of the dense layers before the softmax. Paper: 128, 32, 32 (Section 3.3).
        dropout: share of the BLSTM's outputs that are dropped in training. Paper: 0.2 (Section 3.3).
        learning_rate: learning rate of Adam. Paper: 0.001 (decisions#adam).
        epsilon: epsilon of Adam. Paper: silent (decisions#adam).
        minibatch: utterances per step. Paper: 10 (Section 6.2).
        patience: how long training goes on without a better validation result: epochs, or "2000 steps" or
            "20000 copies", which are counted at the end of each epoch. Paper: 3 epochs (Section 6.2).
        epochs: the most that a trial takes: epochs, or steps or copies as text. Paper: silent
            (decisions#early-stopping).
        precision: precision of products, convolutions and recurrences on a GPU; on a CPU, "tf32" is float32, and
            "bf16" applies to convolutions and the BLSTM's input products, if the processor has units for it. Paper:
            silent (decisions#precision).
        keep: criterion of the epoch that is kept, and of patience, both under the noisy condition: the validation loss
            ("loss") or the validation UA ("ua"); "last" keeps the last epoch, and patience goes by the loss. Paper:
            the loss (Section 6.2).
        class_weights: whether each utterance's training loss is weighted by the inverse frequency of its class. Paper:
            silent.

    Raises:
        ValueError: a kernel size that the type fixes is given otherwise, or one that it needs is missing.
    """

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
    trim: bool = False

    maps: _Positive = 32
    cells: _Positive = 128
    dense: tuple[_Positive, ...] = (128, 32, 32)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2

    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    epsilon: Annotated[float, Field(gt=0)] = 1e-7
    minibatch: _Positive = 10
    patience: Duration = 3
    epochs: Duration = 100
    precision: Precision = "float32"
    keep: Literal["loss", "ua", "last"] = "loss"
    class_weights: bool = False

    system: ClassVar[str] = "sersearch.training.network:NetworkSystem"
    classifier: ClassVar[str | None] = "sersearch.deployment.network:NetworkClassifier"
    switches: ClassVar[tuple[str, ...]] = ("model", "features")
    described: ClassVar[tuple[str, ...]] = ("model", "features", *KERNELS)
    feature_settings: ClassVar[tuple[str, ...]] = FEATURE_SETTINGS
    training_settings: ClassVar[tuple[str, ...]] = TRAINING_SETTINGS

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

    @classmethod
    def check_ranges(cls, models: Collection[str], ranges: Mapping[str, Any]) -> None:
        """Refuse kernel sizes that none of the models leaves free (Table 1)."""
        for name in KERNELS:
            if name in ranges and not any(_is_free(name, ranges[name], model) for model in models):
                raise ValueError(f"{name} is not a free parameter of {', '.join(models)} (Table 1): leave it out")

    @classmethod
    def defaults_of_switches(cls) -> dict[str, Value]:
        """Log-Mels, where a space names no features."""
        return {"features": "log-mels"}

    @classmethod
    def absent(cls, switched: Mapping[str, Value], ranges: Mapping[str, Any]) -> set[str]:
        """Kernel sizes that the model's type fixes, and `cepstra` where the features are not MFCCs."""
        model = str(switched["model"])
        fixed = {name for name in KERNELS if name not in ranges or not _is_free(name, ranges[name], model)}
        return fixed if switched["features"] == "mfccs" else fixed | {"cepstra"}

    @classmethod
    def resolve(cls, values: Mapping[str, Value]) -> dict[str, Value]:
        """Replace "M" by the spectral dimensionality."""
        rows = _rows(values)
        return {name: rows if name in ("h1", "h2") and value == "M" else value for name, value in values.items()}  # type: ignore[misc]

    @property
    def description(self) -> str:
        """Title and kernels as height x width."""
        return " ".join([self.title, *(f"{h}x{w}" for h, w in self.kernels)])

    @property
    def modules(self) -> tuple[Module, ...]:
        """The paper's modules; the LDNN has no CNN."""
        return ("raw", "cnn", "blstm", "mlp") if self.kernels else ("raw", "blstm", "mlp")

    @property
    def departures(self) -> dict[str, Any]:
        """Settings other than kernels in which a network differs from the paper's, as read here or as in 2017.

        Example:
            >>> NetworkConfiguration(model="T-CLDNN", w1=3, w2=2, epochs=20).departures
            {'epochs': 20}
        """
        papers = NetworkConfiguration(model="LDNN", features=self.features).record()
        own = self.record()
        differing = [name for name in own if name not in ("model", *KERNELS) and own[name] != papers[name]]
        return {name: own[name] for name in differing if own[name] != KERAS_2017.get(name, papers[name])}

    @property
    def step_limits(self) -> tuple[int, int]:
        """The fewest and the most epochs: early stopping needs `patience` more than one."""
        if isinstance(self.epochs, str) or isinstance(self.patience, str):
            # An epoch has one step and one copy at least.
            most = self.epochs if isinstance(self.epochs, int) else int(self.epochs.split()[0])
            return min(self.epochs, 2) if isinstance(self.epochs, int) else 1, most
        return min(self.epochs, self.patience + 1), self.epochs

    def limits_on(self, utterances: int) -> tuple[int, int]:
        """The fewest and the most epochs over a training part of so many utterances (copies)."""
        epochs, patience = (self.in_epochs(amount, utterances) for amount in (self.epochs, self.patience))
        return min(epochs, patience + 1), epochs

    def in_epochs(self, amount: int | str, utterances: int) -> int:
        """How many whole epochs over so many utterances last as long as an amount of training."""
        if isinstance(amount, int):
            return amount
        number, unit = amount.split()
        each = utterances if unit == "copies" else math.ceil(utterances / self.minibatch)
        return math.ceil(int(number) / each)

    @property
    def data_settings(self) -> tuple[Any, ...]:
        """Whether utterances are trimmed."""
        return (self.trim,)

    @property
    def trims(self) -> bool:
        """Whether a study says `trim = true`."""
        return self.trim

    @property
    def keeps_last(self) -> bool:
        """Whether a study says `keep = "last"`."""
        return self.keep == "last"

    @property
    def keeps_by_ua(self) -> bool:
        """Whether a study says `keep = "ua"`."""
        return self.keep == "ua"

    @property
    def knows_speakers(self) -> bool:
        """Whether its features are normalised by speaker."""
        return self.normalisation == "speaker"

    @property
    def shapes(self) -> Shapes:
        """Sizes after each layer of one M x W splice (Section 3.1)."""
        return convolve_shapes((self.rows, self.columns), self.channels, self.maps, self.kernels, pools(self.model))

    def layer_shapes(self, emotions: int) -> list[tuple[str, list[int]]]:
        """Name and output size of each layer for one splice; up to the layer that fails where it can't be built."""
        shapes = self.shapes
        rows: list[tuple[str, list[int]]] = [("input", [self.channels, self.rows, self.columns])]
        for number, layer in enumerate(shapes.layers, start=1):
            rows.append((f"convolution {number}", [self.maps, *layer.convolved]))
            if any(pools(self.model)):
                rows.append((f"pooling {number}", [self.maps, *layer.pooled]))
        if shapes.feasible:
            rows += [("vector", [shapes.vector]), ("blstm", [2 * self.cells])]
            rows += [(f"dense {number}", [width]) for number, width in enumerate(self.dense, start=1)]
            rows.append(("output", [emotions]))
        return rows

    def parameters(self, emotions: int) -> Modules:
        """Trained parameters of a feasible model with N = `emotions` classes; one bias per unit, as in Keras."""
        shapes = self.shapes
        assert shapes.feasible, shapes.reason
        cnn = sum(self.maps * (layer.taps + 1) for layer in shapes.layers)
        blstm = 2 * 4 * self.cells * (shapes.vector + self.cells + 1)
        mlp = sum((n_in + 1) * n_out for n_in, n_out in pairwise(self._widths(emotions)))
        return Modules(cnn, blstm, mlp)

    def multiply_adds(self, emotions: int) -> Modules:
        """Multiply-adds of a forward pass for one frame, each convolution computed once per utterance.

        The MLP works once per utterance, not once per frame: its entry is that of one utterance.
        """
        shapes = self.shapes
        assert shapes.feasible, shapes.reason
        cnn = sum(self.maps * layer.taps * layer.convolved[0] for layer in shapes.layers)
        blstm = 2 * 4 * self.cells * (shapes.vector + self.cells)
        return Modules(cnn, blstm, sum(n_in * n_out for n_in, n_out in pairwise(self._widths(emotions))))

    def minibatch_bytes(self, emotions: int, frames: int) -> int:
        """About what training holds at its peak for one minibatch of utterances of `frames` frames, in float32.

        4 bytes x (6 P + B T (3 F + sum over layers of (2 convolved + 3 pooled) + 4 V + 36 cells)): weights, gradients,
        two moments of Adam, the best weights and a copy; for each of B T frames the input F three times, each layer's
        column of convolved maps (with their gradient) and of pooled maps (with their indices), the last layer's column
        V on its way into the BLSTM, and the gates, cells and states of both directions. What torch itself takes is not
        in it.
        """
        layers = self.shapes.layers
        inputs = self.channels * self.rows
        column = self.maps * layers[-1].pooled[0] if layers else inputs
        maps = sum(self.maps * (2 * layer.convolved[0] + 3 * layer.pooled[0]) for layer in layers)
        frame = 3 * inputs + maps + 4 * column + 36 * self.cells
        held = 6 * self.parameters(emotions).total + self.minibatch * frames * frame
        return FLOAT_BYTES * held

    def work(self) -> tuple[float, ...]:
        """What a frame costs, in four quantities.

        Multiply-adds of the CNN; values of its maps before pooling, since a small kernel costs memory traffic rather
        than arithmetic; multiply-adds of the BLSTM; and the frame's share of what a minibatch costs however small.
        """
        counted = self.multiply_adds(1)
        values = sum(self.maps * layer.convolved[0] for layer in self.shapes.layers)
        return float(counted.cnn), float(values), float(counted.blstm), 1 / self.minibatch

    def relative_cost(self) -> float:
        """What a frame costs in comparison with other networks, in multiply-adds of the BLSTM."""
        return sum(quantity * weight for quantity, weight in zip(self.work(), RELATIVE_WORK, strict=True))

    def _widths(self, emotions: int) -> tuple[int, ...]:
        return 2 * self.cells, *self.dense, emotions


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
    fields = NetworkConfiguration.model_fields
    name = "cepstra" if given.get("features") == "mfccs" else "bands"
    rows = given.get(name, fields[name].default)
    return rows if isinstance(rows, int) else None


def _is_free(name: str, values: Any, model: str) -> bool:
    """Whether a kernel's size is a dimension of a model, or given just as the model fixes it."""
    fixed = fixed_kernels(model, None)
    if name not in fixed:
        return True
    only_value = "M" if (model, name) == ("FST-CLDNN", "h1") else fixed[name]
    return bool(values.choices == (only_value,))
