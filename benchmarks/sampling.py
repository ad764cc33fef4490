"""Simulate searches on a table of real trials: how idle are eight slots, and what does drawing ahead cost in UA?

    python benchmarks/sampling.py                          the tables of docs/performance.md
    python benchmarks/sampling.py --searches 20            a quick look
    python benchmarks/sampling.py --store STORE            train the table's 60 networks first, in an hour on a core

The table is a grid of small FST-CLDNNs, trained with early stopping: the validation UA and the CPU seconds that each
took. A search draws from the intervals that the grid spans. The UA of a configuration is interpolated linearly between
the grid's, and its trial takes the seconds of the nearest one of the grid. The clock is simulated; suggestions come
from the package's own suggester, and those of the former batches from plain Optuna.

Idle is the share of the slots' time that no trial takes: until the last trial starts, for which the sampler is to
blame, and until the last trial ends, which has a tail in any search ("random, no waiting" draws all trials at once).
Regret is the best UA of the sequential search (window 1) minus that of the other with as many trials and the same seed.
"""

import argparse
import heapq
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray
from results_file import write_results
from scipy.interpolate import RegularGridInterpolator
from scipy.stats import t as student

from sersearch.search.dimensions import suggest_values
from sersearch.search.suggest import Suggester, directions, tell
from sersearch.study.agenda import Outcome
from sersearch.study.configuration import Configuration
from sersearch.study.study import Study, build, parse_study

RESULTS = Path(__file__).parent / "results" / "sampling.json"
SLOTS = 8
BATCH = 8
WINDOWS = (1, 8, 12, 16, 24)

FIXED = {"name": "fst", "model": "FST-CLDNN", "features": "mfccs", "w1": 3, "w2": 2, "dense": [[32]]}
GRID: dict[str, list[float]] = {
    "learning_rate": [0.0003, 0.001, 0.003, 0.01, 0.03],
    "cells": [8, 16, 32],
    "maps": [4, 16],
    "dropout": [0.0, 0.5],
}
LOGARITHMIC = ("learning_rate", "cells", "maps")
COMMON = {
    "features": {"trim": True},
    "training": {"epochs": 60},
    "partition": {"train": 60, "validation": 25, "test": 15},
}

Floats = NDArray[np.float64]


class Row(NamedTuple):
    """A trial of the table: where it is in the grid, validation UA in per cent, CPU seconds, epochs."""

    point: tuple[float, ...]
    ua: float
    seconds: float
    epochs: int


class Table:
    """UA and seconds of any configuration between those that were trained."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Lay the rows of a whole grid out."""
        axes = [coordinates(name, GRID[name]) for name in GRID]
        uas = np.full([len(axis) for axis in axes], np.nan)
        for row in rows:
            uas[tuple(list(GRID[name]).index(value) for name, value in zip(GRID, row.point, strict=True))] = row.ua
        assert not np.isnan(uas).any(), "the table is a whole grid"
        self._ua = RegularGridInterpolator(axes, uas)
        self._scale = np.array([np.ptp(axis) for axis in axes])
        self._points = np.array([self._place(row.point) for row in rows])
        self._seconds = [row.seconds for row in rows]

    def outcome(self, configuration: Configuration) -> Outcome:
        """What training would give."""
        return Outcome("complete", float(self._ua(self._place(values_of(configuration)))[0]), 1)

    def seconds(self, configuration: Configuration) -> float:
        """How long training would take."""
        distances = (self._points - self._place(values_of(configuration))) / self._scale
        return self._seconds[int(np.argmin(np.sum(distances**2, axis=1)))]

    @staticmethod
    def _place(values: Sequence[float]) -> Floats:
        return np.array([float(coordinates(name, [value])[0]) for name, value in zip(GRID, values, strict=True)])


def coordinates(name: str, values: Sequence[float]) -> Floats:
    """Values on the scale on which they are searched."""
    return np.log(values) if name in LOGARITHMIC else np.asarray(values, np.float64)


def values_of(configuration: Configuration) -> tuple[float, ...]:
    """A configuration's values of the grid's parameters."""
    return tuple(float(getattr(configuration, name)) for name in GRID)


def make_study(sampler: str, trials: int, seed: int) -> Study:
    """The search of one space between the ends of the grid."""
    ends = {
        name: {"log" if name in LOGARITHMIC else "linear": [values[0], values[-1]]} for name, values in GRID.items()
    }
    search = {"sampler": sampler, "trials": trials, "seed": seed}
    return parse_study({"name": "sampling", "spaces": [FIXED | ends], "search": search, **COMMON}, "sampling")


Draw = Callable[[Mapping[Configuration, Outcome]], Sequence[Configuration]]


def windowed(study: Study, window: int) -> Draw:
    """The package's suggester."""
    suggester = Suggester(study.spaces[0], study, window, lambda number, configuration, known: None)
    return lambda outcomes: suggester(outcomes.get)


def batched(study: Study, batch: int) -> Draw:
    """As before the window: so many at a time, once all of the batch before are done, by plain Optuna."""
    sampler = optuna.samplers.TPESampler(multivariate=True, group=True, seed=study.search.seed)
    plain = optuna.create_study(sampler=sampler, directions=directions(study.search))
    drawn: list[tuple[optuna.Trial, Configuration]] = []

    def draw(outcomes: Mapping[Configuration, Outcome]) -> list[Configuration]:
        last = drawn[-batch:]
        assert study.search.trials
        if len(drawn) < study.search.trials and all(configuration in outcomes for _, configuration in last):
            for trial, configuration in last:
                tell(plain, trial, outcomes[configuration])
            for _ in range(min(batch, study.search.trials - len(drawn))):
                trial = plain.ask()
                made = build(study.spaces[0], suggest_values(trial, study.spaces[0], study.settings))
                assert made
                drawn.append((trial, made))
        return [configuration for _, configuration in drawn]

    return draw


class Simulated(NamedTuple):
    """A search: its best UA, and the share of the slots' time that was idle until the last start, and until the end."""

    best: float
    idle: float
    idle_to_the_end: float


def simulate(draw: Draw, table: Table) -> Simulated:
    """Search with eight slots; each takes the next trial as soon as there is one."""
    outcomes: dict[Configuration, Outcome] = {}
    running: list[tuple[float, int, Configuration]] = []
    spans: list[tuple[float, float]] = []
    now = 0.0
    while True:
        for configuration in draw(outcomes)[len(spans) :][: SLOTS - len(running)]:
            end = now + table.seconds(configuration)
            heapq.heappush(running, (end, len(spans), configuration))
            spans.append((now, end))
        if not running:
            break
        now, _, configuration = heapq.heappop(running)
        outcomes[configuration] = table.outcome(configuration)
    last_start = spans[-1][0]
    busy_until_then = sum(min(end, last_start) - start for start, end in spans)
    busy = sum(end - start for start, end in spans)
    best = max(outcome.ua for outcome in outcomes.values())
    return Simulated(best, 1 - busy_until_then / (SLOTS * last_start), 1 - busy / (SLOTS * now))


def compare(table: Table, trials: int, searches: int) -> list[dict[str, Any]]:
    """Simulate each way of drawing with the same seeds."""
    ways: dict[str, tuple[str, Callable[[Study, int], Draw], int]] = {
        **{f"window {window}": ("tpe", windowed, window) for window in WINDOWS},
        f"batches of {BATCH}": ("tpe", batched, BATCH),
        "random, no waiting": ("random", windowed, trials),
    }
    found: dict[str, list[Simulated]] = {name: [] for name in ways}
    for seed in range(searches):
        for name, (sampler, draw, size) in ways.items():
            found[name].append(simulate(draw(make_study(sampler, trials, seed), size), table))
    sequential = np.array([each.best for each in found["window 1"]])
    rows = []
    for name, simulated in found.items():
        regret = sequential - np.array([each.best for each in simulated])
        rows.append(
            {
                "way": name,
                "idle": float(np.mean([each.idle for each in simulated])),
                "idle_to_the_end": float(np.mean([each.idle_to_the_end for each in simulated])),
                "best_ua": float(np.mean([each.best for each in simulated])),
                "regret": float(regret.mean()),
                "regret_95": mean_interval(regret),
            }
        )
    return rows


def mean_interval(values: Floats) -> tuple[float, float]:
    """The 95 % interval of a mean by Student's t."""
    half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def train(store: Path) -> list[Row]:
    """Train the whole grid, one trial after the other, in this process."""
    import tempfile
    import time

    import torch

    from sersearch.run.run import start_run
    from sersearch.training.system import run_trial, system_class

    torch.set_num_threads(1)
    grid = parse_study({"name": "sampling", "spaces": [FIXED | GRID], **COMMON}, "sampling")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run = start_run(Path(folder) / "run", grid, store)
        for trial in run.agenda().trials.values():
            began = time.process_time()
            result = run_trial(trial, system_class(trial.configuration).open_data(run.store, trial))
            seconds = time.process_time() - began
            rows.append(Row(values_of(trial.configuration), result.ua("clean"), seconds, len(result.epochs)))
            print(f"{len(rows)} of {len(run.agenda().trials)}: {rows[-1]}")
    return rows


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the comparison as a table of docs/performance.md."""
    print("| drawn with | idle until the last start | idle until the end | best UA | regret [95 %] |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        low, high = row["regret_95"]
        print(
            f"| {row['way']} | {row['idle']:.1%} | {row['idle_to_the_end']:.1%} | {row['best_ua']:.2f} % | "
            f"{row['regret']:.2f} [{low:.2f}, {high:.2f}] |"
        )


def main() -> None:
    """Train the table if a store is given, then simulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="train the table on this store first")
    parser.add_argument("--searches", type=int, default=100, help="seeds of each way of drawing (100)")
    parser.add_argument("--trials", type=int, default=50, help="trials of a search (50)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the table is read and the figures are written")
    given = parser.parse_args()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = train(given.store) if given.store else [Row(*row) for row in json.loads(RESULTS.read_text())["table"]]
    compared = compare(Table([Row(tuple(row.point), *row[1:]) for row in rows]), given.trials, given.searches)
    write_results(
        given.out, {"trials": given.trials, "searches": given.searches, "slots": SLOTS, "rows": compared, "table": rows}
    )
    show(compared)


if __name__ == "__main__":
    main()
