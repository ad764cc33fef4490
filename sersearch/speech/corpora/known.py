"""Corpora whose layout is known: one TOML file in `catalogue` describes each, with its exceptions and their reasons.

docs/corpora.md explains how to write such a file.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from sersearch.errors import InputError
from sersearch.speech.audio import audio_files
from sersearch.speech.corpora.catalogues import match_end, read_catalogue
from sersearch.speech.corpora.corpus import Corpus, Gender, Refusal, Utterance
from sersearch.speech.corpora.tables import gender_of, read_table

# Fields of a pattern or a label table that are no further facts about an utterance.
_LABELS = ("name", "speaker", "emotion", "gender")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Deviation(_Record):
    """Files that a corpus has, but not as it should have them.

    Attributes:
        reason: why they are treated differently; printed.
        path: regular expression for the end of their path, without suffix.
        speakers: names of the speakers that they are by.
        leave_out: whether they are no utterances of the corpus.
        speaker: who the speaker is, if the name is wrong.
        emotion: what the emotion is, if the name is wrong.
    """

    reason: str
    path: str = ""
    speakers: tuple[str, ...] = ()
    leave_out: bool = False
    speaker: str | None = None
    emotion: str | None = None

    def concerns(self, path: str) -> bool:
        """Tell whether a file is meant, given its path without suffix."""
        return bool(self.path) and match_end(self.path, path) is not None


class LabelFiles(_Record):
    """Files that hold the labels, where the names of the sound files don't.

    Attributes:
        files: pattern of their paths below the folder of the corpus, as in shells.
        line: regular expression for a line of them, with the groups name (of a sound file, without suffix), emotion
            and others; empty where they are tables with a header.
        columns: column of each field (name, emotion, speaker, gender and others) in such tables.
    """

    files: str
    line: str = ""
    columns: dict[str, str] = {}


class KnownCorpus(_Record):
    """A corpus as it is distributed.

    Attributes:
        title: full name.
        reference: the publication that describes it.
        source: where it can be had.
        licence: under which it can be used.
        utterances: published number of utterances, without those that are left out; None if it is not certain.
        speakers: published number of speakers, without those that are left out; None if it is not certain.
        example: a path, to show how it is laid out.
        unusable: why it can't be used; empty for a corpus that can.
        pattern: regular expression for the end of a path, without suffix. What it matches is the utterance's id; its
            groups are speaker, emotion, gender and further facts, such as the sentence.
        speaker: how the name of a speaker is made of the groups.
        emotions: emotion of each code in the pattern's group; a code that is not in it stays as it is.
        kept: emotions that are kept unless others are asked for; empty for all.
        female: names of the female speakers, where no group of the pattern is the gender.
        male: names of the male speakers.
        labels: files that hold the labels, where the names don't.
        exceptions: files that are left out, or whose names are wrong.
        refused: files that are refused with a reason of their own.
        variants: further selections of the corpus, which leave out more; "NAME-VARIANT" names one.
        left_out: why the variant that was chosen leaves out more; empty for the corpus itself.
    """

    title: str
    reference: str
    source: str
    licence: str
    utterances: int | None = None
    speakers: int | None = None
    example: str
    unusable: str = ""
    pattern: str = ""
    speaker: str = "{speaker}"
    emotions: dict[str, str] = {}
    kept: tuple[str, ...] = ()
    female: tuple[str, ...] = ()
    male: tuple[str, ...] = ()
    labels: LabelFiles | None = None
    exceptions: tuple[Deviation, ...] = ()
    refused: tuple[Deviation, ...] = ()
    variants: dict[str, Deviation] = {}
    left_out: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.pattern) == bool(self.unusable):
            raise ValueError("give either a pattern, or the reason why the corpus is unusable")
        return self

    def variant(self, name: str) -> "KnownCorpus":
        """The corpus without what a variant leaves out."""
        chosen = self.variants[name].model_copy(update={"leave_out": True})
        # How many utterances are left is the variant's own affair.
        update: dict[str, object] = {"utterances": None, "speakers": None, "variants": {}}
        update |= {"exceptions": (*self.exceptions, chosen), "left_out": chosen.reason}
        return self.model_copy(update=update)

    @cached_property
    def _gender_of_speaker(self) -> Mapping[str, Gender]:
        women: dict[str, Gender] = dict.fromkeys(self.female, "female")
        return women | dict.fromkeys(self.male, "male")

    def gender(self, fields: Mapping[str, str], speaker: str, where: str) -> Gender | None:
        """The gender of a speaker, from the fields of an utterance or from the lists; None if unknown."""
        if "gender" in fields:
            return gender_of(fields["gender"], where)
        return self._gender_of_speaker.get(speaker)


@cache
def known_corpora() -> Mapping[str, KnownCorpus]:
    """All corpora of the catalogue and their variants, by name."""
    corpora: dict[str, KnownCorpus] = {}
    for name, corpus in read_catalogue("catalogue", KnownCorpus).items():
        corpora[name] = corpus
        for variant in corpus.variants:
            corpora[f"{name}-{variant}"] = corpus.variant(variant)
    return corpora


def read_known(name: str, folder: Path) -> Corpus:
    """Read a corpus of the catalogue from its folder; only names and labels are read, no sound.

    Args:
        name: name of the corpus in the catalogue.
        folder: folder that holds the files at any depth.

    Returns:
        The corpus with all its emotions. `refused` holds the files whose names don't fit, `notes` the exceptions that
        were applied, with the number of files.

    Raises:
        InputError: the corpus can't be used, or no file of the folder fits.
    """
    corpus = known_corpora()[name]
    if corpus.unusable:
        raise InputError(f"{name}: {corpus.title} can't be used: {corpus.unusable}; choose another corpus")
    paths = audio_files(folder)
    reading = _Reading(name, corpus, folder)
    for path in paths:
        reading.add(path)
    if not reading.by_id:
        raise InputError(
            f"{folder}: none of its {len(paths)} audio files is one of {corpus.title}; give the folder that holds "
            f"files such as {corpus.example}"
        )
    utterances = tuple(reading.by_id[id] for id in sorted(reading.by_id))
    notes = tuple(reading.notes(utterances))
    tables = tuple(_label_files(corpus.labels, folder)) if corpus.labels else ()
    return Corpus(name, utterances, tuple(reading.refused), notes, (folder,), tables)


class _Reading:
    """The utterances and the refusals of a corpus, while its files are gone through."""

    def __init__(self, name: str, corpus: KnownCorpus, folder: Path) -> None:
        self.name = name
        self.corpus = corpus
        self.folder = folder
        self.labels = _read_labels(name, corpus.labels, folder) if corpus.labels else {}
        self.by_id: dict[str, Utterance] = {}
        self.refused: list[Refusal] = []
        self._applied: Counter[Deviation] = Counter()
        self._codes: dict[str, set[str]] = {}

    def add(self, path: Path) -> None:
        """Read the labels of one file."""
        # The folder's own name may be a part of the pattern.
        written = f"{self.folder.resolve().name}/{path.relative_to(self.folder).with_suffix('').as_posix()}"
        applied = [exception for exception in self.corpus.exceptions if exception.concerns(written)]
        self._applied.update(applied)
        if any(exception.leave_out for exception in applied):
            return
        match = match_end(self.corpus.pattern, written)
        if match is None:
            self.refused.append(Refusal(path, self._why(written)))
            return
        fields = {name: value for name, value in match.groupdict().items() if value is not None}
        if self.corpus.labels:
            labels = self.labels.get(path.stem)
            if labels is None:
                self.refused.append(Refusal(path, f"has no label in {self.corpus.labels.files}"))
                return
            fields |= labels
        for exception in applied:
            changed = {"speaker": exception.speaker, "emotion": exception.emotion}
            fields |= {name: value for name, value in changed.items() if value is not None}
        self._add(path, match["id_"], fields)

    def _add(self, path: Path, id: str, fields: Mapping[str, str]) -> None:
        speaker = self.corpus.speaker.format_map(fields)
        for exception in self.corpus.exceptions:
            if speaker in exception.speakers:
                self._applied[exception] += 1
                return
        if id in self.by_id:
            self.refused.append(Refusal(path, f"has the same name as {self.by_id[id].path}"))
            return
        emotion = self.corpus.emotions.get(fields["emotion"], fields["emotion"])
        self._codes.setdefault(emotion, set()).add(fields["emotion"])
        gender = self.corpus.gender(fields, speaker, str(path))
        extra = {name: value for name, value in fields.items() if name not in (*_LABELS, "id_")}
        self.by_id[id] = Utterance(id, path, speaker, gender, emotion, self.name, extra)

    def _why(self, path: str) -> str:
        """Why a file is refused whose name does not fit."""
        for refused in self.corpus.refused:
            if refused.concerns(path):
                return refused.reason
        return f"its name does not fit the pattern of {self.name}, such as {self.corpus.example}"

    def notes(self, utterances: Iterable[Utterance]) -> Iterator[str]:
        """Say which exceptions were applied, and which codes are one emotion."""
        for exception, count in self._applied.items():
            action = "left out" if exception.leave_out else "corrected"
            yield f"{action} (with the number of files): {exception.reason} ({count})"
        counts = Counter(utterance.emotion for utterance in utterances)
        for emotion, codes in sorted(self._codes.items()):
            if len(codes) > 1:
                yield f"{' and '.join(sorted(codes))} are both {emotion} ({counts[emotion]})"


def _read_labels(name: str, labels: LabelFiles, folder: Path) -> dict[str, dict[str, str]]:
    """Read the fields of each sound file, by its name without suffix.

    Raises:
        InputError: there is no file of labels, or it has no label.
    """
    fields: dict[str, dict[str, str]] = {}
    for file in _label_files(labels, folder):
        records = _lines(file, labels.line) if labels.line else _rows(file, labels.columns)
        for record in records:
            fields[Path(record["name"]).stem] = record
    if not fields:
        raise InputError(
            f"{folder}: holds no labels of {name} ({labels.files}); give the folder that holds them and the sound"
        )
    return fields


def _label_files(labels: LabelFiles, folder: Path) -> list[Path]:
    return sorted(folder.glob(labels.files))


def _lines(file: Path, line: str) -> Iterator[dict[str, str]]:
    pattern = re.compile(line)
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if match := pattern.fullmatch(text):
            yield match.groupdict()


def _rows(file: Path, columns: Mapping[str, str]) -> Iterator[dict[str, str]]:
    expected = {field: column.casefold() for field, column in columns.items()}
    table = read_table(file, expected.values())
    missing = [columns[field] for field, column in expected.items() if column not in table.columns]
    if missing:
        raise InputError(f"{file}: has no column {missing[0]!r}; its header has {', '.join(table.columns)}")
    for _, row in table.records():
        yield {field: row[column] for field, column in expected.items()}
