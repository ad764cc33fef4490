"""Noise libraries of the catalogue, from folders laid out as they unpack."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.report.evidence import noise_kind
from sersearch.speech.corpora import read_noises
from sersearch.speech.corpora.known_noises import known_noises
from sersearch.store.reader import open_store

RATE = 16_000


def library(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, 0.1 * np.random.default_rng(number).standard_normal(RATE // 2), RATE)
    return folder


MUSAN = (
    "musan/noise/free-sound/noise-free-sound-0000.wav",
    "musan/noise/sound-bible/noise-sound-bible-0001.wav",
    "musan/music/fma/music-fma-0002.wav",
    "musan/speech/librivox/speech-librivox-0003.wav",
)


def test_musan_is_its_noise_unless_more_is_asked_for(tmp_path: Path) -> None:
    folder = library(tmp_path, *MUSAN)
    noises = read_noises(folder, library="musan")
    assert [clip.name for clip in noises.clips] == list(MUSAN[:2])
    assert noises.ignored == {"audio that musan leaves out": 2}
    assert [clip.name for clip in read_noises(folder, library="musan-music").clips] == [MUSAN[2]]
    assert len(read_noises(folder, library="musan-all")) == 4
    assert len(read_noises(folder)) == 4
    # The folder may be that of the noise itself.
    assert len(read_noises(folder / "musan" / "noise", library="musan")) == 2
    assert noise_kind(MUSAN[0], "musan") == "free-sound"


def test_of_demand_one_channel_is_read(tmp_path: Path) -> None:
    folder = library(tmp_path, "DKITCHEN/ch01.wav", "DKITCHEN/ch02.wav", "PCAFETER/ch01.wav")
    noises = read_noises(folder, library="demand")
    assert [noise_kind(clip.name, "demand") for clip in noises.clips] == ["DKITCHEN", "PCAFETER"]


def test_esc_50_has_50_classes() -> None:
    kinds = [noise_kind(f"audio/1-100032-A-{number}.wav", "esc-50") for number in range(50)]
    assert len(set(kinds)) == 50
    assert (kinds[0], kinds[10], kinds[42]) == ("dog", "rain", "siren")
    assert known_noises()["esc-50"].kind("audio/1-100032-A-50.wav") is None


def test_each_example_is_a_noise() -> None:
    for name, noises in known_noises().items():
        if "-" not in name or name == "esc-50":
            assert noises.kind(noises.example), name


def test_what_is_no_such_library(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of its 1 audio files is a noise of MUSAN .*such as musan/noise/"):
        read_noises(library(tmp_path, "rain.wav"), library="musan")
    said = CliRunner().invoke(app, ["features", "--corpus", "a=b", "--noise", "musam=x", "--out", str(tmp_path / "s")])
    assert "unknown noise musam; did you mean musan?" in str(said.exception)


def test_a_store_knows_its_library(tiny_corpus: Path, tmp_path: Path) -> None:
    folder, out = library(tmp_path / "noises", *MUSAN), tmp_path / "store"
    words = ["--corpus", f"tiny={tiny_corpus}", "--noise", f"musan={folder}", "--noises", "2", "--snrs", "1"]
    done = CliRunner().invoke(app, ["features", *words, "--out", str(out), "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert "2 x audio that musan leaves out" in done.output
    store = open_store(out)
    assert store.recipe.noise_library == "musan"
    assert set(store.table("s0")["noise"].to_pylist()) == {None, *MUSAN[:2]}
    listed = CliRunner().invoke(app, ["corpus"]).output
    assert "Noise libraries" in listed
