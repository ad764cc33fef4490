"""Generated frames, on which a machine's pace is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sersearch.speech.kaldi import moments_of
from sersearch.training.dataset import Dataset, Utterances

MINIBATCHES = 6


def generate_dataset(lengths: NDArray[np.int64], bands: int, minibatch: int, validation: int, emotions: int) -> Dataset:
    """A few minibatches of noise; each of one length, as minibatches of a large store nearly are.

    Args:
        lengths: frames of utterances like those to come.
        bands: M, the Mel bands.
        minibatch: utterances per minibatch.
        validation: utterances to evaluate.
        emotions: how many classes there are.
    """
    quantiles = np.quantile(lengths, (np.arange(MINIBATCHES) + 0.5) / MINIBATCHES).astype(np.int64)
    train = _noise(np.repeat(quantiles, minibatch), bands, emotions)
    evaluated = _noise(np.full(validation, np.median(lengths), np.int64), bands, emotions)
    return Dataset(train, evaluated, tuple(map(str, range(emotions))), moments_of(train.frames[0]))


def _noise(lengths: NDArray[np.int64], bands: int, emotions: int) -> Utterances:
    index = np.arange(len(lengths))
    offset = np.cumsum(lengths) - lengths
    noisy = index >= len(index) // 2
    frames = np.random.default_rng(0).standard_normal((int(lengths.sum()), bands), np.float32)
    return Utterances(
        frames=(frames,),
        speaker=np.zeros_like(index),
        offset=offset,
        length=lengths,
        emotion=index % emotions,
        noisy=noisy,
        speakers=("noise",),
        clean=(np.stack([offset, lengths], 1)[~noisy],),
    )
