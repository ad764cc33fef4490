"""The frames of a store, shared by all trials of a machine, and the minibatches made from them.

Shapes: B utterances of a minibatch, T frames, M rows of the features, F = C * M coefficients a frame; U utterances and
N frames in all, P frames with those repeated at the edges, J taps of a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sersearch.errors import InputError
from sersearch.speech.features import Moments, dct_matrix, delta_kernels, deltas, speech_range, sum_moments
from sersearch.speech.kaldi import moments_of, one_torch_thread
from sersearch.store.reader import Store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.fold import Fold

# Minibatches are cut from runs of this many, sorted by length: shuffled all the same, and nearly without padding.
MINIBATCHES_A_RUN = 10

# A coefficient that hardly varies is not blown up.
LEAST_VARIANCE = 1e-10


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
        clean: first frame and frames [U, 2] of each clean copy of each speaker in the speaker's array, whichever copies
            are selected.
    """

    frames: tuple[NDArray[np.floating], ...]
    speaker: NDArray[np.int64]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    emotion: NDArray[np.int64]
    noisy: NDArray[np.bool_]
    speakers: tuple[str, ...]
    clean: tuple[NDArray[np.int64], ...]
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

    @cached_property
    def clean_moments(self) -> tuple[Moments, ...]:
        """Moments of the log-Mels of each speaker's clean copies."""
        with one_torch_thread():
            return tuple(
                sum_moments(_moments(frames[start : start + length]) for start, length in copies.tolist())
                for frames, copies in zip(self.frames, self.clean, strict=True)
            )

    def moments(self) -> Moments:
        """Moments of the log-Mels of all copies; a pass over their frames."""
        with one_torch_thread():
            return sum_moments(_moments(self.copy(index)) for index in range(len(self)))

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


def _moments(frames: NDArray[np.floating]) -> Moments:
    # A copy, because torch warns of frames that it could not write to.
    return moments_of(frames.astype(np.float64))


def open_utterances(store: Store, speakers: Sequence[str], trim: bool = False) -> Utterances:
    """Map the frames of some speakers; no other speaker's file is touched.

    Args:
        store: whose frames.
        speakers: names.
        trim: leave silence at both ends out; of an utterance's noisy copies the same frames as of its clean one.
    """
    tables = [store.table(speaker) for speaker in speakers]
    emotions = {name: index for index, name in enumerate(store.emotions)}
    # Arrow's own to_numpy imports pandas, which takes a third of a second.
    lengths = [np.from_dlpack(table["frames"].combine_chunks()).astype(np.int64) for table in tables]
    offsets = [np.cumsum(length) - length for length in lengths]
    frames = tuple(store.frames(speaker) for speaker in speakers)
    clean = [np.array([c == "clean" for c in table["condition"].to_pylist()], np.bool_) for table in tables]
    if trim:
        for number, table in enumerate(tables):
            utterances = table["utterance"].to_pylist()
            start, end = _speech_ranges(frames[number], offsets[number], lengths[number], utterances, clean[number])
            offsets[number], lengths[number] = offsets[number] + start, end - start
    return Utterances(
        frames=frames,
        speaker=np.repeat(np.arange(len(tables)), [len(length) for length in lengths]),
        offset=np.concatenate(offsets),
        length=np.concatenate(lengths),
        emotion=np.array([emotions[e] for table in tables for e in table["emotion"].to_pylist()], np.int64),
        noisy=~np.concatenate(clean),
        speakers=tuple(speakers),
        clean=tuple(
            np.stack([offset[chosen], length[chosen]], 1)
            for offset, length, chosen in zip(offsets, lengths, clean, strict=True)
        ),
    )


def _speech_ranges(
    frames: NDArray[np.floating],
    offset: NDArray[np.int64],
    length: NDArray[np.int64],
    utterances: Sequence[str],
    clean: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First frame and the frame after the last one between silence, of each copy of one speaker's utterances."""
    found = {}
    for row in np.flatnonzero(clean).tolist():
        found[utterances[row]] = speech_range(frames[offset[row] : offset[row] + length[row]])
    start, end = np.array([found[utterance] for utterance in utterances], np.int64).T
    return start, end


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


def open_dataset(store: Store, fold: Fold, trim: bool = False) -> Dataset:
    """Open the training and validation speakers of a fold; no other speaker's file is touched.

    Args:
        store: that holds them.
        fold: the speakers.
        trim: leave silence at both ends of utterances out.

    Raises:
        InputError: an emotion is missing in training, or the store lacks a speaker.
    """
    known = {speaker.speaker for speaker in store.speakers}
    missing = [speaker for speaker in fold.learnt if speaker not in known]
    if missing:
        raise InputError(f"speaker {missing[0]} of the fold is not in the store: name the store it was made for")
    train = open_utterances(store, fold.train, trim)
    absent = sorted(set(range(len(store.emotions))) - set(train.emotion.tolist()))
    if absent:
        raise InputError(
            f"no training speaker shows {store.emotions[absent[0]]}: leave that emotion out or use another seed"
        )
    moments = train.moments() if trim else sum_moments(store.moments(speaker) for speaker in fold.train)
    return Dataset(train, open_utterances(store, fold.validation, trim), store.emotions, moments)


@dataclass(frozen=True)
class FrameMap:
    """What makes a configuration's coefficients of log-Mels.

    Attributes:
        configuration: features, cepstra, deltas and normalisation.
        matrix_MK: the linear map from log-Mels to scaled coefficients.
        shift_K: what is added to them.
    """

    configuration: NetworkConfiguration
    matrix_MK: NDArray[np.float32]
    shift_K: NDArray[np.float32]

    @classmethod
    def fit(cls, configuration: NetworkConfiguration, moments: Moments) -> FrameMap:
        """The map that standardises by some frames, if the configuration asks for that.

        Args:
            configuration: features, cepstra and normalisation.
            moments: of the training utterances or, with `normalisation = "speaker"`, of the speaker's.
        """
        bands = len(moments.total)
        matrix: NDArray[np.floating] = np.eye(bands)
        if configuration.features == "mfccs":
            matrix = dct_matrix(bands, configuration.cepstra)
        shift: NDArray[np.floating] = np.zeros(matrix.shape[1])
        if configuration.normalisation in ("corpus", "speaker"):
            matrix, shift = _standardising(matrix, moments)
        return cls(configuration, matrix.astype(np.float32), shift.astype(np.float32))

    @property
    def is_diagonal(self) -> bool:
        """Whether each coefficient is one band."""
        return self.configuration.features == "log-mels"

    def apply(self, log_mel_TM: NDArray[np.floating]) -> NDArray[np.float32]:
        """The coefficients [T, F] of an utterance's log-Mels."""
        x_TM = log_mel_TM.astype(np.float32, copy=False)
        # A diagonal matrix needs no product, and a product's rounding may depend on the number of frames.
        scaled_TK = x_TM * np.diag(self.matrix_MK) if self.is_diagonal else x_TM @ self.matrix_MK
        x_TK: NDArray[np.float32] = np.asarray(scaled_TK + self.shift_K, np.float32)
        if self.configuration.normalisation == "utterance":
            x_TK = np.asarray((x_TK - x_TK.mean(0)) / np.maximum(x_TK.std(0), 1e-5), np.float32)
        return deltas(x_TK, self.configuration.deltas) if self.configuration.deltas else x_TK


class View:
    """Utterances as a configuration wants them: log-Mels or MFCCs, normalised, with or without deltas."""

    def __init__(self, utterances: Utterances, configuration: NetworkConfiguration, moments: Moments) -> None:
        """Prepare the affine map from log-Mels to normalised coefficients: one map, or one per speaker.

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
        by_speaker = configuration.normalisation == "speaker"
        self._maps = [
            FrameMap.fit(configuration, fitted) for fitted in (utterances.clean_moments if by_speaker else (moments,))
        ]
        self._map_U = utterances.speaker if by_speaker else np.zeros_like(utterances.speaker)

    def frames(self, index: int) -> NDArray[np.float32]:
        """The coefficients of one utterance, [T, F]."""
        found: FrameMap = self._maps[self._map_U[index]]
        return found.apply(self.utterances.copy(index))

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


def _standardising(matrix: NDArray[np.floating], moments: Moments) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """A linear map followed by scaling to mean 0 and deviation 1 over the frames of some moments."""
    variance = np.diag(matrix.T @ moments.covariance() @ matrix)
    scaled = matrix / np.sqrt(np.maximum(variance, LEAST_VARIANCE))
    return scaled, -moments.mean() @ scaled


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
        self._diagonal = self._maps[0].is_diagonal
        matrices = [np.diag(each.matrix_MK) if self._diagonal else each.matrix_MK for each in self._maps]
        self._scale = torch.tensor(np.stack(matrices), device=device)
        self._shift_SM = torch.tensor(np.stack([each.shift_K for each in self._maps]), device=device)
        # One map for all utterances is not looked up for each.
        self._number_U = torch.tensor(self._map_U, device=device) if len(matrices) > 1 else None

    def minibatches(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[Minibatch]:
        """Assemble one minibatch after the other on the device."""
        batches = list(batches)
        if not batches:
            return
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
        scale, shift_SM = self._scale, self._shift_SM
        if self._number_U is not None:
            number_B = self._number_U[index_B]
            scale, shift_SM = scale[number_B].unsqueeze(1), shift_SM[number_B].unsqueeze(1)
        x_BPM = self._scaled(frames_NM[frame_BP].float(), scale) + shift_SM
        padding_BT1 = (position_P[reach : reach + steps] >= length_B1).unsqueeze(2)
        if self.configuration.normalisation == "utterance":
            x_BPM = _normalised(x_BPM, x_BPM[:, reach : reach + steps], padding_BT1, length_B1.unsqueeze(2))
        if self.configuration.deltas:
            windows_BT1MJ = x_BPM.unfold(1, self._kernels_OJ.shape[1], 1).unsqueeze(2)
            x_BPM = (windows_BT1MJ * self._kernels_OJ.unsqueeze(1)).sum(4).flatten(2)
        return Minibatch(x_BPM.masked_fill(padding_BT1, 0), length_B1.squeeze(1), emotion_U[index_B])

    def _scaled(self, x_BPM: Tensor, scale: Tensor) -> Tensor:
        # No matrix product: a GPU may round one to TF32, and features have one precision.
        return x_BPM * scale if self._diagonal else (x_BPM.unsqueeze(3) * scale).sum(2)


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
