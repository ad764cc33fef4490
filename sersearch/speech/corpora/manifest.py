"""Any corpus, described by a manifest: a CSV with one line an utterance."""

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

    Columns are path (relative to the manifest), speaker, emotion; optionally gender (female, male, f, m or
    empty) and utterance (the id; the path, where the column is missing or empty).

    Args:
        name: what to call the corpus.
        folder: a folder that holds manifest.csv, or the CSV file itself.
        emotions: the emotions to keep; None for all.

    Returns:
        The utterances, and a refusal for each file that is named but missing.

    Raises:
        InputError: there is no manifest, or a line of it is wrong: the message names the line.
    """
    manifest = folder / "manifest.csv" if folder.is_dir() else folder
    if not manifest.is_file() or manifest.suffix.lower() != ".csv":
        raise InputError(
            f"{folder}: holds no manifest.csv, and {name!r} is no corpus known by name; name the corpus "
            f"'ravdess', or write a manifest.csv whose {_COLUMNS}"
        )
    every = tuple(_utterances(manifest))
    if not every:
        raise InputError(f"{manifest}: describes no utterance; add a line for each audio file")
    if emotions is not None:
        check_emotions(emotions, {utterance.emotion for utterance in every}, name)
    wanted = sorted((u for u in every if emotions is None or u.emotion in emotions), key=lambda u: u.id)
    refused = tuple(Refusal(u.path, "is named in the manifest but missing") for u in wanted if not u.path.is_file())
    return Corpus(name, tuple(u for u in wanted if u.path.is_file()), refused)


def _utterances(manifest: Path) -> Iterator[Utterance]:
    seen: set[str] = set()
    genders: dict[str, Gender | None] = {}
    for line, row in _rows(manifest):
        where = f"{manifest}, line {line}"
        utterance = _utterance(row, manifest.parent, where)
        if utterance.id in seen:
            raise InputError(f"{where}: the utterance {utterance.id!r} is there twice; give each its own id")
        if genders.setdefault(utterance.speaker, utterance.gender) != utterance.gender:
            raise InputError(f"{where}: speaker {utterance.speaker!r} has another gender than before; give it one")
        seen.add(utterance.id)
        yield utterance


def _rows(manifest: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Read lines with their numbers, checked for the right columns."""
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="", strict=True)
            _check_columns(manifest, tuple(reader.fieldnames or ()))
            for row in reader:
                if row.pop("", None):
                    raise InputError(f"{manifest}, line {reader.line_num}: has more fields than columns; quote commas")
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
            raise InputError(f"{where}: {column} is empty; fill it in")
    gender = row.get("gender", "")
    if gender.lower() not in _GENDERS:
        raise InputError(f"{where}: gender {gender!r} is not one of female, male, f, m or empty")
    id = row.get("utterance") or row["path"]
    return Utterance(id, root / row["path"], row["speaker"], _GENDERS[gender.lower()], row["emotion"])
