"""A run: a study bound to a store and a partition, in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sersearch import durable
from sersearch.errors import InputError
from sersearch.run.ledger import Ledger, Result
from sersearch.run.suggestions import Suggestions
from sersearch.store.reader import Store, open_store
from sersearch.store.vectors.reader import vector_digests
from sersearch.study.agenda import FAILED, Agenda, Outcome
from sersearch.study.fold import PARTS, Partition, make_partition
from sersearch.study.study import Material, Study, data_digest, parse_study

RUN = "run.json"
SUGGESTIONS = "suggestions.jsonl"


@dataclass(frozen=True)
class Run:
    """A run's folder, opened.

    Attributes:
        path: the folder.
        study: what is searched.
        store_path: where the store is.
        fingerprint: of the store's recipe.
        partition: the speakers of each part.
        functionals: digests of the sets of functionals that the study's SVMs learn from, by name.
    """

    path: Path
    study: Study
    store_path: Path
    fingerprint: str
    partition: Partition
    functionals: Mapping[str, str] = field(default_factory=dict)

    @property
    def material(self) -> Material:
        """What the trials learn from, as their keys know it."""
        speakers = sorted(speaker for part in PARTS for speaker in self.partition.speakers(part))
        return Material(data_digest(self.fingerprint, self.partition), tuple(speakers), self.functionals)

    @property
    def ledger(self) -> Ledger:
        """The run's trials."""
        return Ledger(self.path)

    @cached_property
    def store(self) -> Store:
        """The store.

        Raises:
            InputError: it is not there, not whole, or not the one that the run began with.
        """
        store = open_store(self.store_path)
        if store.fingerprint != self.fingerprint:
            raise InputError(
                f"{self.store_path}: its recipe's fingerprint is {store.fingerprint}, but the run {self.path} began "
                f"with {self.fingerprint}: name the store it began with, or another run folder"
            )
        return store

    def agenda(self, results: Mapping[str, Result] | None = None) -> Agenda:
        """The study's trials against the ledger.

        Args:
            results: the ledger's, where they were read before.
        """
        found = self.ledger.results() if results is None else results
        outcomes = {key: self.outcome(result) for key, result in found.items()}
        for key in self.ledger.keys():  # noqa: SIM118
            if key not in outcomes and self.given_up(self.ledger.failures(key)):
                outcomes[key] = FAILED
        return Agenda(self.study, self.material, outcomes, self.suggestions().drawn)

    def given_up(self, failures: Sequence[str]) -> bool:
        """Whether a trial with these failures is not tried again: too many, or the same numbers would fail again."""
        return bool(failures) and (
            len(failures) > self.study.resources.retries or failures[-1].startswith("FloatingPointError")
        )

    def forgive_failures(self) -> None:
        """Have the trials that failed for good trained again."""
        for key in self.ledger.keys():  # noqa: SIM118
            self.ledger.forgive(key)

    def outcome(self, result: Result) -> Outcome:
        """A result as the study's search sees it."""
        pruned = result.stopped == "pruned"
        epochs = len(result.epochs)
        counts = replace(result, best=epochs - 1) if pruned else result
        objective = self.study.search.objective
        ua = counts.ua(objective if objective in result.conditions else "clean")
        return Outcome("pruned" if pruned else "complete", ua, epochs, result.parameters)

    def suggestions(self) -> Suggestions:
        """What samplers have drawn."""
        return Suggestions(self.path / SUGGESTIONS, self.study)

    def record(self) -> dict[str, Any]:
        """The run as plain JSON."""
        return {
            "study": self.study.model_dump(mode="json"),
            "store": str(self.store_path),
            "fingerprint": self.fingerprint,
            "partition": self.partition.model_dump(mode="json"),
            "functionals": dict(self.functionals),
        }


def open_run(path: Path, store: Path | None = None) -> Run:
    """Open a run with nothing but its folder.

    Args:
        path: the folder.
        store: where the store is now, if it was moved.

    Raises:
        InputError: it is no run, or its record is damaged.
    """
    file = path / RUN
    try:
        record = json.loads(file.read_bytes())
        return Run(
            path,
            parse_study(record["study"], str(file)),
            (store or Path(record["store"])).resolve(),
            record["fingerprint"],
            Partition.model_validate(record["partition"]),
            record["functionals"],
        )
    except FileNotFoundError:
        raise InputError(
            f"{path}: is no run (no {RUN} there); start one with `sersearch search STUDY --run RUN`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{file}: is damaged ({type(error).__name__}); start again with the study, the trials stay"
        ) from None


def start_run(path: Path, study: Study, store: Path | None = None) -> Run:
    """Bind a study to a folder, or go on with the run that is there.

    Spaces, seeds, search and resources may change between calls; what would alter trials that exist may not.

    Args:
        path: the run's folder; made if need be.
        study: what to search.
        store: the store; the study's own unless given.

    Raises:
        InputError: no store is named, or the folder holds another study, data or training.
    """
    given = store or (Path(study.store) if study.store else None)
    if given is None:
        raise InputError(f'study {study.name}: no store is named; add store = "..." to it or give --store STORE')
    opened = open_store(given)
    partition = make_partition((info.speaker for info in opened.speakers), study.partition)
    functionals = _functionals(study, opened)
    run = Run(path, study, given.resolve(), opened.fingerprint, partition, functionals)
    if (path / RUN).exists():
        _check_same(open_run(path), run)
    elif path.exists() and any(path.iterdir()):
        raise InputError(f"{path}: holds other things and no {RUN}; name an empty or a new folder")
    path.mkdir(parents=True, exist_ok=True)
    durable.write(path / RUN, json.dumps(run.record(), indent=1).encode())
    return run


def _functionals(study: Study, store: Store) -> dict[str, str]:
    """Digests of the sets that a study's SVMs learn from."""
    there, needed = vector_digests(store), {}
    for space in study.spaces:
        if space.ranges["model"].choices == ("SVM",):
            for name in map(str, space.ranges["features"].choices):
                if name not in there:
                    held = f"holds {', '.join(there)}" if there else "holds no functionals"
                    raise InputError(
                        f"space {space.name}: features = {name} was given, but {store.path} {held}: "
                        "add the set with `sersearch functionals`"
                    )
                needed[name] = there[name]
    return needed


def material_of(store: Store, partition: Partition) -> Material:
    """What trials' keys know of a store and a partition that no run is bound to."""
    speakers = tuple(info.speaker for info in store.speakers)
    return Material(data_digest(store.fingerprint, partition), speakers, vector_digests(store))


def _check_same(before: Run, now: Run) -> None:
    old, new = _altering(before), _altering(now)
    differs = [f"{name} was {old[name]} and is {new[name]}" for name in old if name in new and old[name] != new[name]]
    if differs:
        raise InputError(
            f"{before.path}: {'; '.join(differs)}: that would alter trials that exist, so name a new run folder, "
            f"as in --run {before.path}-2"
        )


def _altering(run: Run) -> Mapping[str, Any]:
    study = run.study
    return {
        "the store's fingerprint": run.fingerprint,
        "partition": study.partition.model_dump(),
        "features": study.features,
        "training": study.training,
        **{f"functionals {name}": digest for name, digest in run.functionals.items()},
    }
