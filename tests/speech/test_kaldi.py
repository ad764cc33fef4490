from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchaudio.compliance import kaldi

from sersearch.speech.audio import Waveform, audio_files, decode
from sersearch.speech.features import frame_count
from sersearch.speech.kaldi import log_mel, one_torch_thread

RATE = 16_000


def hiss(samples: int, seed: int = 0, level: float = 0.1) -> Waveform:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def literal_log_mel(waveform: Waveform, bands: int = 40) -> np.ndarray:
    """Kaldi's compute-fbank-feats, written out in float64: feature-window.cc and mel-computations.cc."""

    def mel(hertz: np.ndarray) -> np.ndarray:
        return np.asarray(1127 * np.log(1 + hertz / 700))

    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    lowest, highest = mel(np.array([20.0, 8000.0]))
    edges = np.linspace(lowest, highest, bands + 2)
    bins = mel(np.arange(256) * RATE / 512)
    rows = []
    for start in range(0, len(waveform) - 399, 160):
        frame = waveform[start : start + 400].astype(np.float64) * 2**15
        frame -= frame.mean()
        frame -= 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, 512)[:256]) ** 2
        rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
        energies = np.maximum(0, np.minimum(rising, falling)) @ power
        rows.append(np.log(np.maximum(energies, np.finfo(np.float32).eps)))
    return np.array(rows)


@given(st.integers(400, 5000), st.integers(0, 10), st.sampled_from([1e-3, 0.1, 2.0]))
def test_log_mel_is_kaldis(samples: int, seed: int, level: float) -> None:
    waveform = hiss(samples, seed, level)
    features = log_mel(waveform)
    assert features.dtype == np.float32
    assert features.shape == (frame_count(samples), 40)
    np.testing.assert_allclose(features, literal_log_mel(waveform), atol=2e-3)


def test_log_mel_of_real_speech(ravdess: Path) -> None:
    waveform = decode(audio_files(ravdess)[100])
    np.testing.assert_allclose(log_mel(waveform), literal_log_mel(waveform), atol=2e-2)
    direct = kaldi.fbank(torch.from_numpy(waveform * 2**15)[None], num_mel_bins=40, dither=0.0)
    np.testing.assert_array_equal(log_mel(waveform), direct.numpy())


def test_full_scale_does_not_wrap() -> None:
    loud = np.where(np.arange(RATE) % 32 < 16, 1, -1).astype(np.float32)
    quiet = (loud / 4).astype(np.float32)
    np.testing.assert_allclose(np.subtract(log_mel(loud), log_mel(quiet)), np.log(16), atol=0.05)


def test_one_torch_thread_ends_with_the_block() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_torch_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
