"""Manifests as people write them, and as chance writes them: they are read, or refused on one line."""

import itertools
import json
import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sersearch.errors import InputError
from sersearch.speech.audio import Sound, read_sound
from sersearch.speech.corpora import Corpus, decode_utterance, examine, read_corpus
from sersearch.store.build import build_store
from sersearch.store.rows import regenerate

RATE = 16_000

HEADERS = [
    ("path", "speaker", "emotion", "gender", "utterance", "session"),
    (" Path ", "SPEAKER", "Emotion", "Gender", " utterance", "Session"),
]
ROWS = [
    ("audio/ann/1.wav", "ann", "joy", "F", "a1", "s; 1"),
    ("audio/bob, 2.wav", "bob", "sad", "m", "b2", "text,\twith “all”"),
]


def folder_with_audio(folder: Path) -> Path:
    for row in ROWS:
        (folder / row[0]).parent.mkdir(parents=True, exist_ok=True)
        (folder / row[0]).touch()
    return folder


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "manifest.csv").write_bytes(text.encode(encoding))
    return folder


@pytest.mark.parametrize(
    ("separator", "end", "encoding", "header", "trailing"),
    list(itertools.product(",;\t", ["\n", "\r\n", "\r"], ["utf-8", "utf-8-sig"], HEADERS, [0, 2])),
)
def test_spellings_of_one_manifest(
    tmp_path: Path, separator: str, end: str, encoding: str, header: tuple[str, ...], trailing: int
) -> None:
    """Separators, line ends, byte-order marks, headers, quotation marks, and columns and lines without content."""
    quoted = [separator.join(f'"{field}"' for field in row) for row in ROWS]
    lines = [separator.join(header), *quoted]
    text = end.join(line + trailing * separator for line in [*lines, *[separator * (len(header) - 1)] * trailing])
    corpus = read_corpus("mine", write(folder_with_audio(tmp_path), text, encoding))
    assert corpus.refused == ()
    assert [(u.id, u.speaker, u.gender, u.emotion) for u in corpus.utterances] == [
        ("a1", "ann", "female", "happiness"),
        ("b2", "bob", "male", "sadness"),
    ]
    assert [u.extra for u in corpus.utterances] == [{"session": row[-1]} for row in ROWS]
    assert "further columns of the manifest were kept: session" in corpus.notes


@pytest.mark.parametrize("path", [r"audio\ann\1.wav", r".\audio\ann\1.wav", "audio/ann\\1.wav"])
def test_paths_as_on_windows(tmp_path: Path, path: str) -> None:
    corpus = read_corpus("mine", write(folder_with_audio(tmp_path), f"path,speaker,emotion\n{path},ann,sad\n"))
    assert corpus.utterances[0].path == tmp_path / "audio/ann/1.wav"
    assert corpus.utterances[0].id == path.replace("\\", "/")


@pytest.mark.parametrize("path", [r"C:\audio\1.wav", "d:/audio\\1.wav", r"\\server\audio\1.wav"])
def test_absolute_paths_of_windows_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match=r"line 2: path .* is an absolute path of Windows; give it relative"):
        read_corpus("mine", write(tmp_path, f"path,speaker,emotion\n{path},ann,sad\n"))


@pytest.mark.parametrize(("on_disk", "in_manifest"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accented_letters_of_another_form(
    tmp_path: Path, on_disk: Literal["NFC", "NFD"], in_manifest: Literal["NFC", "NFD"]
) -> None:
    (tmp_path / unicodedata.normalize(on_disk, "Zoë é.wav")).touch()
    path, speaker = (unicodedata.normalize(in_manifest, word) for word in ("Zoë é.wav", "Zoë"))
    text = f"path,speaker,emotion\n{path},{speaker},sad\n{path}x,Zoë,sad\n"
    corpus = read_corpus("mine", write(tmp_path, text))
    assert len(corpus.utterances) == 1
    assert len(corpus.refused) == 1
    assert corpus.speakers == ("Zoë",)


GENDERS = {
    "female": ["female", "F", "Woman", "w"],
    "male": ["male", "M", "MAN"],
    "other": ["other", "O"],
    None: ["unknown", "U", "", "  "],
}


@pytest.mark.parametrize(("gender", "words"), list(GENDERS.items()))
def test_genders(tmp_path: Path, gender: str | None, words: list[str]) -> None:
    for word in words:
        text = f"path,speaker,emotion,gender\naudio/ann/1.wav,ann,sad,{word}\n"
        assert read_corpus("mine", write(folder_with_audio(tmp_path), text)).utterances[0].gender == gender


REFUSED = {
    "UTF-16": ("path,speaker,emotion\n1.wav,ann,sad\n", "utf-16", "save it again with the encoding UTF-8"),
    "Latin-1": ("path,speaker,emotion\n1.wav,Zoë,sad\n", "latin-1", "save it again with the encoding UTF-8"),
    "column without a name": (
        "path,speaker,emotion,\n1.wav,ann,sad,x\n",
        "utf-8",
        "line 2: 'x' is in a column without",
    ),
    "no label but quotes": ("path,speaker,emotion\n1.wav,ann,\"''\"\n", "utf-8", "line 2: emotion is empty"),
    "open quotes": ('path,speaker,emotion\n"1.wav,ann,sad\n', "utf-8", "export it again"),
    "line break": ('path,speaker,emotion\n"1\n.wav",ann,sad\n', "utf-8", "path '1.n.wav' holds a control character"),
    "other names": ("file;who;label\n1.wav;ann;sad\n", "utf-8", "has no column 'path'"),
    "misspelt id": ("path,speaker,emotion,utterances\n1.wav,ann,sad,1\n", "utf-8", "did you mean 'utterance'"),
    "look-alikes": ("path,speaker,emotion\n1.wav,01,sad\n2.wav,1,sad\n", "utf-8", "speakers '01' and '1' look like"),
}


@pytest.mark.parametrize(("text", "encoding", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused_manifests(tmp_path: Path, text: str, encoding: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refusal:
        read_corpus("mine", write(tmp_path, text, encoding))
    assert str(refusal.value).isprintable()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    corpus = read_corpus("mine", write(tmp_path, f"path,speaker,emotion\n{'x' * 300}.wav,ann,sad\n"))
    assert "can't be found (File name too long); correct its path" in corpus.refused[0].reason


SEGMENTS = [
    ("0,1.5", (0.0, 1.5)),
    (",1.5", (None, 1.5)),
    ("1.5,", (1.5, None)),
    ("0.25, 1e0", (0.25, 1.0)),
    ('"0,25","1,5"', (0.25, 1.5)),
    (",", (None, None)),
]


@pytest.mark.parametrize(("given", "segment"), SEGMENTS)
def test_segments(tmp_path: Path, given: str, segment: tuple[float | None, float | None]) -> None:
    signal = np.random.default_rng(0).integers(-3000, 3000, 2 * RATE).astype(np.int16)
    soundfile.write(tmp_path / "long.wav", signal, RATE)
    corpus = read_corpus("mine", write(tmp_path, f"path,speaker,emotion,Start,END\nlong.wav,ann,sad,{given}\n"))
    utterance = corpus.utterances[0]
    assert (utterance.start_s, utterance.end_s) == segment
    begin, end = (time_s if time_s is not None else default for time_s, default in zip(segment, (0, 2), strict=True))
    expected = signal[int(begin * RATE) : int(end * RATE)] / np.float32(2**15)
    np.testing.assert_array_equal(decode_utterance(utterance), expected)
    assert examine(corpus).total_s == end - begin


def test_segments_of_two_speakers_that_overlap_are_said(tmp_path: Path) -> None:
    signal = np.random.default_rng(0).standard_normal(4 * RATE) * 0.1
    soundfile.write(tmp_path / "a.wav", signal, RATE)
    soundfile.write(tmp_path / "b.wav", signal[::-1], RATE)
    lines = [
        "a.wav,ann,sad,0,1",
        "a.wav,bob,sad,0.75,2",
        "a.wav,bob,sad,1.5,2.5",
        "a.wav,ann,sad,2.5,",
        "b.wav,cy,sad,,",
    ]
    survey = examine(read_corpus("mine", write(tmp_path, "\n".join(["path,speaker,emotion,start,end", *lines]))))
    assert len(survey.recordings) == 5
    (said,) = (note for note in survey.notes if "overlap" in note)
    assert said.startswith("1 pair(s) of segments of two speakers overlap in one file, by up to 0.25 s")
    assert "a.wav:0-1 and a.wav:0.75-2" in said


def test_a_file_of_many_segments_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []

    def read_and_count(path: Path, sampling_rate: int = RATE) -> Sound:
        decoded.append(path)
        return read_sound(path, sampling_rate)

    monkeypatch.setattr("sersearch.speech.corpora.segment.read_sound", read_and_count)
    lines = ["path,speaker,emotion,start,end"]
    for number in range(3):
        name = f"{number}.wav"
        soundfile.write(tmp_path / name, 0.1 * np.random.default_rng(number).standard_normal(3 * RATE), RATE)
        lines += [f"{name},ann,sad,{part / 4},{(part + 1) / 4}" for part in range(10)]
    survey = examine(read_corpus("mine", write(tmp_path, "\n".join(lines))))
    assert len(survey.recordings) == 30
    assert sorted(path.name for path in decoded) == ["0.wav", "1.wav", "2.wav"]


def test_a_store_of_segments_is_that_of_files_cut_beforehand(tmp_path: Path) -> None:
    signal = np.random.default_rng(0).integers(-3000, 3000, 2 * RATE).astype(np.int16)
    soundfile.write(tmp_path / "long.wav", signal, RATE)
    soundfile.write(tmp_path / "ann.wav", signal[:RATE], RATE)
    soundfile.write(tmp_path / "bob.wav", signal[RATE:], RATE)
    header = "path,speaker,emotion,utterance,start,end\n"
    stores = {}
    for name, lines in {
        "cut": "ann.wav,ann,sad,1,,\nbob.wav,bob,sad,2,,\n",
        "segments": "long.wav,ann,sad,1,0,1\nlong.wav,bob,sad,2,1,2\n",
        "other segments": "long.wav,ann,sad,1,0,1.1\nlong.wav,bob,sad,2,1.1,2\n",
    }.items():
        corpus = read_corpus("mine", write(tmp_path, header + lines))
        stores[name] = build_store(tmp_path / name, corpus, noises=0, snrs=0, workers=1)
    for speaker in ("ann", "bob"):
        assert stores["segments"].table(speaker).to_pylist() == stores["cut"].table(speaker).to_pylist()
    assert len({store.fingerprint for store in stores.values()}) == 3
    row = stores["segments"].table("bob").to_pylist()[0]
    again = regenerate(row, stores["segments"].recipe, tmp_path / "long.wav", segment_s=(1.0, 2.0))
    np.testing.assert_array_equal(again.ravel(), row["log_mel"])


def test_further_columns_are_columns_of_the_store(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("ann", "bob"):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * generator.standard_normal(RATE), RATE)
    fingerprints = set()
    for age in ("", "47"):
        text = f'path;speaker;emotion;Age;Text\nann.wav;ann;sad;{age};Zoë, "no"\nbob.wav;bob;sad;;\n'
        corpus = read_corpus("mine", write(tmp_path, text))
        store = build_store(tmp_path / f"store{age}", corpus, noises=0, snrs=0, workers=1)
        fingerprints.add(store.fingerprint)
        extra = [json.loads(row) for name in ("ann", "bob") for row in store.table(name)["extra"].to_pylist()]
        assert extra == [{"age": age, "text": 'Zoë, "no"'}, {"age": "", "text": ""}]
    assert len(fingerprints) == 2


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("1,1", "line 2: the end at 1 s is not after the start"),
        (",0", "line 2: the end at 0 s is not after the start"),
        ("-1,1", "line 2: start '-1' is not a time; give it in seconds"),
        ("0,nan", "line 2: end 'nan' is not a time"),
        ("0,1e300", "line 2: end '1e300' is not a time"),
        ("0:01,0:02", "line 2: start '0:01' is not a time"),
    ],
)
def test_segments_that_are_no_segments(tmp_path: Path, given: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_corpus("mine", write(tmp_path, f"path,speaker,emotion,start,end\n1.wav,ann,sad,{given}\n"))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("0.5,9", "the segment from 0.5 to 9 s ends after the file, which lasts 1 s"),
        ("7,", "is shorter than one window of 25 ms in a file of 1 s"),
        ("0.5,0.51", "is shorter than one window of 25 ms in a file of 1 s"),
        ("0.5,", "the segment from 0.5 to 1 s is silence or a constant"),
    ],
)
def test_segments_that_the_file_lacks(tmp_path: Path, given: str, reason: str) -> None:
    signal = np.where(np.arange(RATE) < RATE // 2, np.random.default_rng(0).standard_normal(RATE) * 0.1, 0)
    soundfile.write(tmp_path / "1.wav", signal, RATE)
    corpus = read_corpus("mine", write(tmp_path, f"path,speaker,emotion,start,end\n1.wav,ann,sad,{given}\n"))
    refused = examine(corpus).refused
    assert [refusal.path for refusal in refused] == [tmp_path / "1.wav"]
    assert reason in refused[0].reason


@pytest.mark.parametrize("column", ["begin", "Start_s", "start time", "end_time", "sex", "genders"])
def test_columns_that_would_have_no_effect_are_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(InputError, match=r"did you mean '(start|end|gender)'\? Rename it"):
        read_corpus("mine", write(tmp_path, f"path,speaker,emotion,{column}\n1.wav,ann,sad,1\n"))


FIELDS = st.one_of(
    st.sampled_from(
        ["", " ", "1.wav", "ann", "Ann", "01", "1", "joy", "f", '"', "'", "\\", "..", "/", "a" * 300, "\0"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
COLUMNS = st.one_of(
    st.sampled_from(["path", "speaker", "emotion", "gender", "utterance", "start", "end", "Path ", ""]), FIELDS
)


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """Manifests that begin well, as often as not, and go wrong anywhere."""
    header = draw(st.one_of(st.just(["path", "speaker", "emotion"]), st.permutations(HEADERS[0]), st.lists(COLUMNS)))
    rows = draw(st.lists(st.one_of(st.just(["1.wav", "ann", "joy"]), st.lists(FIELDS, max_size=7)), max_size=5))
    separator, end = draw(st.sampled_from(",;\t|")), draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    text = end.join(separator.join(row) for row in [header, *rows])
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
    return text.encode(encoding)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500)
@given(st.one_of(manifests(), st.binary(max_size=200)))
def test_any_manifest_is_read_or_refused_on_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.wav").touch()
    (tmp_path / "manifest.csv").write_bytes(content)
    message, corpus = "", None
    try:
        corpus = read_corpus("mine", tmp_path)
    except InputError as error:
        message = str(error)
    if corpus is not None:
        _check(corpus)
    else:
        assert len(message.splitlines()) == 1
        assert message.startswith((str(tmp_path), "mine: "))


def _check(corpus: Corpus) -> None:
    ids = [utterance.id for utterance in corpus.utterances]
    assert ids == sorted(set(ids))
    assert corpus.utterances or corpus.refused
    for refusal in corpus.refused:
        assert len(f"{refusal.path}: {refusal.reason}".splitlines()) == 1
    for utterance in corpus.utterances:
        assert utterance.path.is_file()
        assert utterance.speaker
        assert utterance.emotion
        assert utterance.emotion == utterance.emotion.strip().lower()
    for note in corpus.notes:
        assert len(note.splitlines()) == 1
