"""Reading any corpus that is described by a manifest: a CSV file with one line per utterance."""

import csv
from collections.abc import Iterator
from pathlib import Path

from sersearch.errors import InputError
from sersearch.speech.corpora.corpus import Corpus, Gender, Refusal, Utterance, check_emotions

_REQUIRED = ("path", "speaker", "emotion")
_OPTIONAL = ("gender", "utterance")
_COLUMNS = f"columns are {', '.join(_REQUIRED)} and optionally {', '.join(_OPTIONAL)}"
_GENDERS: dict[str, Gender | None] = {
    "female": "female",
    "f": "female",
    "male": "male",
    "m": "male",
    "": None,
}


def read_manifest(name: str, folder: Path, emotions: tuple[str, ...] | None = None) -> Corpus:
    """Read a corpus from its manifest.

    The columns are path (relative to the manifest), speaker and emotion, and optionally gender (female, male, f, m or
    empty) and utterance (the id). Without an id, the path is the id.

    Args:
        name: name of the corpus.
        folder: folder that holds manifest.csv, or the CSV file itself.
        emotions: emotions to keep; None for all.

    Returns:
        The corpus; `refused` holds the files that the manifest names but that don't exist.

    Raises:
        InputError: there is no manifest, or one of its lines is wrong; the message names the line.
    """
    manifest = folder / "manifest.csv" if folder.is_dir() else folder
    if not manifest.is_file() or manifest.suffix.lower() != ".csv":
        raise InputError(
            f"{folder}: holds no manifest.csv, and {name!r} is not a corpus with a reader of its own; name the corpus "
            f"'ravdess', or write a manifest.csv whose {_COLUMNS}"
        )
    utterances = list(_utterances(manifest))
    if not utterances:
        raise InputError(f"{manifest}: describes no utterance; add one line per audio file")
    if emotions is not None:
        check_emotions(emotions, {utterance.emotion for utterance in utterances}, name)
        utterances = [utterance for utterance in utterances if utterance.emotion in emotions]
    utterances.sort(key=lambda utterance: utterance.id)
    usable: list[Utterance] = []
    refused: list[Refusal] = []
    for utterance in utterances:
        if utterance.path.is_file():
            usable.append(utterance)
        else:
            refused.append(Refusal(utterance.path, "is named in the manifest but missing"))
    return Corpus(name, tuple(usable), tuple(refused))


def _utterances(manifest: Path) -> Iterator[Utterance]:
    """Read the utterances in the order of the lines, and check that ids are unique and genders consistent."""
    ids: set[str] = set()
    genders: dict[str, Gender | None] = {}
    for line, row in _rows(manifest):
        where = f"{manifest}, line {line}"
        utterance = _utterance(row, manifest.parent, where)
        if utterance.id in ids:
            raise InputError(f"{where}: the id {utterance.id!r} is used twice; give each utterance an id of its own")
        if genders.setdefault(utterance.speaker, utterance.gender) != utterance.gender:
            raise InputError(
                f"{where}: speaker {utterance.speaker!r} has another gender than in an earlier line; correct one"
            )
        ids.add(utterance.id)
        yield utterance


def _rows(manifest: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Read the lines of a manifest as (number of the line, values by column), and check the columns."""
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="", strict=True)
            _check_columns(manifest, tuple(reader.fieldnames or ()))
            for row in reader:
                if row.pop("", None):
                    raise InputError(
                        f"{manifest}, line {reader.line_num}: has more fields than columns; "
                        "put values that hold commas in quotation marks"
                    )
                yield reader.line_num, {column: value.strip() for column, value in row.items()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{manifest}: is not a CSV file in UTF-8 ({error}); export it again") from None


def _check_columns(manifest: Path, columns: tuple[str, ...]) -> None:
    known = _REQUIRED + _OPTIONAL
    for column in _REQUIRED:
        if column not in columns:
            raise InputError(f"{manifest}: has no column {column!r}; its {_COLUMNS}")
    for column in columns:
        if column not in known:
            raise InputError(f"{manifest}: has an unknown column {column!r}; its {_COLUMNS}")
        if columns.count(column) > 1:
            raise InputError(f"{manifest}: has the column {column!r} twice; its {_COLUMNS}")


def _utterance(row: dict[str, str], root: Path, where: str) -> Utterance:
    for column in _REQUIRED:
        if not row[column]:
            raise InputError(f"{where}: {column} is empty; fill in the field")
    gender = row.get("gender", "")
    if gender.lower() not in _GENDERS:
        raise InputError(
            f"{where}: gender {gender!r} is not one of female, male, f, m; use one of them, or leave the field empty"
        )
    id = row.get("utterance") or row["path"]
    return Utterance(id, root / row["path"], row["speaker"], _GENDERS[gender.lower()], row["emotion"])
