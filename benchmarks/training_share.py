"""Where the wall time of a search goes: a real search of FST trials, second by second.

    python benchmarks/training_share.py --store STORE                     6 trials of 10 epochs, one at a time per core
    python benchmarks/training_share.py --store STORE --trials 12 --epochs 40

The search is that of `sersearch search`, in a process of its own, and its workers note what they do and when. The start
is from the process's beginning to the first step of training. Per slot, what is not a step is shown in seconds per
trial. The last lines extrapolate to trials of a minute: the same start and end, and the same seconds per trial.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import psutil
from alone import run_alone
from results_file import write_results

from sersearch.run.ledger import Attempt, Epoch, Ledger, Result
from sersearch.run.run import Run, start_run
from sersearch.study.study import parse_study
from sersearch.study.trial import Trial

if TYPE_CHECKING:
    # Importing it takes part of the time that is measured.
    from sersearch.search.nodes import Finding

LONG_TRIAL_S = 60.0
LONG_SEARCH_TRIALS = 100


class Mark(NamedTuple):
    """Something that a process did.

    Attributes:
        what: in a word or two.
        start_s: when it began, in seconds since 1970.
        end_s: when it ended.
        process: number of the process.
    """

    what: str
    start_s: float
    end_s: float
    process: int


class Marks:
    """A file of marks that several processes append to."""

    def __init__(self, file: Path) -> None:
        """Append to a file."""
        self._file = file

    def add(self, what: str, start_s: float) -> None:
        """Note that something which began at a time has ended now."""
        with self._file.open("a") as out:
            out.write(json.dumps(Mark(what, start_s, time.time(), os.getpid())) + "\n")

    def timing(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that notes each of its calls."""

        def timed(*arguments: Any, **named: Any) -> Any:
            start_s = time.time()
            try:
                return function(*arguments, **named)
            finally:
                self.add(what, start_s)

        return timed

    def read(self) -> list[Mark]:
        """All marks, by their beginnings."""
        return sorted((Mark(*json.loads(line)) for line in self._file.open()), key=lambda mark: mark.start_s)


def note_all(marks: Marks) -> None:
    """Let this worker note what it does from now on."""
    started_s = time.time()
    from sersearch.models.kernels.loops import _CompiledCode
    from sersearch.search import worker
    from sersearch.training.network import NetworkSystem

    marks.add("imports of torch and numba", started_s)
    patch.object(worker, "open_data", marks.timing("data opened", worker.open_data)).start()
    patch.object(NetworkSystem, "__init__", marks.timing("model built", NetworkSystem.__init__)).start()
    patch.object(NetworkSystem, "step", marks.timing("step", NetworkSystem.step)).start()
    patch.object(NetworkSystem, "checkpoint", marks.timing("checkpoints", NetworkSystem.checkpoint)).start()
    patch.object(Attempt, "save", marks.timing("checkpoints", Attempt.save)).start()
    patch.object(Attempt, "commit", marks.timing("ledger", Attempt.commit)).start()
    patch.object(Ledger, "begin", marks.timing("ledger", Ledger.begin)).start()
    patch.object(_CompiledCode, "load_overload", marks.timing("numba's load", _CompiledCode.load_overload)).start()


class Watcher:
    """Says nothing."""

    def started(self, trial: Trial) -> None:
        """Nothing."""

    def epoch(self, key: str, epoch: Epoch) -> None:
        """Nothing."""

    def finished(self, key: str, result: Result | None, error: str) -> None:
        """A trial has ended."""
        assert result, error

    def dropped(self, key: str, reason: str) -> None:
        """No trial goes on later here."""
        raise RuntimeError(reason)

    def checked(self, findings: Sequence[Finding]) -> None:
        """Nothing."""

    def note(self, sentence: str) -> None:
        """Nothing."""

    def lost(self, reason: str) -> None:
        """The search can't go on."""
        raise RuntimeError(reason)


@contextmanager
def marked(marks: Marks, what: str) -> Iterator[None]:
    """Note what happens in a block."""
    start_s = time.time()
    yield
    marks.add(what, start_s)


def run_search(store: Path, trials: int, epochs: int, folder: Path) -> dict[str, Any]:
    """Search in this process; the marks."""
    began_s = psutil.Process().create_time()
    marks = Marks(folder / "marks")
    from sersearch.run.session import working_on
    from sersearch.search import tune
    from sersearch.search.worker import Worker

    marks.add("python and imports", began_s)

    class NotingWorker(Worker):
        """A worker that notes what it does."""

        noting = False

        def _advance(self, run: Run, attempt: Attempt) -> dict[str, Any]:
            if not NotingWorker.noting:
                note_all(marks)
                NotingWorker.noting = True
            report: dict[str, Any] = super()._advance(run, attempt)
            return report

    rates = [round(0.0005 * step, 4) for step in range(1, trials + 1)]
    space = {"name": "fst", "model": "FST-CLDNN", "w1": 3, "w2": 2, "learning_rate": rates}
    training = {"epochs": epochs, "patience": epochs}
    study = parse_study({"name": "share", "spaces": [space], "training": training}, "share")
    with marked(marks, "run and agenda"):
        run = start_run(folder / "run", study, store)
        agenda = run.agenda()
    start_ray = tune._start_ray
    with (
        patch.object(tune, "Worker", NotingWorker),
        patch.object(tune, "_start_ray", marks.timing("Ray's own start", start_ray)),
        working_on(run.storage) as session,
    ):
        stopped = tune.search(run, session, agenda, {}, Watcher())
    assert not stopped, stopped
    return {"began_s": began_s, "ended_s": time.time(), "marks": marks.read(), "slots": os.cpu_count()}


def describe(found: dict[str, Any], trials: int) -> dict[str, float]:
    """Seconds of each part."""
    marks = [Mark(*mark) for mark in found["marks"]]
    seconds: dict[str, float] = {}
    for mark in marks:
        seconds[mark.what] = seconds.get(mark.what, 0.0) + mark.end_s - mark.start_s
    steps = [mark for mark in marks if mark.what == "step"]
    first, last = min(mark.start_s for mark in steps), max(mark.end_s for mark in steps)
    slots = found["slots"]
    ray = seconds["Ray's own start"]
    training = seconds["step"] - seconds.get("numba's load", 0.0)
    wall = found["ended_s"] - found["began_s"]
    workers = len({mark.process for mark in steps})
    between = slots * (last - first) - seconds["step"]
    return {
        "wall_s": wall,
        "start_s": first - found["began_s"],
        "ray_s": ray,
        "start_beyond_ray_s": first - found["began_s"] - ray,
        "python_s": seconds["python and imports"],
        "run_s": seconds["run and agenda"],
        "worker_imports_s": seconds["imports of torch and numba"] / workers,
        "numba_s": seconds.get("numba's load", 0.0) / workers,
        "data_s": seconds["data opened"] / workers,
        "end_s": found["ended_s"] - last,
        "training_s": training,
        "share": training / (slots * wall),
        "checkpoints_per_trial_s": seconds.get("checkpoints", 0.0) / trials,
        "ledger_per_trial_s": seconds["ledger"] / trials,
        "model_per_trial_s": seconds["model built"] / trials,
        # Unequal ends of the slots are part of it. A trial of less than a minute writes no checkpoint.
        "beyond_steps_per_trial_s": between / trials,
    }


def extrapolate(parts: dict[str, float], slots: int) -> float:
    """The share of training in a search of a hundred trials of a minute each, on the same slots."""
    per_slot = LONG_SEARCH_TRIALS / slots
    training = per_slot * LONG_TRIAL_S
    between = parts["checkpoints_per_trial_s"] + parts["ledger_per_trial_s"] + parts["model_per_trial_s"]
    return training / (training + per_slot * between + parts["start_s"] + parts["end_s"] + parts["numba_s"])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=10, help="of each trial (10)")
    parser.add_argument("--limit-s", type=float, default=1800)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "training_share.json")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder:
        print("\n" + json.dumps(run_search(given.store, given.trials, given.epochs, given.folder)))
        return
    with tempfile.TemporaryDirectory(prefix="share-", ignore_cleanup_errors=True) as folder:
        words = ["--store", given.store, "--trials", given.trials, "--epochs", given.epochs, "--folder", folder]
        found = run_alone(__file__, words, given.limit_s)
    if "failed" in found:
        raise SystemExit(found["failed"])
    parts = describe(found, given.trials)
    print(f"load {os.getloadavg()[0]:.1f}; {given.trials} trials of {given.epochs} epochs")
    for name, value in parts.items():
        print(f"{name:26} {value:.1%}" if name == "share" else f"{name:26} {value:.2f}")
    share = extrapolate(parts, found["slots"])
    print(f"extrapolated: {share:.1%} of a search of {LONG_SEARCH_TRIALS} trials of {LONG_TRIAL_S:.0f} s is training")
    write_results(given.out, {"trials": given.trials, "epochs": given.epochs, **parts, "extrapolated_share": share})


if __name__ == "__main__":
    main()
