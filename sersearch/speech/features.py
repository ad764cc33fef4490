"""What is linear in Kaldi's log-Mels, computed with numpy only: MFCCs, deltas, and the moments of frames.

Shapes: N samples, T frames, M Mel bands, K cepstra.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sersearch.speech.audio import SAMPLING_RATE, WINDOW_MS

Features = npt.NDArray[np.float32]

SHIFT_MS = 10.0
BANDS = 40

SILENCE_DB = 40.0
"""How far below the loudest frame of an utterance a frame is silent."""

_LIFTER = 22.0


def frame_count(samples: int, sampling_rate: int = SAMPLING_RATE) -> int:
    """Count the frames T of N samples: only windows that fit count, as with Kaldi's snip_edges."""
    window = int(sampling_rate * WINDOW_MS / 1000)
    shift = int(sampling_rate * SHIFT_MS / 1000)
    return max(0, 1 + (samples - window) // shift)


def speech_range(log_mel: npt.NDArray[np.floating]) -> tuple[int, int]:
    """Find where an utterance begins and ends between silence, in frames.

    A frame is silent if the energy of its Mel bands together lies 40 dB or more below that of the loudest frame.

    Args:
        log_mel: natural logarithms of the energies of Mel bands [T, M], of a clean utterance.

    Returns:
        The first frame that is not silent, and the first one after the last such frame.

    Example:
        >>> speech_range(np.log([[1e-6], [1.0], [1e-5], [0.5], [1e-7]]))
        (1, 4)
    """
    energy_T = np.logaddexp.reduce(log_mel.astype(np.float64), axis=1)
    loud = np.flatnonzero(energy_T > energy_T.max() - SILENCE_DB * np.log(10) / 10)
    return int(loud[0]), int(loud[-1]) + 1


def dct_matrix(bands: int = BANDS, cepstra: int = 13) -> Features:
    """Compute the matrix [M, K] that turns log-Mels into MFCCs (eq. 12-14), scaled as in Kaldi: log_mel @ matrix.

    Column k is cos(k pi / M (m + 1/2)) of eq. 13 times sqrt(2 / M), for k = 0 sqrt(1 / M), and times the
    lifter 1 + 11 sin(pi k / 22). Eq. 12 leaves these constants out; each of them scales one cepstrum.
    """
    m, k = np.arange(bands)[:, None], np.arange(cepstra)[None, :]
    scale = np.where(k == 0, np.sqrt(1 / bands), np.sqrt(2 / bands))
    lifter = 1 + _LIFTER / 2 * np.sin(np.pi * k / _LIFTER)
    return np.asarray(scale * lifter * np.cos(np.pi * k / bands * (m + 0.5)), dtype=np.float32)


def mfcc(log_mel: Features, cepstra: int = 13) -> Features:
    """Compute MFCCs [T, K] from log-Mels [T, M] (eq. 14), as Kaldi does with M Mel bands and no dither."""
    return log_mel @ dct_matrix(log_mel.shape[1], cepstra)


def delta_kernels(order: int, window: int = 2) -> Features:
    """Compute the kernels of Kaldi's add-deltas.

    Args:
        order: highest order of the differences.
        window: number of frames to each side that a difference of the first order is computed from.

    Returns:
        Kernels [1 + order, 1 + 2 order window], to be correlated with the frames. Row 0 is the impulse, row 1 the
        regression sum_j j x[t + j] / sum_j j^2 over |j| <= window, and each further row that regression of the row
        before.
    """
    squares = 2 * sum(j * j for j in range(1, window + 1))
    slope = np.arange(window, -window - 1, -1) / squares
    kernels = [np.ones(1)]
    for _ in range(order):
        kernels.append(np.convolve(kernels[-1], slope))
    width = 2 * order * window + 1
    padded = [np.pad(kernel[::-1], (width - kernel.size) // 2) for kernel in kernels]
    return np.asarray(padded, dtype=np.float32)


def deltas(features: Features, order: int = 2) -> Features:
    """Append differences up to `order` to each frame, as Kaldi's add-deltas does.

    Args:
        features: frames [T, M].
        order: highest order of the differences.

    Returns:
        Frames [T, (1 + order) M]: the features, their first differences, and so on. The first and the last frame are
        repeated beyond the edges.
    """
    kernels = delta_kernels(order)
    reach = kernels.shape[1] // 2
    padded = np.pad(features, ((reach, reach), (0, 0)), mode="edge")
    windows_TMW = np.lib.stride_tricks.sliding_window_view(padded, kernels.shape[1], axis=0)
    differences_TOM: Features = np.einsum("tmw,ow->tom", windows_TMW, kernels)
    return differences_TOM.reshape(len(features), -1)


@dataclass(frozen=True)
class Moments:
    """Sums over frames, from which the mean and the covariance of the frames follow.

    The mean and the covariance of any linear map of the frames follow from them as well.

    Attributes:
        count: number of frames.
        total: sum of the frames [M], float64.
        outer: sum of the outer products of each frame with itself [M, M], float64.
    """

    count: int
    total: npt.NDArray[np.float64]
    outer: npt.NDArray[np.float64]

    def mean(self) -> npt.NDArray[np.float64]:
        """Compute the mean of each coefficient [M]."""
        return self.total / self.count

    def covariance(self) -> npt.NDArray[np.float64]:
        """Compute the covariance of the coefficients [M, M]."""
        return self.outer / self.count - np.outer(self.mean(), self.mean())


def sum_moments(parts: Iterable[Moments]) -> Moments:
    """Add up moments, which gives the moments of all the frames together."""
    moments = list(parts)
    return Moments(
        sum(part.count for part in moments),
        np.sum([part.total for part in moments], axis=0),
        np.sum([part.outer for part in moments], axis=0),
    )
