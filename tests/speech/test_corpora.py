import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sersearch.errors import InputError
from sersearch.speech.corpora import examine, read_corpus, read_noises
from sersearch.store.build import build_store

RATE = 16_000
HISS = 0.1 * np.random.default_rng(0).standard_normal(RATE)
SIX = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")


def test_ravdess(ravdess: Path) -> None:
    corpus = read_corpus("ravdess", ravdess)
    assert len(corpus.utterances) == 1152
    assert corpus.refused == ()
    assert corpus.emotions == SIX
    assert corpus.speakers == tuple(f"{actor:02}" for actor in range(1, 25))
    assert Counter(u.emotion for u in corpus.utterances) == dict.fromkeys(SIX, 192)
    assert Counter(u.gender for u in corpus.utterances) == {"female": 576, "male": 576}
    by_id = {u.id: u for u in corpus.utterances}
    angry = by_id["03-01-05-02-01-01-12"]
    assert (angry.emotion, angry.speaker, angry.gender) == ("anger", "12", "female")


def test_ravdess_with_the_other_emotions(ravdess: Path) -> None:
    corpus = read_corpus("ravdess", ravdess, ("neutral", "calm", "anger"))
    assert Counter(u.emotion for u in corpus.utterances) == {"neutral": 96, "calm": 192, "anger": 192}


def test_survey_of_ravdess(ravdess: Path) -> None:
    survey = examine(read_corpus("ravdess", ravdess, (*SIX, "calm", "neutral")))
    assert len(survey.recordings) == 1439
    assert survey.refused == ()
    assert survey.total_s == pytest.approx(5325.6, abs=1)
    shortest_s, median_s, longest_s = survey.durations_s
    assert (round(shortest_s, 1), round(longest_s, 1)) == (2.9, 5.3)
    assert shortest_s < median_s < longest_s
    assert survey.identical == (("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"),)
    assert survey.counts["neutral", "female"] == 48
    assert survey.speakers == {f"{actor:02}": 59 if actor == 7 else 60 for actor in range(1, 25)}


def test_ravdess_names_that_break_the_rule_are_refused_not_fatal(tmp_path: Path) -> None:
    names = {
        "Actor_02/03-01-05-01-01-01-02.wav": "",
        "again/03-01-05-01-01-01-02.wav": "has the same name as",
        "Actor_02/03-02-05-01-01-01-02.wav": "is not audio-only speech",
        "Actor_02/03-01-09-01-01-01-02.wav": "does not fit the pattern of ravdess",
        "Actor_02/03-01-05-01-01-01-25.wav": "does not fit the pattern of ravdess",
        "Actor_02/take 1.flac": "does not fit the pattern of ravdess",
    }
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    corpus = read_corpus("ravdess", tmp_path)
    assert [u.id for u in corpus.utterances] == ["03-01-05-01-01-01-02"]
    reasons = {refusal.path.relative_to(tmp_path).as_posix(): refusal.reason for refusal in corpus.refused}
    assert set(reasons) == set(list(names)[1:])
    for name, reason in reasons.items():
        assert names[name] in reason


def test_ravdess_says_what_it_leaves_out_and_maps(tmp_path: Path) -> None:
    for emotion in range(1, 9):
        (tmp_path / f"03-01-{emotion:02}-01-01-01-02.wav").touch()
    corpus = read_corpus("ravdess", tmp_path)
    assert corpus.emotions == SIX
    assert corpus.notes == (
        "left out (with the number of utterances): calm (1), neutral (1); name them in --emotions to include them",
    )
    assert read_corpus("ravdess", tmp_path, (*SIX, "calm", "neutral")).notes == ()
    mapped = read_corpus("ravdess", tmp_path, by_hand={"calm": "neutral", "fear": "negative", "sadness": "negative"})
    assert mapped.emotions == ("anger", "disgust", "happiness", "negative", "surprise")
    assert mapped.notes == (
        "labels were mapped to emotions (with the number of utterances): "
        "calm -> neutral (1), fear -> negative (1), sadness -> negative (1)",
        "left out (with the number of utterances): neutral (2); name them in --emotions to include them",
    )


def test_not_ravdess(tmp_path: Path, tiny_corpus: Path) -> None:
    with pytest.raises(InputError, match="holds no audio"):
        read_corpus("ravdess", tmp_path)
    with pytest.raises(InputError, match=r"none of its 36 audio files is one of RAVDESS"):
        read_corpus("ravdess", tiny_corpus)


@pytest.mark.parametrize("name", ["ravdess", "tiny"])
def test_unknown_emotion(name: str, ravdess: Path, tiny_corpus: Path) -> None:
    folder = ravdess if name == "ravdess" else tiny_corpus
    with pytest.raises(InputError, match=r"no emotion 'angre'; did you mean 'anger'\? choose from anger, "):
        read_corpus(name, folder, ("sadness", "angre"))
    with pytest.raises(InputError, match="is empty; choose from anger"):
        read_corpus(name, folder, ())


def test_manifest(tiny_corpus: Path) -> None:
    corpus = read_corpus("tiny", tiny_corpus)
    assert len(corpus.utterances) == 36
    assert corpus.speakers == ("s0", "s1", "s2", "s3", "s4", "s5")
    assert {u.speaker: u.gender for u in corpus.utterances}["s3"] == "male"
    assert corpus == read_corpus("tiny", tiny_corpus / "manifest.csv")
    assert len(read_corpus("tiny", tiny_corpus, ("anger",)).utterances) == 12
    assert len(examine(corpus).recordings) == 36


def manifest(folder: Path, text: str) -> Path:
    for name in ("1.wav", "2.wav"):
        soundfile.write(folder / name, HISS, RATE)
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    return folder


def test_manifest_without_the_optional_columns(tmp_path: Path) -> None:
    corpus = read_corpus("mine", manifest(tmp_path, "\ufeffspeaker,path,emotion\nann , 1.wav,joy\nbob,2.wav,joy\n"))
    assert [(u.id, u.speaker, u.gender) for u in corpus.utterances] == [("1.wav", "ann", None), ("2.wav", "bob", None)]


@pytest.mark.parametrize(("given", "gender"), [("F", "female"), ("Male", "male"), ("m", "male"), ("", None)])
def test_manifest_genders(tmp_path: Path, given: str, gender: str | None) -> None:
    folder = manifest(tmp_path, f"path,speaker,emotion,gender\n1.wav,ann,joy,{given}\n")
    assert read_corpus("mine", folder).utterances[0].gender == gender


WRONG_MANIFESTS = {
    "empty": ("", "has no column 'path'; its columns are path, speaker, emotion and optionally gender, utterance"),
    "no lines": ("path,speaker,emotion\n", "describes no utterance"),
    "missing column": ("path,speaker\n1.wav,ann\n", "has no column 'emotion'"),
    "misspelt column": (
        "path,speaker,emotion,gendr\n1.wav,ann,joy,f\n",
        "has a column 'gendr'; did you mean 'gender'",
    ),
    "column twice": ("path,speaker,emotion,path\n1.wav,ann,joy,1.wav\n", "the column 'path' twice"),
    "too many fields": ("path,speaker,emotion\n1.wav,ann,joy\n2.wav,ann,joy,sad\n", "line 3: has more fields"),
    "empty field": ("path,speaker,emotion\n1.wav,,joy\n", "line 2: speaker is empty"),
    "short line": ("path,speaker,emotion\n1.wav,ann\n", "line 2: emotion is empty"),
    "gender": ("path,speaker,emotion,gender\n1.wav,ann,joy,x\n", "line 2: gender 'x' is not one of female, male"),
    "two genders": (
        "path,speaker,emotion,gender\n1.wav,ann,joy,f\n2.wav,ann,joy,m\n",
        "line 3: speaker 'ann' has another gender",
    ),
    "same id": (
        "path,speaker,emotion,utterance\n1.wav,ann,joy,a\n2.wav,ann,joy,a\n",
        "line 3: the id 'a' is used twice",
    ),
}


@pytest.mark.parametrize(("text", "reason"), WRONG_MANIFESTS.values(), ids=WRONG_MANIFESTS)
def test_wrong_manifest(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refusal:
        read_corpus("mine", manifest(tmp_path, text))
    assert "\n" not in str(refusal.value)
    assert "manifest.csv" in str(refusal.value)


def test_manifest_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes("path,speaker,emotion\n1.wav,Zoë,joy\n".encode("latin-1"))
    with pytest.raises(InputError, match="is not a CSV file in UTF-8"):
        read_corpus("mine", tmp_path)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"no manifest.csv, and 'mine' is not a corpus whose layout is known; choose .* `sersearch corpus`",
    ):
        read_corpus("mine", tmp_path)
    with pytest.raises(InputError, match="no manifest"):
        read_corpus("mine", tmp_path / "nothing")


def test_file_that_the_manifest_names_but_is_missing(tmp_path: Path) -> None:
    corpus = read_corpus("mine", manifest(tmp_path, "path,speaker,emotion\n1.wav,ann,joy\n3.wav,ann,joy\n"))
    assert [u.id for u in corpus.utterances] == ["1.wav"]
    assert [(r.path.name, r.reason) for r in corpus.refused] == [("3.wav", "is named in the manifest but missing")]


def test_examine_refuses_files_and_notes_identical_recordings(tmp_path: Path) -> None:
    folder = manifest(tmp_path, "path,speaker,emotion\n1.wav,ann,joy\n2.wav,bob,joy\n3.wav,bob,joy\n4.flac,ann,joy\n")
    soundfile.write(folder / "2.wav", HISS[::-1], RATE)
    soundfile.write(folder / "3.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "4.flac", soundfile.read(folder / "1.wav", dtype="int16")[0], RATE)
    survey = examine(read_corpus("mine", folder))
    assert [r.utterance.id for r in survey.recordings] == ["1.wav", "2.wav"]
    assert [(r.path.name, r.reason) for r in survey.refused] == [("3.wav", "is entirely digital silence; remove it")]
    assert survey.identical == (("1.wav", "4.flac"),)
    assert "1.wav, 4.flac are the same recording; 1.wav alone is kept" in survey.notes
    assert survey.speakers == {"ann": 1, "bob": 1}
    assert survey.total_s == 2


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (("ann,joy", "bob,joy"), ("speaker 'ann'", "speaker 'bob'")),
        (("ann,joy", "ann,fear"), ("emotion 'happiness'", "emotion 'fear'")),
        (("ann,joy", "bob,fear", "ann,joy"), ("speaker 'ann', emotion 'happiness'", "speaker 'bob', emotion 'fear'")),
    ],
)
def test_one_recording_with_several_labels_is_refused(
    tmp_path: Path, labels: tuple[str, ...], named: tuple[str, str]
) -> None:
    formats = ("wav", "flac", "aiff")
    lines = [f"{kind}.{kind},{label}\n" for kind, label in zip(formats, labels, strict=False)]
    (tmp_path / "manifest.csv").write_text(f"path,speaker,emotion\nx.wav,eve,joy\n{''.join(lines)}")
    soundfile.write(tmp_path / "x.wav", HISS[::-1], RATE)
    for kind in formats[: len(labels)]:
        soundfile.write(tmp_path / f"{kind}.{kind}", np.round(HISS * 2**15).astype(np.int16), RATE)
    survey = examine(read_corpus("mine", tmp_path))
    assert [r.utterance.id for r in survey.recordings] == ["x.wav"]
    assert len(survey.refused) == len(labels)
    for refusal in survey.refused:
        assert all(words in refusal.reason for words in named)
    with pytest.raises(InputError, match="is the same recording as"):
        build_store(tmp_path / "store", read_corpus("mine", tmp_path), noises=0, snrs=0, workers=1)
    assert not (tmp_path / "store").exists()


def test_noises(tiny_noise: Path) -> None:
    library = read_noises(tiny_noise)
    assert list(library) == ["bursts/two.flac", "hiss.flac", "short hum.wav"]
    assert library["bursts/two.flac"].size == RATE // 4 + RATE // 2
    assert {clip.name: clip.active_samples for clip in library.clips}["hiss.flac"] == 3 * RATE


def test_noise_with_too_little_sound_is_refused(tmp_path: Path, tiny_noise: Path) -> None:
    shutil.copytree(tiny_noise, tmp_path / "noise")
    soundfile.write(tmp_path / "noise" / "click.wav", np.where(np.arange(RATE) < 1000, 0.1, 0), RATE)
    library = read_noises(tmp_path / "noise")
    assert len(library) == 3
    assert [(r.path.name, r.reason) for r in library.refused] == [
        ("click.wav", "only 70 ms of it is not silent, and 100 ms are needed; remove it")
    ]


def test_silent_stretches_of_esc10_are_left_out(esc10: Path) -> None:
    library = read_noises(esc10)
    name = min(library.clips, key=lambda clip: clip.active_samples).name
    active = library[name]
    frames = active[: active.size // 1600 * 1600].reshape(-1, 1600).astype(np.float64)
    assert (frames**2).mean(axis=1).min() > (frames**2).mean(axis=1).max() * 1e-7
    assert active.size < 3 * RATE


def test_noise_cache_forgets_what_was_used_longest_ago(tiny_noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sersearch.speech.corpora.noises._CACHE_BYTES", 3 * RATE * 4)
    library = read_noises(tiny_noise)
    hiss = library["hiss.flac"]
    assert library["hiss.flac"] is hiss
    hum = library["short hum.wav"]
    assert library["short hum.wav"] is hum
    again = library["hiss.flac"]
    assert again is not hiss
    np.testing.assert_array_equal(again, hiss)


def test_noise_larger_than_the_cache_is_decoded_each_time(tiny_noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sersearch.speech.corpora.noises._CACHE_BYTES", 4)
    library = read_noises(tiny_noise)
    np.testing.assert_array_equal(library["hiss.flac"], library["hiss.flac"])
    assert library["hiss.flac"] is not library["hiss.flac"]
