"""Splits by name: read from a study's lists, a CSV file or a column of the manifest; checked; written."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sersearch.errors import InputError, unknown
from sersearch.speech.corpora import SENTENCES
from sersearch.store.reader import Store
from sersearch.study.fold import (
    CORPUS,
    PARTS,
    Dealt,
    Fold,
    Groups,
    LeftOutCorpora,
    NamedParts,
    Part,
    Shares,
    Split,
    SplitColumn,
    SplitFile,
    draw_parts,
    rotate,
)
from sersearch.study.study import Study

PART_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "devel": "validation",
    "development": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""What published splits call the parts; letter case does not matter."""

RECORDINGS = ("recording", "dialogue", "dialog")
"""Columns of a manifest that say which recording an utterance was cut from."""


@dataclass(frozen=True)
class Assignment:
    """One speaker's place in a split.

    Attributes:
        speaker: the name.
        part: of the speaker; None where the split says folds alone.
        fold: name of the fold; "" where there is one.
        origin: what says so, for messages.
    """

    speaker: str
    part: Part | None
    fold: str
    origin: str


def read_split(study: Study, store: Store, groups: Groups) -> Study:
    """Replace a split by name by the folds themselves; a study of shares or folds stays as it is.

    Args:
        study: as it was written.
        store: whose speakers and utterances the split names.
        groups: of the speakers, by which validation speakers are drawn where the split names none.

    Raises:
        InputError: the split can't be read, names what the store does not have, or parts a speaker.
    """
    given = study.partition
    match given:
        case Shares() | Dealt() | Split():
            return study
        case NamedParts():
            source, assignments = "the study", _of_lists(given, store)
        case LeftOutCorpora():
            source, assignments = "the corpora", _of_corpora(store)
        case SplitFile():
            source, assignments = given.file, _of_file(Path(given.file), store)
        case SplitColumn():
            source, assignments = f"column {given.column}", _of_column(given.column, store)
    known = {info.speaker for info in store.speakers}
    for assignment in assignments:
        if assignment.speaker not in known:
            raise InputError(f"{assignment.origin}: {unknown(assignment.speaker, known, 'speaker')}")
    drawn = given.validation if isinstance(given.validation, int) else 0
    folds = _make_folds(assignments, source, drawn, given.seed, groups)
    return study.model_copy(update={"partition": Split(source=source, parts=folds)})


def _of_lists(given: NamedParts, store: Store) -> list[Assignment]:
    validation = () if isinstance(given.validation, int) else _of_names(given.validation, "validation", store)
    test, train = _of_names(given.test, "test", store), _of_names(given.train, "train", store)
    if not given.train:
        named = {*test, *validation}
        train = tuple(info.speaker for info in store.speakers if info.speaker not in named)
    parts: dict[Part, tuple[str, ...]] = {"train": train, "validation": validation, "test": test}
    return [Assignment(name, part, "", f"[partition] {part}") for part in PARTS for name in parts[part]]


def _of_names(names: Sequence[str], part: Part, store: Store) -> tuple[str, ...]:
    """The speakers of a part, where "corpus:NAME" stands for all speakers of a corpus.

    Raises:
        InputError: the store has no such corpus.
    """
    by_corpus = _speakers_by_corpus(store)
    speakers: list[str] = []
    for name in names:
        corpus = name.removeprefix(CORPUS)
        if corpus == name:
            speakers.append(name)
        elif corpus in by_corpus:
            speakers += by_corpus[corpus]
        else:
            raise InputError(
                f"[partition] {part} = {name!r}: the store has no corpus {corpus!r}; its corpora are "
                f"{', '.join(by_corpus)}"
            )
    return tuple(speakers)


def _of_corpora(store: Store) -> list[Assignment]:
    """One fold per corpus, which tests in it; the speakers of all others are learnt from."""
    by_corpus = _speakers_by_corpus(store)
    if len(by_corpus) < 2:
        raise InputError(
            f'[partition] folds = "corpora" was given, but {store.path} has one corpus, {store.recipe.corpus}: build a '
            "store of several (--corpus NAME=DIR several times), or give a number of folds"
        )
    return [
        Assignment(speaker, "test" if corpus == left_out else "train", left_out, f"corpus {corpus}")
        for left_out in by_corpus
        for corpus, speakers in by_corpus.items()
        for speaker in speakers
    ]


def _speakers_by_corpus(store: Store) -> dict[str, list[str]]:
    """The speakers of each corpus of a store, both sorted by name."""
    by_corpus: dict[str, list[str]] = {}
    for info in sorted(store.speakers, key=lambda info: (info.corpus, info.speaker)):
        by_corpus.setdefault(info.corpus, []).append(info.speaker)
    return by_corpus


def _of_file(path: Path, store: Store) -> list[Assignment]:
    rows = _read_csv(path)
    columns = list(rows[0][1]) if rows else []
    key = next((name for name in ("speaker", "utterance") if name in columns), None)
    if key is None or not {"part", "fold"} & set(columns):
        raise InputError(
            f"{path}: its columns are {', '.join(columns) or 'none'}; a split has a column speaker or utterance, and a "
            "column part (train, validation, test), fold, or both"
        )
    placed = []
    for line, row in rows:
        part = _part_of(row["part"], f"{path}, line {line}") if row.get("part") else None
        if part is None and not row.get("fold"):
            raise InputError(
                f"{path}, line {line}: {row[key]} has neither part nor fold: fill one in, or drop the line"
            )
        placed.append(Assignment(row[key], part, row.get("fold", ""), f"{path}, line {line}"))
    return placed if key == "speaker" else _by_speaker(placed, store)


def _read_csv(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Number and fields of each line; columns by their names in small letters."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the split can't be read ({error}); name a CSV file beside the study") from None
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    columns = [name.strip().casefold() for name in next(reader, [])]
    found = []
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(columns):
            raise InputError(
                f"{path}, line {reader.line_num}: has {len(fields)} fields and the header {len(columns)}: correct it"
            )
        found.append((reader.line_num, dict(zip(columns, (field.strip() for field in fields), strict=True))))
    return found


def _of_column(column: str, store: Store) -> list[Assignment]:
    rows = [row for info in store.speakers for row in _labels(store, info.speaker)]
    columns = sorted({name for row in rows for name in row})
    if column not in columns:
        raise InputError(f"[partition] column = {column!r}: {unknown(column, columns, 'column')}")
    values = {row[column] for row in rows if row.get(column)}
    are_parts = all(value.casefold() in PART_NAMES for value in values)
    placed = [
        Assignment(
            row["utterance"],
            PART_NAMES[row[column].casefold()] if are_parts else None,
            "" if are_parts else row[column],
            f"column {column} of {row['utterance']}",
        )
        for row in rows
        if row.get(column)
    ]
    return _by_speaker(placed, store)


def _labels(store: Store, speaker: str) -> list[dict[str, str]]:
    """Every label of one speaker's utterances, those of further columns of the manifest included."""
    labels = []
    for row in store.labels_of(speaker):
        extra: dict[str, Any] = json.loads(row.pop("extra", None) or "{}")
        labels.append({name: str(value) for name, value in {**extra, **row}.items() if value not in (None, "")})
    return labels


def _part_of(name: str, origin: str) -> Part:
    if name.casefold() not in PART_NAMES:
        raise InputError(f"{origin}: {unknown(name, PART_NAMES, 'part')}")
    return PART_NAMES[name.casefold()]


def _by_speaker(placed: Sequence[Assignment], store: Store) -> list[Assignment]:
    """The places of speakers from those of utterances; a speaker whose utterances have none is left out.

    Raises:
        InputError: utterances of a speaker have several places, or some have none.
    """
    speaker_of = {row["utterance"]: info.speaker for info in store.speakers for row in _labels(store, info.speaker)}
    by_fold: dict[tuple[str, str], list[Assignment]] = {}
    for each in placed:
        if each.speaker not in speaker_of:
            raise InputError(f"{each.origin}: {unknown(each.speaker, speaker_of, 'utterance')}")
        # With folds alone, a speaker has one fold; with parts, one part in each fold.
        fold = each.fold if each.part else ""
        by_fold.setdefault((fold, speaker_of[each.speaker]), []).append(each)
    utterances = {name: [u for u, s in speaker_of.items() if s == name] for name in set(speaker_of.values())}
    found = []
    for (_, speaker), of_speaker in by_fold.items():
        first = of_speaker[0]
        for other in of_speaker:
            if (other.part, other.fold) != (first.part, first.fold):
                raise InputError(
                    f"speaker {speaker} is in two parts: {first.speaker} in {first.part or f'fold {first.fold}'} and "
                    f"{other.speaker} in {other.part or f'fold {other.fold}'}, but a model must not know the voice "
                    "that it is tested on: put each speaker's utterances into one part"
                )
        missing = sorted(set(utterances[speaker]) - {each.speaker for each in of_speaker})
        if missing:
            raise InputError(
                f"the split has {len(of_speaker)} utterances of speaker {speaker} and not {missing[0]}: speakers are "
                "in a part with all of their utterances; add those that are missing, or build a store without them"
            )
        found.append(Assignment(speaker, first.part, first.fold, first.origin))
    return found


def _make_folds(
    assignments: Sequence[Assignment], source: str, drawn: int, seed: int, groups: Groups
) -> tuple[Fold, ...]:
    by_fold: dict[str, list[Assignment]] = {}
    for each in assignments:
        by_fold.setdefault(each.fold, []).append(each)
    if all(each.part is None for each in assignments):
        return rotate([[each.speaker for each in of] for of in by_fold.values()], list(by_fold), max(drawn, 1))
    return tuple(_make_fold(name, of, source, drawn, seed, groups) for name, of in by_fold.items())


def _make_fold(
    name: str, assignments: Sequence[Assignment], source: str, drawn: int, seed: int, groups: Groups
) -> Fold:
    place = f"{source}, fold {name}" if name else source
    parts: dict[Part, list[str]] = {part: [] for part in PARTS}
    placed: dict[str, Assignment] = {}
    for each in assignments:
        if each.part is None:
            raise InputError(f"{each.origin}: speaker {each.speaker} has a fold and no part, unlike others: fill it in")
        before = placed.setdefault(each.speaker, each)
        if before.part != each.part:
            raise InputError(
                f"{place}: speaker {each.speaker} is in two parts, {before.part} ({before.origin}) and {each.part} "
                f"({each.origin}): keep one"
            )
        if before is each:
            parts[each.part].append(each.speaker)
    needed = drawn + 1 if not parts["validation"] else 1
    fewest_of: dict[Part, int] = {"train": needed, "test": 1}
    for part, fewest in fewest_of.items():
        if len(parts[part]) < fewest:
            raise InputError(
                f"{place}: {len(parts[part])} {part} speakers, but {fewest} are needed"
                + (f", of whom {drawn} are drawn to validate" if fewest > 1 else "")
                + ": name more of them"
            )
    train, validation = tuple(parts["train"]), tuple(parts["validation"])
    if not validation:
        counts = (len(train) - drawn, drawn)
        train, validation = draw_parts(sorted(train), counts, groups, np.random.default_rng(seed))
    test = tuple(sorted(parts["test"]))
    return Fold(train=tuple(sorted(train)), validation=tuple(sorted(validation)), test=test, name=name)


def check_split(store: Store, folds: Sequence[Fold]) -> tuple[str, ...]:
    """Say what a split has in two parts: a sentence about speakers, sentences and recordings each.

    Args:
        store: whose labels are read; no frames.
        folds: of a study.
    """
    named = {name for fold in folds for part in PARTS for name in fold.speakers(part)}
    left_out = sorted({info.speaker for info in store.speakers} - named)
    labels = {speaker: _labels(store, speaker) for speaker in sorted(named)}
    words = ["no speaker is in two parts"]
    if left_out:
        words.append(f"{len(left_out)} of {len(store.speakers)} speakers are in no part: {', '.join(left_out)}")
    for noun, columns in (("sentences", SENTENCES), ("recordings", RECORDINGS)):
        column = next((name for name in columns if any(name in row for of in labels.values() for row in of)), None)
        if column is None:
            words.append(f"whether {noun} are in two parts is unknown: no column {' or '.join(columns[:2])}")
        else:
            words.append(_shared(noun, column, labels, folds))
    return (*words, *_compare_corpora(store, folds), *_shared_noises(store, folds))


def _compare_corpora(store: Store, folds: Sequence[Fold]) -> list[str]:
    """Say which corpora are tested that were also trained or chosen on; empty for a store of one corpus."""
    corpus_of = {info.speaker: info.corpus for info in store.speakers}
    if len(set(corpus_of.values())) < 2:
        return []
    pairs = [({corpus_of[name] for name in fold.learnt}, {corpus_of[name] for name in fold.test}) for fold in folds]
    shared = sorted(corpus for learnt, test in pairs for corpus in test & learnt)
    in_folds = " over all folds" if len(folds) > 1 else ""
    if shared:
        tested = sum(len(test) for _, test in pairs)
        names = ", ".join(dict.fromkeys(shared))
        return [f"{len(shared)} of {tested} tested corpora{in_folds} are in training or validation, too: {names}"]
    if len(folds) == 1:
        learnt, test = (", ".join(sorted(corpora)) for corpora in pairs[0])
        return [f"no corpus is in two parts: {learnt} in training and validation, {test} in test"]
    in_turn = ", ".join(" and ".join(sorted(test)) for _, test in pairs)
    return [f"no fold tests a corpus that it is trained or chosen on; tested in turn: {in_turn}"]


def _shared_noises(store: Store, folds: Sequence[Fold]) -> list[str]:
    """Say how many noisy test copies hold a noise that is trained on, too; empty for a store without noise."""
    if not store.recipe.noises:
        return []
    speakers = {name for fold in folds for name in (*fold.train, *fold.test)}
    noises = {name: store.noises_of(name) for name in speakers}
    by_recording, by_folder = (_learnt_share(noises, folds, of_noise) for of_noise in (str, _folder))
    words = f"{by_recording:.0f} % of the noisy test copies hold a noise recording that is trained on, too"
    in_folders = any(_folder(noise) for of_speaker in noises.values() for noise in of_speaker)
    return [f"{words}, and {by_folder:.0f} % one of a folder that is" if in_folders else words]


def _learnt_share(
    noises: Mapping[str, Mapping[str, int]], folds: Sequence[Fold], of_noise: Callable[[str], str]
) -> float:
    """Per cent of the test copies whose noise, or whatever `of_noise` makes of it, is in a training copy."""
    tested = learnt = 0
    for fold in folds:
        known = {of_noise(noise) for speaker in fold.train for noise in noises[speaker]}
        for speaker in fold.test:
            for noise, copies in noises[speaker].items():
                tested += copies
                learnt += copies * (of_noise(noise) in known)
    return 100 * learnt / tested


def _folder(noise: str) -> str:
    """The folder of a noise in its library; "" of one that is in none."""
    return noise.rpartition("/")[0]


def _shared(noun: str, column: str, labels: Mapping[str, Sequence[Mapping[str, str]]], folds: Sequence[Fold]) -> str:
    """How many of the tested sentences or recordings are learnt from, too."""

    def values(speakers: Iterable[str]) -> set[str]:
        return {row[column].casefold() for speaker in speakers for row in labels[speaker] if column in row}

    shared, tested = 0, 0
    for fold in folds:
        of_test = values(fold.test)
        tested += len(of_test)
        shared += len(of_test & values(fold.learnt))
    if not shared:
        return f"no {noun} are in two parts (column {column})"
    in_folds = " over all folds" if len(folds) > 1 else ""
    return f"{shared} of {tested} tested {noun}{in_folds} are in training or validation, too (column {column})"


def write_split(folds: Sequence[Fold]) -> str:
    """A split as CSV: speaker, part and fold, as `[partition] file` reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    several = len(folds) > 1
    writer.writerow(["speaker", "part", "fold"] if several else ["speaker", "part"])
    for fold in folds:
        for part in PARTS:
            writer.writerows([name, part, *([fold.name] if several else [])] for name in fold.speakers(part))
    return text.getvalue()
