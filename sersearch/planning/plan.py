"""A study before anything is trained: every trial, its shapes, its size, its cost. Without torch and without audio."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sersearch.planning.tasks import Task, feasible, tasks, top_counts
from sersearch.study.agenda import Agenda
from sersearch.study.configuration import (
    Configuration,
    Modules,
    Shapes,
    SVMConfiguration,
    System,
    multiply_adds,
    parameters,
    pools,
    shapes,
)
from sersearch.study.space import KERNELS, Space
from sersearch.study.study import Material, Study, Trial, wanted

FRAMES_A_SECOND = 100
FLOAT_BYTES = 4

# Between which a study's typical epoch of the lowest validation loss is assumed to lie, before a trial has shown it.
BEST_EPOCH = (2, 20)


@dataclass(frozen=True)
class Data:
    """What a plan knows of the data; from a store's manifest, or assumed.

    Attributes:
        source: where that comes from, in words.
        material: what trials' keys know of it; its data are empty where no store is named.
        emotions: N, how many classes there are.
        train_utterances: copies to learn from.
        train_frames: their frames.
        validation_utterances: copies to stop and to select by.
        validation_frames: their frames.
        clean_utterances: of all speakers together.
    """

    source: str
    material: Material
    emotions: int
    train_utterances: int
    train_frames: int
    validation_utterances: int
    validation_frames: int
    clean_utterances: int

    @property
    def utterance_frames(self) -> int:
        """Frames of a mean utterance."""
        return round(self.train_frames / self.train_utterances)


# Section 5: 1,257 utterances of 42 speakers, split 30/4/8, 61 copies each, 2.78 s in the mean.
PAPERS_DATA = Data(
    source="assumed: the paper's corpus, 1,257 utterances of 2.78 s in 61 copies, 30 of 42 speakers to train",
    material=Material("", tuple(f"s{number:02}" for number in range(1, 43))),
    emotions=6,
    train_utterances=898 * 61,
    train_frames=898 * 61 * 276,
    validation_utterances=120 * 61,
    validation_frames=120 * 61 * 276,
    clean_utterances=1257,
)


@dataclass(frozen=True)
class PlannedTrial:
    """One trial, or a configuration that can't be one.

    Attributes:
        trial: configuration, seed and key.
        spaces: names of the spaces that hold it; it is trained once.
        shapes: its layers, or why it can't be built.
        parameters: trained parameters by module; None where it can't be built, and for an SVM.
        multiply_adds: of a forward pass, CNN and BLSTM for one frame, MLP for one utterance; None likewise.
        memory_bytes: `minibatch_bytes`; None likewise.
        done: the run holds its result.
    """

    trial: Trial
    spaces: tuple[str, ...]
    shapes: Shapes
    parameters: Modules | None
    multiply_adds: Modules | None
    memory_bytes: int | None
    done: bool


@dataclass(frozen=True)
class PlannedSpace:
    """One space of a study.

    Attributes:
        space: the space.
        candidates: how many configurations it spans that can be built; None where a sampler draws from it.
        settled: its trials are known; else they follow from other spaces, or from a sampler.
        trials: how many there are or, until they are settled, can be at most.
        statement: how many trials, and why, in words.
    """

    space: Space
    candidates: int | None
    settled: bool
    trials: int
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
    """

    study: Study
    data: Data
    spaces: tuple[PlannedSpace, ...]
    trials: tuple[PlannedTrial, ...]
    tasks: tuple[Task, ...]
    epochs: int | None

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


def make_plan(agenda: Agenda, data: Data, done: Collection[str] = (), epochs: int | None = None) -> Plan:
    """Plan a study.

    Args:
        agenda: the study's trials against what is done.
        data: what they are trained on.
        done: keys of trials that have a result.
        epochs: that a trial is assumed to take, at most its limit; those of early stopping unless given.
    """
    spaces = tuple(_plan_space(space, agenda) for space in agenda.study.spaces)
    trials = tuple(_plan_trials(agenda, data, done))
    return Plan(agenda.study, data, spaces, trials, tuple(tasks(agenda)), epochs)


def _plan_space(space: Space, agenda: Agenda) -> PlannedSpace:
    study, known = agenda.study, len(agenda.spaces.get(space.name, ()))
    seeds = f", {study.seeds} seeds" if study.seeds > 1 else ""
    if space.ranges["model"].choices == ("SVM",):
        speakers = agenda.material.most_trials(space, study.seeds)
        seeds = f", {speakers} speakers left out in turn" if speakers > 1 else ""
    if study.samples(space):
        trials = wanted(space, study) * agenda.material.most_trials(space, study.seeds)
        drawn = "" if known == trials else f", {known} of them so far"
        statement = f"{_counted(trials)} that the sampler {study.search.sampler} draws{drawn}{seeds}"
        return PlannedSpace(space, None, known == trials, trials, statement)
    candidates = len(feasible(space, study))
    if space.top is None:
        return PlannedSpace(space, candidates, True, known, f"{_counted(known)}{seeds}")
    n_h, n_w = top_counts(space, study)
    settled = space.name in agenda.spaces
    trials = known if settled else n_h * n_w * study.seeds
    why = f"{_counted(trials)} (k = {space.top.k}: {n_h} x {n_w} of {candidates}{seeds})"
    until = "" if settled else f", once {space.top.h} and {space.top.w} are done"
    return PlannedSpace(space, candidates, settled, trials, why + until)


def _counted(trials: int) -> str:
    return f"{trials} trial{'s' * (trials != 1)}"


def _plan_trials(agenda: Agenda, data: Data, done: Collection[str]) -> Iterator[PlannedTrial]:
    names: dict[Trial, list[str]] = {}
    for space in agenda.study.spaces:
        for trial in _trials(space, agenda):
            names.setdefault(trial, []).append(space.name)
    for trial, spaces in names.items():
        configuration, found = trial.configuration, shapes(trial.configuration)
        if found.feasible and isinstance(configuration, Configuration):
            counted, work = parameters(configuration, data.emotions), multiply_adds(configuration, data.emotions)
            memory = minibatch_bytes(configuration, data.emotions, data.utterance_frames)
            yield PlannedTrial(trial, tuple(spaces), found, counted, work, memory, trial.key in done)
        else:
            yield PlannedTrial(trial, tuple(spaces), found, None, None, None, trial.key in done)


def _trials(space: Space, agenda: Agenda) -> list[Trial]:
    """The trials of a space that is settled, in their order; configurations that can't be built once, not a seed."""
    if agenda.study.samples(space):
        return agenda.spaces[space.name]
    settled = {trial.configuration for trial in agenda.spaces.get(space.name, ())}
    made: list[Trial] = []
    for configuration in space.enumerate(agenda.study.settings):
        if not shapes(configuration).feasible:
            made += agenda.trials_of(configuration)[:1]
        elif configuration in settled:
            made += agenda.trials_of(configuration)
    return made


def minibatch_bytes(configuration: Configuration, emotions: int, frames: int) -> int:
    """About what training holds at its peak for one minibatch of utterances of `frames` frames, in float32.

    4 bytes x (6 P + B T (3 F + sum over layers of (2 convolved + 3 pooled) + 4 V + 36 cells)): weights, gradients, two
    moments of Adam, the best weights and a copy; for each of B T frames the input F three times, each layer's column
    of convolved maps (with their gradient) and of pooled maps (with their indices), the last layer's column V on its
    way into the BLSTM, and the gates, cells and states of both directions. What torch itself takes is not in it.
    """
    columns = [
        configuration.maps * (2 * layer.convolved[0] + 3 * layer.pooled[0]) for layer in shapes(configuration).layers
    ]
    f = configuration.channels * configuration.rows
    frame = 3 * f + sum(columns) + 4 * _column(configuration) + 36 * configuration.cells
    held = 6 * parameters(configuration, emotions).total + configuration.minibatch * frames * frame
    return FLOAT_BYTES * held


def _column(configuration: Configuration) -> int:
    """Length of one column of the maps that enter the BLSTM."""
    layers = shapes(configuration).layers
    if not layers:
        return configuration.channels * configuration.rows
    return configuration.maps * layers[-1].pooled[0]


def epoch_limits(configuration: System) -> tuple[int, int]:
    """The fewest and the most epochs that a trial can take: early stopping needs `patience` more than one.

    An SVM is trained in one go, which counts as an epoch.
    """
    if isinstance(configuration, SVMConfiguration):
        return 1, 1
    return min(configuration.epochs, configuration.patience + 1), configuration.epochs


def epochs_assumed(configuration: System, epochs: int | None = None) -> int:
    """Epochs of a typical trial: the geometric mean of `BEST_EPOCH` and `patience` more, unless given."""
    if isinstance(configuration, SVMConfiguration):
        return 1
    low, high = BEST_EPOCH
    return min(configuration.epochs, epochs or round(math.sqrt(low * high)) + configuration.patience)


def plan_facts(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON."""
    return {
        "study": plan.study.name,
        "bound": bool(plan.data.material.data),
        "data": {name: value for name, value in vars(plan.data).items() if name != "material"},
        "spaces": [
            {
                "name": planned.space.name,
                "candidates": planned.candidates,
                "settled": planned.settled,
                "trials": planned.trials,
                "statement": planned.statement,
            }
            for planned in plan.spaces
        ],
        "trials": [_trial_facts(planned, plan.data.emotions, plan.epochs) for planned in plan.trials],
        "totals": plan.totals(),
    }


def _trial_facts(planned: PlannedTrial, emotions: int, epochs: int | None) -> dict[str, Any]:
    configuration, counted, work = planned.trial.configuration, planned.parameters, planned.multiply_adds
    fewest, most = epoch_limits(configuration)
    return {
        "key": planned.trial.key,
        "space": planned.spaces[0],
        "spaces": list(planned.spaces),
        "model": configuration.model,
        "features": configuration.features,
        "config": {name: getattr(configuration, name, None) for name in KERNELS},
        "settings": {k: v for k, v in configuration.canonical().items() if k not in ("model", "features", *KERNELS)},
        "seed": planned.trial.seed,
        "held_out": planned.trial.held_out or None,
        "parameters": counted.total if counted else None,
        "modules": vars(counted) if counted else None,
        "shapes": layer_shapes(planned, emotions),
        "feasible": planned.shapes.feasible,
        "reason": planned.shapes.reason,
        "shrunk": planned.shapes.shrunk,
        "multiply_adds_a_second": {m: FRAMES_A_SECOND * getattr(work, m) for m in ("cnn", "blstm")} if work else None,
        "minibatch_bytes": planned.memory_bytes,
        "epochs": {"fewest": fewest, "most": most, "assumed": epochs_assumed(configuration, epochs)},
        "done": planned.done,
    }


def layer_shapes(planned: PlannedTrial, emotions: int) -> list[dict[str, Any]]:
    """Name and output size of each layer for one splice; up to the layer that fails where the model can't be built."""
    configuration, found = planned.trial.configuration, planned.shapes
    if isinstance(configuration, SVMConfiguration):
        return []
    rows: list[tuple[str, list[int]]] = [("input", [configuration.channels, configuration.rows, configuration.columns])]
    for number, layer in enumerate(found.layers, start=1):
        rows.append((f"convolution {number}", [configuration.maps, *layer.convolved]))
        if any(pools(configuration.model)):
            rows.append((f"pooling {number}", [configuration.maps, *layer.pooled]))
    if found.feasible:
        rows += [("vector", [found.vector]), ("blstm", [2 * configuration.cells])]
        rows += [(f"dense {number}", [width]) for number, width in enumerate(configuration.dense, start=1)]
        rows.append(("output", [emotions]))
    return [{"layer": name, "shape": size} for name, size in rows]
