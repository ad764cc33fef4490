"""A run: a study bound to a store, in a folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sersearch.digests import short_digest
from sersearch.errors import InputError, refuse_uri
from sersearch.run.ledger import Ledger, Result
from sersearch.run.records import Record, read_record, seal
from sersearch.run.session import FOLDER as SESSIONS
from sersearch.run.split import read_split
from sersearch.run.storage import Folder, Storage
from sersearch.run.suggestions import SLOTS, Suggestions
from sersearch.store.reader import Store, open_store
from sersearch.store.vectors.reader import vector_digests
from sersearch.study.agenda import FAILED, Agenda, Outcome
from sersearch.study.configuration.base import Protocol
from sersearch.study.fold import Dealt, Fold, Partition, Shares, Split, missing_emotion, name_groups
from sersearch.study.space import Space
from sersearch.study.study import Study, parse_study
from sersearch.study.trial import Folds, StoreIdentity

RUN = "run.json"

BESIDE_TRIALS = {RUN, SLOTS, f"{SESSIONS}/", "suggestions/", "ray.log", "tensorboard/", "trials/"}
"""What a search may have left in a run's folder before the first trial began."""

# Seeds of the partition that are tried to advise one by which every part has all emotions.
SEEDS_TRIED = 1000


class RunRecord(Record):
    """What `run.json` says.

    Attributes:
        study: as it was launched, with every space in full.
        store: path of the store.
        identity: the store as the keys of the study's trials see it.
    """

    study: dict[str, Any]
    store: str
    identity: StoreIdentity


@dataclass(frozen=True)
class Run:
    """A run's folder, opened.

    Attributes:
        path: the folder.
        study: what is searched.
        store_path: where the store is.
        identity: the store as the keys of the study's trials see it.
    """

    path: Path
    study: Study
    store_path: Path
    identity: StoreIdentity

    @property
    def storage(self) -> Storage:
        """Where everything in RUN/ is kept."""
        return Folder(self.path)

    @property
    def ledger(self) -> Ledger:
        """The run's trials."""
        return Ledger(self.storage)

    @property
    def _folds(self) -> Folds:
        return Folds(self.identity.speakers, self.study.partition, self.identity.groups)

    @property
    def folds(self) -> tuple[Fold, ...]:
        """The folds of the study's partition; one where each speaker is in one part alone."""
        return self._folds.of_protocol("partition", validates_within_training=False)

    @property
    def partition(self) -> Fold:
        """The only fold of a study that has one."""
        (fold,) = self.folds
        return fold

    @cached_property
    def store(self) -> Store:
        """The store.

        Raises:
            InputError: it is not there, not whole, or not the one that the run began with.
        """
        store = open_store(self.store_path)
        if store.fingerprint != self.identity.fingerprint:
            raise InputError(
                f"{self.store_path}: its recipe's fingerprint is {store.fingerprint}, but the run {self.path} began "
                f"with {self.identity.fingerprint}: name the store it began with, or another run folder"
            )
        return store

    def agenda(self, results: Mapping[str, Result] | None = None) -> Agenda:
        """The study's trials against the ledger.

        Args:
            results: the ledger's, where they were read before.
        """
        done = self.ledger.results() if results is None else results
        outcomes = {key: self.outcome(result) for key, result in done.items()}
        for key in self.ledger.keys():  # noqa: SIM118
            if key not in outcomes and self.given_up(self.ledger.failures(key)):
                outcomes[key] = FAILED
        suggestions = self.suggestions()
        return Agenda(self.study, self.identity, outcomes, suggestions.drawn, suggestions.windows)

    def given_up(self, failures: Sequence[str]) -> bool:
        """Whether a trial with these failures is not tried again: too many, or the same numbers would fail again."""
        if not failures:
            return False
        return len(failures) > self.study.resources.retries or failures[-1].startswith("FloatingPointError")

    def forgive_failures(self) -> None:
        """Have the trials that failed for good trained again."""
        for key in self.ledger.keys():  # noqa: SIM118
            self.ledger.forgive(key)

    def outcome(self, result: Result) -> Outcome:
        """A result as the study's search sees it."""
        objective = self.study.search.objective
        condition = objective if objective in result.conditions else result.conditions[0]
        steps = max(len(result.epochs), 1)
        if result.stopped == "pruned":
            return Outcome("pruned", result.epochs[-1].ua(condition), steps, result.parameters)
        return Outcome("complete", result.ua(condition), steps, result.parameters)

    def suggestions(self) -> Suggestions:
        """What samplers have drawn."""
        sampled = [space for space in self.study.spaces if self.study.samples(space)]
        folds = {
            space.name: len(self._folds.of_protocol(space.protocols[0], space.kind.validates_within_training))
            for space in sampled
        }
        return Suggestions(self.storage, self.study, folds)

    def record(self) -> RunRecord:
        """The run as `run.json` keeps it."""
        return RunRecord(study=self.study.model_dump(mode="json"), store=str(self.store_path), identity=self.identity)


def open_run(path: Path, store: Path | None = None) -> Run:
    """Open a run with nothing but its folder.

    Args:
        path: the folder.
        store: where the store is now, if it was moved.

    Raises:
        InputError: it is not a run, or its record is damaged.
    """
    refuse_uri(path)
    storage = Folder(path)
    command = f"`sersearch search STUDY --run {path}`"
    again = f"{command} with the study that it began with writes it again and keeps the trials"
    record = read_record(storage, RUN, RunRecord, again)
    if record is None:
        if storage.list("trials/"):
            raise InputError(f"{path}: has lost its {RUN}: {again}")
        raise InputError(f"{path}: is not a run (it has no {RUN}); start one with {command}")
    study = parse_study(record.study, str(path / RUN))
    return Run(path, study, (store or Path(record.store)).resolve(), record.identity)


def start_run(
    path: Path, study: Study, store: Path | None = None, note: Callable[[str], object] = lambda sentence: None
) -> Run:
    """Bind a study to a folder, or continue with the run that is there; see `bind_run`.

    Args:
        path: the run's folder; made if need be.
        study: what to search.
        store: the store; the study's own unless given.
        note: called with a sentence when `run.json` is restored.
    """
    run = bind_run(path, study, store)
    if _recorded(path) is None and _restores(run):
        note(f"{path / RUN} was lost or damaged and is written again; the trials are kept")
    run.storage.put(RUN, seal(run.record()))
    return run


def bind_run(path: Path, study: Study, store: Path | None = None) -> Run:
    """Make the run of a study in a folder, without writing anything.

    Spaces, seeds, search and resources may change between calls; what would alter trials that exist may not. A
    `run.json` that is lost or damaged is written again, if trials of the study are there.

    Args:
        path: the run's folder, new or with a run.
        study: what to search.
        store: the store; the study's own unless given.

    Raises:
        InputError: no store is named, or the folder holds another study, data or training.
    """
    refuse_uri(path)
    chosen = store or (Path(study.store) if study.store else None)
    if chosen is None:
        raise InputError(f'study {study.name}: no store is named; add store = "..." to it or give --store STORE')
    opened = open_store(chosen)
    study = read_split(study, opened, speaker_groups(opened))
    run = Run(path, study, chosen.resolve(), identify_store(opened, study))
    # Too few speakers, and parts without an emotion, are refused before anything is written.
    check_parts(opened, study)
    before = _recorded(path)
    if before is not None:
        _check_same(before, run)
    else:
        _restores(run)
    return run


def _recorded(path: Path) -> Run | None:
    """The run that is in a folder; None if there is none, or its record is lost or damaged."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is not a folder; choose another place for the run")
    with suppress(InputError):
        return open_run(path)
    return None


def _restores(run: Run) -> bool:
    """Whether a folder without a record holds trials of the study; False where it holds nothing.

    Raises:
        InputError: it holds other things, or trials of another study or store.
    """
    kept = list(run.ledger.keys())
    if not kept:
        # What a crash left half written is no object of the storage, so a torn first write is nothing.
        foreign = [name for name in run.storage.list() if name not in BESIDE_TRIALS]
        if foreign:
            raise InputError(
                f"{run.path}: holds other things ({foreign[0]}) and no {RUN}; name an empty or a new folder"
            )
        return run.storage.exists(RUN)
    if not run.agenda(run.ledger.whole_results()).trials.keys() & kept:
        raise InputError(
            f"{run.path}: its {RUN} is lost or damaged, and none of the {len(kept)} trials there is one of study "
            f"{run.study.name} on {run.store_path}: give the study and the store that it began with"
        )
    return True


def identify_store(store: Store, study: Study) -> StoreIdentity:
    """A store as the keys of a study's trials see it.

    Raises:
        InputError: a space needs a set of vectors that the store does not hold.
    """
    held, needed = vector_digests(store), {}
    for space in study.spaces:
        for name in _vector_sets(space):
            if name not in held:
                holds = f"holds {', '.join(held)}" if held else "holds no vectors"
                raise InputError(
                    f"space {space.name}: features = {name} was given, but {store.path} {holds}: "
                    "add the set with `sersearch functionals`"
                )
            needed[name] = held[name]
    speakers = tuple(sorted(info.speaker for info in store.speakers))
    groups = speaker_groups(store)
    return StoreIdentity(fingerprint=store.fingerprint, speakers=speakers, vectors=needed, groups=groups)


def speaker_groups(store: Store) -> dict[str, str]:
    """The groups of a store's speakers; see `name_groups`."""
    return name_groups({info.speaker: (info.corpus, info.gender) for info in store.speakers})


def check_parts(store: Store, study: Study) -> None:
    """Refuse a study in which a part of a fold lacks an emotion of the store.

    Raises:
        InputError: names the part and the emotion, and a seed of the partition by which every part has them all.
    """
    speakers = tuple(sorted(info.speaker for info in store.speakers))
    shown_by = {speaker: store.emotions_of(speaker) for speaker in speakers}
    protocols = {
        (protocol, space.kind.validates_within_training) for space in study.spaces for protocol in space.protocols
    }
    groups = speaker_groups(store)
    missing = _missing_emotion(store, protocols, Folds(speakers, study.partition, groups), shown_by)
    if missing is None:
        return
    fault = f"study {study.name}: {missing}, so UA would not be over all emotions"
    leave_out = "build a store without that emotion (`sersearch features --emotions ...`)"
    if not isinstance(study.partition, Shares | Dealt):
        raise InputError(f"{fault}: change the split, or {leave_out}")
    for seed in range(SEEDS_TRIED):
        partition = study.partition.model_copy(update={"seed": seed})
        if _missing_emotion(store, protocols, Folds(speakers, partition, groups), shown_by) is None:
            raise InputError(f"{fault}: set seed = {seed} in [partition], by which every part has all emotions")
    raise InputError(
        f"{fault}, and no seed from 0 to {SEEDS_TRIED - 1} gives every part all emotions: change the shares or folds "
        f"in [partition], or {leave_out}"
    )


def _missing_emotion(
    store: Store,
    protocols: Iterable[tuple[Protocol, bool]],
    folds: Folds,
    shown_by: Mapping[str, Collection[str]],
) -> str | None:
    for protocol, validates_within_training in sorted(protocols):
        of_protocol = folds.of_protocol(protocol, validates_within_training)
        if missing := missing_emotion(of_protocol, store.emotions, shown_by):
            return missing
    return None


def _vector_sets(space: Space) -> list[str]:
    """The sets of vectors that a space's configurations are trained on."""
    names: dict[str, None] = {}
    for fixed, _ in space.conditions({}):
        vectors = space.kind.vectors_of(fixed)
        if vectors is not None:
            names[vectors] = None
    return list(names)


def _check_same(before: Run, now: Run) -> None:
    old, new = _altering(before), _altering(now)
    differs = [f"{name} was {old[name]} and is {new[name]}" for name in old if name in new and old[name] != new[name]]
    if differs:
        raise InputError(
            f"{before.path}: {'; '.join(differs)}: that would alter trials that exist, so name a new run folder, "
            f"as in --run {before.path}-2"
        )


def describe_partition(partition: Partition) -> Any:
    """A partition as a message shows it; a split is the same wherever it was read."""
    if isinstance(partition, Split):
        folds = [fold.model_dump(mode="json") for fold in partition.parts]
        return f"a split of {len(folds)} folds ({short_digest(folds)})"
    return partition.model_dump()


def _altering(run: Run) -> Mapping[str, Any]:
    """What would alter trials that exist, by name."""
    study = run.study
    return {
        "the store's fingerprint": run.identity.fingerprint,
        "partition": describe_partition(study.partition),
        "features": study.features,
        "training": study.training,
        **{f"vectors {name}": digest for name, digest in run.identity.vectors.items()},
    }
