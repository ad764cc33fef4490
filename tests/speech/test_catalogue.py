"""Each corpus of the catalogue, from a tree laid out as it unpacks, with its exceptions; sound is not read here."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from sersearch.errors import InputError
from sersearch.speech.corpora import known_corpora, read_corpus
from sersearch.speech.corpora.labels import SYNONYMS
from sersearch.study.fold import Dealt, deal_folds, make_partition

LABELLED_BY_NAME = [name for name, corpus in known_corpora().items() if not (corpus.unusable or corpus.labels)]


def tree(folder: Path, paths: Iterator[str]) -> Path:
    """Make empty files; only names and labels are read here."""
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def emodb() -> Iterator[str]:
    speakers, sentences = ("03", "08", "09", *map(str, range(10, 17))), ("a01", "a02", "a04", "a05", "a07", "b01")
    names = [f"wav/{s}{t}{e}{v}.wav" for s, t, e, v in product(speakers, sentences, "WLEAFTN", "ab")]
    # As many as there are, spread over all speakers and emotions.
    yield from (names[number * len(names) // 535] for number in range(535))
    yield "labels/readme.txt"


def crema_d() -> Iterator[str]:
    """7,442 files: of the 82 takes per actor, 20 actors lack one."""
    for number, path in enumerate(_crema_d()):
        if not (number % 82 == 1 and number < 20 * 82):
            yield path


def _crema_d() -> Iterator[str]:
    sentences = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
    emotions = ("ANG", "DIS", "FEA", "HAP", "SAD")
    for actor in range(1001, 1092):
        for sentence in sentences:
            levels = ("LO", "MD", "HI") if sentence == "IEO" else ("XX",)
            yield from (f"AudioWAV/{actor}_{sentence}_{e}_{level}.wav" for e in emotions for level in levels)
            yield f"AudioWAV/{actor}_{sentence}_NEU_{'X' if actor == 1040 else 'XX'}.wav"


def savee() -> Iterator[str]:
    for speaker in ("DC", "JE", "JK", "KL"):
        yield from (
            f"{speaker}/{emotion}{n:02}.wav" for emotion in ("a", "d", "f", "h", "sa", "su") for n in range(1, 16)
        )
        yield from (f"{speaker}/n{n:02}.wav" for n in range(1, 31))


def tess() -> Iterator[str]:
    labels = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")
    for speaker, label, word in product(
        ("OAF", "YAF"), labels, ("bite", *(f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(199)))
    ):
        odd = speaker == "OAF" and (word, label) == ("bite", "neutral")
        yield f"{speaker}_{label}/{'OA' if odd else speaker}_{word}_{label}.wav"


def emovo() -> Iterator[str]:
    sentences = [
        *(f"b{n}" for n in range(1, 4)),
        *(f"l{n}" for n in range(1, 5)),
        *(f"n{n}" for n in range(1, 6)),
        "d1",
        "d2",
    ]
    for speaker, label, sentence in product(
        ("f1", "f2", "f3", "m1", "m2", "m3"), ("dis", "gio", "neu", "pau", "rab", "sor", "tri"), sentences
    ):
        yield f"EMOVO/{speaker}/{label}-{speaker}-{sentence}.wav"


def cafe() -> Iterator[str]:
    folders = {"C": "Col\udcc3re", "D": "Dégoût", "J": "Joie", "P": "Peur", "S": "Surprise", "T": "Tristesse"}
    for speaker, sentence in product(range(1, 13), range(1, 7)):
        yield f"Neutre/{speaker:02}-N-1-{sentence}.wav"
        for code, folder in folders.items():
            yield f"{folder}/Faible/{speaker:02}-{code}-1-{sentence}.wav"
            yield f"{folder}/Fort/{speaker:02}-{code}-2-{sentence}.wav"


def subesco() -> Iterator[str]:
    labels = ("ANGRY", "DISGUST", "FEAR", "HAPPY", "NEUTRAL", "SAD", "SURPRISE")
    for gender, number, sentence, label, take in product("FM", range(1, 11), range(1, 11), labels, range(1, 6)):
        odd = "]" if (gender, number, sentence, label, take) == ("M", 2, 3, "SAD", 3) else ""
        yield f"{gender}_{number:02}_NAME_S_{sentence}_{label}_{take}{odd}.wav"


def urdu() -> Iterator[str]:
    speakers = [f"SM{n}" for n in range(1, 19)] + [f"SF{n}" for n in range(1, 12)]
    for number, (label, _) in enumerate(product(("Angry", "Happy", "Neutral", "Sad"), range(100))):
        yield f"{label}/{speakers[number % 29]}_F{number}_{label[0]}{number:03}.wav"


def shemo() -> Iterator[str]:
    for number in range(3000):
        speaker = number % 87
        gender, folder = ("F", "female") if speaker < 31 else ("M", "male")
        yield f"{folder}/{gender}{speaker + 1:02}{'AFHNSW'[number % 6]}{number // 87 + 1:02}.wav"


def enterface() -> Iterator[str]:
    codes = {"anger": "an", "disgust": "di", "fear": "fe", "happiness": "ha", "sadness": "sa", "surprise": "su"}
    for speaker, (emotion, code) in product(range(1, 45), codes.items()):
        if speaker == 6:
            yield f"subject 6/{emotion}/s6_{code}.avi"
            continue
        for sentence in range(1, 6):
            if (speaker, emotion) == (23, "happiness") and sentence < 4:
                continue
            stem = f"s{12 if speaker == 11 else speaker}_{code}_{sentence}"
            stem = f"s_{speaker}_{code}_{sentence}" if (speaker, sentence) == (3, 2) else stem
            stem = "s16_su_3avi" if (speaker, code, sentence) == (16, "su", 3) else stem
            yield f"subject {speaker}/{emotion}/sentence {sentence}/{stem}.avi"
    yield "subject 1/anger/sentence 1/Thumbs.db"


COUNTS = {
    "emodb": (emodb, 535, 10, 7),
    "crema-d": (crema_d, 7441, 91, 6),
    "savee": (savee, 480, 4, 7),
    "tess": (tess, 2800, 2, 7),
    "emovo": (emovo, 588, 6, 7),
    "cafe": (cafe, 936, 12, 7),
    "subesco": (subesco, 7000, 20, 7),
    "urdu": (urdu, 400, 29, 4),
    "shemo": (shemo, 3000, 87, 6),
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a corpus; making thousands of files takes a second or two."""
    folder = tmp_path_factory.mktemp("unpacked")

    @cache
    def unpack(name: str) -> Path:
        paths, *_ = COUNTS[name]
        return tree(folder / name, paths())

    return unpack


@pytest.mark.slow("thousands of files are made")
@pytest.mark.parametrize("name", COUNTS)
def test_the_published_counts(name: str, unpacked: Callable[[str], Path]) -> None:
    _, utterances, speakers, emotions = COUNTS[name]
    corpus = read_corpus(name, unpacked(name))
    assert corpus.refused == ()
    assert len(corpus.speakers) == speakers == known_corpora()[name].speakers
    assert len(corpus.emotions) == emotions
    assert set(corpus.emotions) <= set(SYNONYMS)
    assert len(corpus.utterances) == utterances == known_corpora()[name].utterances
    ids = [utterance.id for utterance in corpus.utterances]
    assert len(ids) == len(set(ids))


def test_crema_d_leaves_out_its_silent_file(unpacked: Callable[[str], Path]) -> None:
    corpus = read_corpus("crema-d", unpacked("crema-d"))
    assert "1076_MTI_SAD_XX" not in {utterance.id for utterance in corpus.utterances}
    assert any("its sound is silence (1)" in note for note in corpus.notes)


def test_tess_corrects_the_name_of_a_speaker(unpacked: Callable[[str], Path]) -> None:
    corpus = read_corpus("tess", unpacked("tess"))
    assert Counter(utterance.speaker for utterance in corpus.utterances) == {"OAF": 1400, "YAF": 1400}
    assert any(note.startswith("corrected") and note.endswith("(1)") for note in corpus.notes)


def test_enterface_as_it_unpacks(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: videos are not listed")
    folder = tree(tmp_path, enterface())
    corpus = read_corpus("enterface", folder)
    assert (len(corpus.utterances), len(corpus.speakers)) == (1287, 43)
    assert "6" not in corpus.speakers
    assert corpus.refused == ()
    assert any("subject 6 has one long recording" in note and note.endswith("(6)") for note in corpus.notes)
    papers = read_corpus("enterface-paper-count", folder)
    assert (len(papers.utterances), len(papers.speakers)) == (1257, 42)
    assert any("overwrite" in note and note.endswith("(30)") for note in papers.notes)
    partition = make_partition(papers.speakers)
    assert [len(part) for part in (partition.train, partition.validation, partition.test)] == [30, 4, 8]
    assert [len(fold.test) for fold in deal_folds(papers.speakers, Dealt(folds=14))] == [3] * 14
    # Folders are right where names are wrong.
    (wrong,) = (u for u in corpus.utterances if u.id.endswith("s12_an_1") and u.speaker == "11")
    assert wrong.emotion == "anger"
    assert {u.extra["sentence"] for u in corpus.utterances} == set("12345")


def test_iemocap(tmp_path: Path) -> None:
    labels = {"F000": "neu", "M000": "exc", "F001": "xxx", "M001": "ang", "F002": "hap"}
    for session in (1, 2):
        for wearer in "FM":
            dialog = f"Ses0{session}{wearer}_impro01"
            text = tmp_path / f"Session{session}/dialog/EmoEvaluation/{dialog}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"[6.29 - 8.23]\t{dialog}_{turn}\t{label}\t[2.5, 2.5, 2.5]" for turn, label in labels.items()]
            text.write_text(
                "\n".join(["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", *lines, "C-E1:\tNeutral;"])
            )
            tree(tmp_path, (f"Session{session}/sentences/wav/{dialog}/{dialog}_{turn}.wav" for turn in labels))
            tree(tmp_path, iter([f"Session{session}/dialog/wav/{dialog}.wav"]))
    corpus = read_corpus("iemocap", tmp_path)
    assert corpus.speakers == ("01F", "01M", "02F", "02M")
    assert Counter(u.emotion for u in corpus.utterances) == {"anger": 4, "happiness": 8, "neutral": 4}
    assert {u.gender for u in corpus.utterances if u.speaker == "02M"} == {"male"}
    assert corpus.refused == ()
    assert "exc and hap are both happiness (8)" in corpus.notes
    assert any("whole dialogue (4)" in note for note in corpus.notes)
    assert any("no agreement (4)" in note for note in corpus.notes)
    with pytest.raises(InputError, match="holds no labels of iemocap"):
        read_corpus("iemocap", tmp_path / "Session1" / "sentences")


@pytest.mark.parametrize("name", ["msp-podcast", "msp-improv"])
def test_msp_labels_are_in_a_table(name: str, tmp_path: Path) -> None:
    rows = [("a.wav", "A", "17", "Female"), ("b.wav", "H", "Unknown", "Unknown"), ("c.wav", "X", "3", "Male")]
    (tmp_path / "Labels").mkdir()
    header = "FileName,EmoClass,EmoAct,SpkrID,Gender,Split_Set"
    lines = [f"{file},{emotion},4.0,{speaker},{gender},Train" for file, emotion, speaker, gender in rows]
    (tmp_path / "Labels" / "labels_consensus.csv").write_text("\n".join([header, *lines]))
    tree(tmp_path, (f"Audios/{file}" for file in ("a.wav", "b.wav", "c.wav", "d.wav")))
    corpus = read_corpus(name, tmp_path)
    assert [(u.id, u.speaker, u.gender, u.emotion) for u in corpus.utterances] == [
        ("Audios/a", "17", "female", "anger")
    ]
    assert [refusal.path.name for refusal in corpus.refused] == ["d.wav"]
    assert "has no label" in corpus.refused[0].reason
    assert any("its speaker is unknown" in note and note.endswith("(1)") for note in corpus.notes)


def test_a_corpus_without_speakers_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not say who speaks"):
        read_corpus("mesd", tree(tmp_path, iter(["Anger_F_A_abajo.wav"])))


@pytest.mark.parametrize("name", LABELLED_BY_NAME)
def test_the_example_of_each_entry_fits(name: str, tmp_path: Path) -> None:
    known = known_corpora()[name]
    if known.example.endswith((".avi", ".m4a")):
        pytest.importorskip("av", reason="PyAV is not installed: videos are not listed")
    corpus = read_corpus(name, tree(tmp_path, iter([known.example])))
    assert len(corpus.utterances) == 1
    assert corpus.utterances[0].emotion in SYNONYMS


@pytest.mark.parametrize(
    ("name", "path", "speaker", "emotion", "gender"),
    [
        ("savee", "DC_su03.wav", "DC", "surprise", "male"),
        ("esd", "0011/Surprise/train/0011_001401.wav", "0011", "surprise", None),
        ("esd", "0001/Angry/0001_000351.wav", "0001", "anger", None),
        ("mead", "W009/audio/surprised/level_3/012.m4a", "W009", "surprise", "female"),
        ("aesdd", "anger/a03 (3)b.wav", "3", "anger", None),
        ("shemo", "male/M36S02.wav", "M36", "sadness", "male"),
        ("emodb", "16b10Wb.wav", "16", "anger", "female"),
    ],
)
def test_single_names(name: str, path: str, speaker: str, emotion: str, gender: str | None, tmp_path: Path) -> None:
    if path.endswith(".m4a"):
        pytest.importorskip("av", reason="PyAV is not installed: videos are not listed")
    (utterance,) = read_corpus(name, tree(tmp_path, iter([path]))).utterances
    assert (utterance.speaker, utterance.emotion, utterance.gender) == (speaker, emotion, gender)


def test_the_folder_itself_may_be_a_part_of_the_pattern(tmp_path: Path) -> None:
    tree(tmp_path, iter(["DC/a01.wav", "KL/a01.wav"]))
    (utterance,) = read_corpus("savee", tmp_path / "DC").utterances
    assert utterance.id == "DC/a01"
