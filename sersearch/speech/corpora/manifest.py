"""Reading any corpus that is described by a manifest: a CSV file with one line per utterance."""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from sersearch.errors import InputError
from sersearch.speech.corpora.corpus import Corpus, Gender, Utterance
from sersearch.speech.corpora.labels import check_look_alikes, emotion_of, tidy

_REQUIRED = ("path", "speaker", "emotion")
_OPTIONAL = ("gender", "utterance", "start", "end")
_COLUMNS = f"columns are {', '.join(_REQUIRED)} and optionally {', '.join(_OPTIONAL)}"
# Columns that are probably meant as one of these; read as further columns, they would have no effect.
_OTHER_NAMES = {
    "sex": "gender",
    "begin": "start",
    "onset": "start",
    "start_s": "start",
    "start_time": "start",
    "end_s": "end",
    "end_time": "end",
    "stop": "end",
}
# Eleven days: more than any recording lasts, even if milliseconds were taken for seconds.
_LONGEST_S = 1e6
_SEPARATORS = (",", ";", "\t")
_GENDERS: dict[str, Gender | None] = {
    "female": "female",
    "woman": "female",
    "f": "female",
    "w": "female",
    "male": "male",
    "man": "male",
    "m": "male",
    "other": "other",
    "o": "other",
    "unknown": None,
    "u": None,
    "": None,
}
# A drive letter, or two backslashes: a path that no other system than Windows can open.
_ABSOLUTE_ON_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def read_manifest(name: str, folder: Path, distinct_speakers: bool = False) -> Corpus:
    r"""Read a corpus from its manifest.

    The columns are path (relative to the manifest), speaker and emotion, and optionally gender (female, male, other,
    unknown; f, m, w, o, u or empty), utterance (the id), start and end (where the utterance begins and ends in the
    file, in seconds; empty for the whole file). Without an id, the path is the id, with start and end if these are
    given. Further columns are kept in `Utterance.extra`. The separator may be a comma, a semicolon or a tab, and paths
    may be written with \ as on Windows. Letter case and blanks in the header do not matter.

    Args:
        name: name of the corpus.
        folder: folder that holds manifest.csv, or the CSV file itself.
        distinct_speakers: whether names of speakers that look alike belong to several people.

    Returns:
        The corpus, whose emotions are the labels as the manifest writes them.

    Raises:
        InputError: there is no manifest, or one of its lines is wrong; the message names the line.
    """
    manifest = _locate(name, folder)
    table = _read_table(manifest)
    utterances = list(_utterances(table, name))
    if not utterances:
        raise InputError(f"{manifest}: describes no utterance; add one line per audio file")
    if not distinct_speakers:
        check_look_alikes((utterance.speaker for utterance in utterances), name)
    notes: tuple[str, ...] = ()
    if further := table.further_columns:
        notes = (f"further columns of the manifest were kept: {', '.join(further)}",)
    in_order = tuple(sorted(utterances, key=lambda utterance: utterance.id))
    return Corpus(name, in_order, notes=notes, folders=(manifest.parent,))


def _locate(name: str, folder: Path) -> Path:
    """Return the path of the manifest, given its folder or the file itself."""
    manifest = folder / "manifest.csv" if folder.is_dir() else folder
    if manifest.is_file() and manifest.suffix.lower() in (".csv", ".tsv"):
        return manifest
    similar = get_close_matches(name.casefold(), ["ravdess"], n=1)
    hint = "did you mean 'ravdess'? Otherwise" if similar else "name the corpus 'ravdess', or"
    raise InputError(
        f"{folder}: holds no manifest.csv, and {name!r} is not a corpus with a reader of its own; {hint} write a "
        f"manifest.csv whose {_COLUMNS}"
    )


@dataclass(frozen=True)
class _Table:
    """The text of a manifest, taken apart.

    Attributes:
        manifest: the file.
        columns: names of the columns, normalised; "" for a column without a name.
        rows: (number of the line, fields); lines without any text are left out.
    """

    manifest: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    @property
    def further_columns(self) -> tuple[str, ...]:
        """Names of the columns that are kept in `Utterance.extra`."""
        return tuple(column for column in self.columns if column and column not in _REQUIRED + _OPTIONAL)


def _read_table(manifest: Path) -> _Table:
    """Read a manifest's fields, find the separator, and check the columns."""
    try:
        text = manifest.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{manifest}: is not a CSV file in UTF-8 ({error}); save it again with the encoding UTF-8"
        ) from None
    candidates = [_split(manifest, text, separator) for separator in _SEPARATORS]
    # The separator under which most of the expected columns appear; the comma if none does.
    table, failure = max(candidates, key=lambda candidate: len({*_REQUIRED, *_OPTIONAL} & {*candidate[0].columns}))
    if failure is not None:
        raise InputError(f"{manifest}: is not a CSV file in UTF-8 ({failure}); export it again")
    _check_columns(table)
    return table


def _split(manifest: Path, text: str, separator: str) -> tuple[_Table, csv.Error | None]:
    """Take a manifest apart at a separator; return what was read before the error, if there is one."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    columns: tuple[str, ...] = ()
    rows: list[tuple[int, tuple[str, ...]]] = []
    failure: csv.Error | None = None
    try:
        columns = tuple(tidy(column).casefold() for column in next(reader, ()))
        for fields in reader:
            stripped = tuple(field.strip() for field in fields)
            if any(stripped):
                rows.append((reader.line_num, stripped))
    except csv.Error as error:
        failure = error
    return _Table(manifest, columns, tuple(rows)), failure


def _check_columns(table: _Table) -> None:
    manifest, columns = table.manifest, table.columns
    named = [column for column in columns if column]
    header = f" (this header has {', '.join(named)})" if named else ""
    for column in _REQUIRED:
        if column not in columns:
            raise InputError(f"{manifest}: has no column {column!r}; its {_COLUMNS}{header}")
    for column in named:
        if columns.count(column) > 1:
            raise InputError(f"{manifest}: has the column {column!r} twice; its {_COLUMNS}")
    for column in table.further_columns:
        absent = [name for name in _OPTIONAL if name not in columns]
        meant = _OTHER_NAMES.get(column.replace(" ", "_"))
        similar = [meant] if meant else get_close_matches(column, absent, n=1, cutoff=0.8)
        if similar and similar[0] in absent:
            raise InputError(
                f"{manifest}: has a column {column!r}; did you mean {similar[0]!r}? Rename it; its {_COLUMNS}, and any "
                "further columns with names that are less similar"
            )


def _utterances(table: _Table, corpus: str) -> Iterator[Utterance]:
    """Read the utterances in the order of the lines, and check that ids are unique and genders consistent."""
    ids: set[str] = set()
    genders: dict[str, Gender | None] = {}
    for line, fields in table.rows:
        where = f"{table.manifest}, line {line}"
        utterance = _utterance(_by_column(table.columns, fields, where), table.manifest.parent, corpus, where)
        if utterance.id in ids:
            raise InputError(f"{where}: the id {utterance.id!r} is used twice; give each utterance an id of its own")
        if genders.setdefault(utterance.speaker, utterance.gender) != utterance.gender:
            raise InputError(
                f"{where}: speaker {utterance.speaker!r} has another gender than in an earlier line; correct one"
            )
        ids.add(utterance.id)
        yield utterance


def _by_column(columns: tuple[str, ...], fields: tuple[str, ...], where: str) -> dict[str, str]:
    """Return the values of a line by column; fields that are missing at the end of a line are empty."""
    if any(fields[len(columns) :]):
        raise InputError(f"{where}: has more fields than columns; put values that hold separators in quotation marks")
    row = dict.fromkeys(columns, "")
    for column, value in zip(columns, fields, strict=False):
        if value and not column:
            raise InputError(f"{where}: {value!r} is in a column without a name; name the column in the first line")
        row[column] = value
    return row


def _utterance(row: dict[str, str], root: Path, corpus: str, where: str) -> Utterance:
    speaker = tidy(row["speaker"])
    # The label is kept as it is written, so that the notes can say what it was mapped to.
    label = tidy(row["emotion"])
    for column, value in {"path": row["path"], "speaker": speaker, "emotion": emotion_of(label)}.items():
        if not value:
            raise InputError(f"{where}: {column} is empty; fill in the field")
    gender = row.get("gender", "")
    if gender.casefold() not in _GENDERS:
        raise InputError(
            f"{where}: gender {gender!r} is not one of female, male, other, unknown, f, m, w, o, u; use one of them, "
            "or leave the field empty"
        )
    for column in ("path", "utterance"):
        if any(unicodedata.category(character) == "Cc" for character in row.get(column, "")):
            raise InputError(f"{where}: {column} {row[column]!r} holds a control character; rename it")
    path = _portable(row["path"], root, where)
    extra = {column: value for column, value in row.items() if column and column not in _REQUIRED + _OPTIONAL}
    start_s, end_s = _segment(row, where)
    segment = "" if start_s is None and end_s is None else f":{row.get('start', '')}-{row.get('end', '')}"
    id = row.get("utterance") or path + segment
    gender_or_none = _GENDERS[gender.casefold()]
    audio = _locate_audio(root, path)
    return Utterance(id, audio, speaker, gender_or_none, label, corpus, extra, start_s, end_s)


def _segment(row: dict[str, str], where: str) -> tuple[float | None, float | None]:
    """Return the start and the end of an utterance in its file, in seconds; None for an empty field."""
    times: list[float | None] = []
    for column in ("start", "end"):
        given = row.get(column, "")
        if not given:
            times.append(None)
            continue
        try:
            time_s = float(given.replace(",", "."))  # tables that are separated by semicolons write 1,5
        except ValueError:
            time_s = math.nan
        if not 0 <= time_s < _LONGEST_S:  # NaN is not, either
            raise InputError(f"{where}: {column} {given!r} is not a time; give it in seconds, as in 12.34")
        times.append(time_s)
    start_s, end_s = times
    if end_s is not None and end_s <= (start_s or 0.0):
        raise InputError(f"{where}: the end at {end_s:g} s is not after the start; give both in seconds")
    return start_s, end_s


def _portable(path: str, root: Path, where: str) -> str:
    r"""Return a path with / where Windows writes \, unless there is a file whose name holds a \."""
    if "\\" not in path or not why_missing(root / path):
        return path
    if _ABSOLUTE_ON_WINDOWS.match(path):
        raise InputError(f"{where}: path {path!r} is an absolute path of Windows; give it relative to the manifest")
    return path.replace("\\", "/")


def _locate_audio(root: Path, path: str) -> Path:
    """Return the audio file; the file system may hold its accented letters as one character or as two."""
    for form in (path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path)):
        if not why_missing(root / form):
            return root / form
    return root / path


def why_missing(path: Path) -> str | None:
    """Return why a file that the manifest names can't be found; None if it is there."""
    try:
        there = path.is_file()
    except OSError as error:  # such as a name that is too long for the file system
        return f"is named in the manifest but can't be found ({error.strerror}); correct its path"
    return None if there else "is named in the manifest but missing"
