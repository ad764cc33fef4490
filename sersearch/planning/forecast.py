"""How long a study takes: cost of a step from its multiply-adds, epochs of early stopping, slots of a machine.

Without torch. `sersearch.planning.calibration` measures; here measurements become seconds, and seconds a schedule.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from sersearch.planning.plan import DataSize, Plan, best_epochs
from sersearch.planning.tasks import Task, in_order
from sersearch.study.configuration import Configuration

# Seconds that are not training: the start and the end of Python and Ray, a worker's imports and data, a trial on a
# reused worker (docs/performance.md#where-the-wall-time-of-a-search-goes).
START_S = 5.0
WORKER_S = 3.5
TRIAL_S = 0.05

# How far a trial's best epoch lies from its study's typical one, and how far the machine's pace lies from that of the
# calibration; standard deviations of logarithms.
EPOCH_SPREAD = 0.5
PACE_SPREAD = 0.1

# How far an SVM's seconds lie from `Configuration.fit_seconds` where none was trained here.
UNMEASURED_SPREAD = 0.5

# What a configuration is expected to cost in comparison with others counts this much against a measurement.
EXPECTED_WEIGHT = 0.1

# From so many finished trials on, they stand for those to come.
ENOUGH_SEEN = 3

SIMULATIONS = 500

T = TypeVar("T")

Kind = tuple[str, str]
"""Model and features."""


class Measurement(NamedTuple):
    """What a frame of speech took, in seconds: in a training step, and in evaluation."""

    configuration: Configuration
    training_s: float
    evaluation_s: float


class Pace(NamedTuple):
    """How long trials take in comparison with what was expected of them.

    Attributes:
        times: geometric mean of measured over expected seconds.
        spread: standard deviation of the logarithm of that ratio, over trials.
        measured: over how many trials; 0 where nothing was measured.
    """

    times: float
    spread: float
    measured: int

    @property
    def uncertainty(self) -> float:
        """Standard deviation of the logarithm of the mean."""
        return self.spread / math.sqrt(max(self.measured, 1))


NOT_MEASURED = Pace(1.0, UNMEASURED_SPREAD, 0)


def pace_of(ratios: Sequence[float]) -> Pace:
    """The pace of trials from their ratios of measured over expected seconds; one alone says nothing of the spread."""
    if not ratios:
        return NOT_MEASURED
    logarithms = np.log(ratios)
    spread = float(np.std(logarithms, ddof=1)) if len(ratios) > 1 else UNMEASURED_SPREAD
    return Pace(float(np.exp(logarithms.mean())), spread, len(ratios))


@dataclass(frozen=True)
class Rates:
    """Seconds per frame as a non-negative linear function of `Configuration.work`.

    Attributes:
        training: seconds for each entry of `Configuration.work` in training.
        evaluation: seconds for each entry of `Configuration.work` in evaluation.
        spread: standard deviation of the logarithm of measured over fitted training seconds.
        measured: how many configurations were measured.
        fits: what a system whose training is one fit takes on this machine.
    """

    training: NDArray[np.float64]
    evaluation: NDArray[np.float64]
    spread: float
    measured: int
    fits: Pace = NOT_MEASURED

    def step_s(self, configuration: Configuration, data: DataSize) -> float:
        """Seconds of one step: every training frame learnt and every validation frame evaluated, or the whole fit."""
        work = np.array(configuration.work(), np.float64)
        if not work.size:
            return self.fits.times * configuration.fit_seconds(data.clean_utterances, len(data.identity.speakers))
        share = data.speech_share if configuration.trims else 1.0
        frames_s = work @ self.training * data.train_frames + work @ self.evaluation * data.validation_frames
        return float(frames_s * share)


def fit(measurements: Sequence[Measurement], others: Collection[Configuration] = ()) -> Rates:
    """Fit the least relative squares with non-negative coefficients.

    Args:
        measurements: several of a configuration count as their mean; without any, all rates are 0.
        others: what is to be forecast. Where few measurements leave open what these cost, they cost in proportion to
            `Configuration.relative_cost`.
    """
    if not measurements:
        return Rates(np.zeros(0), np.zeros(0), 0.0, 1)
    found: dict[Configuration, list[tuple[float, float]]] = {}
    for measurement in measurements:
        found.setdefault(measurement.configuration, []).append((measurement.training_s, measurement.evaluation_s))
    works = np.array([configuration.work() for configuration in found], np.float64)
    training_s, evaluation_s = np.array([np.mean(seconds, axis=0) for seconds in found.values()]).T
    costs = np.array([relative_cost(configuration) for configuration in found])
    unmeasured = [configuration for configuration in dict.fromkeys(others) if configuration.work()]
    works_others = np.array([configuration.work() for configuration in unmeasured], np.float64)
    costs_others = np.array([relative_cost(configuration) for configuration in unmeasured])

    def rates_of(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        if not unmeasured:
            return _fit(works, seconds, np.ones(len(works)))
        expected_s = costs_others * np.exp(np.mean(np.log(seconds / costs)))
        weights = np.full(len(unmeasured), EXPECTED_WEIGHT / math.sqrt(len(unmeasured)))
        every = np.concatenate((seconds, expected_s))
        return _fit(np.concatenate((works, works_others)), every, np.concatenate((np.ones(len(works)), weights)))

    training = rates_of(training_s)
    errors = np.log(training_s / (works @ training))
    freedom = max(1, len(found) - int(np.count_nonzero(training)))
    spread = float(np.sqrt(np.sum(errors**2) / freedom))
    return Rates(training, rates_of(evaluation_s), spread, len(found))


def _fit(works: NDArray[np.float64], seconds: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    relative = works / seconds[:, np.newaxis]
    scale = np.maximum(relative.max(0), np.finfo(np.float64).tiny)
    solution, _ = nnls(relative / scale * weights[:, np.newaxis], weights)
    return np.asarray(solution / scale, np.float64)


class Job(NamedTuple):
    """Something that takes a slot for some seconds; see `Task` for `spaces` and `after`."""

    seconds: float
    spaces: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    on_gpu: bool = False


def makespan(jobs: Sequence[Job], parallel: int, ready_s: float = 0.0, on_gpus: int | None = None) -> float:
    """Seconds until all jobs are done, each free slot taking the first job that waits for no other (list scheduling).

    Where some jobs take GPUs, a free slot takes one of these first, as long as fewer than `on_gpus` of them run.

    Args:
        jobs: in the order in which they are handed out.
        parallel: slots.
        ready_s: when the slots become free.
        on_gpus: how many jobs on GPUs run at a time at most; as many as there are slots unless given.
    """
    unfinished = Counter(name for job in jobs for name in job.spaces)
    queues: dict[tuple[bool, tuple[str, ...]], deque[int]] = {}
    for index, job in enumerate(jobs):
        queues.setdefault((job.on_gpu, job.after), deque()).append(index)
    running: list[tuple[float, int]] = []
    now, free_gpus = ready_s if jobs else 0.0, parallel if on_gpus is None else on_gpus
    while any(queues.values()) or running:
        while len(running) < parallel and (queue := _first(queues, unfinished, free_gpus)):
            index = queue.popleft()
            heapq.heappush(running, (now + jobs[index].seconds, index))
            free_gpus -= jobs[index].on_gpu
        assert running, "jobs wait for each other"
        now, index = heapq.heappop(running)
        unfinished.subtract(jobs[index].spaces)
        free_gpus += jobs[index].on_gpu
    return now


def _first(
    queues: Mapping[tuple[bool, tuple[str, ...]], deque[int]], unfinished: Mapping[str, int], free_gpus: int
) -> deque[int] | None:
    """The queue of the next job: of those that wait for nothing, the first one on GPUs or, without any, the first."""
    ready = [
        (not on_gpu, queue[0], queue)
        for (on_gpu, after), queue in queues.items()
        if queue and (free_gpus > 0 or not on_gpu) and not any(unfinished.get(name) for name in after)
    ]
    return min(ready)[2] if ready else None


class Interval(NamedTuple):
    """Seconds: what 10 %, half and 90 % of the simulations stay below, so 80 % lie between the ends."""

    low: float
    middle: float
    high: float


class Spent(NamedTuple):
    """What a trial took so far."""

    configuration: Configuration
    steps: int
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """What is left of a study, simulated.

    Attributes:
        parallel: trials at a time.
        on_gpus: how many of them take GPUs at most; None where the study has one kind of trials, or it is not known.
        wall: seconds until the last trial is done.
        device: seconds of all trials together, whatever runs beside them.
        assumptions: what was assumed, a sentence each.
    """

    parallel: int
    wall: Interval
    device: Interval
    assumptions: tuple[str, ...]
    on_gpus: int | None = None

    def facts(self) -> dict[str, Any]:
        """The forecast as plain JSON, in seconds."""
        return {
            "parallel": self.parallel,
            "on_gpus": self.on_gpus,
            "wall_s": self.wall._asdict(),
            "device_s": self.device._asdict(),
            "assumptions": list(self.assumptions),
        }


def make_forecast(
    plan: Plan,
    rates: Rates,
    parallel: int,
    generator: np.random.Generator,
    epochs: int | None = None,
    finished: Sequence[Spent] = (),
    on_gpus: int | None = None,
) -> Forecast:
    """Simulate what is left of a plan.

    Args:
        plan: whose tasks are left.
        rates: fitted where as many trials ran at a time.
        parallel: trials at a time; no more than the plan can use.
        generator: where the simulations' draws come from.
        epochs: that every trial is assumed to take, at most its limit; None for early stopping.
        finished: trials of the study that are done. From three on, those to come take epochs and a pace like theirs;
            from three of the same model and features on, like these alone.
        on_gpus: how many of the trials at a time take GPUs at most, where the study has two kinds of trials.
    """
    parallel = min(parallel, plan.at_a_time or parallel)
    left = in_order(plan.tasks, parallel)
    configurations = [task.configuration for task in left]
    takes_gpus = [plan.study.on_gpu(type(configuration)) for configuration in configurations]
    expected_s = np.array([rates.step_s(c, plan.data) for c in configurations])
    paces = _paces(configurations, rates, plan.data, finished)
    times = np.array([pace.times for pace in paces])
    spread = np.array([pace.spread for pace in paces])
    uncertainty = np.array([pace.uncertainty for pace in paces])
    wall, device = [], []
    for _ in range(SIMULATIONS if configurations else 1):
        # One draw for all trials of a kind, whose pace is known no better than that, and one for each trial.
        together = generator.normal(0, PACE_SPREAD) + generator.normal() * uncertainty
        pace = together + generator.normal(0, 1, len(expected_s)) * spread
        drawn = draw_epochs(configurations, plan.data.train_utterances, generator, epochs, finished)
        seconds = times * expected_s * np.exp(pace) * drawn + TRIAL_S
        jobs = [
            Job(s, task.spaces, task.after, on_gpu) for s, task, on_gpu in zip(seconds, left, takes_gpus, strict=True)
        ]
        wall.append(makespan(jobs, parallel, START_S + WORKER_S, on_gpus))
        device.append(float(seconds.sum()))
    stopping = _stopping(configurations, plan.data.train_utterances, epochs, finished)
    assumptions = (stopping, *_pace(configurations, paces))
    if on_gpus is None and len(plan.study.devices) > 1:
        assumptions += ("any of the trials at a time may be one on a GPU",)
    return Forecast(parallel, _interval(wall), _interval(device), assumptions, on_gpus)


def _paces(
    configurations: Sequence[Configuration], rates: Rates, data: DataSize, finished: Sequence[Spent]
) -> list[Pace]:
    """The pace of each trial to come: that of finished ones of its kind, else of its system, else the calibration's."""
    ratios: dict[Kind | str, list[float]] = {}
    for spent in finished:
        expected_s = spent.steps * rates.step_s(spent.configuration, data)
        if expected_s and spent.seconds:
            for group in _groups(spent.configuration):
                ratios.setdefault(group, []).append(spent.seconds / expected_s)
    paces = []
    for configuration in configurations:
        seen = _enough(ratios, configuration)
        if seen:
            paces.append(pace_of(seen))
        elif configuration.work():
            paces.append(Pace(1.0, rates.spread, rates.measured))
        else:
            # `step_s` has the measured pace already.
            paces.append(rates.fits._replace(times=1.0))
    return paces


def _groups(configuration: Configuration) -> tuple[Kind, str]:
    """The trials that tell about a configuration: those of the same model and features, else of the same system."""
    return (configuration.model, configuration.features), configuration.system


def _enough(
    seen: Mapping[Kind | str, Sequence[T]], configuration: Configuration, least: int = ENOUGH_SEEN
) -> Sequence[T]:
    """What was seen of the nearest group of a configuration of which there is enough; empty if there is none."""
    found = (seen.get(group, ()) for group in _groups(configuration))
    return next((each for each in found if len(each) >= least), ())


def draw_epochs(
    configurations: Sequence[Configuration],
    utterances: int,
    generator: np.random.Generator,
    epochs: int | None = None,
    finished: Sequence[Spent] = (),
) -> NDArray[np.float64]:
    """Draw the epochs of each trial once; see `make_forecast`.

    Where nothing is known, the typical best epoch of a study is log-uniform between the ends of `best_epochs`, a
    trial's own is log-normal around it, and `patience` more follow. No draw lies outside what a trial's limit and
    patience allow.
    """
    limits: NDArray[np.int64] = np.array([c.limits_on(utterances) for c in configurations], np.int64).reshape(-1, 2)
    if epochs is not None:
        return np.asarray(np.minimum(limits[:, 1], epochs), np.float64)
    # What was seen is drawn again as a whole, because few trials do not tell their distribution.
    again = {group: generator.choice(seen, len(seen)).tolist() for group, seen in _epochs_seen(finished).items()}
    typical, drawn = generator.uniform(), np.empty(len(configurations))
    of_kinds: dict[Kind, list[int]] = {}
    for index, configuration in enumerate(configurations):
        of_kinds.setdefault(_groups(configuration)[0], []).append(index)
    for indices in of_kinds.values():
        seen = _enough(again, configurations[indices[0]])
        if seen:
            drawn[indices] = generator.choice(seen, len(indices))
            continue
        low, high = np.array([best_epochs(configurations[index], utterances) for index in indices], np.float64).T
        best = low * (high / low) ** typical * np.exp(generator.normal(0, EPOCH_SPREAD, len(indices)))
        # Patience is one less than the fewest epochs, or the limit of epochs cuts the draw anyway.
        drawn[indices] = np.rint(best) + limits[indices, 0] - 1
    return np.asarray(np.clip(drawn, limits[:, 0], limits[:, 1]), np.float64)


def _epochs_seen(finished: Iterable[Spent]) -> dict[Kind | str, list[int]]:
    """What finished trials of each group took, of those that have epochs."""
    seen: dict[Kind | str, list[int]] = {}
    for spent in finished:
        if spent.configuration.step_limits[1] > 1:
            for group in _groups(spent.configuration):
                seen.setdefault(group, []).append(spent.steps)
    return seen


def _interval(seconds: Sequence[float]) -> Interval:
    low, middle, high = np.quantile(seconds, (0.1, 0.5, 0.9))
    return Interval(float(low), float(middle), float(high))


def _stopping(
    configurations: Sequence[Configuration], utterances: int, epochs: int | None, finished: Sequence[Spent]
) -> str:
    limits = [configuration.limits_on(utterances) for configuration in configurations]
    if epochs is not None:
        return f"every trial takes {epochs} epochs, or its limit"
    if all(fewest == most for fewest, most in limits):
        return "every trial takes its limit of epochs, which patience can't cut short"
    seen = _epochs_seen(finished)
    unseen = [c for c in configurations if c.step_limits[1] > 1 and not _enough(seen, c)]
    if not unseen:
        total = sum(spent.configuration.step_limits[1] > 1 for spent in finished)
        return (
            f"epochs as the {total} finished trials took them, those of the same model and features if there are three"
        )
    ends = [best_epochs(configuration, utterances) for configuration in unseen]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return (
        f"the study's typical best epoch is log-uniform from {low} to {high}, a trial's own log-normal around it "
        f"({EPOCH_SPREAD:.0%}), patience follows; exact where the limit is at most patience + 1"
    )


def _pace(configurations: Sequence[Configuration], paces: Sequence[Pace]) -> Iterator[str]:
    """Say what the pace of each system's trials rests on."""
    of_systems = {
        configuration.system: (configuration, pace) for configuration, pace in zip(configurations, paces, strict=True)
    }
    for configuration, pace in of_systems.values():
        name = "SVMs" if not configuration.work() else "networks"
        how = f"from {pace.measured} trained here" if pace.measured else "not measured here"
        together = math.hypot(PACE_SPREAD, pace.uncertainty)
        yield f"pace of {name}: {how}, {pace.spread:.0%} per trial, {together:.0%} for all together"
    yield f"{START_S:g} s for Python and Ray to start and end, {WORKER_S:g} s for the workers, {TRIAL_S} s per trial"


def seconds_left(
    done: Iterable[Spent], running: Mapping[str, Spent], tasks: Sequence[Task], parallel: int = 1
) -> float | None:
    """About how long the rest of a study takes, from what its trials took so far.

    Costs of configurations relate as their multiply-adds with a constant, scaled by what the epochs so far took.
    A trial is expected to take as many epochs as the finished ones did in the mean, within its own limits. Trials of
    the same model and features tell more about both than others do, and are asked first.

    Args:
        done: finished trials.
        running: trials under way, by key.
        tasks: what is left, those that run included, in the order in which it is handed out.
        parallel: trials at a time; 1 gives device time.

    Returns:
        Seconds; None while nothing is finished and the number of epochs is open, or nothing was measured.
    """
    done = list(done)
    known = [spent for spent in (*done, *running.values()) if spent.steps]
    if not tasks:
        return 0.0
    fixed = all(low == high for low, high in (task.configuration.step_limits for task in tasks))
    if not known or not (done or fixed):
        return None
    rates = _rates(known)
    if not all(task.configuration.system in rates for task in tasks):
        return None
    seen = _epochs_seen(done)
    every = [spent.steps for spent in done if spent.configuration.step_limits[1] > 1]
    first = sorted(in_order(tasks, parallel), key=lambda task: task.key not in running)
    jobs = []
    for task in first:
        c = task.configuration
        rate = next(rates[group] for group in _groups(c) if group in rates)
        took = _enough(seen, c, least=1) or every
        seconds = rate * relative_cost(c) * _steps_left(task, running, fmean(took) if took else 0.0)
        jobs.append(Job(seconds, task.spaces, task.after))
    return makespan(jobs, parallel)


def _rates(known: Iterable[Spent]) -> dict[Kind | str, float]:
    """Seconds per unit of relative cost of each group that something was trained of."""
    seconds: dict[Kind | str, float] = {}
    cost: dict[Kind | str, float] = {}
    for spent in known:
        for group in _groups(spent.configuration):
            seconds[group] = seconds.get(group, 0.0) + spent.seconds
            cost[group] = cost.get(group, 0.0) + spent.steps * relative_cost(spent.configuration)
    return {group: seconds[group] / max(cost[group], 1e-12) for group in seconds if seconds[group]}


@cache
def relative_cost(configuration: Configuration) -> float:
    """The cost of a step in comparison with other configurations of the same system."""
    return configuration.relative_cost()


def _steps_left(task: Task, running: Mapping[str, Spent], mean: float) -> float:
    fewest, most = task.configuration.step_limits
    spent = running[task.key].steps if task.key in running else 0
    return max(min(max(mean, fewest, spent + 1), most) - spent, 0)
