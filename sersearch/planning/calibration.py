"""What a plan takes from outside: a store's counts, a run's results, the pace of this machine."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sersearch.errors import InputError
from sersearch.planning.forecast import (
    NOT_MEASURED,
    Forecast,
    Measurement,
    Spent,
    fit,
    make_forecast,
    pace_of,
    relative_cost,
)
from sersearch.planning.plan import DataSize, Plan
from sersearch.run.ledger import Result
from sersearch.run.run import Run, check_parts, describe_partition, identify_store, open_run, speaker_groups
from sersearch.run.split import check_split, read_split
from sersearch.store.reader import Store, open_store
from sersearch.study.agenda import Agenda
from sersearch.study.configuration import Configuration
from sersearch.study.fold import Fold
from sersearch.study.study import Resources, Study
from sersearch.study.trial import Folds, Trial
from sersearch.training.dataset import open_utterances
from sersearch.training.system import Device, make_system, system_class

# Enough to tell the model's coefficients from the noise, few enough to be done in less than a minute on a CPU.
CONFIGURATIONS = 10

# How many fits of SVMs are measured, and how long one of them may be expected to take.
FITS = 6
LONGEST_FIT_S = 10.0

# Ray's workers stand behind a machine's other work, so calibration does too.
WORKER_NICENESS = 15


@dataclass(frozen=True)
class BoundStudy:
    """A study and the store that it is planned on.

    Attributes:
        size: how much data its trials are trained on.
        store: where the frames are.
        folds: the speakers of each part, fold by fold.
        agenda: the study's trials against what a run holds.
        results: what it holds, by key.
    """

    size: DataSize
    store: Store
    folds: tuple[Fold, ...]
    agenda: Agenda
    results: dict[str, Result]

    def lengths(self) -> NDArray[np.int64]:
        """Frames of each copy of one training speaker."""
        found: NDArray[np.int64] = self.store.table(self.folds[0].train[0])["frames"].to_numpy().astype(np.int64)
        return found


def bind(study: Study, store: Path | None = None, run: Path | None = None) -> BoundStudy | None:
    """Look at a study's store and at what a run has done; of the store's rows, the labels are read.

    Args:
        study: whose own store is taken unless another is given.
        store: a store.
        run: a run's folder, whose store is taken unless one is given.

    Returns:
        None where no store is named anywhere.

    Raises:
        InputError: the store or the run can't be read, a part of a fold lacks an emotion, or the run was begun with
            another partition.
    """
    if run is None:
        path = store or (Path(study.store) if study.store else None)
        if path is None:
            return None
        opened_store = open_store(path)
        return _bind(read_split(study, opened_store, speaker_groups(opened_store)), opened_store)
    opened = open_run(run, store)
    study = read_split(study, opened.store, opened.identity.groups)
    before, now = (describe_partition(each.partition) for each in (opened.study, study))
    if before != now:
        raise InputError(
            f"{run}: its partition is {before} and the study's is {now}: "
            "plan without --run, or name the study that the run began with"
        )
    return _bind(study, opened.store, replace(opened, study=study))


def _bind(study: Study, store: Store, run: Run | None = None) -> BoundStudy:
    check_parts(store, study)
    identity = run.identity if run else identify_store(store, study)
    folds = Folds(identity.speakers, study.partition, identity.groups).of_protocol("partition", False)
    train_rows, train_frames = _mean_count(store, [fold.train for fold in folds])
    validation_rows, validation_frames = _mean_count(store, [fold.validation for fold in folds])
    each = f" in the mean of {len(folds)} folds" if len(folds) > 1 else ""
    size = DataSize(
        source=f"{store.path}, {train_rows} copies to train, {validation_rows} to validate{each}",
        identity=identity,
        emotions=len(store.emotions),
        train_utterances=train_rows,
        train_frames=train_frames,
        validation_utterances=validation_rows,
        validation_frames=validation_frames,
        clean_utterances=sum(info.utterances for info in store.speakers),
        speech_share=_speech_share(store, folds[0].train[0]) if _trims(study) else 1.0,
        split=check_split(store, folds),
        longest_frames=store.longest({s for fold in folds for s in fold.learnt}) if True in study.devices else 0,
        resident_bytes=max(store.frame_bytes(fold.learnt) for fold in folds),
    )
    results = run.ledger.results() if run else {}
    agenda = run.agenda(results) if run else Agenda(study, size.identity, {})
    return BoundStudy(size, store, folds, agenda, results)


def _trims(study: Study) -> bool:
    """Whether any configuration of a study leaves silence out."""
    ranges = [space.ranges["trim"].choices for space in study.spaces if "trim" in space.ranges]
    return bool(study.features.get("trim")) or any(True in choices for choices in ranges)


def _speech_share(store: Store, speaker: str) -> float:
    """Share of a speaker's frames that stay where silence at both ends is left out."""
    whole, trimmed = (open_utterances(store, (speaker,), trim).length.sum() for trim in (False, True))
    return float(trimmed / whole)


def _mean_count(store: Store, parts: Sequence[tuple[str, ...]]) -> tuple[int, int]:
    """Rows and frames of a part, mean over the folds."""
    counts = [[(info.rows, info.frames) for info in store.speakers if info.speaker in part] for part in parts]
    rows, frames = np.mean([np.sum(count, axis=0) for count in counts], axis=0).round().astype(int).tolist()
    return rows, frames


def forecast_plan(plan: Plan, bound: BoundStudy | None, parallel: int | None, epochs: int | None) -> Forecast:
    """Calibrate on this machine and forecast what is left of a plan; see `make_forecast`.

    Args:
        plan: of a study.
        bound: its data, for the lengths of utterances and the epochs that finished trials took.
        parallel: trials at a time; as many as this machine runs unless given.
        epochs: that every trial is assumed to take.

    Raises:
        InputError: trials take GPUs, and there is none on this machine.
    """
    study, on_gpus = plan.study, None
    if True in study.devices and not torch.cuda.is_available():
        raise InputError(
            f"--calibrate: gpus = {study.resources.gpus:g}, but torch finds no GPU on this machine: calibrate where "
            "there is one, or as if on CPUs with --set resources.gpus=0"
        )
    if parallel is None:
        parallel = slots(study.resources if False not in study.devices else study.resources.without_gpus)
        on_gpus = slots(study.resources) if len(study.devices) > 1 else None
    lengths = bound.lengths() if bound else np.array([plan.data.utterance_frames])
    measured = []
    for on_gpu in study.devices:
        of_kind = [task.configuration for task in plan.tasks if study.on_gpu(type(task.configuration)) == on_gpu]
        chosen = spread(configuration for configuration in of_kind if configuration.work())
        device: Device = "cuda" if on_gpu else "cpu"
        at_a_time = on_gpus if on_gpu and on_gpus else parallel
        measured += calibrate(chosen, plan.data, lengths, at_a_time, device) if chosen else []
    rates = replace(
        fit(measured, [task.configuration for task in plan.tasks]),
        fits=pace_of(_fit_ratios(plan, bound)) if bound else NOT_MEASURED,
    )
    study_keys = {planned.trial.key for planned in plan.trials}
    results = bound.results if bound else {}
    finished = [
        Spent(result.trial.configuration, max(len(result.epochs), 1), result.seconds)
        for key, result in results.items()
        if key in study_keys
    ]
    return make_forecast(plan, rates, parallel, np.random.default_rng(0), epochs, finished, on_gpus)


def _fit_ratios(plan: Plan, bound: BoundStudy) -> list[float]:
    """Train a few of a plan's trials whose training is one fit; measured over expected seconds of each.

    Fits that are expected to take long are left out, for they would take longer than a person waits for a forecast.
    """
    left = {task.key for task in plan.tasks}
    trials = [planned.trial for planned in plan.trials if planned.trial.key in left]
    fits = []
    for trial in trials:
        expected_s = trial.configuration.fit_seconds(plan.data.clean_utterances, len(plan.data.identity.speakers))
        if 0 < expected_s <= LONGEST_FIT_S:
            fits.append((trial, expected_s))
    if not fits:
        return []
    chosen = [fits[index] for index in sorted(set(np.linspace(0, len(fits) - 1, FITS).round().astype(int).tolist()))]
    with multiprocessing.get_context("spawn").Pool(1, os.nice, (WORKER_NICENESS,)) as pool:
        # A worker's first fit takes longer than all others, for it also loads what they use.
        pool.apply(_fit_seconds, (bound.store, chosen[0][0]))
        measured_s = pool.starmap(_fit_seconds, [(bound.store, trial) for trial, _ in chosen], chunksize=1)
    return [seconds / expected_s for seconds, (_, expected_s) in zip(measured_s, chosen, strict=True)]


def _fit_seconds(store: Store, trial: Trial) -> float:
    """Seconds of a trial's one fit, data opened before."""
    system = make_system(trial, system_class(trial.configuration).open_data(store, trial))
    start = time.perf_counter()
    system.step()
    return time.perf_counter() - start


def slots(resources: Resources) -> int:
    """How many trials this machine runs at a time."""
    return max(1, resources.slots(os.cpu_count() or 1, torch.cuda.device_count() if resources.gpus else 0))


def spread(configurations: Iterable[Configuration]) -> list[Configuration]:
    """The cheapest and the dearest configuration of each model and features, at most 10, in the order of their cost."""
    groups: dict[tuple[str, str], list[Configuration]] = {}
    for configuration in sorted(set(configurations), key=lambda c: (relative_cost(c), repr(c))):
        groups.setdefault((configuration.model, configuration.features), []).append(configuration)
    ends = {end for group in groups.values() for end in (group[0], group[-1])}
    ranked = sorted(ends, key=lambda c: (relative_cost(c), repr(c)))
    chosen = np.linspace(0, len(ranked) - 1, min(CONFIGURATIONS, len(ranked))).round()
    return [ranked[int(index)] for index in chosen]


def calibrate(
    configurations: Sequence[Configuration], data: DataSize, lengths: NDArray[np.int64], parallel: int, device: Device
) -> list[Measurement]:
    """Train a few steps of each configuration on generated frames, in several processes at once.

    Processes get in each other's way as trials do (caches, memory, a shared GPU), so each measures all configurations,
    beginning with another one.

    Args:
        configurations: feasible ones.
        data: for the number of emotions.
        lengths: frames of utterances like those to come.
        parallel: processes; never more than there are cores, for trials beyond them run on other machines.
        device: "cpu" or "cuda".
    """
    processes = min(parallel, os.cpu_count() or 1)
    starts = [n * len(configurations) // processes for n in range(processes)]
    orders = [[*configurations[start:], *configurations[:start]] for start in starts]
    jobs = [(order, data.emotions, lengths, device) for order in orders]
    with multiprocessing.get_context("spawn").Pool(processes, os.nice, (WORKER_NICENESS,)) as pool:
        measured = pool.starmap(_measure_all, jobs, chunksize=1)
    return [measurement for each in measured for measurement in each]


def _measure_all(
    configurations: Sequence[Configuration], emotions: int, lengths: NDArray[np.int64], device: Device
) -> list[Measurement]:
    return [_measure(configuration, emotions, lengths, device) for configuration in configurations]


def _measure(configuration: Configuration, emotions: int, lengths: NDArray[np.int64], device: Device) -> Measurement:
    training_s, evaluation_s = system_class(configuration).measure(configuration, emotions, lengths, device)
    return Measurement(configuration, training_s, evaluation_s)
