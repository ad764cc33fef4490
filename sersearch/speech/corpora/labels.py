"""The names of emotions and speakers: how labels are spelt in the package, and which names of speakers look alike."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from sersearch.errors import InputError

SYNONYMS: dict[str, tuple[str, ...]] = {
    "anger": ("ang", "angry"),
    "boredom": ("bor", "bored"),
    "calm": ("cal",),
    "contempt": ("contemptuous",),
    "disgust": ("dis", "disgusted"),
    "fear": ("fea", "fearful", "afraid"),
    "happiness": ("hap", "happy", "joy", "joyful"),
    "neutral": ("neu",),
    "sadness": ("sad",),
    "surprise": ("sur", "surprised", "ps", "pleasant surprise", "pleasantly surprised"),
}
"""Emotion -> the other labels that corpora use for it.

Letter case, quotation marks and blanks around a label do not matter, and - and _ count as blanks. A label that is not
in this table stays an emotion of its own, in lower case: excited and exc, for example, are no happiness unless they are
mapped by hand. Labels of one or two letters other than ps (TESS: pleasant surprise) differ too much between corpora.
"""

_EMOTION_OF = {label: emotion for emotion, labels in SYNONYMS.items() for label in (emotion, *labels)}
_QUOTES = "\"'`´‘’‚‛“”„‟«»‹›"
_SEPARATORS = re.compile(r"[\s\-_.]+")


def tidy(name: str) -> str:
    """Normalise a name: Unicode's form NFC, one blank between words, none around them, no control characters."""
    composed = " ".join(unicodedata.normalize("NFC", name).split())
    return "".join(character for character in composed if unicodedata.category(character) != "Cc").strip()


def emotion_of(label: str) -> str:
    """Return the name that the package uses for a label.

    Example:
        >>> [emotion_of(label) for label in ("Angry", ' "hap"', "pleasant_surprise", "Excited")]
        ['anger', 'happiness', 'surprise', 'excited']
    """
    plain = _plain(label)
    words = " ".join(plain.replace("-", " ").replace("_", " ").split())
    return _EMOTION_OF.get(words, plain)


def _plain(label: str) -> str:
    """Strip quotation marks and blanks, and change to lower case."""
    return tidy(label).strip(_QUOTES + " ").lower()


def map_labels(labels: Iterable[str], by_hand: Mapping[str, str], corpus: str) -> dict[str, str]:
    """Find the emotion that each label of a corpus stands for.

    Args:
        labels: all labels of the corpus, as they are written.
        by_hand: label or emotion of the corpus -> emotion that it is to become.
        corpus: name of the corpus, for errors.

    Returns:
        label -> emotion, by the table `SYNONYMS` and then by hand.

    Raises:
        InputError: the corpus lacks a label that is mapped by hand, the label is mapped to two emotions, or the
            emotion that it is mapped to looks like a misspelling.
    """
    by_table = {label: emotion_of(label) for label in labels}
    emotions = dict(by_table)
    mapped: dict[str, str] = {}
    for given, wanted in by_hand.items():
        target = _target(given, wanted, by_table.values())
        matching = [label for label, emotion in by_table.items() if _plain(given) in (_plain(label), emotion)]
        if not matching:
            known = {_plain(label) for label in by_table} | set(by_table.values())
            raise InputError(f"can't map {given!r} to {wanted!r}: {_lacks(corpus, given, known)}")
        for label in matching:
            if mapped.setdefault(label, target) != target:
                raise InputError(
                    f"{corpus}: the label {label!r} is mapped to {mapped[label]!r} and to {target!r}; choose one"
                )
            emotions[label] = target
    return emotions


def _target(given: str, wanted: str, emotions: Iterable[str]) -> str:
    """Return the emotion that a label is mapped to by hand; refuse a misspelt one."""
    target = emotion_of(wanted)
    if not target:
        raise InputError(f"can't map {given!r} to an empty name; name an emotion, as in exc=happiness")
    known = sorted({*emotions, *SYNONYMS})
    nearest = get_close_matches(target, known, n=1, cutoff=0.8)
    if target not in known and nearest:
        raise InputError(
            f"can't map {given!r} to {wanted!r}: did you mean {nearest[0]!r}? An emotion of your own needs a name that "
            "is less similar"
        )
    return target


def check_emotions(wanted: tuple[str, ...], known: Iterable[str], corpus: str) -> None:
    """Check that a corpus has all the wanted emotions.

    Raises:
        InputError: no emotion is wanted, or the corpus lacks one; the message suggests the most similar name.
    """
    choices = sorted(known)
    if not wanted:
        raise InputError(f"the list of emotions of {corpus} is empty; choose from {', '.join(choices)}")
    for emotion in wanted:
        if emotion not in choices:
            raise InputError(_lacks(corpus, emotion, choices))


def _lacks(corpus: str, emotion: str, known: Iterable[str]) -> str:
    """Say that a corpus lacks an emotion, with the nearest that it has."""
    choices = sorted(known)
    if emotion_of(emotion) in choices:
        nearest = [emotion_of(emotion)]
    else:
        nearest = get_close_matches(_plain(emotion), choices, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{corpus} has no emotion {emotion!r}; {hint}choose from {', '.join(choices)}"


def check_look_alikes(speakers: Iterable[str], corpus: str) -> None:
    """Check that no two speakers have names that only differ in their spelling, such as 01 and 1, or Ann and ann.

    Raises:
        InputError: two names look alike; the message names both.
    """
    first: dict[str, str] = {}
    for speaker in sorted(set(speakers)):
        other = first.setdefault(_likeness(speaker), speaker)
        if other != speaker:
            raise InputError(
                f"{corpus}: the speakers {other!r} and {speaker!r} look like one person, spelt in two ways; "
                "spell the names alike, or give --distinct-speakers to keep the speakers apart"
            )


def _likeness(speaker: str) -> str:
    """Return what two spellings of one name have in common; names with the same likeness look alike.

    Letter case, width and other compatible forms of characters, leading zeros, quotation marks and what is invisible
    are dropped, and so are blanks, hyphens, underscores and dots, except between two digits: 1-12 is not 11-2.

    Example:
        >>> [_likeness(speaker) for speaker in ("Ann B.", "spk_01", "1_02")]
        ['annb', 'spk1', '1-2']
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", speaker).casefold())
    visible = "".join(c for c in folded if unicodedata.category(c) not in ("Cc", "Cf") and c not in _QUOTES)
    marked = _SEPARATORS.sub("-", visible)
    joined = re.sub(r"(?<!\d)-|-(?!\d)", "", marked)
    without_zeros = re.sub(r"(?<!\d)0+(?=\d)", "", joined)
    return without_zeros or speaker
