from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.errors import InputError
from sersearch.speech.audio import Waveform, audio_files, decode
from sersearch.speech.augment import NoisyCopy, excerpt, mix, noisy_copies, utterance_generator
from sersearch.speech.corpora import read_noises


def hiss(samples: int, seed: int = 0, level: float = 0.1) -> Waveform:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def snr_of(speech: Waveform, noisy: Waveform) -> float:
    """Signal-to-noise ratio in dB from the definition; a mean (DC) is neither signal nor noise."""
    added = noisy.astype(np.float64) - speech
    return float(10 * np.log10(np.var(speech.astype(np.float64)) / np.var(added)))


LIBRARY = {"long": hiss(50_000, 1), "short": hiss(1_700, 2), "quiet": hiss(9_000, 3, 1e-4), "loud": hiss(9_000, 4, 0.9)}
SPEECH = hiss(8_000, 5)


def copies(seed: int, utterance: str, noises: int, snrs: int, library: Mapping[str, Waveform]) -> list[NoisyCopy]:
    generator = utterance_generator(seed, utterance)
    return list(noisy_copies(SPEECH, library, noises, snrs, (-10.0, 15.0), generator))


@given(st.integers(400, 9_000), st.floats(-10, 15), st.floats(1e-4, 1), st.floats(1e-4, 1), st.integers(0, 2**32))
def test_mix_meets_the_snr(samples: int, snr_db: float, loud: float, level: float, seed: int) -> None:
    speech, noise = hiss(samples, seed, loud), hiss(samples, seed + 1, level)
    assert snr_of(speech, mix(speech, noise, snr_db)) == pytest.approx(snr_db, abs=0.01)


def test_mix_of_real_sound_meets_the_snr_and_does_not_clip(ravdess: Path, esc10: Path) -> None:
    speech = decode(audio_files(ravdess)[3])
    library = read_noises(esc10)
    assert len(library) == 400
    assert not library.refused
    generator = utterance_generator(0, "real")
    drawn = list(noisy_copies(speech, library, 25, 2, (-10.0, 15.0), generator))
    for copy in drawn:
        assert snr_of(speech, copy.waveform) == pytest.approx(copy.snr_db, abs=0.01)
    shout = speech / np.abs(speech).max()
    assert np.abs(mix(shout, library[drawn[0].noise][: shout.size].repeat(8)[: shout.size], -10)).max() > 1


def test_all_combinations_of_noises_and_snrs() -> None:
    drawn = copies(0, "u", 3, 4, LIBRARY)
    assert len(drawn) == 12
    assert len({copy.noise for copy in drawn}) == 3
    assert len({copy.snr_db for copy in drawn}) == 4
    assert len({(copy.noise, copy.snr_db) for copy in drawn}) == 12
    assert all(-10 <= copy.snr_db <= 15 for copy in drawn)
    assert len({(copy.noise, copy.noise_offset) for copy in drawn}) == 3


def test_draws_depend_on_seed_and_utterance_alone() -> None:
    backwards = dict(reversed(LIBRARY.items()))
    for one, other in zip(copies(7, "u", 4, 2, LIBRARY), copies(7, "u", 4, 2, backwards), strict=True):
        assert (one.noise, one.snr_db, one.noise_offset) == (other.noise, other.snr_db, other.noise_offset)
        np.testing.assert_array_equal(one.waveform, other.waveform)
    snrs = {copies(seed, utterance, 1, 1, LIBRARY)[0].snr_db for seed in (0, 1) for utterance in ("u", "v")}
    assert len(snrs) == 4


def test_draws_stay_as_they_are() -> None:
    copy = copies(0, "03-01-05-01-01-01-01", 1, 1, LIBRARY)[0]
    assert (copy.noise, round(copy.snr_db, 6), copy.noise_offset) == ("quiet", -3.402252, 433)


def test_every_noise_is_as_likely_and_snrs_are_uniform() -> None:
    drawn = [copies(0, f"u{number}", 2, 1, LIBRARY) for number in range(800)]
    counts = {name: sum(copy.noise == name for two in drawn for copy in two) for name in LIBRARY}
    # 400 expected of each, standard deviation sqrt(800 / 4) = 14
    assert all(330 < count < 470 for count in counts.values())
    quartiles = np.quantile([two[0].snr_db for two in drawn], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quartiles, [-3.75, 2.5, 8.75], atol=2)


def test_more_noises_than_there_are() -> None:
    with pytest.raises(InputError, match="5 noises per utterance can't be drawn from a library of 4; draw 4 or fewer"):
        copies(0, "u", 5, 1, LIBRARY)


def test_excerpt_loops() -> None:
    noise = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(excerpt(noise, 3, 9), [3, 4, 0, 1, 2, 3, 4, 0, 1])


def test_long_noise_is_cut_not_looped() -> None:
    offsets = {copies(0, f"u{n}", 1, 1, {"n": hiss(8_010)})[0].noise_offset for n in range(200)}
    assert offsets == set(range(11))


class MostlySilent(Mapping[str, Waveform]):
    """A noise whose pauses are as long as a short utterance."""

    def __getitem__(self, name: str) -> Waveform:
        noise = np.zeros(16_000, dtype=np.float32)
        noise[::1_500] = 0.5
        return noise

    def __iter__(self) -> Iterator[str]:
        return iter(["pauses"])

    def __len__(self) -> int:
        return 1


def test_silent_excerpt_is_drawn_again() -> None:
    speech = hiss(400)
    for number in range(50):
        generator = utterance_generator(0, str(number))
        (copy,) = noisy_copies(speech, MostlySilent(), 1, 1, (0.0, 0.0), generator)
        assert snr_of(speech, copy.waveform) == pytest.approx(0, abs=0.01)
