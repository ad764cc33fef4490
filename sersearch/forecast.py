"""How long a study takes: cost of a step from its multiply-adds, epochs of early stopping, slots of a machine.

Without torch. `sersearch.calibration` measures; here measurements become seconds, and seconds a schedule.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from sersearch.architecture import Configuration, multiply_adds
from sersearch.plan import BEST_EPOCH, Data, Plan, Task, epoch_limits

# Seconds that are not training: Ray's start, a worker's first import and data, and a trial on a reused worker.
START_S = 4.0
WORKER_S = 2.0
TRIAL_S = 0.1

# How far a trial's best epoch lies from its study's typical one, and how far the machine's pace lies from that of the
# calibration; standard deviations of logarithms.
EPOCH_SPREAD = 0.5
PACE_SPREAD = 0.1

SIMULATIONS = 400
# A frame's cost beyond its multiply-adds, in multiply-adds: what the fit on a CPU gives, for want of a fit.
FRAME_OVERHEAD = 600_000


class Measurement(NamedTuple):
    """What a frame of speech took, in seconds: in a training step, and in evaluation."""

    configuration: Configuration
    training_s: float
    evaluation_s: float


@dataclass(frozen=True)
class Rates:
    """Seconds a frame as a non-negative linear function of `work`.

    Attributes:
        training: seconds for each entry of `work` in training.
        evaluation: likewise in evaluation.
        spread: standard deviation of the logarithm of measured over fitted training seconds.
    """

    training: NDArray[np.float64]
    evaluation: NDArray[np.float64]
    spread: float

    def epoch_s(self, configuration: Configuration, data: Data) -> float:
        """Seconds of one epoch: every training frame learnt, every validation frame evaluated."""
        found = work(configuration)
        return float(found @ self.training * data.train_frames + found @ self.evaluation * data.validation_frames)


def work(configuration: Configuration) -> NDArray[np.float64]:
    """What a frame costs, [3]: multiply-adds of the CNN, of the BLSTM, and its share of a minibatch's fixed cost."""
    counted = multiply_adds(configuration, 1)
    return np.array([counted.cnn, counted.blstm, 1 / configuration.minibatch], float)


def fit(measurements: Sequence[Measurement]) -> Rates:
    """Fit the least relative squares with non-negative coefficients.

    Args:
        measurements: at least one.
    """
    works = np.array([work(m.configuration) for m in measurements])
    training_s = np.array([m.training_s for m in measurements])
    evaluation_s = np.array([m.evaluation_s for m in measurements])
    training = _fit(works, training_s)
    errors = np.log(training_s / (works @ training))
    freedom = max(1, len(measurements) - int(np.count_nonzero(training)))
    return Rates(training, _fit(works, evaluation_s), float(np.sqrt(np.sum(errors**2) / freedom)))


def _fit(works: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    relative = works / seconds[:, np.newaxis]
    scale = relative.max(0)
    solution, _ = nnls(relative / scale, np.ones(len(seconds)))
    return np.asarray(solution / scale, np.float64)


class Job(NamedTuple):
    """Something that takes a slot for some seconds; see `Task` for `spaces` and `after`."""

    seconds: float
    spaces: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def makespan(jobs: Sequence[Job], parallel: int, ready_s: float = 0.0) -> float:
    """Seconds until all jobs are done, each free slot taking the first job that waits for no other (list scheduling).

    Args:
        jobs: in the order in which they are handed out.
        parallel: slots.
        ready_s: when the slots become free.
    """
    open_jobs: dict[str, int] = {}
    for name in (name for job in jobs for name in job.spaces):
        open_jobs[name] = open_jobs.get(name, 0) + 1
    waiting, running, now = list(jobs), list[tuple[float, int, Job]](), ready_s
    while waiting or running:
        free = parallel - len(running)
        taken = [i for i, job in enumerate(waiting) if not any(open_jobs.get(name) for name in job.after)][:free]
        assert taken or running, "jobs wait for each other"
        for i in taken:
            heapq.heappush(running, (now + waiting[i].seconds, id(waiting[i]), waiting[i]))
        waiting = [job for i, job in enumerate(waiting) if i not in set(taken)]
        now, _, finished = heapq.heappop(running)
        for name in finished.spaces:
            open_jobs[name] -= 1
    return now if jobs else 0.0


class Interval(NamedTuple):
    """Seconds: what 5 %, half and 95 % of the simulations stay below."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What is left of a study, simulated.

    Attributes:
        parallel: trials at a time.
        wall: seconds until the last trial is done.
        device: seconds of all trials together, whatever runs beside them.
        assumptions: what was assumed, a sentence each.
    """

    parallel: int
    wall: Interval
    device: Interval
    assumptions: tuple[str, ...]


def make_forecast(
    plan: Plan,
    rates: Rates,
    parallel: int,
    generator: np.random.Generator,
    epochs: int | None = None,
    observed: Sequence[int] = (),
) -> Forecast:
    """Simulate what is left of a plan.

    Args:
        plan: whose tasks are left.
        rates: fitted where as many trials ran at a time.
        parallel: trials at a time.
        generator: where the simulations' draws come from.
        epochs: that every trial is assumed to take, at most its limit; None for early stopping.
        observed: epochs that finished trials of the study took; from three on they stand for those to come.
    """
    configurations = [task.configuration for task in plan.tasks]
    epoch_s = np.array([rates.epoch_s(c, plan.data) for c in configurations])
    wall, device = [], []
    for _ in range(SIMULATIONS if configurations else 1):
        pace = generator.normal(0, PACE_SPREAD) + generator.normal(0, rates.spread, len(epoch_s))
        drawn = draw_epochs(configurations, generator, epochs, observed)
        seconds = epoch_s * np.exp(pace) * drawn + TRIAL_S
        jobs = [Job(s, task.spaces, task.after) for s, task in zip(seconds, plan.tasks, strict=True)]
        wall.append(makespan(jobs, parallel, START_S + WORKER_S))
        device.append(float(seconds.sum()))
    return Forecast(parallel, _interval(wall), _interval(device), _assumptions(rates, epochs, observed))


def draw_epochs(
    configurations: Sequence[Configuration],
    generator: np.random.Generator,
    epochs: int | None = None,
    observed: Sequence[int] = (),
) -> NDArray[np.float64]:
    """Draw the epochs of each trial once; see `make_forecast`.

    Where nothing is known, the typical best epoch of a study is log-uniform between 2 and 20, a trial's own is
    log-normal around it, and `patience` more follow. No draw lies outside what a trial's limit and patience allow.
    """
    limits = np.array([epoch_limits(c) for c in configurations]).reshape(-1, 2)
    if epochs is not None:
        return np.minimum(float(epochs), limits[:, 1])
    if len(observed) >= 3:
        drawn = generator.choice(generator.choice(observed, len(observed)), len(limits)).astype(float)
    else:
        typical = np.exp(generator.uniform(*np.log(BEST_EPOCH)))
        best = np.rint(typical * np.exp(generator.normal(0, EPOCH_SPREAD, len(limits))))
        drawn = best + [c.patience for c in configurations]
    return np.asarray(np.clip(drawn, limits[:, 0], limits[:, 1]), np.float64)


def _interval(seconds: Sequence[float]) -> Interval:
    low, middle, high = np.quantile(seconds, (0.05, 0.5, 0.95))
    return Interval(float(low), float(middle), float(high))


def _assumptions(rates: Rates, epochs: int | None, observed: Sequence[int]) -> tuple[str, ...]:
    if epochs is not None:
        stopping = f"every trial takes {epochs} epochs, or its limit"
    elif len(observed) >= 3:
        stopping = f"epochs as the {len(observed)} finished trials took them"
    else:
        low, high = BEST_EPOCH
        stopping = (
            f"the study's typical best epoch is log-uniform from {low} to {high}, a trial's own log-normal around it "
            f"({EPOCH_SPREAD:.0%}), patience follows; exact where the limit is at most patience + 1"
        )
    return (
        stopping,
        f"pace: {rates.spread:.0%} a trial for the fit's residuals, {PACE_SPREAD:.0%} for the machine's other load",
        f"{START_S:.0f} s for Ray to start, {WORKER_S:.0f} s for the workers, {TRIAL_S} s a trial",
    )


class Spent(NamedTuple):
    """A trial's way so far."""

    configuration: Configuration
    epochs: int
    seconds: float


def seconds_left(
    done: Iterable[Spent], running: Mapping[str, Spent], tasks: Sequence[Task], parallel: int = 1
) -> float | None:
    """About how long the rest of a study takes, from what its trials took so far.

    Costs of configurations relate as their multiply-adds with a constant, scaled by what the epochs so far took.
    A trial is expected to take as many epochs as the finished ones did in the mean, within its own limits.

    Args:
        done: finished trials.
        running: trials under way, by key.
        tasks: what is left, those that run included, in the order in which it is handed out.
        parallel: trials at a time; 1 gives device time.

    Returns:
        Seconds; None while nothing is finished and the number of epochs is open, or nothing was measured.
    """
    done = list(done)
    known = [spent for spent in (*done, *running.values()) if spent.epochs]
    if not tasks:
        return 0.0
    fixed = all(low == high for low, high in (epoch_limits(task.configuration) for task in tasks))
    if not known or not (done or fixed):
        return None
    rate = sum(s.seconds for s in known) / sum(s.epochs * relative_cost(s.configuration) for s in known)
    mean = sum(s.epochs for s in done) / len(done) if done else 0.0
    first = sorted(tasks, key=lambda task: task.key not in running)
    jobs = [
        Job(rate * relative_cost(t.configuration) * _epochs_left(t, running, mean), t.spaces, t.after) for t in first
    ]
    return makespan(jobs, parallel)


def relative_cost(configuration: Configuration) -> float:
    """What an epoch costs in comparison with other configurations, in multiply-adds a frame."""
    counted = multiply_adds(configuration, 1)
    return (
        counted.cnn
        + counted.blstm
        + FRAME_OVERHEAD * Configuration.model_fields["minibatch"].default / (configuration.minibatch)
    )


def _epochs_left(task: Task, running: Mapping[str, Spent], mean: float) -> float:
    fewest, most = epoch_limits(task.configuration)
    spent = running[task.key].epochs if task.key in running else 0
    return max(min(max(mean, fewest, spent + 1), most) - spent, 0)


def forecast_facts(forecast: Forecast) -> dict[str, Any]:
    """A forecast as plain JSON, in seconds."""
    return {
        "parallel": forecast.parallel,
        "wall_s": forecast.wall._asdict(),
        "device_s": forecast.device._asdict(),
        "assumptions": list(forecast.assumptions),
    }
