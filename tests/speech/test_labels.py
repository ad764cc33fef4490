import itertools
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.errors import InputError
from sersearch.speech.corpora.labels import SYNONYMS, check_look_alikes, emotion_of, map_labels, tidy

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def spellings(label: str) -> list[str]:
    """Write a label in the ways that corpora do."""
    quoted = [f'"{label}"', f"'{label}'", f" “{label}” ", f"' {label} '"]
    return [label, label.upper(), label.title(), f"  {label}\t", label.replace(" ", "_"), *quoted]


def test_each_label_of_the_table_is_read_in_every_spelling() -> None:
    for emotion, labels in SYNONYMS.items():
        for label in (emotion, *labels):
            for spelling in spellings(label):
                assert emotion_of(spelling) == emotion, spelling


def test_the_documented_table_is_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text(encoding="utf-8")
    for emotion, labels in SYNONYMS.items():
        assert f"| {emotion} | {', '.join(labels)} |\n" in page


def test_no_label_belongs_to_two_emotions() -> None:
    labels = [*SYNONYMS, *itertools.chain.from_iterable(SYNONYMS.values())]
    assert len(labels) == len(set(labels))


# The labels of public corpora: RAVDESS and MEAD, CREMA-D, IEMOCAP, TESS, ESD, SUBESCO.
@pytest.mark.parametrize(
    ("labels", "emotions"),
    [
        ("angry contempt disgusted fear happy neutral sad surprised", "anger contempt disgust fear happiness neutral"),
        ("ANG DIS FEA HAP NEU SAD", "anger disgust fear happiness neutral sadness"),
        ("ang hap neu sad exc fru sur", "anger happiness neutral sadness exc fru surprise"),
        ("angry disgust fear happy neutral ps sad", "anger disgust fear happiness neutral surprise sadness"),
        ("Angry Happy Neutral Sad Surprise", "anger happiness neutral sadness surprise"),
        ("excited frustrated Boredom other xxx", "excited frustrated boredom other xxx"),
    ],
)
def test_labels_of_public_corpora(labels: str, emotions: str) -> None:
    for label, emotion in zip(labels.split(), emotions.split(), strict=False):
        assert emotion_of(label) == emotion


@given(ANY_TEXT)
def test_reading_a_name_twice_changes_nothing(text: str) -> None:
    name = tidy(text)
    assert tidy(name) == name
    assert name == name.strip()
    assert not any(unicodedata.category(character) == "Cc" for character in name)
    assert emotion_of(emotion_of(text)) == emotion_of(text)


def test_hand_made_maps() -> None:
    labels = ("exc", "happy", "HAPPINESS", "sad", "bored")
    assert map_labels(labels, {}, "x") == {
        "exc": "exc",
        "happy": "happiness",
        "HAPPINESS": "happiness",
        "sad": "sadness",
        "bored": "boredom",
    }
    assert map_labels(labels, {"EXC": "hap"}, "x")["exc"] == "happiness"
    positive = map_labels(labels, {"happiness": "positive", "exc": "positive"}, "x")
    assert [positive[label] for label in labels] == ["positive", "positive", "positive", "sadness", "boredom"]
    only_one = map_labels(labels, {"happy": "amused"}, "x")
    assert (only_one["happy"], only_one["HAPPINESS"]) == ("amused", "happiness")
    # Emotions may be exchanged: what was mapped by hand is not mapped again.
    assert map_labels(("fear", "anger"), {"fear": "anger", "anger": "fear"}, "x") == {"fear": "anger", "anger": "fear"}


LOOK_ALIKES = [
    ("01", "1"),
    ("Ann", "ann"),
    ("ann b", "Ann_B."),
    ("spk-01", "spk1"),
    ("spk 10", "SPK_010"),
    ("Straße", "STRASSE"),
    ("ann", "ａｎｎ"),
    ("ann", "an\u200bn"),
    ("'ann'", "ann"),
    ("1_02", "01-2"),
    ("0", "00"),
]


@pytest.mark.parametrize(("one", "other"), LOOK_ALIKES)
def test_look_alikes_are_refused(one: str, other: str) -> None:
    with pytest.raises(InputError) as refusal:
        check_look_alikes([one, "someone else", other], "mine")
    for words in (repr(one), repr(other), "--distinct-speakers", "spell the names alike"):
        assert words in str(refusal.value)


@pytest.mark.parametrize(
    "speakers",
    [("1", "10", "100"), ("ann", "anna"), ("1-12", "11-2"), ("a", "b"), ("0", "1"), ("...", "---"), ("José", "Jose")],
)
def test_other_names_are_not(speakers: tuple[str, ...]) -> None:
    check_look_alikes(speakers, "mine")


@given(st.text("abcÄéß", min_size=1, max_size=8), st.integers(0, 2000), st.integers(0, 3), st.sampled_from(" -_."))
def test_spellings_of_one_name_look_alike(word: str, number: int, zeros: int, separator: str) -> None:
    plain, varied = f"{word}{number}", f"{word.upper()}{separator}{'0' * zeros}{number}"
    with pytest.raises(InputError, match="look like one person"):
        check_look_alikes([tidy(plain), tidy(varied)], "mine")


def test_composed_and_decomposed_letters_are_one_name() -> None:
    assert tidy(unicodedata.normalize("NFD", "José  Núñez ")) == "José Núñez"
