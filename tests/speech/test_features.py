from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st
from torchaudio.compliance import kaldi

from sersearch.speech.audio import audio_files, decode
from sersearch.speech.features import dct_matrix, delta_kernels, deltas, frame_count, mfcc
from sersearch.speech.kaldi import log_mel
from tests.speech.test_kaldi import RATE, hiss


@pytest.mark.parametrize(("samples", "frames"), [(399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)])
def test_frame_count(samples: int, frames: int) -> None:
    assert frame_count(samples) == frames


def test_mfcc_is_kaldis(ravdess: Path) -> None:
    for waveform in (hiss(RATE), decode(audio_files(ravdess)[7])):
        expected = kaldi.mfcc(torch.from_numpy(waveform * 2**15)[None], num_mel_bins=40, dither=0.0)
        # torchaudio computes the cosines in float32, for angles up to 38: it is the one that is off.
        np.testing.assert_allclose(mfcc(log_mel(waveform)), expected.numpy(), atol=2e-3)
        lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
        exact = scipy.fft.dct(log_mel(waveform).astype(np.float64), norm="ortho")[:, :13] * lifter
        np.testing.assert_allclose(mfcc(log_mel(waveform)), exact, atol=1e-4)


@pytest.mark.parametrize(("bands", "cepstra"), [(40, 13), (23, 23), (40, 1)])
def test_dct_matrix_is_the_orthonormal_dct_times_the_lifter(bands: int, cepstra: int) -> None:
    lifter = 1 + 11 * np.sin(np.pi * np.arange(cepstra) / 22)
    expected = scipy.fft.dct(np.eye(bands), norm="ortho")[:, :cepstra] * lifter
    np.testing.assert_allclose(dct_matrix(bands, cepstra), expected, atol=1e-6)


def test_dct_matrix_is_proportional_to_equation_13() -> None:
    for k, column in enumerate(dct_matrix().T):
        h_k = np.array([np.cos(k * np.pi / 40 * (m + 0.5)) for m in range(40)])
        assert abs(column @ h_k) == pytest.approx(np.linalg.norm(column) * np.linalg.norm(h_k), rel=1e-6)


def literal_deltas(x: np.ndarray, order: int) -> np.ndarray:
    """Kaldi's DeltaFeatures: composed scales applied to the input, whose first and last frame repeat."""
    scales = [np.array([1.0])]
    for _ in range(order):
        before, reach = scales[-1], len(scales[-1]) // 2
        scale = np.zeros(len(before) + 4)
        for j in range(-2, 3):
            for k in range(-reach, reach + 1):
                scale[j + k + reach + 2] += j * before[k + reach] / 10
        scales.append(scale)
    out = np.zeros((len(x), len(scales) * x.shape[1]))
    for t in range(len(x)):
        for i, scale in enumerate(scales):
            reach = len(scale) // 2
            taps = (scale[j + reach] * x[min(max(t + j, 0), len(x) - 1)] for j in range(-reach, reach + 1))
            out[t, i * x.shape[1] : (i + 1) * x.shape[1]] = sum(taps)
    return out


@given(st.integers(1, 30), st.integers(0, 3), st.integers(0, 100))
def test_deltas_are_kaldis(frames: int, order: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((frames, 3)).astype(np.float32)
    np.testing.assert_allclose(deltas(x, order), literal_deltas(x, order), atol=1e-5)


def test_deltas_agree_with_torchaudio() -> None:
    x = np.random.default_rng(0).standard_normal((50, 13)).astype(np.float32)
    first = torchaudio.functional.compute_deltas(torch.from_numpy(x.T.copy()))
    second = torchaudio.functional.compute_deltas(first)
    ours = deltas(x, order=2)
    np.testing.assert_array_equal(ours[:, :13], x)
    np.testing.assert_allclose(ours[:, 13:26], first.numpy().T, atol=1e-6)
    # torchaudio repeats the first differences at the edges, Kaldi the frames: the same but for two frames.
    np.testing.assert_allclose(ours[2:-2, 26:], second.numpy().T[2:-2], atol=1e-6)


def test_delta_kernels_can_be_correlated_with_the_frames() -> None:
    kernels = delta_kernels(order=2)
    np.testing.assert_allclose(kernels[1] * 10, [0, 0, -2, -1, 0, 1, 2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(kernels[2] * 100, [4, 4, 1, -4, -10, -4, 1, 4, 4], atol=1e-5)
