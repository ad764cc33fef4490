"""Predicting audio files with an exported model, one row per file, as soon as it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sersearch.deployment.classifier import Classifier, open_model, read_model_record
from sersearch.errors import InputError
from sersearch.speech.audio import decode
from sersearch.workers import in_parallel

LONGEST_S = 300.0
"""Longer files are refused: networks are trained on utterances of seconds, and need about 1 GB for ten minutes."""


@dataclass(frozen=True)
class Predicted:
    """What a model says of a file.

    Attributes:
        path: of the file, as it was given.
        emotion: the predicted one; empty where the file can't be used.
        scores: of each emotion, None for one that the model can't predict; empty where the file can't be used.
        problem: why the file can't be used.
    """

    path: Path
    emotion: str = ""
    scores: tuple[float | None, ...] = ()
    problem: str = ""


def predict_files(folder: Path, files: Sequence[Path], workers: int | None = 1) -> Iterator[Predicted]:
    """Predict audio files with an exported model.

    A model that is normalised by speaker takes the files of each folder as those of one speaker. One speaker's features
    are held in memory, else those of one file per process.

    Args:
        folder: the exported model.
        files: audio files.
        workers: processes; None for one per core.

    Yields:
        One entry per file, in their order, or folder by folder where the model needs speakers.

    Raises:
        InputError: the folder holds no model. What is wrong with a file is in its entry.
    """
    by_speaker = read_model_record(folder).configuration.knows_speakers
    groups = list(files_by_folder(files).values()) if by_speaker else [(file,) for file in files]
    waiting: dict[int, list[Predicted]] = {}
    following = 0
    jobs = list(enumerate(groups))
    for number, predicted in in_parallel(partial(_predict, _Opened(folder)), jobs, workers):
        waiting[number] = predicted
        while following in waiting:
            yield from waiting.pop(following)
            following += 1


def files_by_folder(files: Sequence[Path]) -> dict[Path, tuple[Path, ...]]:
    """Group files by the folder that they lie in, in the order of the folders' first files."""
    folders: dict[Path, tuple[Path, ...]] = {}
    for file in files:
        folders[file.parent] = (*folders.get(file.parent, ()), file)
    return folders


class _Opened:
    """A model that each process opens for itself, when it first predicts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def model(self) -> Classifier:
        return open_model(self.folder)


def _predict(opened: _Opened, job: tuple[int, Sequence[Path]]) -> tuple[int, list[Predicted]]:
    """Predict a file, or all files of a speaker."""
    number, files = job
    model = opened.model
    features: dict[Path, NDArray[np.floating]] = {}
    problems: dict[Path, str] = {}
    for file in files:
        try:
            features[file] = _features(model, file)
        except InputError as error:
            problems[file] = str(error).removeprefix(f"{file}: ")
    knows_speakers = model.record.configuration.knows_speakers
    statistics = model.statistics(list(features.values())) if knows_speakers and features else None
    predicted = []
    for file in files:
        if file in problems:
            predicted.append(Predicted(file, problem=problems[file]))
            continue
        best, scores_E = model.scores(features[file], statistics)
        scores = tuple(None if np.isnan(score) else float(score) for score in scores_E)
        predicted.append(Predicted(file, model.record.emotions[best], scores))
    return number, predicted


def _features(model: Classifier, file: Path) -> NDArray[np.floating]:
    rate = model.record.front_end.sampling_rate
    waveform = decode(file, rate)
    duration_s = waveform.size / rate
    if duration_s > LONGEST_S:
        raise InputError(
            f"lasts {duration_s:.0f} s, and one emotion is predicted per file of at most {LONGEST_S:g} s; "
            "cut it at its pauses"
        )
    return model.features(waveform)
