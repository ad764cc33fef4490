"""The data that `gpu.py` trains on: a store's, or generated utterances."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from training_step import EMOTIONS

from sersearch.speech.kaldi import moments_of
from sersearch.store.reader import open_store
from sersearch.study.fold import make_partition
from sersearch.training.dataset import Dataset, Utterances, open_dataset


def data_of(job: dict[str, Any]) -> Dataset:
    """The training and validation data of the store, or generated data without a store."""
    if job["store"]:
        store = open_store(Path(job["store"]))
        return open_dataset(store, make_partition(info.speaker for info in store.speakers))
    learnt, measured, frames = (24, 12, 12) if job["quick"] else (2400, 1200, 365)
    train, validation = generated(learnt, frames, 0), generated(measured, frames, 1)
    moments = moments_of(np.concatenate(train.frames))
    return Dataset(train, validation, tuple(map(str, range(EMOTIONS))), moments)


def generated(copies: int, frames: int, seed: int) -> Utterances:
    """Utterances of two speakers: noise, in which each emotion modulates its own Mel bands at its own rate."""
    generator = np.random.default_rng(seed)
    length = generator.integers(frames * 3 // 4, frames * 5 // 4, copies)
    emotion = np.arange(copies) % EMOTIONS
    found = []
    for frames_of_it, index in zip(length, emotion, strict=True):
        wave = np.sin(0.06 * (index + 2) * np.arange(frames_of_it) + generator.uniform(0, 2 * math.pi))
        bands = np.exp(-0.5 * ((np.arange(40) - 6 * index - 5) / 4) ** 2)
        found.append(15 + 4 * generator.standard_normal((frames_of_it, 40)) + np.outer(wave, bands))
    half = copies // 2
    speakers = tuple(np.concatenate(part).astype(np.float32) for part in (found[:half], found[half:]))
    offset = np.concatenate([np.cumsum(part) - part for part in (length[:half], length[half:])])
    speaker = (np.arange(copies) >= half).astype(np.int64)
    noisy = np.arange(copies) // EMOTIONS % 3 > 0
    ranges = np.stack([offset, length], 1)
    clean = tuple(ranges[~noisy & (speaker == number)] for number in (0, 1))
    return Utterances(speakers, speaker, offset, length, emotion, noisy, ("a", "b"), clean)
