"""Importing a table of the user's own, such as embeddings, as a vector set.

Shapes: U utterances, D numbers per vector.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sersearch.digests import sha256_of
from sersearch.errors import InputError
from sersearch.speech.corpora import Utterance, utterances_by_speaker
from sersearch.store.reader import Store
from sersearch.store.vectors.manifest import FOLDER, VectorSetManifest
from sersearch.store.vectors.opensmile import SETS
from sersearch.store.vectors.writer import VectorSetWriter, writing_vectors

_COLUMNS_RULE = "a table has a column `utterance`, and all its other columns are numbers"
_ROWS_RULE = "a table has exactly one row for each utterance of the store"
# pyarrow's default of 1 MiB is shorter than a row of some thousand numbers may be.
_CSV_BLOCK_BYTES = 64 * 2**20


def import_table(store: Store, name: str, file: Path) -> VectorSetManifest:
    """Add a table of the user's own to a store as a vector set.

    Args:
        store: the store that the vector set is added to.
        name: name of the set: letters, digits, '_', '-', '.' and '+'; not one of openSMILE's.
        file: CSV with a header, or Parquet: one row per utterance of the store, a column `utterance` with the ids, and
            one column per number. An empty field becomes NaN, and so does a number that float32 can't hold.

    Returns:
        The manifest of the set.

    Raises:
        InputError: the name or the table can't be used.
    """
    _check_name(name)
    table = _read_user_table(file)
    speakers = utterances_by_speaker(_utterances_of(store))
    ids = [utterance.id for utterances in speakers.values() for utterance in utterances]
    _check_utterances(file, table.utterances, ids)
    source = {"table": sha256_of(file)}
    writer = VectorSetWriter(store.path / FOLDER / name, name, store.recipe.content, source, table.names)
    row_of = {utterance: row for row, utterance in enumerate(table.utterances)}
    with writing_vectors(store):
        for speaker, utterances in speakers.items():
            if not writer.has_written(speaker):
                rows = [row_of[utterance.id] for utterance in utterances]
                writer.write(utterances, table.x_UD[rows])
        return writer.finish(speakers)


@dataclass(frozen=True)
class _UserTable:
    """A table as the user wrote it.

    Attributes:
        names: names of the numbers [D].
        utterances: ids of the utterances [U], in the order of the rows.
        x_UD: the numbers [U, D].
    """

    names: tuple[str, ...]
    utterances: tuple[str, ...]
    x_UD: NDArray[np.float64]


def _check_name(name: str) -> None:
    if not re.fullmatch(r"\w[\w.+-]*", name, re.ASCII) or name in SETS:
        raise InputError(
            f"--table {name}=...: choose a name of letters, digits, '_', '-', '.' and '+' that is none of openSMILE's "
            f"({', '.join(SETS)})"
        )


def _utterances_of(store: Store) -> list[Utterance]:
    """List the utterances of a store; their paths are empty because a store does not hold any."""
    columns = ["utterance", "corpus", "speaker", "gender", "emotion", "condition"]
    utterances: list[Utterance] = []
    for info in store.speakers:
        with pq.ParquetFile(store.path / info.file) as file:
            rows = file.read(columns).to_pylist()
        for row in rows:
            # Each utterance has one clean row, and noisy ones besides.
            if row["condition"] == "clean":
                labels = (row["speaker"], row["gender"], row["emotion"], row["corpus"])
                utterances.append(Utterance(row["utterance"], Path(), *labels))
    return utterances


def _read_user_table(file: Path) -> _UserTable:
    table = _read_file(file)
    _check_columns(file, table.column_names)
    ids = table["utterance"]
    if not (pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)):
        raise InputError(f"{file}: column `utterance` is {ids.type}; write the ids as text, as the store has them")
    names = [name for name in table.column_names if name != "utterance"]
    for name in names:
        kind = table[name].type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise InputError(f"{file}: column {name!r} is {kind}; all columns except `utterance` must be numbers")
    columns = [table[name].cast(pa.float64()).to_numpy() for name in names]
    utterances = tuple(id or "" for id in ids.to_pylist())
    return _UserTable(tuple(names), utterances, np.column_stack(columns))


def _read_file(file: Path) -> pa.Table:
    try:
        match file.suffix.lower():
            case ".csv":
                return _read_csv(file)
            case ".parquet":
                return pq.ParquetFile(file).read()
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{file}: can't be read ({reason}); {_COLUMNS_RULE}") from None
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; give a CSV or Parquet file") from None
    raise InputError(f"{file}: is neither .csv nor .parquet; write the table as one of them")


def _read_csv(file: Path) -> pa.Table:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        header = next(csv.reader(lines), [])
    _check_columns(file, header)
    # Without given types, ids that look like numbers would be read as numbers.
    kinds = {name: pa.float64() for name in header} | {"utterance": pa.string()}
    return pacsv.read_csv(
        file,
        pacsv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
        convert_options=pacsv.ConvertOptions(column_types=kinds),
    )


def _check_columns(file: Path, names: Sequence[str]) -> None:
    if "utterance" not in names:
        raise InputError(f"{file}: has no column `utterance`; give this name to the column of the utterance ids")
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"{file}: has {count} columns {name!r}; give each column a name of its own")
    for number, name in enumerate(names, 1):
        if not name or name.startswith("__index_level_"):
            raise InputError(f"{file}: column {number} has no name (pandas' index?); write the table without it")
    if len(names) == 1:
        raise InputError(f"{file}: has no column of numbers; {_COLUMNS_RULE}")


def _check_utterances(file: Path, given: Iterable[str], known: Iterable[str]) -> None:
    counts = Counter(given)
    known = set(known)
    repeated = [id for id, count in counts.items() if count > 1]
    unknown = sorted(set(counts) - known)
    missing = sorted(known - set(counts))
    if repeated:
        _refuse_rows(file, repeated, f"has {counts[repeated[0]]} rows")
    if unknown:
        _refuse_rows(file, unknown, "is no utterance of the store")
    if missing:
        _refuse_rows(file, missing, "is missing")


def _refuse_rows(file: Path, ids: Sequence[str], fault: str) -> None:
    others = f" (and {len(ids) - 1} more)" if len(ids) > 1 else ""
    raise InputError(f"{file}: utterance {ids[0]!r} {fault}{others}; {_ROWS_RULE}")
