"""Build the copies of a store with Lhotse: cut, mix with noise, compute features, write them.

Kaldi's options are the same as in this package: 40 bands from 20 Hz to Nyquist, samples in the range of 16-bit numbers,
only windows that fit. Lhotse needs one frame per 10 ms of a cut, so the last frame is repeated; these additional frames
are not compared.
"""

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse import CutSet, MonoCut, Recording  # type: ignore[import-not-found,unused-ignore]
from lhotse.features.fbank import (  # type: ignore[import-not-found,unused-ignore]
    TorchaudioFbank,
    TorchaudioFbankConfig,
)
from lhotse.features.io import (  # type: ignore[import-not-found,unused-ignore]
    LilcomChunkyWriter,
    NumpyHdf5Writer,
)
from lhotse.features.kaldi.extractors import Fbank, FbankConfig  # type: ignore[import-not-found,unused-ignore]
from lhotse.utils import compute_num_frames_from_samples  # type: ignore[import-not-found,unused-ignore]
from torchaudio.compliance import kaldi

from sersearch.store.reader import Store

RATE_HZ, BANDS, SCALE = 16_000, 40, 2.0**15
CLEAN = "clean"


class Torchaudio(TorchaudioFbank):
    """Lhotse's extractor that uses torchaudio's Kaldi filter banks."""

    name = "torchaudio-as-ours"

    def _feature_fn(self, samples: torch.Tensor, **options: Any) -> torch.Tensor:
        found = kaldi.fbank(samples * SCALE, **options | {"snip_edges": True})
        return torch.from_numpy(_lengthened(found.numpy(), samples.shape[1]))


class Own(Fbank):
    """Lhotse's extractor that uses its own Kaldi filter banks."""

    name = "own-as-ours"

    def extract(self, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Give log-Mels [T, M] of samples [1, N]."""
        return _lengthened(super().extract(samples * SCALE, sampling_rate), samples.shape[1])


def _lengthened(log_mel: np.ndarray, samples: int) -> np.ndarray:
    more = compute_num_frames_from_samples(samples, 0.01, RATE_HZ) - len(log_mel)
    return np.pad(log_mel, ((0, more), (0, 0)), mode="edge")


def extractor_of(kind: str) -> Torchaudio | Own:
    """Make the extractor of a kind."""
    if kind == "own":
        return Own(FbankConfig(num_filters=BANDS, high_freq=0.0, snip_edges=True))
    return Torchaudio(TorchaudioFbankConfig(num_mel_bins=BANDS, high_freq=0.0))


def build(
    kind: str, copies: Sequence[Mapping[str, Any]], speech: Mapping[str, Path], noises: Path, out: Path, jobs: int
) -> CutSet:
    """Compute and store the features of all copies.

    Args:
        kind: "torchaudio", "own" (Lhotse's own filter banks), or "lilcom" (torchaudio, compressed).
        copies: utterance, noise, SNR and offset of each, as a store's rows have them.
        speech: file of each utterance.
        noises: folder of the noises.
        out: where the features go.
        jobs: processes.

    Returns:
        Cuts in another order; a copy's has the id that `id_of` gives.
    """
    clean = {name: Recording.from_file(path).to_cut() for name, path in speech.items()}
    clips = {name: Recording.from_file(noises / name).to_cut() for name in {copy["noise"] for copy in copies} - {None}}
    cuts = [_cut(copy, clean[copy["utterance"]], clips) for copy in copies]
    writer = LilcomChunkyWriter if kind == "lilcom" else NumpyHdf5Writer
    # Lhotse's own executor stays open, so that the CPU time of its workers would not be counted.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as executor:
        return CutSet.from_cuts(cuts).compute_and_store_features(
            extractor_of(kind),
            out,
            num_jobs=jobs,
            executor=executor if jobs > 1 else None,
            storage_type=writer,
            progress_bar=False,
        )


def _cut(copy: Mapping[str, Any], speech: MonoCut, clips: Mapping[str, MonoCut]) -> Any:
    if copy["noise"] is None:
        return speech.with_id(id_of(copy))
    excerpt = clips[copy["noise"]].truncate(offset=copy["noise_offset_s"], duration=speech.duration)
    return speech.mix(excerpt, snr=copy["snr_db"]).with_id(id_of(copy))


def id_of(copy: Mapping[str, Any]) -> str:
    """The identifier of a copy."""
    return f"{copy['utterance']} {copy['noise'] or CLEAN} {copy['snr_db']}"


def difference(cuts: CutSet, store: Store) -> dict[str, float]:
    """The largest differences from our log-Mels, of clean and of noisy copies; all copies must be present."""
    largest = {"clean": 0.0, "noisy": 0.0}
    features = {cut.id: cut.features for cut in cuts}
    for info in store.speakers:
        frames = store.frames(info.speaker)
        start = 0
        for copy in store.table(info.speaker).drop_columns("log_mel").to_pylist():
            ours = frames[start : start + copy["frames"]]
            start += len(ours)
            theirs = features.pop(id_of(copy)).load()[: len(ours)]
            apart = float(np.abs(ours - theirs).max())
            largest[copy["condition"]] = max(largest[copy["condition"]], apart)
    assert not features, f"{len(features)} cuts are no copies"
    return largest
