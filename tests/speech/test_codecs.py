"""Codecs: samples stay in time, the same in every process, and as much is lost as the codec is known for."""

import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, correlate, sosfiltfilt

from sersearch.errors import InputError
from sersearch.speech.audio import SAMPLING_RATE, Waveform
from sersearch.speech.codecs import CODECS, parse_codec, pass_through

EXAMPLES = ("a-law", "gsm", "mp3@40", "mp3@160", "mu-law", "opus@6", "opus@32", "opus@256", "vorbis")


def voice(samples: int = 24_123, seed: int = 0) -> Waveform:
    """Harmonics of a rising pitch in syllables, with some noise."""
    time_N = np.arange(samples) / SAMPLING_RATE
    phase_N = 2 * np.pi * (140 * time_N + 40 * time_N**2)
    sound_N = sum(np.sin(number * phase_N) / number for number in range(1, 9))
    sound_N = sound_N * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * time_N)) * 0.1
    return (sound_N + 0.002 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def similarity(first: Waveform, second: Waveform) -> float:
    return float(np.corrcoef(first, second)[0, 1])


@pytest.mark.parametrize("codec", EXAMPLES)
def test_samples_stay_in_time(codec: str) -> None:
    sent = voice()
    received = pass_through(sent, codec)
    assert received.shape == sent.shape
    assert received.dtype == np.float32
    lag = int(correlate(received, sent, method="fft").argmax()) - (sent.size - 1)
    assert abs(lag) <= 1
    assert similarity(sent, received) > 0.9
    assert not np.array_equal(sent, received)


def test_every_codec_has_an_example() -> None:
    assert {codec.partition("@")[0] for codec in EXAMPLES} == set(CODECS)


@pytest.mark.parametrize(("codec", "low_db", "high_db"), [("mu-law", 33, 42), ("a-law", 33, 42), ("gsm", 5, 25)])
def test_telephones_lose_the_upper_half_and_what_is_published(codec: str, low_db: float, high_db: float) -> None:
    """G.711 has 35 to 38 dB for speech levels; GSM 6.10 keeps the envelope and little more."""
    lower = sosfiltfilt(butter(8, 3_000, fs=SAMPLING_RATE, output="sos"), voice()).astype(np.float32)
    received = pass_through(lower, codec)
    inside = slice(2_000, -2_000)
    lost = np.var(received[inside] - lower[inside])
    assert low_db < 10 * np.log10(np.var(lower[inside]) / lost) < high_db
    hiss = np.random.default_rng(1).standard_normal(16_000).astype(np.float32) * np.float32(0.05)
    spectrum = np.abs(np.fft.rfft(pass_through(hiss, codec))) ** 2
    assert spectrum[4_200:].sum() < 1e-3 * spectrum[:4_200].sum()


def test_more_bits_lose_less() -> None:
    sent = voice()
    for name, rates in (("opus", (6, 16, 64)), ("mp3", (40, 96, 160))):
        close = [similarity(sent, pass_through(sent, f"{name}@{rate}")) for rate in rates]
        assert close == sorted(close)


@pytest.mark.slow("starts a process per codec")
@pytest.mark.parametrize("codec", EXAMPLES)
def test_every_process_gives_the_same_samples(codec: str) -> None:
    program = (
        "import sys; from hashlib import sha256; from sersearch.speech.codecs import pass_through; "
        "from tests.speech.test_codecs import voice; "
        "print(sha256(pass_through(voice(), sys.argv[1]).tobytes()).hexdigest())"
    )
    here = sha256(pass_through(voice(), codec).tobytes()).hexdigest()
    assert sha256(pass_through(voice(), codec).tobytes()).hexdigest() == here
    done = subprocess.run([sys.executable, "-c", program, codec], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(EXAMPLES), st.integers(400, 6_000), st.floats(0.01, 8))
def test_any_length_and_level(codec: str, samples: int, level: float) -> None:
    sent = np.float32(level) * voice(samples)
    received = pass_through(sent, codec)
    assert received.shape == sent.shape
    assert np.isfinite(received).all()


def test_beyond_full_scale_nothing_is_clipped() -> None:
    loud = np.float32(20) * voice()
    assert np.abs(loud).max() > 2
    assert similarity(loud, pass_through(loud, "mu-law")) > 0.99


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("g729", "there is no such codec; choose from a-law, gsm, mp3@KBPS, mu-law, opus@KBPS, vorbis"),
        ("opus", "write opus@KBPS with a bit rate from 6 to 256, as in opus@6"),
        ("mp3@32", "write mp3@KBPS with a bit rate from 40 to 160"),
        ("mp3@many", "write mp3@KBPS"),
        ("gsm@13", "gsm has no choice of bit rates; write gsm"),
    ],
)
def test_codecs_that_do_not_exist(given: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_codec(given)
    assert str(refused.value).startswith(f"codec {given}: ")
    assert said in str(refused.value)
