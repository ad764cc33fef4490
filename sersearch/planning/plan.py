"""A study before anything is trained: every trial, its shapes, its size, its cost. Without torch and without audio."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sersearch.planning.power import DesignPower, design_power
from sersearch.planning.tasks import Task, tasks, top_counts
from sersearch.study.agenda import Agenda
from sersearch.study.configuration import Configuration, Modules, Shapes
from sersearch.study.configuration.network import FLOAT_BYTES, KERNELS
from sersearch.study.space import Space
from sersearch.study.study import Study, feasible_configurations, wanted
from sersearch.study.trial import StoreIdentity, Trial
from sersearch.training.gpu_memory import kept_data_sets

FRAMES_PER_SECOND = 100

# Between which a study's typical epoch of the lowest validation loss is assumed to lie, before a trial has shown it.
BEST_EPOCH = (2, 20)
# The same of the highest validation UA, in units of patience. UA still rises where the loss does not fall any more, and
# its noise lets a long patience find a later best epoch.
BEST_EPOCH_BY_UA = (1, 5)


@dataclass(frozen=True)
class DataSize:
    """How much data a study is trained on; from a store's manifest, or assumed.

    Attributes:
        source: where that comes from, in words.
        identity: the store as trials' keys see it; its fingerprint is empty where no store is named.
        emotions: N, how many classes there are.
        train_utterances: copies to learn from.
        train_frames: their frames.
        validation_utterances: copies to stop and to select by.
        validation_frames: their frames.
        clean_utterances: of all speakers together.
        speech_share: share of the frames that stay where silence at both ends is left out; of one training speaker.
        split: what its folds have in two parts, in words; empty where no store is named.
        longest_frames: of the longest utterance that is learnt from or chosen by; 0 where no trial takes a GPU.
        resident_bytes: of all frames that are learnt from or chosen by, as they are stored; of the largest fold.
    """

    source: str
    identity: StoreIdentity
    emotions: int
    train_utterances: int
    train_frames: int
    validation_utterances: int
    validation_frames: int
    clean_utterances: int
    speech_share: float = 1.0
    split: tuple[str, ...] = ()
    longest_frames: int = 0
    resident_bytes: int = 0

    @property
    def utterance_frames(self) -> int:
        """Frames of a mean utterance."""
        return round(self.train_frames / self.train_utterances)


# Section 5: 1,257 utterances of 42 speakers, split 30/4/8, 61 copies each, 2.78 s in the mean.
PAPERS_DATA = DataSize(
    source="assumed: the paper's corpus, 1,257 utterances of 2.78 s in 61 copies, 30 of 42 speakers to train",
    identity=StoreIdentity(fingerprint="", speakers=tuple(f"s{number:02}" for number in range(1, 43))),
    emotions=6,
    train_utterances=898 * 61,
    train_frames=898 * 61 * 276,
    validation_utterances=120 * 61,
    validation_frames=120 * 61 * 276,
    clean_utterances=1257,
    # The paper does not say how long its longest utterance is.
    longest_frames=4 * 276,
    resident_bytes=(898 + 120) * 61 * 276 * 40 * FLOAT_BYTES,
)


@dataclass(frozen=True)
class PlannedTrial:
    """One trial, or a configuration that can't be one.

    Attributes:
        trial: configuration, seed and key.
        spaces: names of the spaces that hold it; it is trained once.
        shapes: its layers, or why it can't be built.
        parameters: trained parameters by module; None where it can't be built, or where training decides.
        multiply_adds: of a forward pass, CNN and BLSTM for one frame, MLP for one utterance; None where they mean
            nothing.
        memory_bytes: of one minibatch in training; None where unknown.
        gpu_bytes: that it takes of a GPU; None where unknown, or where it takes none.
        done: the run holds its result.
    """

    trial: Trial
    spaces: tuple[str, ...]
    shapes: Shapes
    parameters: Modules | None
    multiply_adds: Modules | None
    memory_bytes: int | None
    gpu_bytes: int | None
    done: bool


@dataclass(frozen=True)
class PlannedSpace:
    """One space of a study.

    Attributes:
        space: the space.
        candidates: how many configurations it spans that can be built; None where a sampler draws from it.
        settled: its trials are known; else they follow from other spaces, or from a sampler.
        trials: how many there are or, until they are settled, can be at most.
        at_a_time: how many can run at once at most; None while that depends on the cluster of the first launch.
        statement: how many trials, and why, in words.
    """

    space: Space
    candidates: int | None
    settled: bool
    trials: int
    at_a_time: int | None
    statement: str


@dataclass(frozen=True)
class Plan:
    """A study against what is done.

    Attributes:
        study: what is planned.
        data: what it is trained on.
        spaces: in the study's order.
        trials: every trial that is settled once, and every configuration that can't be built, in the study's order.
        tasks: what is left to train, in the order in which it is handed out.
        epochs: that a trial is assumed to take; None for those of early stopping.
        at_a_time: how many trials can run at once at most; None while that depends on the cluster of the first launch.
    """

    study: Study
    data: DataSize
    spaces: tuple[PlannedSpace, ...]
    trials: tuple[PlannedTrial, ...]
    tasks: tuple[Task, ...]
    epochs: int | None
    at_a_time: int | None

    @cached_property
    def power(self) -> DesignPower | None:
        """What the leaderboard can show; None if nothing is trained on the partition or on folds."""
        by_space: dict[str, list[Trial]] = {}
        for planned in self.trials:
            for name in planned.spaces if planned.shapes.feasible else ():
                by_space.setdefault(name, []).append(planned.trial)
        return design_power(self.study, by_space, len(self.data.identity.speakers), self.data.clean_utterances)

    @property
    def gpu_bytes(self) -> tuple[int, int] | None:
        """The least and the most memory that a trial is estimated to take of a GPU; None where none is known."""
        known = [planned.gpu_bytes for planned in self.trials if planned.gpu_bytes is not None]
        return (min(known), max(known)) if known else None

    def left_by_kind(self) -> dict[bool, int]:
        """How many trials are left that take GPUs, and that take none."""
        on_gpus = sum(self.study.on_gpu(type(task.configuration)) for task in self.tasks)
        return {True: on_gpus, False: len(self.tasks) - on_gpus}

    def totals(self) -> dict[str, int]:
        """Counts of trials; `trials` holds those of spaces that aren't settled, `infeasible` configurations."""
        settled = [planned for planned in self.trials if planned.shapes.feasible]
        waiting = sum(not task.key for task in self.tasks)
        return {
            "trials": len(settled) + waiting,
            "waiting": waiting,
            "done": sum(planned.done for planned in settled),
            "left": len(self.tasks),
            "infeasible": len(self.trials) - len(settled),
            "shrunk": sum(planned.shapes.shrunk for planned in settled),
        }


def make_plan(agenda: Agenda, data: DataSize, done: Collection[str] = (), epochs: int | None = None) -> Plan:
    """Plan a study.

    Args:
        agenda: the study's trials against what is done.
        data: what they are trained on.
        done: keys of trials that have a result.
        epochs: that a trial is assumed to take, at most its limit; those of early stopping unless given.
    """
    spaces = tuple(_plan_space(space, agenda) for space in agenda.study.spaces)
    trials = tuple(_plan_trials(agenda, data, done))
    return Plan(agenda.study, data, spaces, trials, tuple(tasks(agenda)), epochs, agenda.most_at_a_time)


def _plan_space(space: Space, agenda: Agenda) -> PlannedSpace:
    study, known = agenda.study, len(agenda.spaces.get(space.name, ()))
    most = agenda.most_trials(space)
    each = _each_in(space, agenda)
    at_a_time = agenda.at_a_time(space)
    if study.samples(space):
        trials = wanted(space, study) * most
        drawn = "" if known == trials else f", {known} of them so far"
        statement = (
            f"{_counted(trials)} that the sampler {study.search.sampler} draws{drawn}{each}{_window(space, agenda)}"
        )
        return PlannedSpace(space, None, known == trials, trials, at_a_time, statement)
    candidates = len(feasible_configurations(space, study))
    if space.top is None:
        return PlannedSpace(space, candidates, True, known, at_a_time, f"{_counted(known)}{each}")
    n_h, n_w = top_counts(space, study)
    settled = space.name not in agenda.unsettled
    trials = known + n_h * n_w * agenda.repetitions(space) * agenda.unsettled_folds(space)
    why = f"{_counted(trials)} (k = {space.top.k}: {n_h} x {n_w} of {candidates}{each})"
    until = "" if settled else f", once {space.top.h} and {space.top.w} are done"
    return PlannedSpace(space, candidates, settled, trials, at_a_time, why + until)


def _window(space: Space, agenda: Agenda) -> str:
    """How many trials a sampler's window allows at a time, in words; nothing while it is open, or when all is done."""
    most, window = agenda.at_a_time(space), agenda.windows.get(space.name)
    return f"; at most {most} at a time (window = {window})" if most else ""


def _each_in(space: Space, agenda: Agenda) -> str:
    """How often each configuration is trained, in words: for each seed and fold; nothing where once."""
    repetitions = agenda.repetitions(space)
    folds = agenda.most_trials(space) // repetitions
    words = f", {repetitions} seeds" if repetitions > 1 else ""
    if folds > 1:
        words += f", {folds} speakers left out in turn" if "loso" in space.protocols else f", {folds} folds"
    return words


def _counted(trials: int) -> str:
    return f"{trials} trial{'s' * (trials != 1)}"


def _plan_trials(agenda: Agenda, data: DataSize, done: Collection[str]) -> Iterator[PlannedTrial]:
    names: dict[Trial, list[str]] = {}
    for space in agenda.study.spaces:
        for trial in _trials(space, agenda):
            names.setdefault(trial, []).append(space.name)
    on_gpus = [trial for trial in names if agenda.study.on_gpu(type(trial.configuration))]
    resident_bytes = kept_data_sets(on_gpus) * data.resident_bytes
    for trial, spaces in names.items():
        configuration = trial.configuration
        shapes = configuration.shapes
        counted = work = memory = gpu_bytes = None
        if shapes.feasible:
            counted = configuration.parameters(data.emotions)
            work = configuration.multiply_adds(data.emotions)
            memory = configuration.minibatch_bytes(data.emotions, data.utterance_frames)
            if agenda.study.on_gpu(type(configuration)):
                gpu_bytes = configuration.gpu_bytes(data.emotions, data.longest_frames, resident_bytes)
        yield PlannedTrial(trial, tuple(spaces), shapes, counted, work, memory, gpu_bytes, trial.key in done)


def _trials(space: Space, agenda: Agenda) -> list[Trial]:
    """The trials of a space that is settled, in their order; configurations that can't be built once, not a seed."""
    if agenda.study.samples(space):
        return agenda.spaces[space.name]
    settled: dict[Configuration, list[Trial]] = {}
    for trial in agenda.spaces.get(space.name, ()):
        settled.setdefault(trial.configuration, []).append(trial)
    made: list[Trial] = []
    for configuration in space.enumerate(agenda.study.settings):
        if not configuration.shapes.feasible:
            made += agenda.trials_of(configuration)[:1]
        else:
            made += settled.get(configuration, ())
    return made


def best_epochs(configuration: Configuration, utterances: int) -> tuple[int, int]:
    """Between which the typical best epoch of trials like this one is assumed to lie, before a trial has shown it.

    Args:
        configuration: of the trial.
        utterances: copies that it is trained on.
    """
    if not configuration.keeps_by_ua:
        return BEST_EPOCH
    patience = configuration.limits_on(utterances)[0] - 1
    low, high = (max(1, times * patience) for times in BEST_EPOCH_BY_UA)
    return low, high


def epochs_assumed(configuration: Configuration, utterances: int, epochs: int | None = None) -> int:
    """Epochs of a typical trial: the geometric mean of the ends of `best_epochs` and `patience` more, unless given.

    Args:
        configuration: of the trial.
        utterances: copies that it is trained on.
        epochs: that it is assumed to take.
    """
    fewest, most = configuration.limits_on(utterances)
    low, high = best_epochs(configuration, utterances)
    best, patience = round(math.sqrt(low * high)), fewest - 1
    return min(most, epochs or best + patience)


def plan_facts(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON."""
    return {
        "study": plan.study.name,
        "bound": bool(plan.data.identity.fingerprint),
        "data": {name: value for name, value in vars(plan.data).items() if name != "identity"},
        "spaces": [
            {
                "name": planned.space.name,
                "candidates": planned.candidates,
                "settled": planned.settled,
                "trials": planned.trials,
                "at_a_time": planned.at_a_time,
                "statement": planned.statement,
            }
            for planned in plan.spaces
        ],
        "trials": [_trial_facts(planned, plan.data, plan.epochs) for planned in plan.trials],
        "totals": plan.totals(),
        "left_on_gpus": plan.left_by_kind()[True],
        "at_a_time": plan.at_a_time,
        "power": plan.power.facts() if plan.power else None,
    }


def _trial_facts(planned: PlannedTrial, data: DataSize, epochs: int | None) -> dict[str, Any]:
    configuration, counted, work = planned.trial.configuration, planned.parameters, planned.multiply_adds
    settings = configuration.record()
    fewest, most = configuration.limits_on(data.train_utterances)
    assumed = epochs_assumed(configuration, data.train_utterances, epochs)
    return {
        "key": planned.trial.key,
        "space": planned.spaces[0],
        "spaces": list(planned.spaces),
        "model": configuration.model,
        "features": configuration.features,
        "config": {name: settings.get(name) for name in KERNELS},
        "settings": {k: v for k, v in settings.items() if k not in ("model", "features", *KERNELS)},
        "seed": planned.trial.seed,
        "fold": planned.trial.fold.name or None,
        "parameters": counted.total if counted else None,
        "modules": vars(counted) if counted else None,
        "shapes": [{"layer": name, "shape": size} for name, size in configuration.layer_shapes(data.emotions)],
        "feasible": planned.shapes.feasible,
        "reason": planned.shapes.reason,
        "shrunk": planned.shapes.shrunk,
        "multiply_adds_a_second": {m: FRAMES_PER_SECOND * getattr(work, m) for m in ("cnn", "blstm")} if work else None,
        "minibatch_bytes": planned.memory_bytes,
        "gpu_bytes": planned.gpu_bytes,
        "epochs": {"fewest": fewest, "most": most, "assumed": assumed},
        "done": planned.done,
    }
