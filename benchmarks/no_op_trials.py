"""Time the search itself: trials that train nothing, through the real Ray Tune, beside the plain way.

    python benchmarks/no_op_trials.py                                   100, 1000 and 10,000 trials, both ways
    python benchmarks/no_op_trials.py --sizes 1000 --sides ours

Ours is the search of a study, as on a terminal, with its ledger, checkpoints and every fsync; plain is Ray Tune's Tuner
with OptunaSearch over the same grid, and Ray's defaults. Either side reuses its workers, two at a time. In place of
training a trial looks its UA up in a table (a hash of what varies); afterwards every result is held against the table.

Each row is a process of its own. Seconds a trial are from the first trial's end to the last one's; the start is shown
apart. The driver's CPU time, which other work on the machine stretches less, is also shown of the first and the last
tenth of the trials. Peak is the driver's memory, grown how much of it came after the first trial's end, slope how much
per trial in the second half of the trials; on disk is all that was written, Ray's logs included.
"""

import argparse
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
from results_file import write_results

Point = dict[str, Any]
Grid = dict[str, list[Any]]
Found = list[tuple[Point, float]]

SIDES = ("ours", "plain")
AT_A_TIME = 2
GRACE_S = 120
VALUES: Grid = {
    "learning_rate": [round(0.0005 * step, 4) for step in range(1, 11)],
    "dropout": [round(0.05 * step, 2) for step in range(10)],
    "maps": list(range(8, 48, 4)),
    "cells": list(range(16, 96, 8)),
    "minibatch": list(range(16, 96, 8)),
}


def make_grid(size: int) -> Grid:
    """Values of as many parameters as it takes; their product has `size` points."""
    made: Grid = {}
    left = size
    for name, values in VALUES.items():
        if left > 1:
            made[name] = values[: min(left, len(values))]
            left, rest = divmod(left, len(made[name]))
            left = 0 if rest else left
    if left != 1 or size == 1:
        raise SystemExit(f"--sizes {size}: take 2 to 10 times a power of ten, at most 100000")
    return made


def table(point: Mapping[str, Any]) -> float:
    """The UA in per cent that training a point of the grid would give."""
    return int(hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:8], 16) % 10_000 / 100


def a_trial(seconds: Sequence[float]) -> float:
    """Mean step between the ends of trials."""
    return (seconds[-1] - seconds[0]) / (len(seconds) - 1)


class Meter:
    """Notes when trials end, and what is on disk and in memory when so many have."""

    def __init__(self, size: int, folder: Path) -> None:
        """Begin with the process."""
        self._size = size
        self._folder = folder
        self._began = psutil.Process().create_time()
        self._ends: list[float] = []
        self._cpu: list[float] = []
        self._rss: list[float] = []
        self._first_mib = 0.0
        self._last: dict[str, float] = {}

    def ended(self) -> None:
        """A trial has ended."""
        self._ends.append(time.time())
        self._cpu.append(time.process_time())
        self._rss.append(psutil.Process().memory_info().rss / 2**10)
        if len(self._ends) == 1:
            self._first_mib = self._rss[0] / 2**10
        if len(self._ends) == self._size:
            self._look()

    def _look(self) -> None:
        """Before anything is taken away or read back."""
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        blocks = []
        for folder, _, names in os.walk(self._folder):
            for name in names:
                with suppress(FileNotFoundError):
                    blocks.append(Path(folder, name).lstat().st_blocks)
        self._last = {
            "peak_mib": peak_mib,
            "grown_mib": peak_mib - self._first_mib,
            "disk_mib": sum(blocks) * 512 / 2**20,
            "files": len(blocks),
        }

    def _kib_a_trial(self) -> float:
        """Slope of the driver's memory over the trials, without the first half, in which imports and caches fill."""
        rss = np.array(self._rss[len(self._rss) // 2 :])
        slope, _ = np.polyfit(np.arange(len(rss)), rss, 1)
        return float(slope)

    def measured(self) -> dict[str, Any]:
        """All of it; of a search that was not done, with what lies there afterwards."""
        if not self._last:
            self._look()
        tenth = max(2, len(self._ends) // 10)
        starts = range(0, len(self._ends) - tenth + 1, tenth)
        return {
            "trials": len(self._ends),
            "start_s": self._ends[0] - self._began,
            "s_a_trial": a_trial(self._ends),
            "cpu_s_a_trial": a_trial(self._cpu),
            "cpu_s_a_trial_of_tenths": [a_trial(self._cpu[start : start + tenth]) for start in starts],
            "kib_a_trial": self._kib_a_trial(),
            **self._last,
        }


def ours(grid: Grid, folder: Path, limit_s: float, meter: Meter) -> Found:
    """Search the grid as `sersearch search` does on a terminal; the points of all results and their UA."""
    import safetensors.numpy

    from sersearch.interruption import end_on_ctrl_c
    from sersearch.run.ledger import Attempt, Epoch, Result
    from sersearch.run.records import seal
    from sersearch.run.run import Run
    from sersearch.run.session import working_on
    from sersearch.search import tune
    from sersearch.search.worker import Worker
    from sersearch.study.study import parse_study
    from sersearch.study.trial import StoreIdentity, Trial
    from sersearch.terminal.live import SearchProgress
    from sersearch.terminal.screen import Screen

    def point(trial: Trial) -> Point:
        return {name: getattr(trial.configuration, name) for name in grid}

    class TabulatedWorker(Worker):
        """Looks a trial up; the ledger is written as by a trial of one epoch."""

        def _advance(self, run: Run, attempt: Attempt) -> dict[str, Any]:
            ua = table(point(attempt.trial))
            epoch = Epoch(epoch=1, train_loss=1.0, validation_loss=1.0, ua_noisy=ua, ua_clean=ua, seconds=0.0)
            attempt.save(b"nothing", (epoch,))
            # Counts whose UA is that of the table, to a hundredth of a point.
            right = round(100 * ua)
            counts = {"b": [[right, 10_000 - right], [10_000 - right, right]]}
            result = Result(
                trial=attempt.trial,
                epochs=(epoch,),
                best=0,
                stopped="epochs",
                seconds=0.0,
                parameters=0,
                confusion={"noisy": counts, "clean": counts},
                environment={},
            )
            attempt.commit(result, safetensors.numpy.save({}))
            return self._committed(run, epoch.model_dump())

    class Progress(SearchProgress):
        """Has a meter."""

        def finished(self, key: str, result: Result | None, error: str) -> None:
            super().finished(key, result, error)
            meter.ended()

    space = {"name": "table", "model": "FST-CLDNN", "w1": 3, "w2": 2, **grid}
    resources = {"cpus": (os.cpu_count() or 1) / AT_A_TIME}
    study = parse_study({"name": "no-op", "spaces": [space], "resources": resources}, "no-op")
    run = Run(folder / "run", study, folder, StoreIdentity(fingerprint="none", speakers=("a", "b", "c")))
    run.storage.put("run.json", seal(run.record()))
    agenda = run.agenda()
    end_on_ctrl_c()
    timer = threading.Timer(limit_s, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with (
        patch.object(tune, "Worker", TabulatedWorker),
        Path(os.devnull).open("w") as nobody,
        Progress(agenda, (), console=Screen(file=nobody, force_terminal=True)) as progress,
        working_on(run.storage) as session,
    ):
        tune.search(run, session, agenda, {}, progress)
    timer.cancel()
    return [(point(result.trial), result.ua("noisy")) for result in run.ledger.results().values()]


def run_side(side: str, size: int, folder: Path, limit_s: float) -> dict[str, Any]:
    """One side in this process: what it took, and what it found."""
    grid, meter = make_grid(size), Meter(size, folder)
    # Ray's own files and the search's scratch are measured too.
    os.environ["RAY_TMPDIR"] = tempfile.tempdir = str(folder)
    if side == "ours":
        found = ours(grid, folder, limit_s, meter)
    else:
        from rivals import plain_tune

        found = plain_tune.search(grid, table, size, AT_A_TIME, folder, limit_s, meter.ended)
    row = meter.measured()
    wrong = [point for point, ua in found if ua != table(point)]
    assert not wrong, f"{side}: not what the table says of {wrong[0]}"
    distinct = {tuple(sorted(point.items())) for point, _ in found}
    return row | {"results": len(found), "distinct": len(distinct), "best_ua": max(ua for _, ua in found)}


def measure(side: str, size: int, limit_s: float) -> dict[str, Any]:
    """One side in a process of its own, ended where it hangs."""
    with tempfile.TemporaryDirectory(prefix="no-op-", ignore_cleanup_errors=True) as folder:
        words = ["--side", side, "--sizes", str(size), "--limit-s", str(limit_s), "--folder", folder]
        with (Path(folder) / "log").open("w") as log:
            child = subprocess.Popen([sys.executable, __file__, *words], stdout=log, stderr=log, start_new_session=True)
            try:
                child.wait(timeout=limit_s + GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return {"failed": f"not done in {limit_s:g} s, and did not stop"}
        made = Path(folder) / "row.json"
        if not made.exists():
            lines = (Path(folder) / "log").read_text().splitlines() or ["nothing said"]
            return {"failed": lines[-1]}
        found: dict[str, Any] = json.loads(made.read_text())
        return found


def cells(side: str, size: int, row: Mapping[str, Any], limit_s: float) -> list[str]:
    """A row of the table."""
    if "failed" in row:
        return [f"{size:,}", side, row["failed"]]
    tenths = row["cpu_s_a_trial_of_tenths"]
    done = f"{row['trials']:,} trials, {row['distinct']:,} distinct"
    return [
        f"{size:,}",
        side,
        done if row["trials"] == size else f"not done in {limit_s:g} s, {done} by then",
        f"{row['start_s']:.1f} s",
        f"{1000 * row['s_a_trial']:.0f} ms",
        f"{1000 * row['cpu_s_a_trial']:.0f} ms",
        f"{1000 * tenths[0]:.0f} to {1000 * tenths[-1]:.0f} ms",
        f"{row['peak_mib']:.0f} MiB",
        f"{row['grown_mib']:.0f} MiB",
        f"{row['kib_a_trial']:.2f} KiB",
        f"{row['disk_mib']:.0f} MiB in {row['files']:,} files",
        f"{row['best_ua']:.2f}",
    ]


COLUMNS = (
    "grid",
    "side",
    "done",
    "start",
    "a trial",
    "driver's CPU",
    "first to last tenth",
    "peak",
    "grown",
    "slope",
    "on disk",
    "best UA (%)",
)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000], help="trials (100 1000 10000)")
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    parser.add_argument("--limit-s", type=float, default=1200, help="time limit of a search in seconds (1200)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "no_op_trials.json")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        row = run_side(given.side, given.sizes[0], given.folder, given.limit_s)
        (given.folder / "row.json").write_text(json.dumps(row))
        return
    print(f"| {' | '.join(COLUMNS)} |")
    print("|" + " --- |" * len(COLUMNS))
    rows = []
    for size in given.sizes:
        make_grid(size)
        for side in given.sides:
            row = measure(side, size, given.limit_s)
            rows.append({"size": size, "side": side, **row})
            print(f"| {' | '.join(cells(side, size, row, given.limit_s))} |", flush=True)
    write_results(given.out, {"at_a_time": AT_A_TIME, "limit_s": given.limit_s, "rows": rows})


if __name__ == "__main__":
    main()
