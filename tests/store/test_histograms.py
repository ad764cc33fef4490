"""The histograms of a store, against NumPy's of the columns that Polars reads."""

import json
import re
from pathlib import Path

import numpy as np
import polars
import pytest
import soundfile
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.histograms import histograms
from sersearch.store.reader import Store

RATE = 16_000
DURATIONS_S = (0.4, 0.9, 3.0, 3.9, 10.2, 12.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two speakers with utterances of some seconds, and noise at 5 SNRs."""
    folder = tmp_path_factory.mktemp("histograms")
    generator = np.random.default_rng(0)
    lines = ["path,speaker,emotion"]
    for speaker in "ab":
        for number, seconds in enumerate(DURATIONS_S):
            path = f"{speaker}{number}.wav"
            soundfile.write(folder / path, 0.1 * generator.standard_normal(round(seconds * RATE)), RATE)
            lines.append(f"{path},{speaker},{'anger' if number % 2 else 'fear'}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    noise = folder / "noise"
    noise.mkdir()
    soundfile.write(noise / "hiss.wav", 0.1 * generator.standard_normal(RATE), RATE)
    corpus = read_corpus("mine", folder / "manifest.csv")
    return build_store(folder / "store", corpus, noise, noises=1, snrs=5, snr_range=(-12, 14), workers=1)


def test_bands_are_those_of_numpy(store: Store) -> None:
    by_snr, by_duration = histograms(store)
    columns = polars.read_parquet(store.path / "*.parquet", columns=["snr_db", "duration_s"])
    snr_db_U = columns["snr_db"].drop_nulls().to_numpy()
    counts, edges = np.histogram(snr_db_U, np.arange(-15, 20, 5))
    expected = {f"{low} to {low + 5}": count for low, count in zip(edges.tolist(), counts.tolist(), strict=False)}
    assert {band: by_snr.get(band, 0) for band in expected} == expected
    assert sum(by_snr.values()) == 2 * len(DURATIONS_S) * 5
    assert by_duration == {"0 to 1": 4, "1 to 2": 0, "2 to 3": 0, "3 to 4": 4} | dict.fromkeys(
        (f"{low} to {low + 1}" for low in range(4, 10)), 0
    ) | {"10 or more": 4}


def test_a_store_without_noise_has_no_snrs(tiny_corpus: Path, tmp_path: Path) -> None:
    clean = build_store(tmp_path / "store", read_corpus("tiny", tiny_corpus), noises=0, snrs=0, workers=1)
    by_snr, by_duration = histograms(clean)
    assert by_snr == {}
    assert sum(by_duration.values()) == sum(info.utterances for info in clean.speakers)


def test_the_command_shows_them(store: Store) -> None:
    by_snr, by_duration = histograms(store)
    shown = json.loads(CliRunner().invoke(app, ["store", str(store.path), "--format", "json"]).output)
    assert shown["copies_by_snr_db"] == by_snr
    assert shown["utterances_by_duration_s"] == by_duration
    printed = CliRunner().invoke(app, ["store", str(store.path)]).output
    bars = {band: (int(count), bar) for band, count, bar in re.findall(r"^ +(\S.*?)  +(\d+) *(#*)$", printed, re.M)}
    assert bars["10 or more"] == (4, 40 * "#")
    assert bars["1 to 2"] == (0, "")
    assert {band: bars[band][0] for band in by_snr} == by_snr


def test_a_damaged_file_is_named_and_verify_still_tells_what_is_wrong(store: Store) -> None:
    file = store.path / "a.parquet"
    intact = file.read_bytes()
    try:
        file.write_bytes(bytes(len(intact)))
        with pytest.raises(InputError, match=r"a\.parquet: is damaged"):
            histograms(store)
        done = CliRunner().invoke(app, ["store", str(store.path), "--verify"])
        assert done.exit_code == 1
        assert "a.parquet: damaged" in done.output
    finally:
        file.write_bytes(intact)
