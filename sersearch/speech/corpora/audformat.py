"""Reading a database in audformat, as audb gives them: db.yaml with tables. This module alone imports audformat."""

import math
import warnings
from pathlib import Path
from typing import Any

from sersearch.errors import InputError
from sersearch.speech.corpora.corpus import Corpus, Utterance
from sersearch.speech.corpora.labels import tidy
from sersearch.speech.corpora.tables import gender_of

HEADER = "db.yaml"
"""The file that makes a folder a database."""

_FURTHER = ("language", "transcription", "text", "age")
_SCHEMES = ("speaker", "gender", "sex", *_FURTHER)


def is_database(folder: Path) -> bool:
    """Whether a folder holds a database in audformat."""
    return (folder / HEADER).is_file()


def read_database(name: str, folder: Path) -> Corpus:
    """Read a corpus from a database in audformat.

    The labels are those of the schemes (or columns) emotion and speaker, and of gender or sex if there is one. The
    text, the language and the age are kept as further columns. Segments are read as such.

    Args:
        name: name of the corpus.
        folder: folder with db.yaml, the tables and the media.

    Raises:
        InputError: audformat is missing, the database can't be read, or it lacks emotions or speakers.
    """
    table = _load(folder)
    missing = [scheme for scheme in ("emotion", "speaker") if scheme not in table or table[scheme].isna().all()]
    if missing:
        raise InputError(
            f"{folder}: its tables have no labels of {missing[0]}; write a manifest.csv with the columns path, speaker "
            "and emotion"
        )
    utterances: list[Utterance] = []
    unlabelled = 0
    for index, row in table.iterrows():
        labels = {column: _text(value) for column, value in row.items()}
        if not (labels["emotion"] and labels["speaker"]):
            unlabelled += 1
            continue
        utterances.append(_utterance(name, folder, index, labels))
    if not utterances:
        raise InputError(f"{folder}: none of its {len(table)} rows has both an emotion and a speaker")
    notes: tuple[str, ...] = ()
    if unlabelled:
        notes = (f"left out (with the number of rows): without an emotion or a speaker ({unlabelled})",)
    in_order = tuple(sorted(utterances, key=lambda utterance: utterance.id))
    return Corpus(name, in_order, notes=notes, folders=(folder,), tables=tuple(_tables(folder)))


def _load(folder: Path) -> Any:
    """One row per file or segment, with a column per scheme that the database has."""
    try:
        import audformat  # type: ignore[import-untyped]
    except ImportError:
        raise InputError(
            f"{folder}: is a database in audformat, which is not installed: run pip install 'sersearch[audformat]'"
        ) from None
    try:
        with warnings.catch_warnings():
            # audformat uses what its own dependencies deprecate.
            warnings.simplefilter("ignore")
            database = audformat.Database.load(str(folder))
            return database.get("emotion", additional_schemes=list(_SCHEMES))
    except Exception as error:  # audformat and pandas raise many types here
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{folder}: can't be read as a database in audformat ({reason})") from None


def _utterance(name: str, folder: Path, index: Any, labels: dict[str, str]) -> Utterance:
    """Make an utterance of a row; its index is a file, or a file with the start and the end of a segment."""
    file, start, end = index if isinstance(index, tuple) else (index, None, None)
    start_s, end_s = _seconds(start), _seconds(end)
    # A segment that begins at 0 and has no end is the whole file.
    start_s = None if start_s == 0 and end_s is None else start_s
    path = Path(file)
    id = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
    if start_s is not None or end_s is not None:
        id += f":{start_s or 0:g}-{'' if end_s is None else f'{end_s:g}'}"
    gender = gender_of(labels.get("gender", "") or labels.get("sex", ""), str(path))
    extra = {column: value for column, value in labels.items() if column in _FURTHER}
    audio = path if path.is_absolute() else folder / path
    speaker = tidy(labels["speaker"])
    return Utterance(id, audio, speaker, gender, labels["emotion"], name, extra, start_s, end_s)


def _seconds(time: Any) -> float | None:
    """A pandas Timedelta in seconds; None for NaT, the end of a file."""
    if time is None:
        return None
    seconds = float(time.total_seconds())
    return None if math.isnan(seconds) else seconds


def _text(value: Any) -> str:
    """A label as text; empty for one that is missing."""
    is_missing = value is None or value != value or str(value) in ("<NA>", "NaT")  # NaN is not itself
    return "" if is_missing else str(value)


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("db*") if path.is_file())
