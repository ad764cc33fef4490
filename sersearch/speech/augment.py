"""Noisy copies of clean utterances (Section 5.2 of the paper), from waveforms to waveforms.

For each clean utterance, noises are drawn without replacement and signal-to-noise ratios (SNRs) from a uniform
distribution, and all their combinations are mixed. The paper draws 20 noises and 3 SNRs from U[-10, 15] dB, which makes
60 copies.

Beyond the paper, and off unless asked for, the speech of each copy is reverberated by an impulse response before the
noise is added, and the sum passes through a codec. Responses and codecs are drawn from a generator of their own, so
they change nothing about the noises and SNRs.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from sersearch.errors import InputError
from sersearch.speech.audio import Waveform, power_without_dc
from sersearch.speech.codecs import pass_through

SNR_BAND_DB = 5


@dataclass(frozen=True)
class NoisyCopy:
    """A noisy waveform, and what is needed to compute it again.

    Attributes:
        waveform: samples [N].
        noise: name of the noise.
        snr_db: signal-to-noise ratio in dB.
        noise_offset: index of the noise's first sample that was used.
        impulse_response: name of the impulse response that reverberates the speech; None for none.
        codec: name of the codec that the copy passed through; None for none.
    """

    waveform: Waveform
    noise: str
    snr_db: float
    noise_offset: int
    impulse_response: str | None = None
    codec: str | None = None


Passage = tuple[str | None, str | None]
"""Names of the impulse response and of the codec of one copy; None for none."""


def utterance_generator(seed: int, utterance: str) -> np.random.Generator:
    """Create a generator that depends on the seed and the utterance's id only, and not on order or workers."""
    digest = hashlib.sha256(f"{seed}:{utterance}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def draw_passages(seed: int, utterance: str, responses: Sequence[str], codecs: Sequence[str]) -> Iterator[Passage]:
    """Draw an impulse response and a codec for each copy of an utterance, without end.

    Args:
        seed: seed of all draws.
        utterance: the utterance's id.
        responses: names of impulse responses, sorted; may be empty.
        codecs: names of codecs, sorted; may be empty.
    """
    digest = hashlib.sha256(f"passages:{seed}:{utterance}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
    while True:
        response = responses[int(generator.integers(len(responses)))] if responses else None
        codec = codecs[int(generator.integers(len(codecs)))] if codecs else None
        yield response, codec


def noisy_copies(
    speech: Waveform,
    library: Mapping[str, Waveform],
    noises: int,
    snrs: int,
    snr_range: tuple[float, float],
    generator: np.random.Generator,
    passages: Iterator[Passage] | None = None,
    responses: Mapping[str, Waveform] | None = None,
) -> Iterator[NoisyCopy]:
    """Draw noises and SNRs for one utterance, and mix all combinations.

    Args:
        speech: samples of the clean utterance [N].
        library: noises by name, without their silent stretches.
        noises: number of noises to draw, without replacement.
        snrs: number of SNRs to draw; every noise is mixed at each of them.
        snr_range: lowest and highest SNR in dB.
        generator: random generator of this utterance, as from `utterance_generator`.
        passages: the impulse response and the codec of each copy, as from `draw_passages`; None for neither.
        responses: impulse responses by name.

    Yields:
        `noises` x `snrs` copies: all copies with the first noise, then all copies with the second, and so on.

    Raises:
        InputError: the library holds fewer noises than are to be drawn.
    """
    check_library(len(library), noises)
    drawn = passages or repeat((None, None))
    names = sorted(library)
    indices = generator.choice(len(names), size=noises, replace=False)
    snrs_db = generator.uniform(*snr_range, size=snrs)
    for index in indices:
        name = names[index]
        noise = library[name]
        offset = _draw_offset(noise, speech.size, generator)
        for snr_db in snrs_db:
            response, codec = next(drawn)
            impulses = responses[response] if responses and response else None
            waveform = make_copy(speech, excerpt(noise, offset, speech.size), snr_db, impulses, codec)
            yield NoisyCopy(waveform, name, float(snr_db), offset, response, codec)


def make_copy(
    speech: Waveform, noise: Waveform, snr_db: float, response: Waveform | None = None, codec: str | None = None
) -> Waveform:
    """Make one noisy copy: reverberate the speech, add the noise, pass both through a codec.

    Args:
        speech: samples of the clean utterance [N].
        noise: samples [N], not all of them equal; they are not reverberated.
        snr_db: ratio of the speech, reverberated if it is, to the noise in dB.
        response: samples of an impulse response; None for none.
        codec: name of a codec, as in `codecs.parse_codec`; None for none.

    Returns:
        Samples [N], float32.
    """
    spoken = speech if response is None else reverberate(speech, response)
    noisy = mix(spoken, noise, snr_db)
    return noisy if codec is None else pass_through(noisy, codec)


def reverberate(speech: Waveform, response: Waveform) -> Waveform:
    """Convolve speech with the impulse response of a room.

    The largest sample of the response is taken for the direct sound and stays in time with the speech. What rings on
    after the last sample is cut off. The power of the speech without DC stays what it was.

    Args:
        speech: samples [N].
        response: samples [L], any L.

    Returns:
        Samples [N], float32.
    """
    direct = int(np.abs(response).argmax())
    full = fftconvolve(speech.astype(np.float64), response.astype(np.float64))
    wet = full[direct : direct + speech.size]
    gain = np.sqrt(power_without_dc(speech) / np.var(wet))
    reverberant: Waveform = (gain * wet).astype(np.float32)
    return reverberant


def check_library(size: int, noises: int) -> None:
    """Check that a library of `size` noises has enough of them.

    Raises:
        InputError: more noises are to be drawn than the library has.
    """
    if noises > size:
        raise InputError(f"{noises} noises per utterance can't be drawn from a library of {size}; draw {size} or fewer")


def excerpt(noise: Waveform, offset: int, samples: int) -> Waveform:
    """Take `samples` samples of a noise from index `offset` on; a noise that is too short is repeated."""
    return noise.take(np.arange(offset, offset + samples), mode="wrap")


def mix(speech: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Add noise to speech at a given ratio of their mean powers over the whole utterance.

    noisy = speech + g (noise - mean(noise)) with g^2 = P(speech) / (P(noise) 10^(snr_db / 10)), where P is the mean
    power without the mean (DC). The speech keeps its level and its DC; the noise's DC is not added. Nothing is clipped,
    so the sum may exceed full scale.

    Args:
        speech: samples [N].
        noise: samples [N], not all of them equal.
        snr_db: signal-to-noise ratio in dB.

    Returns:
        Samples [N], float32.
    """
    power_ratio = 10 ** (snr_db / 10)
    gain = np.sqrt(power_without_dc(speech) / (power_without_dc(noise) * power_ratio))
    noise_without_dc = noise - np.mean(noise, dtype=np.float64)
    noisy: Waveform = (speech + gain * noise_without_dc).astype(np.float32)
    return noisy


def snr_bands(snr_db_U: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Sort copies into bands of 5 dB.

    Args:
        snr_db_U: SNR of each copy in dB; NaN for a clean copy, which lies in no band.

    Returns:
        Which copies lie in each band [U], by the name of the band, the lowest band first; bands without copies are
        left out.

    Example:
        >>> {name: inside_U.tolist() for name, inside_U in snr_bands(np.array([-5.0, 3.2, np.nan])).items()}
        {'-5 to 0 dB': [True, False, False], '0 to 5 dB': [False, True, False]}
    """
    low_U = np.floor(snr_db_U / SNR_BAND_DB) * SNR_BAND_DB
    lows = np.unique(low_U[~np.isnan(low_U)]).tolist()
    return {f"{low:.0f} to {low + SNR_BAND_DB:.0f} dB": low_U == low for low in lows}


def _draw_offset(noise: Waveform, samples: int, generator: np.random.Generator) -> int:
    """Draw the first sample of an excerpt: any that lets it fit, or any at all if the noise must be repeated."""
    starts = noise.size - samples + 1 if noise.size >= samples else noise.size
    # An excerpt can be silent if it is shorter than 100 ms, the shortest silence that is removed. Then draw again.
    while True:
        offset = int(generator.integers(starts))
        if np.ptp(excerpt(noise, offset, samples)) > 0:
            return offset
