"""What a plan takes from outside: a store's counts, a run's results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sersearch.errors import InputError
from sersearch.ledger import Result
from sersearch.partition import Partition, make_partition
from sersearch.plan import Data
from sersearch.run import open_run
from sersearch.store import Store, open_store
from sersearch.study import Study, data_digest


@dataclass(frozen=True)
class Binding:
    """A study's data.

    Attributes:
        data: what a plan knows of it.
        store: where the frames are.
        partition: the speakers of each part.
        results: what a run holds already, by key.
    """

    data: Data
    store: Store
    partition: Partition
    results: dict[str, Result]


def bind(study: Study, store: Path | None = None, run: Path | None = None) -> Binding | None:
    """Look at a study's store and at what a run has done; no row of the store is read.

    Args:
        study: whose own store is taken unless another is given.
        store: a store.
        run: a run's folder, whose store is taken unless one is given.

    Returns:
        None where no store is named anywhere.

    Raises:
        InputError: the store or the run can't be read, or the run was begun with another partition.
    """
    if run is None:
        path = store or (Path(study.store) if study.store else None)
        return _bind(study, open_store(path), {}) if path else None
    opened = open_run(run, store)
    if opened.study.partition != study.partition:
        raise InputError(
            f"{run}: its partition is {opened.study.partition} and the study's is {study.partition}: "
            "plan without --run, or name the study that the run began with"
        )
    return _bind(study, opened.store, opened.ledger.results())


def _bind(study: Study, store: Store, results: dict[str, Result]) -> Binding:
    partition = make_partition((info.speaker for info in store.speakers), study.partition)
    train_rows, train_frames = _count(store, partition.train)
    validation_rows, validation_frames = _count(store, partition.validation)
    data = Data(
        source=f"{store.path}, {train_rows} copies to train, {validation_rows} to validate",
        digest=data_digest(store.fingerprint, partition),
        emotions=len(store.emotions),
        train_utterances=train_rows,
        train_frames=train_frames,
        validation_utterances=validation_rows,
        validation_frames=validation_frames,
    )
    return Binding(data, store, partition, results)


def _count(store: Store, speakers: tuple[str, ...]) -> tuple[int, int]:
    chosen = [info for info in store.speakers if info.speaker in speakers]
    return sum(info.rows for info in chosen), sum(info.frames for info in chosen)
