"""Every file of a folder is read, refused or counted as not read, whatever the folder holds."""

import tempfile
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.speech.corpora import examine, read_corpus, read_noises

RATE = 16_000


def _sound(number: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(number).standard_normal(RATE // 5)


def _whole(path: Path, number: int) -> None:
    soundfile.write(path, _sound(number), RATE)


def _cut(path: Path, number: int) -> None:
    _whole(path, number)
    path.write_bytes(path.read_bytes()[:-200])


def _silent(path: Path, number: int) -> None:
    soundfile.write(path, np.zeros(RATE // 5), RATE)


def _rubbish(path: Path, number: int) -> None:
    path.write_bytes(np.random.default_rng(number).bytes(number % 300))


def _copied(path: Path, number: int) -> None:
    _whole(path, 0)


def _linked(path: Path, number: int) -> None:
    path.symlink_to(path.parent / "nowhere")


WRITERS = {"whole": _whole, "cut": _cut, "silent": _silent, "rubbish": _rubbish, "copied": _copied, "linked": _linked}

FOLDERS = ("", "a", "a/b", ".hidden")
FILES = st.tuples(
    st.sampled_from(FOLDERS), st.sampled_from([".wav", ".flac", ".txt", ""]), st.sampled_from(sorted(WRITERS))
)


def write_folder(root: Path, files: list[tuple[str, str, str]]) -> list[Path]:
    """Write files of the given kinds, and a link from one folder to another."""
    written = []
    for number, (folder, suffix, kind) in enumerate(files):
        if suffix in ("", ".txt") and kind not in ("rubbish", "linked"):
            suffix = ".wav"
        path = root / folder / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[kind](path, number)
        written.append(path)
    if (root / "a").is_dir():
        (root / "again").symlink_to(root / "a")
    return written


@settings(max_examples=40, deadline=None)
@given(st.lists(FILES, min_size=1, max_size=12))
def test_a_noise_folder(files: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # One clip can be used, so that the library can be read.
        written = write_folder(Path(folder), [("", ".wav", "whole"), *files])
        library = read_noises(Path(folder))
        accounted = len(library.clips) + len(library.refused) + sum(library.ignored.values())
        assert accounted == len(written)


@settings(max_examples=40, deadline=None)
@given(st.lists(FILES, min_size=1, max_size=12), st.data())
def test_a_corpus_with_a_manifest(files: list[tuple[str, str, str]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        written = write_folder(root, files)
        named = data.draw(st.lists(st.sampled_from(written), unique=True, min_size=1))
        lines = [f"{path.relative_to(root)},s{number},anger" for number, path in enumerate(named)]
        (root / "manifest.csv").write_text("\n".join(["path,speaker,emotion", *lines]))
        survey = examine(read_corpus("mine", root))
        read = {recording.utterance.path for recording in survey.recordings}
        refused = {refusal.path for refusal in survey.refused}
        # Each line of the manifest is read or refused; each other file is counted as not read.
        assert read | refused == set(named)
        assert not read & refused
        assert len(read) + len(refused) + sum(survey.ignored.values()) == len(written)
