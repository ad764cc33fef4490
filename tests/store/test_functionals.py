"""Functionals in the store: openSMILE's numbers, tables of one's own, and what becomes of awkward input."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import opensmile
import polars
import psutil
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.speech.audio import decode
from sersearch.speech.corpora import read_corpus, sha256_of
from sersearch.store import build_store, open_store
from sersearch.store.functionals import (
    SETS,
    extract_functionals,
    functionals_digests,
    functionals_of,
    import_table,
    open_functionals,
)

COUNTS = {"IS09": 384, "IS10": 1582, "IS11": 4368, "IS12": 6125, "IS13": 6373, "eGeMAPSv02": 88}


@pytest.fixture(scope="module")
def clean(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clean") / "store"
    return build_store(out, read_corpus("tiny", tiny_corpus), noises=0, snrs=0, workers=1).path


@pytest.fixture(scope="module")
def added(clean: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store with two sets; tests that damage it work on a copy."""
    out = Path(shutil.copytree(clean, tmp_path_factory.mktemp("added") / "store"))
    extract_functionals(open_store(out), read_corpus("tiny", tiny_corpus), ("IS09", "eGeMAPSv02"), workers=1)
    return out


@pytest.fixture
def empty(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "empty"))


@pytest.fixture
def copy(added: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(added, tmp_path / "copy"))


def says(*words: object) -> str:
    done = CliRunner().invoke(app, ["functionals", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*words: object) -> str:
    done = CliRunner().invoke(app, ["functionals", *map(str, words)])
    assert isinstance(done.exception, InputError), done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


def sets_of(store: Path) -> dict[str, str]:
    """Every byte below functionals/, hashed."""
    folder = store / "functionals"
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


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
    shortest_ms = {"IS09": 25, "IS13": 60, "eGeMAPSv02": 60}.get(name, 70)
    silence = np.zeros(16 * ms, dtype=np.float32)
    found = functionals_of(name, silence)
    assert found.shape == (COUNTS[name],)
    assert np.isnan(found).all() == (ms < shortest_ms)
    assert np.isnan(found).any() == (ms < shortest_ms)
    assert capfd.readouterr() == ("", "")


@given(st.lists(st.floats(width=32), min_size=1, max_size=900).map(lambda list: np.array(list, dtype=np.float32)))
@settings(max_examples=20)
def test_any_samples_give_a_vector(samples: np.ndarray) -> None:
    assert functionals_of("IS09", np.nan_to_num(samples)).shape == (384,)


# In the store


def test_what_is_read(added: Path, tiny_corpus: Path) -> None:
    store = open_store(added)
    read = open_functionals(store, "IS09")
    order = sorted(read_corpus("tiny", tiny_corpus).utterances, key=lambda u: (u.speaker, u.id))
    assert read.utterance == tuple(utterance.id for utterance in order)
    assert read.speaker.tolist() == [utterance.speaker for utterance in order]
    assert read.gender.tolist() == [utterance.gender for utterance in order]
    assert [store.emotions[emotion] for emotion in read.emotion] == [utterance.emotion for utterance in order]
    assert read.names[0] == "pcm_RMSenergy_sma_max"
    assert len(set(read.names)) == 384
    assert read.x_UD.dtype == np.float64
    assert len(np.unique(read.x_UD, axis=0)) == len(order)
    np.testing.assert_array_equal(read.x_UD[17], functionals_of("IS09", decode(order[17].path)))


def test_others_can_read_it(added: Path) -> None:
    table = polars.read_parquet(added / "functionals" / "IS09" / "s2.parquet")
    assert table.columns == ["utterance", "speaker", "gender", "emotion", "functionals"]
    read = open_functionals(open_store(added), "IS09")
    numbers = np.array(table["functionals"].to_list())
    np.testing.assert_array_equal(numbers, read.x_UD[read.speaker == "s2"])


@pytest.mark.slow("it imports the package in another process")
def test_reading_needs_no_opensmile(added: Path) -> None:
    program = (
        "import sys; sys.modules['opensmile'] = None\n"
        "from pathlib import Path; from sersearch.store import open_store\n"
        "from sersearch.store.functionals import open_functionals\n"
        "print(open_functionals(open_store(Path(sys.argv[1])), 'IS09').x_UD.shape)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(added)], capture_output=True, text=True)
    assert done.stdout == "(36, 384)\n", done.stderr


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
    if not any(file.endswith("functionals.json") for file in sets_of(empty)):
        assert all("unfinished" in fault for fault in open_store(empty).verify())
    (empty / "functionals" / "IS09" / ".s0.parquet.1.part").write_bytes(b"left behind")
    modified = {file: (empty / "functionals" / file).stat().st_mtime_ns for file in before}
    seen: list[tuple[int, int, str]] = []
    corpus = read_corpus("tiny", tiny_corpus)
    extract_functionals(
        open_store(empty), corpus, ("IS09", "eGeMAPSv02"), workers=1, progress=lambda *done: seen.append(done)
    )
    assert len(seen) == 12 - len(before)
    assert seen[-1][:2] == (72, 72)
    assert {file: (empty / "functionals" / file).stat().st_mtime_ns for file in before} == modified
    assert sets_of(empty) == sets_of(added)
    assert open_store(empty).verify() == []


KILLED = """
import sys, time
from pathlib import Path
from sersearch.speech.corpora import read_corpus
from sersearch.store.functionals import extract_functionals
from sersearch.store import open_store

def progress(done, total, speaker):
    if done == 12:
        print(done, flush=True)
        time.sleep(600)

if __name__ == "__main__":
    corpus = read_corpus("tiny", Path(sys.argv[2]))
    extract_functionals(open_store(Path(sys.argv[1])), corpus, ("IS09", "eGeMAPSv02"), 2, progress)
"""


def test_again_does_nothing(copy: Path, tiny_corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (copy / "functionals").rglob("*")}
    words = says("--corpus", f"tiny={tiny_corpus}", "--out", copy, "--sets", "eGeMAPSv02,IS09", "--workers", 1)
    assert {path: path.stat().st_mtime_ns for path in (copy / "functionals").rglob("*")} == before
    assert words == (
        f"{copy}: eGeMAPSv02: 88 functionals of 36 utterances\n{copy}: IS09: 384 functionals of 36 utterances\n"
    )


def test_digests(added: Path, copy: Path) -> None:
    digests = functionals_digests(open_store(added))
    assert digests == {name: open_functionals(open_store(added), name).digest for name in ("IS09", "eGeMAPSv02")}
    assert len(set(digests.values())) == 2
    assert all(len(bytes.fromhex(digest)) == 8 for digest in digests.values())
    shutil.rmtree(copy / "functionals")
    assert functionals_digests(open_store(copy)) == {}


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
        f"{store.path}: IS10: 1582 functionals of 3 utterances",
        f"{store.path}: IS10: 3164 numbers of 2 utterances are NaN (too short, or not to be computed)",
        f"{store.path}: IS13: 6373 functionals of 3 utterances",
        f"{store.path}: IS13: 6373 numbers of 1 utterances are NaN (too short, or not to be computed)",
    ]
    missing = {name: np.isnan(open_functionals(store, name).x_UD).all(1) for name in ("IS09", "IS10", "IS13")}
    assert open_functionals(store, "IS10").utterance == ("30 ms", "300 ms", "65 ms")
    assert {name: rows.tolist() for name, rows in missing.items()} == {
        "IS09": [False, False, False],
        "IS10": [True, False, True],
        "IS13": [True, False, False],
    }
    assert open_functionals(store, "IS09").gender.tolist() == ["", "", ""]
    assert store.verify() == []


# Damage


def test_damage_is_named_and_mended(copy: Path, added: Path, tiny_corpus: Path) -> None:
    store, again = open_store(copy), ("--corpus", f"tiny={tiny_corpus}", "--out", copy, "--workers", 1)
    damaged = copy / "functionals" / "IS09" / "s1.parquet"
    flip_a_byte(damaged)
    (copy / "functionals" / "eGeMAPSv02" / "s5.parquet").unlink()
    (copy / "functionals" / "IS09" / "notes.txt").touch()
    faults = [line.split(" (")[0] for line in store.verify()]
    assert faults == [
        "functionals/IS09/notes.txt: foreign",
        "functionals/IS09/s1.parquet: damaged",
        "functionals/eGeMAPSv02/s5.parquet: missing",
    ]
    with pytest.raises(InputError, match=r"s1.parquet: missing or damaged; delete it and run the same"):
        open_functionals(store, "IS09")
    with pytest.raises(InputError, match=r"s5.parquet: missing or damaged; delete it and run the same"):
        open_functionals(store, "eGeMAPSv02")
    assert "s1.parquet: is damaged" in refused(*again, "--sets", "IS09")
    damaged.unlink()
    (copy / "functionals" / "IS09" / "notes.txt").unlink()
    says(*again, "--sets", "IS09,eGeMAPSv02")
    assert sets_of(copy) == sets_of(added)
    assert store.verify() == []


@pytest.mark.parametrize("text", ["", "{}", "[]", '"name"', None])
def test_damaged_manifest(copy: Path, added: Path, tiny_corpus: Path, text: str | None) -> None:
    manifest = copy / "functionals" / "eGeMAPSv02" / "functionals.json"
    edited = manifest.read_text().replace("loudness", "loudnezz", 1)
    manifest.write_text(edited if text is None else text)
    store = open_store(copy)
    assert {line.split(": ")[1][:21] for line in store.verify()} == {"unfinished or damaged"}
    with pytest.raises(InputError, match="eGeMAPSv02: is unfinished or damaged; run the same"):
        open_functionals(store, "eGeMAPSv02")
    with pytest.raises(InputError, match="eGeMAPSv02: is unfinished or damaged; run the same"):
        functionals_digests(store)
    extract_functionals(store, read_corpus("tiny", tiny_corpus), ("eGeMAPSv02",), workers=1)
    assert sets_of(copy) == sets_of(added)


# What a person can get wrong


def test_another_corpus(empty: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_corpus, tmp_path / "other"))
    file = next(other.rglob("*.flac"))
    samples, rate = soundfile.read(file)
    soundfile.write(file, 0.5 * samples, rate)
    message = refused("--corpus", f"tiny={other}", "--out", empty)
    assert "was not built from this corpus (tiny: other files or labels); give the corpus of the store" in message
    assert not (empty / "functionals").exists()


def test_another_opensmile(copy: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sersearch.store.functionals.version", lambda package: "9.0")
    message = refused("--corpus", f"tiny={tiny_corpus}", "--out", copy, "--sets", "IS09")
    assert "holds IS09 of another source (version of openSMILE, corpus or table); delete that folder" in message


def test_set_of_another_store(copy: Path, tmp_path: Path, tiny_corpus: Path) -> None:
    corpus = read_corpus("tiny", tiny_corpus, ("anger", "sadness"))
    two = build_store(tmp_path / "two", corpus, noises=0, snrs=0, workers=1)
    shutil.copytree(copy / "functionals", two.path / "functionals")
    with pytest.raises(InputError, match="IS09: belongs to a store of other utterances; delete it"):
        open_functionals(two, "IS09")


def test_words_that_make_no_sense(empty: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    corpus = ("--corpus", f"tiny={tiny_corpus}")
    assert "functionals of what? Give --corpus NAME=DIR" in refused("--out", empty)
    assert "--corpus tiny: write NAME=PATH" in refused("--out", empty, "--corpus", "tiny")
    assert "IS14: is no set of functionals; choose from IS09," in refused(
        "--out", empty, *corpus, "--sets", "IS14,IS09"
    )
    assert "no set: is no set of functionals; choose" in refused("--out", empty, *corpus, "--sets", ",")
    assert "--sets IS09: are extracted from a corpus; give" in refused("--out", empty, "--sets", "IS09")
    assert "is no store (no store.json there)" in refused("--out", tmp_path, *corpus)
    with pytest.raises(InputError, match=r"has no functionals 'IS09' \(there: none\); `sersearch functionals` adds"):
        open_functionals(open_store(empty), "IS09")
    assert not (empty / "functionals").exists()


def test_without_opensmile(empty: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sersearch.store import functionals

    functionals._smile.cache_clear()
    monkeypatch.setitem(sys.modules, "opensmile", None)
    message = refused("--corpus", f"tiny={tiny_corpus}", "--out", empty, "--sets", "IS13")
    assert "IS13 needs openSMILE, which is not installed: pip install 'sersearch[functionals]'; its licence" in message


# Tables of one's own


def utterances_of(store: Path) -> list[str]:
    return [
        id
        for info in open_store(store).speakers
        for id in open_store(store).table(info.speaker)["utterance"].to_pylist()
    ]


def write_csv(file: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([header, *rows])
    return file


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_table(empty: Path, tmp_path: Path, suffix: str) -> None:
    generator = np.random.default_rng(0)
    ids = generator.permutation(sorted(utterances_of(empty))).tolist()
    numbers = generator.standard_normal((36, 300)).astype(np.float32)
    table = polars.DataFrame(numbers, [f"d{d}" for d in range(300)]).insert_column(7, polars.Series("utterance", ids))
    file = tmp_path / f"embeddings.{suffix}"
    table.write_csv(file) if suffix == "csv" else table.write_parquet(file)
    words = says("--table", f"wav2vec={file}", "--out", empty)
    assert words == f"{empty}: wav2vec: 300 functionals of 36 utterances\n"
    read = open_functionals(open_store(empty), "wav2vec")
    assert read.names == tuple(f"d{d}" for d in range(300))
    np.testing.assert_array_equal(read.x_UD, numbers[[ids.index(id) for id in read.utterance]])
    assert read.utterance == tuple(sorted(ids))
    assert [id.split("-")[1] for id in read.utterance] == [open_store(empty).emotions[e] for e in read.emotion]
    assert says("--table", f"wav2vec={file}", "--out", empty) == words
    assert open_store(empty).verify() == []


def test_any_number_of_a_table_enters_its_digest(empty: Path, tmp_path: Path) -> None:
    ids, digests = utterances_of(empty), []
    for name, last in (("a", 1.0), ("b", 1.0000001)):
        rows = [[id, float(row)] for row, id in enumerate(ids[:-1])] + [[ids[-1], last]]
        says("--table", f"{name}={write_csv(tmp_path / 'x.csv', ['utterance', 'x'], rows)}", "--out", empty)
        facts = json.loads((empty / "functionals" / name / "functionals.json").read_text())
        digests.append(list(facts["files"].values()))
    assert len({sha256 for files in digests for sha256 in files}) == 12
    one, other = functionals_digests(open_store(empty)).values()
    assert one != other
    assert "holds a of another source" in refused("--table", f"a={tmp_path / 'x.csv'}", "--out", empty)


def test_what_a_table_may_leave_out(tmp_path: Path) -> None:
    """Ids that look like numbers stay text; what is no finite float32 becomes NaN."""
    hiss = 0.1 * np.random.default_rng(0).standard_normal(8000)
    for row in range(5):
        soundfile.write(tmp_path / f"{row}.wav", hiss[row:], 16_000)
    write_csv(
        tmp_path / "manifest.csv",
        ["path", "speaker", "emotion", "utterance"],
        [[f"{row}.wav", "s", "joy", f"00{row}"] for row in range(5)],
    )
    store = build_store(tmp_path / "store", read_corpus("five", tmp_path), noises=0, snrs=0, workers=1)
    given = ["", "inf", "1e300", "nan", "7"]
    file = write_csv(tmp_path / "x.CSV", ["x", "utterance"], [[x, f"00{row}"] for row, x in enumerate(given)])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # as spreadsheets write it
    assert "4 numbers of 4 utterances are NaN" in says("--table", f"x={file}", "--out", store.path)
    np.testing.assert_array_equal(open_functionals(store, "x").x_UD, [[np.nan]] * 4 + [[7.0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], r"utterance 's5-sadness-1' is missing; a row for each utterance of the store"),
        (lambda rows: rows[:20], r"utterance 's3-\w+-\d' is missing \(and 15 more\); a row for each"),
        (lambda rows: [*rows, ["s9", 1, 2]], r"utterance 's9' is no utterance of the store; a row for each"),
        (lambda rows: [*rows, rows[0]], r"utterance 's0-anger-0' is there 2 times; a row for each"),
        (lambda rows: [*rows[:-1], [rows[-1][0], 1, "loud"]], r"column #2.*'loud'; a column `utterance`, all others"),
        (lambda rows: [[*row, 1] for row in rows], r"Expected 3 columns, got 4.*; a column `utterance`, all others"),
        (lambda rows: [], r"utterance 's0-anger-0' is missing \(and 35 more\)"),
    ],
)
def test_rows_that_do_not_fit(empty: Path, tmp_path: Path, change: object, message: str) -> None:
    rows = [[id, 0.5, 1] for id in utterances_of(empty)]
    file = write_csv(tmp_path / "x.csv", ["utterance", "x", "y"], change(rows))  # type: ignore[operator]
    with pytest.raises(InputError, match=message) as refusal:
        import_table(open_store(empty), "mine", file)
    assert "\n" not in str(refusal.value)
    assert not (empty / "functionals").exists()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["id", "x"], r"has no column `utterance`; name the one"),
        (["utterance;x"], r"has no column `utterance`; name the one"),
        ([], r"has no column `utterance`"),
        (["utterance"], r"has no column of numbers beside `utterance`"),
        (["utterance", "x", "x"], r"has 2 columns 'x'; each must have"),
        (["", "utterance", "x"], r"column 1 has no name \(pandas' index\?\); write the table without it"),
    ],
)
def test_columns_that_do_not_fit(empty: Path, tmp_path: Path, header: list[str], message: str) -> None:
    rows = [[id if name == "utterance" else 1 for name in header] for id in utterances_of(empty)]
    with pytest.raises(InputError, match=message):
        import_table(open_store(empty), "mine", write_csv(tmp_path / "x.csv", header, rows))


def test_files_that_are_no_table(empty: Path, tmp_path: Path) -> None:
    store = open_store(empty)
    ids = utterances_of(empty)
    polars.DataFrame({"utterance": ids, "text": ids}).write_parquet(tmp_path / "text.parquet")
    polars.DataFrame({"utterance": [None, *ids[1:]], "x": range(36)}).write_parquet(tmp_path / "null.parquet")
    polars.DataFrame({"utterance": range(36), "x": range(36)}).write_parquet(tmp_path / "numbers.parquet")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "binary.csv").write_bytes(b"utterance,x\n\xff\xfe\x00")
    for file, message in {
        "text.parquet": r"column 'text' is (large_)?string; all columns but `utterance` must be numbers",
        "numbers.parquet": r"its utterances are int64; write them as text",
        "null.parquet": r"utterance '' is no utterance of the store; a row for each",
        "nothing.csv": r"No such file or directory; give a CSV or Parquet file",
        "nothing.parquet": r"No such file or directory; give a CSV or Parquet file",
        "empty.csv": r"has no column `utterance`",
        "torn.parquet": r"torn.parquet: .*; a column `utterance`, all others numbers",
        "binary.csv": r"binary.csv: .*; a column `utterance`, all others numbers",
        "table.xlsx": r"is neither .csv nor .parquet; write the table as one of them",
    }.items():
        with pytest.raises(InputError, match=message) as refusal:
            import_table(store, "mine", tmp_path / file)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["IS09", "a/b", "..", ".x", "my set", "ünder"])
def test_names_that_do_not_fit(empty: Path, tmp_path: Path, name: str) -> None:
    assert "choose a name of letters, digits" in refused("--table", f"{name}={tmp_path / 'x.csv'}", "--out", empty)


def test_two_writers_at_once(added: Path, copy: Path, tiny_corpus: Path) -> None:
    from sersearch.store.build import locked

    with locked(copy):
        assert "another build is at work there" in refused("--corpus", f"tiny={tiny_corpus}", "--out", copy)
