"""The form of every corpus: utterances with speaker, gender and emotion."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from typing import Literal

from sersearch.errors import InputError

Gender = Literal["female", "male"]


@dataclass(frozen=True)
class Utterance:
    """One recording of one emotion by one speaker.

    Attributes:
        id: name that is unique in the corpus.
        path: audio file.
        speaker: name of the speaker.
        gender: gender of the speaker, None if unknown.
        emotion: name of the emotion.
    """

    id: str
    path: Path
    speaker: str
    gender: Gender | None
    emotion: str


@dataclass(frozen=True)
class Refusal:
    """A file that can't be used.

    Attributes:
        path: the file.
        reason: why the file can't be used, as the end of a sentence that begins with the path.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Corpus:
    """The utterances of a corpus.

    Attributes:
        name: name of the corpus.
        utterances: utterances, sorted by id.
        refused: files that the reader of the corpus refused.
    """

    name: str
    utterances: tuple[Utterance, ...]
    refused: tuple[Refusal, ...] = ()

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers' names, sorted."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    @property
    def emotions(self) -> tuple[str, ...]:
        """The emotions' names, sorted."""
        return tuple(sorted({utterance.emotion for utterance in self.utterances}))


def utterances_by_speaker(utterances: Iterable[Utterance]) -> dict[str, tuple[Utterance, ...]]:
    """Group utterances by speaker: the speakers sorted by name, the utterances of each sorted by id."""
    in_order = sorted(utterances, key=lambda utterance: (utterance.speaker, utterance.id))
    groups = groupby(in_order, key=lambda utterance: utterance.speaker)
    return {speaker: tuple(group) for speaker, group in groups}


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
            nearest = get_close_matches(emotion, choices, n=1)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise InputError(f"{corpus} has no emotion {emotion!r}; {hint}choose from {', '.join(choices)}")
