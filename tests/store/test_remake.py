"""Rows of a store that are made again from the audio, and the command that checks a store."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.speech.corpora import read_corpus
from sersearch.store.reader import Store
from sersearch.store.remake import remake_rows


def test_rows_made_again_have_the_same_bits(tiny_store: Store, tiny_corpus: Path, tiny_noise: Path) -> None:
    corpus = read_corpus("tiny", tiny_corpus)
    assert remake_rows(tiny_store, corpus, tiny_noise) == (12, [])
    assert remake_rows(tiny_store, corpus, None) == (6, [])


def test_audio_that_is_not_what_it_was_is_named(tiny_store: Store, tiny_corpus: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
    for path in changed.rglob("*.flac"):
        samples, rate = soundfile.read(path)
        soundfile.write(path, samples * 0.5 if "s0" in str(path) else samples[: samples.size // 2], rate)
    made, (first, *others) = remake_rows(tiny_store, read_corpus("tiny", changed), None)
    assert made == 6
    assert first.startswith("s0.parquet: row ")
    assert "differs from what the audio gives here, by up to 1." in first  # ln 4 of half the amplitude, 16 bits aside
    assert len(others) == 5
    assert all("frames, and the audio gives" in line for line in others)


def test_the_command_checks_what_it_is_given(
    tiny_store: Store, tiny_corpus: Path, tiny_noise: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(tiny_store.path, tmp_path / "store"))
    shown = CliRunner().invoke(app, ["store", str(store)])
    assert shown.exit_code == 0, shown.output
    assert "copies of 36 utterances of 6 speakers" in shown.output
    words = ["store", str(store), "--verify", "--corpus", f"tiny={tiny_corpus}", "--noise", str(tiny_noise)]
    checked = CliRunner().invoke(app, words)
    assert checked.exit_code == 0, checked.output
    assert "verified: 0 faults, 12 rows made again" in checked.output
    (store / "s1.parquet").unlink()
    (store / "s2.parquet").write_bytes(b"")
    found = CliRunner().invoke(app, [*words, "--format", "json"])
    assert found.exit_code == 1
    faults = json.loads(found.stdout)["faults"]
    assert [fault.split(" (")[0] for fault in faults] == ["s1.parquet: missing", "s2.parquet: damaged"]
    for alone in (["--corpus", f"tiny={tiny_corpus}"], ["--verify", "--noise", str(tiny_noise)]):
        assert isinstance(CliRunner().invoke(app, ["store", str(store), *alone]).exception, InputError)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"format": 3}'])
def test_a_damaged_manifest_is_said_in_a_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.json").write_bytes(content)
    done = CliRunner().invoke(app, ["store", str(tmp_path), "--verify"])
    assert isinstance(done.exception, InputError)
    assert "store.json: is damaged or of another version" in str(done.exception)
    assert "\n" not in str(done.exception)
