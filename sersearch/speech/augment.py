"""Noisy copies of clean utterances (Section 5.2 of the paper): waveforms in, waveforms out.

For each clean utterance some noises are drawn without replacement and some signal-to-noise ratios (SNRs) from
a uniform distribution; all their combinations are mixed. The paper draws 20 noises and 3 SNRs from
U[-10, 15] dB, which makes 60 copies.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sersearch.errors import InputError
from sersearch.speech.audio import Waveform

SNR_BAND_DB = 5


@dataclass(frozen=True)
class NoisyCopy:
    """A noisy waveform [N] and what it takes to make it again."""

    waveform: Waveform
    noise: str
    snr_db: float
    noise_offset: int
    """First sample of the excerpt of the noise."""


def utterance_generator(seed: int, utterance: str) -> np.random.Generator:
    """Seed a generator from (seed, utterance id) alone, so that neither order nor workers matter."""
    digest = hashlib.sha256(f"{seed}:{utterance}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def noisy_copies(
    speech: Waveform,
    library: Mapping[str, Waveform],
    noises: int,
    snrs: int,
    snr_range: tuple[float, float],
    generator: np.random.Generator,
) -> Iterator[NoisyCopy]:
    """Draw noises and SNRs for one utterance and mix all combinations, noise by noise.

    Args:
        speech: the clean utterance [N].
        library: active signals by name; silence must have been dropped.
        noises: how many noises to draw, without replacement.
        snrs: how many SNRs to draw; they are shared by the noises.
        snr_range: lowest and highest SNR in dB.
        generator: of this utterance alone.

    Yields:
        `noises` x `snrs` copies.

    Raises:
        InputError: the library holds fewer noises than are to be drawn.
    """
    check_library(len(library), noises)
    names = sorted(library)
    drawn = generator.choice(len(names), size=noises, replace=False)
    snrs_db = generator.uniform(*snr_range, size=snrs)
    for name in (names[index] for index in drawn):
        noise = library[name]
        offset = _draw_offset(noise, speech.size, generator)
        for snr_db in snrs_db:
            waveform = mix(speech, excerpt(noise, offset, speech.size), snr_db)
            yield NoisyCopy(waveform, name, float(snr_db), offset)


def check_library(size: int, noises: int) -> None:
    """Refuse to draw more noises than there are.

    Raises:
        InputError: `noises` > `size`.
    """
    if noises > size:
        raise InputError(f"{noises} noises an utterance can't be drawn from {size} clips; ask for {size} or fewer")


def excerpt(noise: Waveform, offset: int, samples: int) -> Waveform:
    """Cut `samples` samples out of a noise from `offset` on; a noise that ends sooner starts again."""
    return noise.take(np.arange(offset, offset + samples), mode="wrap")


def mix(speech: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Add noise to speech, scaled so that the ratio of their mean powers over the whole utterance is the SNR.

    noisy = speech + g noise with g^2 = P(speech) / (P(noise) 10^(snr_db / 10)), powers in float64. The speech
    keeps its level; nothing is clipped, so the sum may go past full scale.

    Args:
        speech: samples [N].
        noise: samples [N], not all zero.
        snr_db: signal-to-noise ratio in dB.

    Returns:
        Samples [N], float32.
    """
    gain = np.sqrt(_power(speech) / (_power(noise) * 10 ** (snr_db / 10)))
    noisy: Waveform = (speech + gain * noise.astype(np.float64)).astype(np.float32)
    return noisy


def snr_bands(snr_db_U: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Which copies lie in which band of 5 dB, lowest first; bands without copies are left out.

    Args:
        snr_db_U: SNR of each copy; NaN of a clean one, which lies in no band.

    Example:
        >>> {name: found.tolist() for name, found in snr_bands(np.array([-5.0, 3.2, np.nan])).items()}
        {'-5 to 0 dB': [True, False, False], '0 to 5 dB': [False, True, False]}
    """
    low_U = np.floor(snr_db_U / SNR_BAND_DB) * SNR_BAND_DB
    lows = np.unique(low_U[~np.isnan(low_U)]).tolist()
    return {f"{low:.0f} to {low + SNR_BAND_DB:.0f} dB": low_U == low for low in lows}


def _draw_offset(noise: Waveform, samples: int, generator: np.random.Generator) -> int:
    """Draw where an excerpt starts: anywhere it fits, or anywhere at all in a noise that must be looped."""
    starts = noise.size - samples + 1 if noise.size >= samples else noise.size
    while True:  # only an excerpt of less than 100 ms can be silent, as longer silences have been dropped
        offset = int(generator.integers(starts))
        if excerpt(noise, offset, samples).any():
            return offset


def _power(waveform: Waveform) -> float:
    return float(np.mean(np.square(waveform, dtype=np.float64)))
