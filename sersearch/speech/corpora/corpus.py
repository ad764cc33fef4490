"""The form of every corpus: utterances with speaker, gender and emotion."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

Gender = Literal["female", "male", "other"]

SENTENCES = ("sentence", "text", "transcript", "transcription")
"""Further facts that say what is spoken; the first one that a corpus has is used."""


@dataclass(frozen=True)
class Utterance:
    """One recording of one emotion by one speaker.

    Attributes:
        id: name that is unique in the corpus.
        path: audio file.
        speaker: name of the speaker.
        gender: gender of the speaker, None if unknown.
        emotion: name of the emotion.
        corpus: name of the corpus that the utterance is from.
        extra: further facts about the utterance, such as session, age or text: name -> value.
        start_s: where the utterance begins in the file, in seconds; None for the beginning of the file.
        end_s: where the utterance ends in the file, in seconds; None for the end of the file.
    """

    id: str
    path: Path
    speaker: str
    gender: Gender | None
    emotion: str
    corpus: str
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)
    start_s: float | None = None
    end_s: float | None = None


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
    """The utterances of a corpus, or of several together.

    Attributes:
        name: name of the corpus; of several, their names joined by "+".
        utterances: utterances, sorted by id.
        refused: files that the reader of the corpus refused.
        notes: what a reader of the corpus' figures has to know, such as labels that were mapped and emotions that
            were left out; one sentence each.
        folders: folder of each corpus, to count the files that are not read.
        tables: files with labels that were read, such as a manifest.
    """

    name: str
    utterances: tuple[Utterance, ...]
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    tables: tuple[Path, ...] = ()

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
