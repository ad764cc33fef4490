"""The table that keeps what each module of a winner makes of an utterance (Section 7.5).

One Parquet object per winner and fold: training, validation and test speakers under the clean condition, and the noisy
copies of the test speakers, because what noise costs is measured on them alone.

Shapes: U utterances (copies), D numbers of a representation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sersearch.evaluation.exposure import record_exposure
from sersearch.evaluation.leaderboard import Winner, record_name
from sersearch.evaluation.test_partition import (
    LABELS,
    check_computed,
    put_computed,
    record_opening,
    trained_system,
)
from sersearch.run.run import Run
from sersearch.run.storage import Storage
from sersearch.study.configuration.base import MODULES, Module
from sersearch.study.fold import PARTS, Part
from sersearch.training.system import System

_ROWS_PER_GROUP = 512


def write_representations(run: Run, winner: Winner, ledger: str, number: int = 0) -> str:
    """Write a winner's representations in one fold, a row group at a time; if they are there, they stay.

    The test speakers are opened for it, and that is put on record. Of several seeds the first represents the winner.

    Args:
        run: a complete run.
        winner: one of its winners.
        ledger: what `record_ledger` returned.
        number: of the fold, from 0.

    Returns:
        The name of the object.

    Raises:
        InputError: what is there is damaged, or another winner's.
    """
    result, fold = winner.trials[number]
    name = f"probe/{result.trial.key}-{winner.condition}.parquet"
    if run.storage.exists(record_name(name)):
        check_computed(run, name, result, winner.condition, "probe")
        return name
    copies = sum(run.store.info(speaker).rows for speaker in fold.test)
    system = trained_system(run, result)
    # On record first: an opening that is not recorded must not exist.
    record_exposure(run, result.trial.key, winner.condition, fold.test, "probe")
    record_opening(run, result, winner.condition, copies, "probe", ledger)
    schema = _schema(system)
    with run.storage.writing(name) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for part in PARTS:
            _write_part(writer, schema, run, system, part, fold.speakers(part))
    put_computed(run, name, result, winner.condition)
    return name


def _write_part(
    writer: pq.ParquetWriter, schema: pa.Schema, run: Run, system: System, part: Part, speakers: tuple[str, ...]
) -> None:
    labels = pa.concat_tables([run.store.table(speaker).select(LABELS) for speaker in speakers])
    clean = np.array([noise is None for noise in labels["noise"].to_pylist()])
    chosen = np.arange(len(labels)) if part == "test" else np.flatnonzero(clean)
    for start in range(0, len(chosen), _ROWS_PER_GROUP):
        rows = chosen[start : start + _ROWS_PER_GROUP]
        representations = system.represent(run.store, speakers, rows)
        columns = {"part": [part] * len(rows)} | dict(labels.take(rows).to_pydict())
        columns |= {module: _list_column(x_UD) for module, x_UD in representations.items()}
        writer.write_table(pa.table(columns, schema))


def _schema(system: System) -> pa.Schema:
    labels = [(name, pa.float64() if name == "snr_db" else pa.string()) for name in ("part", *LABELS)]
    return pa.schema([*labels, *((module, pa.list_(pa.float32())) for module in system.trial.configuration.modules)])


def _list_column(x_UD: NDArray[np.float32]) -> pa.Array:
    ends = np.arange(0, x_UD.size + 1, x_UD.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(x_UD.ravel()))


class Column:
    """A module's representations [U, D], of which only the requested rows are read, one row group at a time.

    So the memory that probing a winner takes does not grow with the number of noisy copies.
    """

    def __init__(self, storage: Storage, name: str, module: Module) -> None:
        """Look at the end of the table."""
        self._storage, self._name, self._module = storage, name, module
        with storage.open(name) as file:
            self._metadata = pq.read_metadata(file)
        metadata = self._metadata
        groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(groups)])
        self.shape = (int(self._starts[-1]), self._group(0).shape[1])

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float32]:
        """Read some rows, in the given order."""
        x_UD = np.empty((len(rows), self.shape[1]), np.float32)
        group_U = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(group_U):
            at = group_U == number
            x_UD[at] = self._group(int(number))[rows[at] - self._starts[number]]
        return x_UD

    def _group(self, number: int) -> NDArray[np.float32]:
        with self._storage.open(self._name) as file, pq.ParquetFile(file, metadata=self._metadata) as table:
            column = table.read_row_group(number, columns=[self._module])[self._module].combine_chunks()
        x_UD: NDArray[np.float32] = column.flatten().to_numpy().reshape(len(column), -1)
        return x_UD


@dataclass(frozen=True)
class Representations:
    """A winner's representations, open for reading; those of a module are read on request.

    Attributes:
        storage: that holds the table.
        name: of the table.
        modules: whose representations there are, in the order of the model.
        part_U: train, validation or test.
        utterance_U: names; copies of an utterance share one.
        speaker_U: names.
        gender_U: "" where it is not known.
        emotion_U: names.
        snr_db_U: of a noisy copy; NaN of a clean one.
    """

    storage: Storage
    name: str
    modules: tuple[Module, ...]
    part_U: NDArray[np.str_]
    utterance_U: NDArray[np.str_]
    speaker_U: NDArray[np.str_]
    gender_U: NDArray[np.str_]
    emotion_U: NDArray[np.str_]
    snr_db_U: NDArray[np.float64]

    @classmethod
    def read(cls, storage: Storage, name: str) -> Self:
        """Read the labels."""
        with storage.open(name) as file:
            table = pq.read_table(file, columns=["part", *LABELS])
            columns = pq.read_schema(file).names
        modules = tuple(module for module in MODULES if module in columns)

        def names(column: str) -> NDArray[np.str_]:
            return np.array([name or "" for name in table[column].to_pylist()], np.str_)

        return cls(
            storage,
            name,
            modules,
            names("part"),
            names("utterance"),
            names("speaker"),
            names("gender"),
            names("emotion"),
            np.array(table["snr_db"].to_pylist(), np.float64),
        )

    def column(self, module: Module) -> Column:
        """A module's representations."""
        return Column(self.storage, self.name, module)

    def clean(self, part: Part) -> NDArray[np.int64]:
        """Indices of a part's clean utterances."""
        return np.flatnonzero((self.part_U == part) & np.isnan(self.snr_db_U))
