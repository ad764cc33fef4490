"""Databases in audformat, written by audformat itself."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from sersearch.errors import InputError
from sersearch.speech.corpora import examine, read_corpus

audformat = pytest.importorskip("audformat", reason="the extra `audformat` is not installed")

# audformat uses what its own dependencies deprecate.
pytestmark = pytest.mark.filterwarnings("ignore")

RATE = 16_000


def database(folder: Path, segmented: bool = False, speakers: bool = True) -> Path:
    """Three files of two speakers, whose gender is a label of the speaker; or three segments of one file."""
    files = [f"audio/{number}.wav" for number in range(3)]
    for number, file in enumerate(files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / file, 0.1 * np.random.default_rng(number).standard_normal(3 * RATE), RATE)
    made = audformat.Database("made", source="https://example.org", usage="research")
    made.schemes["emotion"] = audformat.Scheme(labels=["anger", "sadness", "neutral"])
    made.schemes["transcription"] = audformat.Scheme("str")
    index = audformat.filewise_index(files)
    if segmented:
        starts, ends = pd.to_timedelta(["0s", "1s", "2s"]), pd.to_timedelta(["1s", "2s", pd.NaT])
        index = audformat.segmented_index([files[0]] * 3, starts, ends)
    made["emotion"] = audformat.Table(index)
    made["emotion"]["emotion"] = audformat.Column(scheme_id="emotion")
    made["emotion"]["emotion"].set(["anger", "sadness", None])
    made["files"] = audformat.Table(audformat.filewise_index(files))
    made["files"]["transcription"] = audformat.Column(scheme_id="transcription")
    made["files"]["transcription"].set(["yes", "no", "oh"])
    if speakers:
        made.schemes["speaker"] = audformat.Scheme(labels={1: {"gender": "female"}, 2: {"gender": "male"}})
        made["files"]["speaker"] = audformat.Column(scheme_id="speaker")
        made["files"]["speaker"].set([1, 2, 2])
    made.save(str(folder))
    return folder


def test_files(tmp_path: Path) -> None:
    corpus = read_corpus("made", database(tmp_path))
    assert [(u.id, u.speaker, u.gender, u.emotion) for u in corpus.utterances] == [
        ("audio/0.wav", "1", "female", "anger"),
        ("audio/1.wav", "2", "male", "sadness"),
    ]
    assert [u.extra["transcription"] for u in corpus.utterances] == ["yes", "no"]
    assert corpus.notes == ("left out (with the number of rows): without an emotion or a speaker (1)",)
    survey = examine(corpus)
    assert survey.total_s == pytest.approx(6)
    assert survey.ignored == {"audio that the corpus leaves out": 1}


def test_segments(tmp_path: Path) -> None:
    corpus = read_corpus("made", database(tmp_path, segmented=True))
    assert [(u.start_s, u.end_s, u.emotion) for u in corpus.utterances] == [(0.0, 1.0, "anger"), (1.0, 2.0, "sadness")]
    assert examine(corpus).total_s == pytest.approx(2)


def test_what_can_t_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labels of speaker"):
        read_corpus("made", database(tmp_path, speakers=False))
    (tmp_path / "db.yaml").write_text("name: [")
    with pytest.raises(InputError, match="can't be read as a database in audformat") as refused:
        read_corpus("made", tmp_path)
    assert "\n" not in str(refused.value)
