"""Reading any corpus that is described by a manifest: a CSV file with one line per utterance."""

import math
import re
import unicodedata
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path

from sersearch.errors import InputError
from sersearch.speech.audio import is_folder
from sersearch.speech.corpora.corpus import Corpus, Gender, Utterance
from sersearch.speech.corpora.labels import check_look_alikes, emotion_of, tidy
from sersearch.speech.corpora.tables import Table, gender_of, read_table

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
# A drive letter, or two backslashes: a path that no other system than Windows can open.
_ABSOLUTE_ON_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def read_manifest(
    name: str, folder: Path, distinct_speakers: bool = False, known_names: Collection[str] = ()
) -> Corpus:
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
        known_names: names of the corpora that need no manifest, to suggest one.

    Returns:
        The corpus, whose emotions are the labels as the manifest writes them.

    Raises:
        InputError: there is no manifest, or one of its lines is wrong; the message names the line.
    """
    manifest = _locate(name, folder, known_names)
    table = read_table(manifest, (*_REQUIRED, *_OPTIONAL))
    _check_columns(table)
    utterances = list(_utterances(table, name))
    if not utterances:
        raise InputError(f"{manifest}: describes no utterance; add one line per audio file")
    if not distinct_speakers:
        check_look_alikes((utterance.speaker for utterance in utterances), name)
    notes: tuple[str, ...] = ()
    if further := _further_columns(table):
        notes = (f"further columns of the manifest were kept: {', '.join(further)}",)
    in_order = tuple(sorted(utterances, key=lambda utterance: utterance.id))
    return Corpus(name, in_order, notes=notes, folders=(manifest.parent,), tables=(manifest,))


def _locate(name: str, folder: Path, known_names: Collection[str]) -> Path:
    """Return the path of the manifest, given its folder or the file itself."""
    manifest = folder / "manifest.csv" if is_folder(folder) else folder
    if manifest.is_file() and manifest.suffix.lower() in (".csv", ".tsv"):
        return manifest
    similar = get_close_matches(name.casefold(), known_names, n=1)
    hint = f"did you mean {similar[0]!r}? Otherwise" if similar else "choose a name that `sersearch corpus` lists, or"
    raise InputError(
        f"{folder}: holds no manifest.csv, and {name!r} is not a corpus whose layout is known; {hint} write a "
        f"manifest.csv whose {_COLUMNS}"
    )


def _further_columns(table: Table) -> tuple[str, ...]:
    """Return the names of the columns that are kept in `Utterance.extra`."""
    return tuple(column for column in table.columns if column and column not in _REQUIRED + _OPTIONAL)


def _check_columns(table: Table) -> None:
    manifest, columns = table.file, table.columns
    named = [column for column in columns if column]
    header = f" (this header has {', '.join(named)})" if named else ""
    for column in _REQUIRED:
        if column not in columns:
            raise InputError(f"{manifest}: has no column {column!r}; its {_COLUMNS}{header}")
    for column in named:
        if columns.count(column) > 1:
            raise InputError(f"{manifest}: has the column {column!r} twice; its {_COLUMNS}")
    for column in _further_columns(table):
        absent = [name for name in _OPTIONAL if name not in columns]
        meant = _OTHER_NAMES.get(column.replace(" ", "_"))
        similar = [meant] if meant else get_close_matches(column, absent, n=1, cutoff=0.8)
        if similar and similar[0] in absent:
            raise InputError(
                f"{manifest}: has a column {column!r}; did you mean {similar[0]!r}? Rename it; its {_COLUMNS}, and any "
                "further columns with names that are less similar"
            )


def _utterances(table: Table, corpus: str) -> Iterator[Utterance]:
    """Read the utterances in the order of the lines, and check that ids are unique and genders consistent."""
    ids: set[str] = set()
    genders: dict[str, Gender | None] = {}
    for where, row in table.records():
        utterance = _utterance(row, table.file.parent, corpus, where)
        if utterance.id in ids:
            raise InputError(f"{where}: the id {utterance.id!r} is used twice; give each utterance an id of its own")
        if genders.setdefault(utterance.speaker, utterance.gender) != utterance.gender:
            raise InputError(
                f"{where}: speaker {utterance.speaker!r} has another gender than in an earlier line; correct one"
            )
        ids.add(utterance.id)
        yield utterance


def _utterance(row: dict[str, str], root: Path, corpus: str, where: str) -> Utterance:
    speaker = tidy(row["speaker"])
    # The label is kept as it is written, so that the notes can say what it was mapped to.
    label = tidy(row["emotion"])
    for column, value in {"path": row["path"], "speaker": speaker, "emotion": emotion_of(label)}.items():
        if not value:
            raise InputError(f"{where}: {column} is empty; fill in the field")
    gender = gender_of(row.get("gender", ""), where)
    for column in ("path", "utterance"):
        if any(unicodedata.category(character) == "Cc" for character in row.get(column, "")):
            raise InputError(f"{where}: {column} {row[column]!r} holds a control character; rename it")
    path = _portable(row["path"], root, where)
    extra = {column: value for column, value in row.items() if column and column not in _REQUIRED + _OPTIONAL}
    start_s, end_s = _segment(row, where)
    segment = "" if start_s is None and end_s is None else f":{row.get('start', '')}-{row.get('end', '')}"
    id = row.get("utterance") or path + segment
    audio = _locate_audio(root, path)
    return Utterance(id, audio, speaker, gender, label, corpus, extra, start_s, end_s)


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
