"""What a plan takes from outside: a store's counts, a run's results, the pace of this machine."""

from __future__ import annotations

import math
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
from sersearch.planning.forecast import Forecast, Measurement, fit, make_forecast, relative_cost
from sersearch.planning.plan import Data, Plan
from sersearch.run.ledger import Result
from sersearch.run.run import Run, material_of, open_run
from sersearch.speech.kaldi import moments_of
from sersearch.store.reader import Store, open_store
from sersearch.study.agenda import Agenda
from sersearch.study.configuration import Configuration
from sersearch.study.fold import Partition, make_partition
from sersearch.study.study import Resources, Study, Trial
from sersearch.training.dataset import Dataset, Utterances
from sersearch.training.network import EVALUATED_TOGETHER, Training, predict

# Enough to tell the model's coefficients from the noise, few enough to be done in less than a minute on a CPU.
CONFIGURATIONS = 10
MINIBATCHES = 2
EPOCHS = 3

# Ray's workers stand behind a machine's other work, so calibration does too.
WORKER_NICENESS = 15


@dataclass(frozen=True)
class Binding:
    """A study's data.

    Attributes:
        data: what a plan knows of it.
        store: where the frames are.
        partition: the speakers of each part.
        agenda: the study's trials against what a run holds.
        results: what it holds, by key.
    """

    data: Data
    store: Store
    partition: Partition
    agenda: Agenda
    results: dict[str, Result]

    def lengths(self) -> NDArray[np.int64]:
        """Frames of each copy of one training speaker."""
        found: NDArray[np.int64] = self.store.table(self.partition.train[0])["frames"].to_numpy().astype(np.int64)
        return found


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
        return _bind(study, open_store(path)) if path else None
    opened = open_run(run, store)
    if opened.study.partition != study.partition:
        raise InputError(
            f"{run}: its partition is {opened.study.partition} and the study's is {study.partition}: "
            "plan without --run, or name the study that the run began with"
        )
    return _bind(study, opened.store, replace(opened, study=study))


def _bind(study: Study, store: Store, run: Run | None = None) -> Binding:
    partition = make_partition((info.speaker for info in store.speakers), study.partition)
    train_rows, train_frames = _count(store, partition.train)
    validation_rows, validation_frames = _count(store, partition.validation)
    data = Data(
        source=f"{store.path}, {train_rows} copies to train, {validation_rows} to validate",
        material=material_of(store, partition),
        emotions=len(store.emotions),
        train_utterances=train_rows,
        train_frames=train_frames,
        validation_utterances=validation_rows,
        validation_frames=validation_frames,
        clean_utterances=sum(info.utterances for info in store.speakers),
    )
    results = run.ledger.results() if run else {}
    agenda = run.agenda(results) if run else Agenda(study, data.material, {})
    return Binding(data, store, partition, agenda, results)


def _count(store: Store, speakers: tuple[str, ...]) -> tuple[int, int]:
    chosen = [info for info in store.speakers if info.speaker in speakers]
    return sum(info.rows for info in chosen), sum(info.frames for info in chosen)


def forecast_plan(plan: Plan, bound: Binding | None, parallel: int | None, epochs: int | None) -> Forecast:
    """Calibrate on this machine and forecast what is left of a plan; see `make_forecast`.

    Args:
        plan: of a study.
        bound: its data, for the lengths of utterances and the epochs that finished trials took.
        parallel: trials at a time; as many as this machine runs unless given.
        epochs: that every trial is assumed to take.
    """
    parallel = parallel or slots(plan.study.resources)
    lengths = bound.lengths() if bound else np.array([plan.data.utterance_frames])
    chosen = spread(c for task in plan.tasks if isinstance(c := task.configuration, Configuration))
    device = "cuda" if plan.study.resources.gpus else "cpu"
    measured = calibrate(chosen, plan.data, lengths, parallel, device) if chosen else []
    study_keys = {planned.trial.key for planned in plan.trials}
    networks = [r for key, r in bound.results.items() if key in study_keys and r.stopped != "fitted"] if bound else []
    return make_forecast(
        plan, fit(measured), parallel, np.random.default_rng(0), epochs, [len(r.epochs) for r in networks]
    )


def slots(resources: Resources) -> int:
    """How many trials this machine runs at a time."""
    fits = [(os.cpu_count() or 1) / resources.cpus]
    if resources.gpus:
        fits.append(torch.cuda.device_count() / resources.gpus)
    return max(1, math.floor(min(fits)))


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
    configurations: Sequence[Configuration], data: Data, lengths: NDArray[np.int64], parallel: int, device: str
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
    configurations: Sequence[Configuration], emotions: int, lengths: NDArray[np.int64], device: str
) -> list[Measurement]:
    return [_measure(configuration, emotions, lengths, device) for configuration in configurations]


def _measure(configuration: Configuration, emotions: int, lengths: NDArray[np.int64], device: str) -> Measurement:
    data = generated(configuration, emotions, lengths)
    training = Training(Trial(configuration, 0, "calibration"), data, device)
    training.run_epoch()
    start = time.perf_counter()
    predict(training.model, training.view(data.validation))
    evaluation_s = time.perf_counter() - start
    epoch_s = float(np.mean([training.run_epoch().seconds for _ in range(EPOCHS - 1)]))
    train_frames, validation_frames = int(data.train.length.sum()), int(data.validation.length.sum())
    learning_s = max(epoch_s - evaluation_s, evaluation_s / validation_frames * train_frames)
    return Measurement(configuration, learning_s / train_frames, evaluation_s / validation_frames)


def generated(configuration: Configuration, emotions: int, lengths: NDArray[np.int64]) -> Dataset:
    """A few minibatches of noise; each of one length, as minibatches of a large store nearly are."""
    quantiles = np.quantile(lengths, (np.arange(MINIBATCHES) + 0.5) / MINIBATCHES).astype(np.int64)
    train = _noise(np.repeat(quantiles, configuration.minibatch), configuration.bands, emotions)
    count = max(EVALUATED_TOGETHER * configuration.minibatch, 2 * emotions)
    validation = _noise(np.full(count, np.median(lengths), np.int64), configuration.bands, emotions)
    return Dataset(train, validation, tuple(map(str, range(emotions))), moments_of(train.frames[0]))


def _noise(lengths: NDArray[np.int64], bands: int, emotions: int) -> Utterances:
    index = np.arange(len(lengths))
    frames = np.random.default_rng(0).standard_normal((int(lengths.sum()), bands), np.float32)
    return Utterances(
        frames=(frames,),
        speaker=np.zeros_like(index),
        offset=np.cumsum(lengths) - lengths,
        length=lengths,
        emotion=index % emotions,
        noisy=index >= len(index) // 2,
        speakers=("noise",),
    )
