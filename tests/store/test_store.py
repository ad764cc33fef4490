import csv
import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import psutil
import pytest
import soundfile
from filelock import FileLock

from sersearch.digests import digest, sha256_of
from sersearch.errors import InputError
from sersearch.speech.corpora import Corpus, read_corpus
from sersearch.store.build import build_store
from sersearch.store.manifest import Manifest
from sersearch.store.reader import Store, open_store
from sersearch.store.rows import regenerate
from sersearch.store.verify import verify_store
from tests.disks import small_disk_at

COLUMNS = [
    *("utterance", "corpus", "speaker", "gender", "emotion", "condition", "noise", "snr_db"),
    *("noise_offset_s", "duration_s", "frames", "log_mel"),
]


@pytest.fixture
def store(tiny_store: Store, tmp_path: Path) -> Path:
    """A copy that may be damaged, without Arrow files."""
    return Path(shutil.copytree(tiny_store.path, tmp_path / "copy", ignore=shutil.ignore_patterns("arrow")))


def build(
    out: Path, corpus: Corpus | Path, noise: Path | None, noises: int = 2, snrs: int = 1, **options: Any
) -> Store:
    read = read_corpus("tiny", corpus) if isinstance(corpus, Path) else corpus
    return build_store(out, read, noise, noises=noises, snrs=snrs, **{"workers": 1} | options)


def parquet(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in folder.glob("*.parquet")}


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# What a store holds


def test_rows(tiny_store: Store, tiny_corpus: Path) -> None:
    assert [info.speaker for info in tiny_store.speakers] == ["s0", "s1", "s2", "s3", "s4", "s5"]
    assert {info.rows for info in tiny_store.speakers} == {6 * 3}
    assert tiny_store.emotions == ("anger", "happiness", "sadness")
    for info in tiny_store.speakers:
        rows = tiny_store.table(info.speaker).drop_columns("log_mel").to_pylist()
        assert sum(row["frames"] for row in rows) == info.frames
        assert [row["condition"] for row in rows] == ["clean", "noisy", "noisy"] * 6
        for row in rows:
            assert (row["speaker"], row["gender"], row["corpus"]) == (info.speaker, info.gender, "tiny")
            assert [row[name] is None for name in ("noise", "snr_db", "noise_offset_s")] == (
                [row["condition"] == "clean"] * 3
            )
        durations = {u.id: soundfile.info(u.path).duration for u in read_corpus("tiny", tiny_corpus).utterances}
        assert all(row["duration_s"] == durations[row["utterance"]] for row in rows)


def test_frames_are_mapped_not_copied(tiny_store: Store) -> None:
    frames = tiny_store.frames("s2")
    column = tiny_store.table("s2").column("log_mel")
    assert frames.shape == (tiny_store.speakers[2].frames, 40)
    assert frames.dtype == np.float32
    assert not frames.flags.owndata
    assert not frames.flags.writeable
    assert column.num_chunks == 1
    np.testing.assert_array_equal(frames.ravel(), np.concatenate(column.to_pylist()).astype(np.float32))
    mapped = [m.path for m in psutil.Process().memory_maps() if str(tiny_store.path / "arrow" / "s2-") in m.path]
    assert mapped


def test_reading_needs_no_torch(tiny_store: Store) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from sersearch.store.reader import open_store; from sersearch.store.verify import verify_store\n"
        "store = open_store(Path(sys.argv[1]))\n"
        "print(store.frames('s0').shape[1], store.moments('s0').covariance().shape, verify_store(store))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tiny_store.path)], capture_output=True, text=True)
    assert done.stdout == "40 (40, 40) []\nFalse\n", done.stderr


def test_parquet_can_be_read_by_others(tiny_store: Store) -> None:
    table = polars.read_parquet(tiny_store.path / "s1.parquet")
    assert table.columns == COLUMNS
    flat = table["log_mel"].explode().to_numpy()
    np.testing.assert_array_equal(flat.reshape(-1, 40), tiny_store.frames("s1"))


def test_rows_can_be_made_again(tiny_store: Store, tiny_corpus: Path, tiny_noise: Path) -> None:
    paths = {u.id: u.path for u in read_corpus("tiny", tiny_corpus).utterances}
    rows = [row for info in tiny_store.speakers for row in tiny_store.table(info.speaker).to_pylist()]
    for row in random.Random(0).sample(rows, 30):
        again = regenerate(row, tiny_store.recipe, paths[row["utterance"]], tiny_noise)
        np.testing.assert_array_equal(again.ravel(), np.array(row["log_mel"], dtype=np.float32))
    noisy = next(row for row in rows if row["noise"])
    with pytest.raises(InputError, match="needs the noise library"):
        regenerate(noisy, tiny_store.recipe, paths[noisy["utterance"]])


def test_real_speech_and_noise(tmp_path: Path, ravdess: Path, esc10: Path) -> None:
    corpus = read_corpus("ravdess", ravdess, ("anger", "sadness"))
    some = replace(corpus, utterances=tuple(u for u in corpus.utterances if u.speaker in ("03", "20")))
    store = build_store(tmp_path / "store", some, esc10, noises=3, snrs=2, seed=5, workers=1)
    paths = {u.id: u.path for u in some.utterances}
    rows = [row for speaker in ("03", "20") for row in store.table(speaker).to_pylist()]
    assert len(rows) == 32 * 7
    for row in random.Random(1).sample(rows, 12):
        again = regenerate(row, store.recipe, paths[row["utterance"]], esc10)
        np.testing.assert_array_equal(again.ravel(), np.array(row["log_mel"], dtype=np.float32))
    assert verify_store(store) == []


def test_half_precision(tmp_path: Path, tiny_store: Store, tiny_corpus: Path, tiny_noise: Path) -> None:
    half = build(tmp_path / "half", tiny_corpus, tiny_noise, dtype="float16")
    assert half.frames("s0").dtype == np.float16
    np.testing.assert_array_equal(half.frames("s0"), tiny_store.frames("s0").astype(np.float16))
    row = half.table("s0").to_pylist()[4]
    path = next(u.path for u in read_corpus("tiny", tiny_corpus).utterances if u.id == row["utterance"])
    np.testing.assert_array_equal(regenerate(row, half.recipe, path, tiny_noise).ravel(), row["log_mel"])


def test_clean_only(tmp_path: Path, tiny_corpus: Path) -> None:
    store = build(tmp_path / "clean", tiny_corpus, None, noises=0, snrs=0)
    assert {info.rows for info in store.speakers} == {6}
    assert store.recipe.noise_content is None


# The same bits, whoever builds


@pytest.mark.slow("two processes import the package")
def test_workers_and_order_do_not_change_a_bit(
    tmp_path: Path, tiny_store: Store, tiny_corpus: Path, tiny_noise: Path
) -> None:
    corpus = read_corpus("tiny", tiny_corpus)
    shuffled = Corpus("tiny", tuple(random.Random(3).sample(corpus.utterances, len(corpus.utterances))))
    seen: list[tuple[int, int, str]] = []
    two = build(tmp_path / "two", shuffled, tiny_noise, workers=2, progress=lambda *done: seen.append(done))
    assert parquet(two.path) == parquet(tiny_store.path)
    assert two.fingerprint == tiny_store.fingerprint
    assert [done for done, _, _ in seen] == [18, 36, 54, 72, 90, 108]
    assert {total for _, total, _ in seen} == {108}
    assert {speaker for _, _, speaker in seen} == {info.speaker for info in two.speakers}


def test_places_do_not_change_a_bit(tmp_path: Path, tiny_store: Store, tiny_corpus: Path, tiny_noise: Path) -> None:
    corpus = Path(shutil.copytree(tiny_corpus, tmp_path / "elsewhere"))
    noise = Path(shutil.copytree(tiny_noise, tmp_path / "noise elsewhere"))
    moved = build(tmp_path / "moved", corpus, noise)
    assert parquet(moved.path) == parquet(tiny_store.path)
    assert moved.fingerprint == tiny_store.fingerprint
    assert str(tmp_path) not in (moved.path / "store.json").read_text()


def test_the_sound_enters_the_fingerprint(
    tmp_path: Path, tiny_store: Store, tiny_corpus: Path, tiny_noise: Path
) -> None:
    noise = Path(shutil.copytree(tiny_noise, tmp_path / "noise"))
    samples, rate = soundfile.read(noise / "hiss.flac")
    soundfile.write(noise / "hiss.flac", samples * 0.5, rate)
    other = build(tmp_path / "other", tiny_corpus, noise)
    assert other.fingerprint != tiny_store.fingerprint
    assert other.recipe.content == tiny_store.recipe.content


# Interruptions

BUILD = """
import sys, time
from pathlib import Path
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store

def progress(done, total, speaker):
    print(done, flush=True)
    if done >= int(sys.argv[5]):
        time.sleep(600)

if __name__ == "__main__":
    out, corpus, noise, workers = sys.argv[1:5]
    build_store(Path(out), read_corpus("tiny", Path(corpus)), Path(noise), noises=2, snrs=1, workers=int(workers),
                progress=progress)
"""


def start_build(out: Path, corpus: Path, noise: Path, workers: int, stop_at: int) -> subprocess.Popen[str]:
    """Start a build in another process and come back when it has `stop_at` rows and waits."""
    script = out.with_suffix(".py")
    script.write_text(BUILD)
    command = [sys.executable, str(script), str(out), str(corpus), str(noise), str(workers), str(stop_at)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= stop_at:
            return process
    process.communicate()
    raise AssertionError(f"the build ended early: {process.returncode}")


@pytest.mark.slow("a build starts in other processes and is killed")
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_build_goes_on(
    tmp_path: Path, tiny_store: Store, tiny_corpus: Path, tiny_noise: Path, workers: int
) -> None:
    out = tmp_path / "store"
    process = start_build(out, tiny_corpus, tiny_noise, workers, stop_at=36)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    with pytest.raises(InputError, match=r"is incomplete, 4 of 6 speakers are missing; run the same"):
        open_store(out)
    (out / ".s4.parquet.0.part").write_bytes(b"left behind")
    done = {info["file"]: (out / info["file"]).stat().st_mtime_ns for info in speakers_of(out)}
    assert len(done) == 2
    seen: list[str] = []
    store = build(out, tiny_corpus, tiny_noise, progress=lambda done, total, speaker: seen.append(speaker))
    assert len(seen) == 4
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done
    assert parquet(out) == parquet(tiny_store.path)
    assert verify_store(store) == []


def speakers_of(folder: Path) -> list[dict[str, str]]:
    speakers: list[dict[str, str]] = json.loads((folder / "store.json").read_text())["speakers"]
    return speakers


@pytest.mark.slow("a build starts in another process and is killed")
def test_two_builds_at_once(tmp_path: Path, tiny_corpus: Path, tiny_noise: Path) -> None:
    out = tmp_path / "store"
    process = start_build(out, tiny_corpus, tiny_noise, workers=1, stop_at=18)
    try:
        with pytest.raises(InputError, match="another build is running there"):
            build(out, tiny_corpus, tiny_noise)
    finally:
        process.kill()
        process.communicate()
    assert len(build(out, tiny_corpus, tiny_noise).speakers) == 6


def test_building_again_does_nothing(store: Path, tiny_corpus: Path, tiny_noise: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in store.iterdir() if path.name != ".lock"}
    build(store, tiny_corpus, tiny_noise)
    assert {path.name: path.stat().st_mtime_ns for path in store.iterdir() if path.name != ".lock"} == before


# What a person can get wrong


def test_another_recipe(store: Path, tiny_corpus: Path, tiny_noise: Path) -> None:
    with pytest.raises(InputError, match=r"another recipe: snrs \(1 there, 2 now\), seed \(0 there, 9 now\); choose"):
        build(store, tiny_corpus, tiny_noise, snrs=2, seed=9)


def test_folder_with_other_things(tmp_path: Path, tiny_corpus: Path, tiny_noise: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"holds other things \(thesis.tex\)"):
        build(tmp_path, tiny_corpus, tiny_noise)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="is not a folder"):
        build(tmp_path / "thesis.tex", tiny_corpus, tiny_noise)


WRONG_NUMBERS = {
    "negative": ({"noises": -1}, "-1 noises x 1 SNRs"),
    "noises without SNRs": ({"noises": 2, "snrs": 0}, "2 noises x 0 SNRs"),
    "range upside down": ({"snr_range": (5.0, -5.0)}, "SNRs from 5 to -5 dB"),
    "range not finite": ({"snr_range": (-10.0, float("inf"))}, "SNRs from -10 to inf dB"),
    "more noises than clips": ({"noises": 4}, "4 noises per utterance can't be drawn from a library of 3"),
}


@pytest.mark.parametrize(("numbers", "reason"), WRONG_NUMBERS.values(), ids=WRONG_NUMBERS)
def test_wrong_numbers(
    tmp_path: Path, tiny_corpus: Path, tiny_noise: Path, numbers: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        build(tmp_path / "store", tiny_corpus, tiny_noise, **numbers)
    assert not (tmp_path / "store").exists()


def test_no_noise_library(tmp_path: Path, tiny_corpus: Path) -> None:
    with pytest.raises(InputError, match="need a noise library, and none was given"):
        build(tmp_path / "store", tiny_corpus, None)


def test_refused_files(tmp_path: Path, tiny_corpus: Path, tiny_noise: Path) -> None:
    corpus = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
    cut = corpus / "s1's voice" / "anger 0.flac"
    cut.write_bytes(cut.read_bytes()[:5000])
    (corpus / "s2's voice" / "anger 1.flac").unlink()
    with pytest.raises(InputError, match=r"anger 1.flac: is named .* \(1 more files can't be used\); .*--skip-refused"):
        build(tmp_path / "store", corpus, tiny_noise)
    assert not (tmp_path / "store").exists()
    store = build(tmp_path / "store", corpus, tiny_noise, skip_refused=True)
    assert [info.utterances for info in store.speakers] == [6, 5, 5, 6, 6, 6]


def test_speakers_with_awkward_names(tmp_path: Path) -> None:
    names = ["a/b", "..", "Zoë ☺", "50%", "s p"]
    hiss = 0.1 * np.random.default_rng(0).standard_normal(8000)
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "emotion"])
        for number, name in enumerate(names):
            soundfile.write(tmp_path / f"{number}.wav", hiss[number:], 16_000)
            writer.writerow([f"{number}.wav", name, "joy"])
    store = build(tmp_path / "store", tmp_path, None, noises=0, snrs=0)
    assert [info.speaker for info in store.speakers] == sorted(names)
    for name in names:
        assert store.table(name)["speaker"].to_pylist() == [name]
        assert store.table(name)["gender"].to_pylist() == [None]
    assert verify_store(store) == []


@pytest.mark.parametrize("text", ["", "garbage", '{"format": 1, "finger', "[]", '{"format": 1}'])
def test_damaged_store_json(store: Path, tiny_corpus: Path, tiny_noise: Path, text: str) -> None:
    (store / "store.json").write_text(text)
    with pytest.raises(
        InputError, match=r"store.json: is damaged or of another version \(.*\); build the store"
    ) as refusal:
        open_store(store)
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="is damaged or of another version"):
        build(store, tiny_corpus, tiny_noise)


def test_recipe_that_was_edited(store: Path) -> None:
    path = store / "store.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(InputError, match="its digest is not that of its content"):
        open_store(store)


def test_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a store"):
        open_store(tmp_path)
    with pytest.raises(InputError, match="is not a store"):
        open_store(tmp_path / "nothing")


def test_unknown_speaker(tiny_store: Store) -> None:
    with pytest.raises(InputError, match="has no speaker 's9'; choose from s0, s1"):
        tiny_store.table("s9")


# Damage


def test_the_arrow_file_of_another_speaker_is_refused_where_it_is_read(store: Path) -> None:
    opened = open_store(store)
    opened.table("s0")
    opened.table("s1")
    mine, other = (next((store / "arrow").glob(f"s{speaker}-*")) for speaker in (0, 1))
    mine.write_bytes(other.read_bytes())
    reader = open_store(store)
    with pytest.raises(InputError, match=r"arrow/s0-\w+-\w+.arrow: is damaged \(not the bytes .*; delete it"):
        reader.table("s0")
    assert [fault.split("-")[0] for fault in verify_store(reader)] == ["arrow/s0"]
    mine.unlink()
    assert reader.table("s0")["speaker"].unique().to_pylist() == ["s0"]
    assert verify_store(reader) == []


def test_counts_that_are_not_those_of_the_files_are_named(store: Path) -> None:
    manifest = Manifest.read(store)
    first, *others = manifest.speakers
    wrong = first.model_copy(update={"utterances": 7, "frames": first.frames + 1})
    manifest.model_copy(update={"speakers": (wrong, *others)}).write(store)
    (fault,) = verify_store(open_store(store))
    assert fault.startswith(f"{first.file}: not what store.json says: utterances are 6, not 7; frames are")


def test_damaged_missing_and_foreign_files_are_named(store: Path) -> None:
    flip_a_byte(store / "s1.parquet")
    opened = open_store(store)
    opened.table("s3")
    opened.table("s4")
    flip_a_byte(next((store / "arrow").glob("s4-*.arrow")))
    (store / "s2.parquet").unlink()
    (store / "notes.txt").touch()
    faults = dict(line.split(": ", 1) for line in verify_store(opened))
    (arrow,) = (name for name in faults if name.startswith("arrow/"))
    assert arrow.startswith("arrow/s4-")
    assert faults["s1.parquet"].startswith("damaged")
    assert faults["s2.parquet"] == "missing"
    assert faults["notes.txt"].startswith("foreign")
    assert len(faults) == 4


def test_damaged_file_is_never_used_and_is_made_again(
    store: Path, tiny_store: Store, tiny_corpus: Path, tiny_noise: Path
) -> None:
    flip_a_byte(store / "s1.parquet")
    with pytest.raises(InputError, match=r"s1.parquet: damaged .*; delete it and run the same"):
        open_store(store).table("s1")
    with pytest.raises(InputError, match=r"s1.parquet: is damaged; delete it"):
        build(store, tiny_corpus, tiny_noise)
    (store / "s1.parquet").unlink()
    assert verify_store(build(store, tiny_corpus, tiny_noise)) == []
    assert parquet(store) == parquet(tiny_store.path)


def test_short_or_missing_file_is_noticed_on_opening(store: Path) -> None:
    (store / "s1.parquet").write_bytes(b"PAR1")
    (store / "s5.parquet").unlink()
    with pytest.raises(
        InputError, match=r"s1.parquet and 1 more: is missing, or has another size than when it was written; delete"
    ):
        open_store(store)


def test_cut_arrow_file_is_named(store: Path) -> None:
    opened = open_store(store)
    opened.table("s0")
    (arrow,) = (store / "arrow").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"arrow/s0-\w+-\w+.arrow: is damaged \(.*\); delete it"):
        opened.table("s0")


def test_a_table_touches_no_other_speaker(store: Path, tiny_store: Store) -> None:
    for path in store.glob("*.parquet"):
        if path.name != "s0.parquet":
            path.write_bytes(bytes(path.stat().st_size))
    np.testing.assert_array_equal(open_store(store).frames("s0"), tiny_store.frames("s0"))
    assert [path.name[:3] for path in (store / "arrow").glob("*.arrow")] == ["s0-"]


# Arrow files


def test_folder_that_cannot_be_written(
    store: Path, tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "arrow").touch()
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    cache.touch()
    with (
        pytest.warns(RuntimeWarning, match="the cache folder .* is not used"),
        pytest.warns(RuntimeWarning, match="each process holds its own copy of the frames"),
    ):
        in_memory = open_store(store).frames("s0")
    cache.unlink()
    mapped = open_store(store).frames("s0")
    np.testing.assert_array_equal(in_memory, tiny_store.frames("s0"))
    np.testing.assert_array_equal(mapped, tiny_store.frames("s0"))
    assert len(list((cache / "sersearch").glob("s0-*.arrow"))) == 1


@pytest.fixture
def small_disk(store: Path) -> Iterator[Path]:
    """`arrow/` of the store, with room for one of its six speakers."""
    with small_disk_at(store / "arrow", "180k") as folder:
        yield folder


def test_arrow_files_that_find_no_room_go_elsewhere(
    store: Path, small_disk: Path, tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    opened = open_store(store)
    for info in opened.speakers:
        np.testing.assert_array_equal(opened.frames(info.speaker), tiny_store.frames(info.speaker))
    elsewhere = {path.name[:3] for path in (tmp_path / "cache").glob("sersearch/s*.arrow")}
    assert {path.name[:3] for path in small_disk.glob("*.arrow")} == {"s0-"}
    assert elsewhere == {"s1-", "s2-", "s3-", "s4-", "s5-"}
    assert verify_store(opened) == []


def test_no_room_for_arrow_files_anywhere(
    store: Path, small_disk: Path, tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_disk))
    opened = open_store(store)
    np.testing.assert_array_equal(opened.frames("s0"), tiny_store.frames("s0"))
    with pytest.warns(RuntimeWarning, match="each process holds its own copy of the frames"):
        np.testing.assert_array_equal(opened.frames("s1"), tiny_store.frames("s1"))
    assert sorted(path.name[:3] for path in small_disk.rglob("*.arrow")) == ["s0-"]


def test_arrow_files_of_other_rows_are_not_used(
    store: Path, tmp_path: Path, tiny_corpus: Path, tiny_noise: Path
) -> None:
    before = np.array(open_store(store).frames("s0"))
    other = build(tmp_path / "other", tiny_corpus, tiny_noise, seed=9)
    for path in (*other.path.glob("*.parquet"), other.path / "store.json"):
        shutil.copy(path, store)
    opened = open_store(store)
    np.testing.assert_array_equal(opened.frames("s0"), other.frames("s0"))
    assert not np.array_equal(before, opened.frames("s0"))
    (fault,) = verify_store(opened)
    assert fault.startswith("arrow/s0-")
    assert "foreign" in fault


@pytest.mark.slow("two processes import the package")
def test_several_processes_make_arrow_files_at_once(store: Path, tiny_store: Store) -> None:
    program = (
        "import sys; from pathlib import Path; from sersearch.store.reader import open_store; sys.stdin.read(1);"
        "store = open_store(Path(sys.argv[1]));"
        "print(sum(float(store.frames(info.speaker).sum(dtype='f8')) for info in store.speakers))"
    )
    command = [sys.executable, "-c", program, str(store)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    expected = sum(float(tiny_store.frames(info.speaker).sum(dtype="f8")) for info in tiny_store.speakers)
    sums = [float(process.communicate("\n")[0]) for process in processes]
    assert sums == [expected] * 2
    assert len(list((store / "arrow").glob("*.arrow"))) == 6
    assert verify_store(open_store(store)) == []


def test_moments_are_those_of_the_frames(tiny_store: Store) -> None:
    speaker = tiny_store.speakers[0].speaker
    frames = tiny_store.frames(speaker).astype(np.float64)
    moments = tiny_store.moments(speaker)
    assert moments.count == len(frames)
    np.testing.assert_allclose(moments.mean(), frames.mean(0), rtol=1e-9)
    np.testing.assert_allclose(moments.covariance(), np.cov(frames.T, bias=True), rtol=1e-6)


def test_arrow_files_elsewhere_are_found_before_any_is_made_again(
    store: Path, small_disk: Path, tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for info in tiny_store.speakers:
        open_store(store).table(info.speaker)
        flip_a_byte(store / info.file)  # whoever reads it again is told so
    for info in tiny_store.speakers:
        np.testing.assert_array_equal(open_store(store).frames(info.speaker), tiny_store.frames(info.speaker))


def test_a_store_outlives_a_field_that_is_added_to_its_recipe(tiny_store: Store, tmp_path: Path) -> None:
    shutil.copytree(tiny_store.path, tmp_path / "store")
    manifest = tmp_path / "store" / "store.json"
    written = json.loads(manifest.read_bytes())
    for name in ("noise_groups", "noise_unit", "noise_library"):
        del written["recipe"][name]
    written["digest"] = digest({name: value for name, value in written.items() if name != "digest"})
    manifest.write_text(json.dumps(written))
    assert open_store(tmp_path / "store").fingerprint == tiny_store.fingerprint


def test_arrow_files_are_written_before_they_are_read(store: Path) -> None:
    reader = open_store(store)
    names = ["s0", "s1"]
    assert reader.without_arrow(names) == names
    reader.write_arrow(names)
    assert reader.without_arrow([*names, "s2"]) == ["s2"]
    assert {path.name[:3] for path in (store / "arrow").glob("*.arrow")} == {"s0-", "s1-"}


@pytest.mark.slow("processes import the package, and wait for a lock")
def test_one_process_at_a_time_writes_arrow_files(store: Path) -> None:
    """While another process holds the lock, a reader waits; then it finds what that process has written."""
    reader = open_store(store)
    (store / "arrow").mkdir()
    program = (
        "import sys; from pathlib import Path; from sersearch.store import reader;"
        "reader._write_arrow = lambda *given: sys.exit('written twice');"
        "print(len(reader.open_store(Path(sys.argv[1])).table('s0')))"
    )
    with FileLock(store / "arrow" / ".lock"):
        waiting = subprocess.Popen([sys.executable, "-c", program, str(store)], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(3.0)
        elsewhere = shutil.copytree(store, store.with_name("elsewhere"))
        open_store(elsewhere).table("s0")
        (arrow,) = (elsewhere / "arrow").glob("s0-*.arrow")
        shutil.copy(arrow, store / "arrow" / arrow.name)
    assert int(waiting.communicate()[0]) == len(reader.table("s0"))
    assert waiting.returncode == 0
