"""Stores whose noisy copies are reverberated and coded: what is drawn, what is on record, and what stays as it was."""

import json
from pathlib import Path

import numpy as np
import polars
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.digests import sha256_of
from sersearch.errors import InputError
from sersearch.speech.augment import draw_passages, reverberate
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.reader import Store
from sersearch.store.remake import remake_rows

RATE = 16_000
CODECS = ("opus@16", "gsm")
DRAWN = ["utterance", "noise", "snr_db", "noise_offset_s"]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decaying noise after a direct sound: three rooms, one of them at 48 kHz."""
    folder = tmp_path_factory.mktemp("rooms")
    for number, (name, rate, seconds) in enumerate(
        [("small.wav", RATE, 0.1), ("halls/large.flac", RATE, 0.6), ("at 48.wav", 48_000, 0.2)]
    ):
        generator = np.random.default_rng(number)
        time_N = np.arange(int(seconds * rate)) / rate
        response = 0.2 * generator.standard_normal(time_N.size) * np.exp(-8 * time_N / seconds)
        response[int(0.003 * rate)] = 0.9
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, response, rate)
    (folder / "readme.txt").write_text("three rooms")
    return folder


@pytest.fixture(scope="module")
def store(tiny_corpus: Path, tiny_noise: Path, rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("passages") / "store"
    corpus = read_corpus("tiny", tiny_corpus)
    return build_store(out, corpus, tiny_noise, noises=2, snrs=2, impulse_folder=rooms, codecs=CODECS, workers=1)


def rows(store: Store, columns: list[str]) -> polars.DataFrame:
    return polars.read_parquet(store.path / "*.parquet", columns=columns)


def test_each_noisy_copy_names_its_room_and_its_codec(store: Store) -> None:
    table = rows(store, ["condition", "impulse_response", "codec"])
    clean = table.filter(polars.col("condition") == "clean")
    assert clean["impulse_response"].null_count() == clean["codec"].null_count() == len(clean)
    noisy = table.filter(polars.col("condition") == "noisy")
    assert set(noisy["impulse_response"]) == {"small.wav", "halls/large.flac", "at 48.wav"}
    assert set(noisy["codec"]) == set(CODECS)


def test_noises_and_snrs_are_those_of_a_store_without(
    store: Store, tiny_corpus: Path, tiny_noise: Path, rooms: Path, tmp_path: Path
) -> None:
    corpus = read_corpus("tiny", tiny_corpus)
    dry = build_store(tmp_path / "dry", corpus, tiny_noise, noises=2, snrs=2, workers=1)
    assert rows(dry, DRAWN).equals(rows(store, DRAWN))
    assert not {"impulse_response", "codec"} & set(rows(dry, ["utterance"]).columns + dry.table("s0").column_names)
    coded = build_store(tmp_path / "gsm", corpus, tiny_noise, noises=2, snrs=2, codecs=["gsm"], workers=1)
    assert len({dry.fingerprint, coded.fingerprint, store.fingerprint}) == 3
    clean = polars.col("condition") == "clean"
    columns = ["condition", "utterance", "log_mel"]
    assert rows(dry, columns).filter(clean).equals(rows(store, columns).filter(clean))
    assert not rows(dry, columns).filter(~clean).equals(rows(store, columns).filter(~clean))


def test_any_copy_is_made_again_from_its_row(store: Store, tiny_corpus: Path, tiny_noise: Path, rooms: Path) -> None:
    corpus = read_corpus("tiny", tiny_corpus)
    assert remake_rows(store, corpus, tiny_noise, rooms) == (12, [])
    made, faults = remake_rows(store, corpus, tiny_noise)
    assert made == 12
    assert len(faults) == 6
    assert all("needs the impulse responses, and none were given" in fault for fault in faults)


@pytest.mark.slow("starts worker processes, which import torch")
def test_the_bytes_depend_on_the_recipe_alone(
    store: Store, tiny_corpus: Path, tiny_noise: Path, rooms: Path, tmp_path: Path
) -> None:
    corpus = read_corpus("tiny", tiny_corpus)
    again = build_store(
        tmp_path / "again",
        corpus,
        tiny_noise,
        noises=2,
        snrs=2,
        impulse_folder=rooms,
        codecs=CODECS[::-1],
        workers=2,
    )
    assert again.fingerprint == store.fingerprint
    assert sha256_of(again.path / "store.json") == sha256_of(store.path / "store.json")
    for info in store.speakers:
        assert sha256_of(again.path / info.file) == info.sha256


def test_the_commands(store: Store, tiny_corpus: Path, tiny_noise: Path, rooms: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    words = ["features", f"--corpus=tiny={tiny_corpus}", f"--noise={tiny_noise}", "--noises=2", "--snrs=2"]
    words += [f"--impulse-responses={rooms}", "--codecs=gsm, opus@16", f"--out={out}", "--workers=1"]
    built = CliRunner().invoke(app, words)
    assert built.exit_code == 0, built.output
    assert "not read in" in built.output
    assert store.fingerprint in built.output
    check = ["store", str(out), "--verify", f"--corpus=tiny={tiny_corpus}", f"--noise={tiny_noise}"]
    verified = CliRunner().invoke(app, [*check, f"--impulse-responses={rooms}"])
    assert verified.exit_code == 0, verified.output
    assert "verified: 0 faults, 12 rows made again" in verified.output
    assert "reverberated, each through one of gsm, opus@16" in verified.output
    facts = json.loads(CliRunner().invoke(app, ["store", str(out), "--format=json"]).output)
    assert facts["reverberated"] is True
    assert facts["codecs"] == ["gsm", "opus@16"]


def test_what_makes_no_sense_is_refused(tiny_corpus: Path, tiny_noise: Path, rooms: Path, tmp_path: Path) -> None:
    corpus = read_corpus("tiny", tiny_corpus)
    out = tmp_path / "store"
    with pytest.raises(InputError, match="no noises are drawn"):
        build_store(out, corpus, noises=0, snrs=0, codecs=["gsm"])
    with pytest.raises(InputError, match="no noises are drawn"):
        build_store(out, corpus, noises=0, snrs=0, impulse_folder=rooms)
    with pytest.raises(InputError, match="codec mp4: there is no such codec"):
        build_store(out, corpus, tiny_noise, noises=1, snrs=1, codecs=["gsm", "mp4"])
    stereo = tmp_path / "stereo"
    stereo.mkdir()
    soundfile.write(stereo / "two.wav", np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 2)), RATE)
    with pytest.raises(InputError, match=r"two\.wav: has 2 channels, and their mean is no impulse response"):
        build_store(out, corpus, tiny_noise, noises=1, snrs=1, impulse_folder=stereo)
    assert not out.exists()


SPEECH = (0.1 * np.random.default_rng(5).standard_normal(3_000)).astype(np.float32)


@given(st.integers(1, 800), st.integers(0, 2**32))
def test_reverberation_is_a_convolution_at_the_level_of_the_speech(length: int, seed: int) -> None:
    response = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    direct = int(np.argmax(np.abs(response)))
    # The sum of equally many delayed copies of the speech, sample by sample.
    padded = np.concatenate([np.zeros(length), SPEECH.astype(np.float64), np.zeros(length)])
    wet = np.zeros(SPEECH.size)
    for delay, weight in enumerate(response.tolist()):
        start = length + direct - delay
        wet += weight * padded[start : start + SPEECH.size]
    expected = wet * np.sqrt(np.var(SPEECH.astype(np.float64)) / np.var(wet))
    reverberant = reverberate(SPEECH, response)
    np.testing.assert_allclose(reverberant, expected, atol=1e-5)
    assert np.var(reverberant.astype(np.float64)) == pytest.approx(np.var(SPEECH.astype(np.float64)), rel=1e-4)


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0.01, 2))
def test_a_room_without_walls_changes_nothing(before: int, after: int, level: float) -> None:
    response = np.zeros(before + 1 + after, np.float32)
    response[before] = level
    np.testing.assert_allclose(reverberate(SPEECH, response), SPEECH, atol=1e-5)


def test_passages_are_drawn_by_seed_and_utterance() -> None:
    def drawn(seed: int, utterance: str) -> list[tuple[str | None, str | None]]:
        passages = draw_passages(seed, utterance, ("a", "b", "c"), ("gsm", "vorbis"))
        return [next(passages) for _ in range(60)]

    assert drawn(0, "u") == drawn(0, "u")
    assert drawn(0, "u") != drawn(1, "u")
    assert drawn(0, "u") != drawn(0, "v")
    assert len(set(drawn(0, "u"))) == 6
    assert next(draw_passages(0, "u", (), ())) == (None, None)
