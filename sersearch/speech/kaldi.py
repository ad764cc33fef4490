"""What the build of a store computes with torch: Kaldi's log-Mels, and the moments of frames.

Everything else about features is numpy only and in `features`, so that a store is read without torch.

Shapes: N samples, T frames, M Mel bands.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torchaudio.compliance import kaldi

from sersearch.speech.audio import SAMPLING_RATE, WINDOW_MS, Waveform
from sersearch.speech.features import BANDS, SHIFT_MS, Features, Moments

# Kaldi reads 16-bit samples without scaling them. Its floor under the logarithm is absolute, so the scale matters.
_KALDI_SCALE = 2.0**15


def log_mel(waveform: Waveform, sampling_rate: int = SAMPLING_RATE, bands: int = BANDS) -> Features:
    """Compute log-Mels as Kaldi does (Section 6.2): 25 ms window, 10 ms shift, no dither.

    Args:
        waveform: samples [N], full scale 1.0, at least one window.
        sampling_rate: sampling rate in Hz.
        bands: number of Mel bands M.

    Returns:
        Natural logarithms of the bands' energies [T, M].
    """
    samples_1N = torch.from_numpy(waveform).unsqueeze(0) * _KALDI_SCALE
    features_TM = kaldi.fbank(
        samples_1N,
        num_mel_bins=bands,
        sample_frequency=float(sampling_rate),
        frame_length=WINDOW_MS,
        frame_shift=SHIFT_MS,
        dither=0.0,
        snip_edges=True,
    )
    return np.asarray(features_TM.numpy(), dtype=np.float32)


def moments_of(frames: npt.NDArray[np.floating]) -> Moments:
    """Compute the moments of frames [T, M]: their count, their sum and the sum of their outer products."""
    x_TM = torch.from_numpy(frames).double()
    return Moments(len(frames), x_TM.sum(0).numpy(), (x_TM.T @ x_TM).numpy())


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch compute on one thread; afterwards it has as many threads as before.

    On matrices as small as an utterance's, more threads are slower, and their number could change the bits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
