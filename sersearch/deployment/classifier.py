"""An exported model: its folder, and what every kind of model does with sound.

DIR/config.json         what the model is, what it was trained on, how it was tested; holds a hash of itself
DIR/model.safetensors   its weights, or its support vectors, whose hash config.json names
DIR/README.md           the model card
DIR/model.onnx          the same network for other programs, where it was asked for
"""

from __future__ import annotations

import hashlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from sersearch.errors import InputError
from sersearch.run.records import Record, read_record
from sersearch.run.storage import Folder
from sersearch.speech.audio import Waveform
from sersearch.study.conditions import Condition
from sersearch.study.configuration import Configuration
from sersearch.study.trial import AnyConfiguration
from sersearch.training.system import Score

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
ONNX = "model.onnx"


class FrontEnd(Record):
    """How a model's frames are computed from sound.

    Attributes:
        sampling_rate: in Hz; other sound is resampled.
        window_ms: length of a frame's window.
        shift_ms: from one frame to the next.
        bands: M, the Mel bands.
        dtype: precision of the stored log-Mels that it was trained on.
    """

    sampling_rate: int
    window_ms: float
    shift_ms: float
    bands: int
    dtype: Literal["float32", "float16"]


class TestFigures(Record):
    """A test of the model under one condition; UA in per cent.

    Attributes:
        ua: over all copies that the condition has.
        low: lower end of the 95 % interval over speakers; None where there is none.
        high: its upper end.
        speakers: how many test speakers.
        copies: how many copies of utterances.
        recalls: of each emotion that occurs, in per cent.
        opened: when the test speakers were opened, in UTC.
    """

    # Its name would make pytest collect it.
    __test__ = False

    ua: float
    low: float | None
    high: float | None
    speakers: int
    copies: int
    recalls: dict[str, float]
    opened: str


class Provenance(Record):
    """Where a model comes from.

    Attributes:
        run: name of the run's folder.
        study: name of the study.
        key: of the trial; `sersearch rerun` trains it again.
        seed: which repetition it is.
        fold: name of the fold; empty where there is one.
        stopped: why training ended.
        corpus: name of the corpus, or names joined by "+".
        noise: the noise library, "a folder of noises", or "none".
        fingerprint: of the store's recipe.
        train: how many speakers it was trained on.
        validation: how many speakers chose it; 0 where training speakers were left out in turn.
        environment: versions and device that it was trained with.
        validation_ua: of the model by condition, in per cent.
        test: by condition; empty where it was not tested.
    """

    run: str
    study: str
    key: str
    seed: int
    fold: str
    stopped: str
    corpus: str
    noise: str
    fingerprint: str
    train: int
    validation: int
    environment: dict[str, str]
    validation_ua: dict[Condition, float]
    test: dict[Condition, TestFigures]


class ModelRecord(Record):
    """What `config.json` says.

    Attributes:
        format: version of this file.
        sersearch: the version that exported the model.
        configuration: how it is built and trained.
        emotions: names of the classes, in the order of the scores.
        score: what the scores are.
        front_end: how frames are computed.
        weights_sha256: of `model.safetensors`.
        provenance: where it comes from.
    """

    model_config = ConfigDict(protected_namespaces=())

    format: Literal[1] = 1
    sersearch: str
    configuration: AnyConfiguration
    emotions: tuple[str, ...]
    score: Score
    front_end: FrontEnd
    weights_sha256: str
    provenance: Provenance


class Classifier(ABC):
    """A model that predicts sound; `Configuration.classifier` names the class of each kind.

    Class attributes:
        score: what its scores are.
    """

    score: ClassVar[Score] = "probability"

    def __init__(self, record: ModelRecord, weights: bytes) -> None:
        """Build the model.

        Args:
            record: what it is.
            weights: the content of `model.safetensors`.
        """
        self.record = record

    @abstractmethod
    def features(self, waveform: Waveform) -> NDArray[np.floating]:
        """What the model takes of an utterance.

        Args:
            waveform: samples [N] at the front end's sampling rate, full scale 1.0.
        """

    @abstractmethod
    def statistics(self, features: Sequence[NDArray[np.floating]]) -> Any:
        """What normalises a speaker's utterances, given the features of some; see `Configuration.knows_speakers`."""

    @abstractmethod
    def scores(self, features: NDArray[np.floating], statistics: Any = None) -> tuple[int, NDArray[np.floating]]:
        """Predict an utterance.

        Args:
            features: what `features` returned.
            statistics: of its speaker, where the model needs them.

        Returns:
            Index of the predicted emotion, and the score of each emotion [E]; NaN for one that it can't predict.
        """


def read_model_record(folder: Path) -> ModelRecord:
    """Read what a folder's model is.

    Raises:
        InputError: the folder holds no model, or its `config.json` is damaged.
    """
    record = read_record(Folder(folder), CONFIG, ModelRecord, "export the model again") if folder.is_dir() else None
    if record is None:
        raise InputError(
            f"{folder}: is not an exported model (it has no {CONFIG}); `sersearch export RUN KEY {folder}` makes one"
        )
    return record


def open_model(folder: Path) -> Classifier:
    """Open an exported model.

    Raises:
        InputError: the folder holds no model, or a file is missing or damaged.
    """
    record = read_model_record(folder)
    weights = Folder(folder).get(WEIGHTS)
    if weights is None or hashlib.sha256(weights).hexdigest() != record.weights_sha256:
        fault = "is missing" if weights is None else f"is damaged (its hash is not the one that {CONFIG} names)"
        raise InputError(f"{folder / WEIGHTS} {fault}: restore it, or export the model again")
    return classifier_class(record.configuration)(record, weights)


def classifier_class(configuration: Configuration) -> type[Classifier]:
    """The class that applies exported models of a configuration's kind."""
    named = type(configuration).classifier
    assert named, f"{configuration.model} can't be exported"
    classifier: type[Classifier] = pkgutil.resolve_name(named)
    return classifier
