"""The frames of a store, shared by all trials of a machine, and the minibatches made from them.

Shapes: B utterances of a minibatch, T frames, M rows of the features, F = C * M coefficients a frame; U utterances and
N frames in all, P frames with those repeated at the edges, J taps of a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sersearch.errors import InputError
from sersearch.speech.features import Moments, dct_matrix, delta_kernels, deltas, sum_moments
from sersearch.store.reader import Store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.fold import Fold

# Minibatches are cut from runs of this many, sorted by length: shuffled all the same, and nearly without padding.
MINIBATCHES_A_RUN = 10


class Minibatch(NamedTuple):
    """Some utterances of common emotions' indices: frames [B, T, F], lengths [B], emotions [B]."""

    x_BTF: Tensor
    lengths_B: Tensor
    emotion_B: Tensor


class Resident(NamedTuple):
    """Utterances on a device: frames [N, M] as stored, first frame, length and emotion of each [U]."""

    frames_NM: Tensor
    start_U: Tensor
    length_U: Tensor
    emotion_U: Tensor


@dataclass(frozen=True)
class Utterances:
    """The copies of some speakers' utterances, frames on disk.

    Attributes:
        frames: one array [frames, M] a speaker, memory-mapped; read only.
        speaker: index into `speakers` of each copy.
        offset: first frame of each copy in its speaker's array.
        length: frames of each copy.
        emotion: index of each copy's emotion.
        noisy: whether a copy is a noisy one.
        speakers: names.
    """

    frames: tuple[NDArray[np.floating], ...]
    speaker: NDArray[np.int64]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    emotion: NDArray[np.int64]
    noisy: NDArray[np.bool_]
    speakers: tuple[str, ...]
    _resident: dict[str, Resident] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        """How many copies there are."""
        return len(self.length)

    def copy(self, index: int) -> NDArray[np.floating]:
        """The log-Mels of one copy, [T, M]; a view of the shared frames."""
        start = self.offset[index]
        frames: NDArray[np.floating] = self.frames[self.speaker[index]][start : start + self.length[index]]
        return frames

    def select(self, indices: NDArray[np.int64]) -> Utterances:
        """Some of the copies, in the given order; the frames are shared."""
        columns = ("speaker", "offset", "length", "emotion", "noisy")
        return replace(self, **{name: getattr(self, name)[indices] for name in columns})

    def on(self, device: str) -> Resident:
        """Move all frames to a device, where they stay as long as these utterances exist.

        Raises:
            torch.OutOfMemoryError: the device has too little memory.
        """
        if device not in self._resident:
            self._resident[device] = self._moved(device)
        return self._resident[device]

    def _moved(self, device: str) -> Resident:
        counts = [len(frames) for frames in self.frames]
        stored = torch.from_numpy(np.empty(0, self.frames[0].dtype)).dtype
        frames_NM = torch.empty(sum(counts), self.frames[0].shape[1], dtype=stored, device=device)
        for part, frames in zip(torch.split(frames_NM, counts), self.frames, strict=True):
            part.copy_(torch.tensor(frames))
        start = np.cumsum([0, *counts])[self.speaker] + self.offset
        return Resident(
            frames_NM, *(torch.tensor(column, device=device) for column in (start, self.length, self.emotion))
        )


def open_utterances(store: Store, speakers: Sequence[str]) -> Utterances:
    """Map the frames of some speakers; no other speaker's file is touched."""
    tables = [store.table(speaker) for speaker in speakers]
    emotions = {name: index for index, name in enumerate(store.emotions)}
    # Arrow's own to_numpy imports pandas, which takes a third of a second.
    lengths = [np.from_dlpack(table["frames"].combine_chunks()).astype(np.int64) for table in tables]
    return Utterances(
        frames=tuple(store.frames(speaker) for speaker in speakers),
        speaker=np.repeat(np.arange(len(tables)), [len(length) for length in lengths]),
        offset=np.concatenate([np.cumsum(length) - length for length in lengths]),
        length=np.concatenate(lengths),
        emotion=np.array([emotions[e] for table in tables for e in table["emotion"].to_pylist()], np.int64),
        noisy=np.array([c == "noisy" for table in tables for c in table["condition"].to_pylist()], np.bool_),
        speakers=tuple(speakers),
    )


@dataclass(frozen=True)
class Dataset:
    """What a trial may see: training and validation. The test partition is not in it.

    Attributes:
        train: utterances to learn from.
        validation: utterances to stop and to select by.
        emotions: names of the classes; a label is an index into them.
        moments: of the log-Mels of the training utterances.
    """

    train: Utterances
    validation: Utterances
    emotions: tuple[str, ...]
    moments: Moments


def open_dataset(store: Store, fold: Fold) -> Dataset:
    """Open the training and validation speakers of a fold; no other speaker's file is touched.

    Raises:
        InputError: an emotion is missing in training, or the store lacks a speaker.
    """
    known = {speaker.speaker for speaker in store.speakers}
    missing = [speaker for speaker in fold.learnt if speaker not in known]
    if missing:
        raise InputError(f"speaker {missing[0]} of the fold is not in the store: name the store it was made for")
    train = open_utterances(store, fold.train)
    absent = sorted(set(range(len(store.emotions))) - set(train.emotion.tolist()))
    if absent:
        raise InputError(
            f"no training speaker shows {store.emotions[absent[0]]}: leave that emotion out or use another seed"
        )
    moments = sum_moments(store.moments(speaker) for speaker in fold.train)
    return Dataset(train, open_utterances(store, fold.validation), store.emotions, moments)


class View:
    """Utterances as a configuration wants them: log-Mels or MFCCs, normalised, with or without deltas."""

    def __init__(self, utterances: Utterances, configuration: NetworkConfiguration, moments: Moments) -> None:
        """Prepare the affine map from log-Mels to normalised coefficients.

        Args:
            utterances: whose frames to serve.
            configuration: features, cepstra, deltas and normalisation.
            moments: of the training utterances, also when these are others.

        Raises:
            InputError: the configuration's Mel bands are not the store's.
        """
        bands = len(moments.total)
        if configuration.bands != bands:
            raise InputError(
                f"bands = {configuration.bands} was given, but the store holds {bands} Mel bands: "
                f"set bands = {bands} or build a store with --bands {configuration.bands}"
            )
        self.utterances = utterances
        self.configuration = configuration
        matrix: NDArray[np.floating] = np.eye(bands)
        if configuration.features == "mfccs":
            matrix = dct_matrix(bands, configuration.cepstra)
        shift = np.zeros(matrix.shape[1])
        if configuration.normalisation == "corpus":
            deviation = np.sqrt(np.diag(matrix.T @ moments.covariance() @ matrix))
            matrix = matrix / deviation
            shift = -moments.mean() @ matrix
        self._matrix = matrix.astype(np.float32)
        self._shift = shift.astype(np.float32)
        self._static = configuration.features == "log-mels"

    def frames(self, index: int) -> NDArray[np.float32]:
        """The coefficients of one utterance, [T, F]."""
        log_mel_TM = self.utterances.copy(index).astype(np.float32, copy=False)
        # A diagonal matrix needs no product, and a product's rounding may depend on the number of frames.
        scaled_TM = log_mel_TM * np.diag(self._matrix) if self._static else log_mel_TM @ self._matrix
        x_TM = scaled_TM + self._shift
        if self.configuration.normalisation == "utterance":
            x_TM = (x_TM - x_TM.mean(0)) / np.maximum(x_TM.std(0), 1e-5)
        return deltas(x_TM, self.configuration.deltas) if self.configuration.deltas else x_TM

    def minibatches(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[Minibatch]:
        """Assemble one minibatch after the other."""
        return map(self.minibatch, batches)

    def minibatch(self, indices: Sequence[int] | NDArray[np.int64]) -> Minibatch:
        """Assemble utterances, padded at the end with zeros to the longest."""
        found = [self.frames(int(index)) for index in indices]
        lengths = [len(x) for x in found]
        x_BTF = np.zeros((len(found), max(lengths), found[0].shape[1]), np.float32)
        for row, x in zip(x_BTF, found, strict=True):
            row[: len(x)] = x
        return Minibatch(
            torch.from_numpy(x_BTF),
            torch.tensor(lengths),
            torch.from_numpy(self.utterances.emotion[np.asarray(indices)]),
        )


class ResidentView(View):
    """A view whose frames lie on a device, where minibatches are made: the same numbers but for rounding.

    The order of an epoch goes to the device at its beginning; after that the host waits for nothing.
    """

    def __init__(
        self, utterances: Utterances, configuration: NetworkConfiguration, moments: Moments, device: str
    ) -> None:
        """Move to the device what is not there yet; see `View` and `Utterances.on`."""
        super().__init__(utterances, configuration, moments)
        self.device = device
        self._resident = utterances.on(device)
        self._kernels_OJ = torch.tensor(delta_kernels(configuration.deltas), device=device)
        matrix = np.diag(self._matrix) if self._static else self._matrix
        self._scale, self._shift_M = (torch.tensor(each, device=device) for each in (matrix, self._shift))

    def minibatches(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[Minibatch]:
        """Assemble one minibatch after the other on the device."""
        batches = list(batches)
        order_U = torch.from_numpy(np.concatenate(batches)).to(self.device)
        for batch, index_B in zip(batches, torch.split(order_U, [len(batch) for batch in batches]), strict=True):
            yield self._assembled(index_B, int(self.utterances.length[batch].max()))

    def minibatch(self, indices: Sequence[int] | NDArray[np.int64]) -> Minibatch:
        """Assemble utterances on the device, padded at the end with zeros to the longest."""
        return next(self.minibatches([np.asarray(indices)]))

    def _assembled(self, index_B: Tensor, steps: int) -> Minibatch:
        frames_NM, start_U, length_U, emotion_U = self._resident
        length_B1 = length_U[index_B].unsqueeze(1)
        reach = self._kernels_OJ.shape[1] // 2
        position_P = torch.arange(-reach, steps + reach, device=index_B.device)
        frame_BP = start_U[index_B].unsqueeze(1) + position_P.clamp(min=0).minimum(length_B1 - 1)
        x_BPM = self._scaled(frames_NM[frame_BP].float()) + self._shift_M
        padding_BT1 = (position_P[reach : reach + steps] >= length_B1).unsqueeze(2)
        if self.configuration.normalisation == "utterance":
            x_BPM = _normalised(x_BPM, x_BPM[:, reach : reach + steps], padding_BT1, length_B1.unsqueeze(2))
        if self.configuration.deltas:
            windows_BT1MJ = x_BPM.unfold(1, self._kernels_OJ.shape[1], 1).unsqueeze(2)
            x_BPM = (windows_BT1MJ * self._kernels_OJ.unsqueeze(1)).sum(4).flatten(2)
        return Minibatch(x_BPM.masked_fill(padding_BT1, 0), length_B1.squeeze(1), emotion_U[index_B])

    def _scaled(self, x_BPM: Tensor) -> Tensor:
        # No matrix product: a GPU may round one to TF32, and features have one precision.
        return x_BPM * self._scale if self._static else (x_BPM.unsqueeze(3) * self._scale).sum(2)


def _normalised(x_BPM: Tensor, real_BTM: Tensor, padding_BT1: Tensor, length_B11: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over each utterance's real frames."""
    mean_B1M = real_BTM.masked_fill(padding_BT1, 0).sum(1, keepdim=True) / length_B11
    squares_BTM = (real_BTM - mean_B1M).square().masked_fill(padding_BT1, 0)
    deviation_B1M = (squares_BTM.sum(1, keepdim=True) / length_B11).sqrt()
    return (x_BPM - mean_B1M) / deviation_B1M.clamp(min=1e-5)


def shuffled(lengths: NDArray[np.int64], size: int, generator: np.random.Generator) -> list[NDArray[np.int64]]:
    """Cut all utterances into minibatches of `size` of about equal length, in random order.

    Utterances are shuffled, each run of 10 minibatches is sorted by length and cut, and the minibatches are shuffled
    again. Each utterance occurs once; one minibatch may be smaller.

    Args:
        lengths: frames of each utterance.
        size: utterances of a minibatch.
        generator: where the order comes from.
    """
    order = generator.permutation(len(lengths))
    run = size * MINIBATCHES_A_RUN
    batches = []
    for start in range(0, len(order), run):
        part = order[start : start + run]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[at : at + size] for at in range(0, len(part), size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def by_length(lengths: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """All utterances in minibatches of `size`, sorted by length: for evaluation, where order means nothing."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]
