"""The SNR that a store states is the SNR of its sound, whatever the files are like."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sersearch.speech.corpora import read_corpus
from sersearch.speech.kaldi import log_mel
from sersearch.store.build import build_store
from sersearch.store.rows import regenerate_waveform

RATE = 16_000

Write = Callable[[Path, np.ndarray], None]


def _as_16_bit(path: Path, sound: np.ndarray) -> None:
    soundfile.write(path, sound, RATE, "PCM_16")


def _with_dc(path: Path, sound: np.ndarray) -> None:
    soundfile.write(path, sound + 0.3, RATE, "PCM_16")


def _as_8_bit(path: Path, sound: np.ndarray) -> None:
    # 8-bit WAV files are unsigned; libsndfile's rounding leaves an offset of half a step or so.
    soundfile.write(path, sound, RATE, "PCM_U8")


def _as_float(path: Path, sound: np.ndarray) -> None:
    soundfile.write(path, 3 * sound - 0.5, RATE, "FLOAT")


SOURCES: dict[str, Write] = {"16 bit": _as_16_bit, "DC": _with_dc, "8 bit": _as_8_bit, "float": _as_float}


def ac_power(sound: np.ndarray) -> float:
    return float(np.var(sound.astype(np.float64)))


@pytest.mark.parametrize("noise", SOURCES)
@pytest.mark.parametrize("speech", SOURCES)
def test_the_rows_have_the_snr_that_they_state(tmp_path: Path, speech: str, noise: str) -> None:
    generator = np.random.default_rng(4)
    corpus, library = tmp_path / "corpus", tmp_path / "noise"
    corpus.mkdir()
    library.mkdir()
    lines = ["path,speaker,emotion,utterance"]
    for number in range(3):
        SOURCES[speech](corpus / f"{number}.wav", 0.1 * generator.standard_normal(RATE // 2))
        lines.append(f"{number}.wav,s{number},anger,u{number}")
        SOURCES[noise](library / f"{number}.wav", 0.05 * generator.standard_normal(RATE))
    (corpus / "manifest.csv").write_text("\n".join(lines))
    store = build_store(tmp_path / "store", read_corpus("mine", corpus), library, noises=2, snrs=2, workers=1)
    measured = 0
    for info in store.speakers:
        for row in store.table(info.speaker).to_pylist():
            audio = corpus / f"{row['utterance'][1:]}.wav"
            waveform = regenerate_waveform(row, store.recipe, audio, library)
            # This is the sound of the row: its features are the row's, bit for bit.
            np.testing.assert_array_equal(log_mel(waveform, RATE).ravel(), np.array(row["log_mel"], np.float32))
            if row["noise"] is None:
                continue
            clean, _ = soundfile.read(audio, dtype="float64")
            added = waveform.astype(np.float64) - clean
            snr_db = 10 * np.log10(ac_power(clean) / ac_power(added))
            assert snr_db == pytest.approx(row["snr_db"], abs=0.01)
            measured += 1
    assert measured == 12
