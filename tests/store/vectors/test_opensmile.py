"""openSMILE's functionals: their numbers, and their extraction into a store."""

import contextlib
import csv
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import opensmile
import psutil
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.errors import InputError
from sersearch.speech.audio import decode
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.reader import open_store
from sersearch.store.vectors.opensmile import SETS, WINDOW_MS, extract_functionals, functionals_of
from sersearch.store.vectors.reader import open_vector_set
from sersearch.store.verify import verify_store
from tests.store.vectors.helpers import refused, says, sets_of

COUNTS = {"IS09": 384, "IS10": 1582, "IS11": 4368, "IS12": 6125, "IS13": 6373, "eGeMAPSv02": 88}


# openSMILE's numbers


@pytest.mark.parametrize("name", SETS)
def test_numbers_are_those_that_opensmile_gives_of_the_file(name: str, ravdess: Path) -> None:
    file = sorted(ravdess.rglob("*.flac"))[7]
    theirs = opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel.Functionals).process_file(file)
    ours = functionals_of(name, decode(file))
    assert ours.dtype == np.float32
    assert ours.shape == (COUNTS[name],)
    np.testing.assert_array_equal(ours, theirs.to_numpy()[0])


def test_energy_is_that_of_the_samples(ravdess: Path) -> None:
    names = opensmile.Smile(opensmile.FeatureSet.IS13, opensmile.FeatureLevel.Functionals).feature_names
    for file in sorted(ravdess.rglob("*.flac"))[:3]:
        waveform = decode(file)
        frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), 320)[::160]
        smooth = np.convolve(np.sqrt(np.square(frames).mean(1)), np.ones(3) / 3, "valid")
        energy = dict(zip(names, functionals_of("IS13", waveform), strict=True))
        # openSMILE's full scale is 32767.
        assert energy["pcm_RMSenergy_sma_range"] == pytest.approx(np.ptp(smooth) * 32768 / 32767, rel=1e-5)


def test_is12_is_the_papers_set_with_jitter_shimmer_and_harmonicity() -> None:
    names = opensmile.Smile(opensmile.FeatureSet.IS12, opensmile.FeatureLevel.Functionals).feature_names
    voice = ("jitterLocal", "jitterDDP", "shimmerLocal", "logHNR")
    assert len([name for name in names if not name.startswith(voice)]) == 5757


def test_samples_beyond_full_scale_are_clipped() -> None:
    """Not wrapped around, as openSMILE's own conversion to 16 bits would."""
    sine = np.sin(2 * np.pi * 200 * np.arange(8000) / 16_000).astype(np.float32)
    at_most = np.float32(32767 / 32768)
    np.testing.assert_array_equal(
        functionals_of("IS09", 1.3 * sine), functionals_of("IS09", np.clip(1.3 * sine, -1, at_most))
    )
    quiet, loud = functionals_of("IS09", 0.9 * sine), functionals_of("IS09", 1.001 * sine)
    assert loud[0] == pytest.approx(quiet[0] * 1.001 / 0.9, rel=1e-3)  # pcm_RMSenergy_sma_max


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("ms", [10, 60, 1000])
def test_silence_and_what_is_too_short(name: str, ms: int, capfd: pytest.CaptureFixture[str]) -> None:
    shortest_ms = WINDOW_MS[name]
    silence = np.zeros(16 * ms, dtype=np.float32)
    found = functionals_of(name, silence)
    assert found.shape == (COUNTS[name],)
    assert np.isnan(found).all() == (ms < shortest_ms)
    assert np.isnan(found).any() == (ms < shortest_ms)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", SETS)
def test_the_shortest_waveform_with_functionals(name: str) -> None:
    silence = np.zeros(16 * WINDOW_MS[name], dtype=np.float32)
    assert np.isfinite(functionals_of(name, silence)).all()
    assert np.isnan(functionals_of(name, silence[1:])).all()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nothing_from_a_waveform_that_is_long_enough_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in openSMILE's callback, such as KeyboardInterrupt, is lost, and with it the vector."""

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(opensmile.Smile, "_sink_callback", staticmethod(lambda *lists: interrupted))
    with pytest.raises(RuntimeError, match="IS09: openSMILE returned no functionals of 16000 samples"):
        functionals_of("IS09", np.zeros(16_000, dtype=np.float32))


@given(st.lists(st.floats(width=32), min_size=1, max_size=900).map(lambda list: np.array(list, dtype=np.float32)))
@settings(max_examples=20)
def test_any_samples_give_a_vector(samples: np.ndarray) -> None:
    assert functionals_of("IS09", np.nan_to_num(samples)).shape == (384,)


# In the store


@pytest.mark.slow("openSMILE runs in other processes, which are killed")
def test_workers_and_interruptions_do_not_change_a_bit(added: Path, empty: Path, tiny_corpus: Path) -> None:
    """Killed with two workers after two speakers of the first set, then gone on with."""
    command = [sys.executable, "-c", KILLED, str(empty), str(tiny_corpus)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    before = {file: sha256 for file, sha256 in sets_of(empty).items() if file.endswith(".parquet")}
    assert before
    if not any(file.endswith("vectors.json") for file in sets_of(empty)):
        assert all("unfinished" in fault for fault in verify_store(open_store(empty)))
    (empty / "vectors" / "IS09" / ".s0.parquet.1.part").write_bytes(b"left behind")
    modified = {file: (empty / "vectors" / file).stat().st_mtime_ns for file in before}
    seen: list[tuple[int, int, str]] = []
    corpus = read_corpus("tiny", tiny_corpus)
    extract_functionals(
        open_store(empty), corpus, ("IS09", "eGeMAPSv02"), workers=1, progress=lambda *done: seen.append(done)
    )
    assert len(seen) == 12 - len(before)
    assert seen[-1][:2] == (72, 72)
    assert {file: (empty / "vectors" / file).stat().st_mtime_ns for file in before} == modified
    assert sets_of(empty) == sets_of(added)
    assert verify_store(open_store(empty)) == []


@pytest.mark.slow("the command is interrupted again and again until it is done")
def test_ctrl_c_does_not_change_a_bit(added: Path, empty: Path, tiny_corpus: Path) -> None:
    """openSMILE calls back into Python, where KeyboardInterrupt would be lost, and with it a vector."""
    words = ["functionals", "--corpus", f"tiny={tiny_corpus}", "--out", empty, "--sets", "IS09,eGeMAPSv02"]
    command = [sys.executable, "-m", "sersearch", *map(str, words), "--workers", "1"]
    codes: list[int] = []
    while 0 not in codes:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1.3 + 0.5 * len(codes))
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert "Traceback" not in said
        codes.append(process.returncode)
    # Python itself ends by the signal (-2) while it shuts down.
    assert set(codes) <= {0, 130, -2}
    assert 130 in codes
    assert sets_of(empty) == sets_of(added)


KILLED = """
import sys, time
from pathlib import Path
from sersearch.speech.corpora import read_corpus
from sersearch.store.vectors.opensmile import extract_functionals
from sersearch.store.reader import open_store

def progress(done, total, speaker):
    if done == 12:
        print(done, flush=True)
        time.sleep(600)

if __name__ == "__main__":
    corpus = read_corpus("tiny", Path(sys.argv[2]))
    extract_functionals(open_store(Path(sys.argv[1])), corpus, ("IS09", "eGeMAPSv02"), 2, progress)
"""


def test_again_does_nothing(copy: Path, tiny_corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (copy / "vectors").rglob("*")}
    words = says("--corpus", f"tiny={tiny_corpus}", "--out", copy, "--sets", "eGeMAPSv02,IS09", "--workers", 1)
    assert {path: path.stat().st_mtime_ns for path in (copy / "vectors").rglob("*")} == before
    assert words == (f"{copy}: eGeMAPSv02: 36 vectors of 88 numbers\n{copy}: IS09: 36 vectors of 384 numbers\n")


def test_recordings_too_short_for_opensmile_are_kept_as_nan(tmp_path: Path) -> None:
    hiss = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "emotion", "utterance"])
        for ms in (30, 65, 300):
            soundfile.write(tmp_path / f"{ms}.wav", hiss[: 16 * ms], 16_000)
            writer.writerow([f"{ms}.wav", "Zoë/1", "joy", f"{ms} ms"])
    corpus = f"short={tmp_path}"
    store = build_store(tmp_path / "store", read_corpus("short", tmp_path), noises=0, snrs=0, workers=1)
    words = says("--corpus", corpus, "--out", store.path, "--sets", "IS09,IS10,IS13", "--workers", 1)
    assert words.splitlines()[1:] == [
        f"{store.path}: IS10: 3 vectors of 1582 numbers",
        f"{store.path}: IS10: all numbers of 2 utterances are NaN: shorter than openSMILE's window of 70 ms",
        f"{store.path}: IS13: 3 vectors of 6373 numbers",
        f"{store.path}: IS13: all numbers of 1 utterance are NaN: shorter than openSMILE's window of 60 ms",
    ]
    missing = {name: np.isnan(open_vector_set(store, name).x_UD).all(1) for name in ("IS09", "IS10", "IS13")}
    assert open_vector_set(store, "IS10").utterance == ("30 ms", "300 ms", "65 ms")
    assert {name: rows.tolist() for name, rows in missing.items()} == {
        "IS09": [False, False, False],
        "IS10": [True, False, True],
        "IS13": [True, False, False],
    }
    assert open_vector_set(store, "IS09").gender.tolist() == ["", "", ""]
    assert verify_store(store) == []


# What a person can get wrong


def test_another_corpus(empty: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_corpus, tmp_path / "other"))
    file = next(other.rglob("*.flac"))
    samples, rate = soundfile.read(file)
    soundfile.write(file, 0.5 * samples, rate)
    message = refused("--corpus", f"tiny={other}", "--out", empty)
    assert "was not built from this corpus (tiny: other files or labels); give the store's own corpus" in message
    assert not (empty / "vectors").exists()


def test_another_opensmile(copy: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sersearch.store.vectors.opensmile.version", lambda package: "9.0")
    message = refused("--corpus", f"tiny={tiny_corpus}", "--out", copy, "--sets", "IS09")
    assert "holds IS09 from another source (version of openSMILE, corpus or table); delete that folder" in message


def test_words_that_make_no_sense(empty: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    corpus = ("--corpus", f"tiny={tiny_corpus}")
    assert "The source of the vectors is missing: give --corpus NAME=DIR" in refused("--out", empty)
    assert "--corpus tiny: write NAME=DIR" in refused("--out", empty, "--corpus", "tiny")
    assert "IS14: no such set of functionals; choose from IS09," in refused(
        "--out", empty, *corpus, "--sets", "IS14,IS09"
    )
    assert "no set of functionals was given; choose" in refused("--out", empty, *corpus, "--sets", ",")
    assert "--sets IS09 was given without a corpus; openSMILE needs the sound: give" in refused(
        "--out", empty, "--sets", "IS09"
    )
    assert "is not a store (it has no store.json)" in refused("--out", tmp_path, *corpus)
    with pytest.raises(InputError, match=r"has no vector set 'IS09' \(available: none\); add it with `sersearch"):
        open_vector_set(open_store(empty), "IS09")
    assert not (empty / "vectors").exists()


def test_without_opensmile(empty: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sersearch.store.vectors import opensmile as extraction

    extraction._smile.cache_clear()
    monkeypatch.setitem(sys.modules, "opensmile", None)
    message = refused("--corpus", f"tiny={tiny_corpus}", "--out", empty, "--sets", "IS13")
    assert "IS13 needs openSMILE, which is not installed: run pip install 'sersearch[functionals]' (its" in message
