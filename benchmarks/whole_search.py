"""A whole search: two FST-CLDNNs and two T-CLDNNs on RAVDESS with fixed epochs, ours beside the plain way.

    sersearch features --corpus ravdess=DIR --noise DIR --noises 1 --snrs 1 --out STORE
    python benchmarks/whole_search.py --store STORE

Ours is `sersearch.search.search` of a study, with its ledger, checkpoints and every fsync, on a store that no process
has opened before. Plain is Ray Tune with its defaults and OptunaSearch (`rivals/plain_search.py`): the model as one
would write it in PyTorch, each trial reading the speakers' Parquet files, nothing kept of it. It is given the four
points to try and, so that the losses can be compared, our initial weights and our minibatches; dropout is 0 and the
learning rate low. Either side trains one trial a core, in a process of its own. The search's seconds are from the
first trial's drawing to the last one's end; in all, from the process's start to its end, Python's imports and Ray's
start included.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from alone import run_alone
from results_file import write_results

from sersearch.run.ledger import Epoch, Result
from sersearch.run.run import start_run
from sersearch.search.nodes import Finding
from sersearch.store.manifest import Manifest
from sersearch.store.reader import open_store
from sersearch.study.fold import make_partition
from sersearch.study.study import parse_study
from sersearch.study.trial import Trial

SIDES = ("ours", "plain")
SPACES: list[dict[str, Any]] = [
    {"name": "fst", "model": "FST-CLDNN", "w1": [3, 8], "w2": 3},
    {"name": "t", "model": "T-CLDNN", "w1": [5, 8], "w2": 3},
]
# With the paper's rate of 0.001 the two sides' roundings drift apart to 0.2 % of the loss within an epoch.
LEARNING_RATE = 1e-5
# Even so plain PyTorch's gradient of FST 8, 3's first kernel is off by 2e-3 in float32, and ours by 3e-7.
ALLOWED = 2e-4


class Clock:
    """Notes when trials begin and end; the watcher of our search."""

    def __init__(self) -> None:
        """Begin with the process."""
        self._began = psutil.Process().create_time()
        self._begun: list[float] = []
        self._ended: list[float] = []

    def begun(self) -> None:
        """A trial is drawn."""
        self._begun.append(time.time())

    def ended(self) -> None:
        """A trial has ended."""
        self._ended.append(time.time())

    def started(self, trial: Trial) -> None:
        """A trial is handed out."""
        self.begun()

    def epoch(self, key: str, epoch: Epoch) -> None:
        """Nothing is noted."""

    def finished(self, key: str, result: Result | None, error: str) -> None:
        """A trial has a result."""
        assert result, error
        self.ended()

    def checked(self, findings: Sequence[Finding]) -> None:
        """No cluster is checked here."""

    def dropped(self, key: str, reason: str) -> None:
        """No trial goes on later here."""
        raise RuntimeError(reason)

    def note(self, sentence: str) -> None:
        """Nothing is noted."""

    def lost(self, reason: str) -> None:
        """The search can't go on."""
        raise RuntimeError(reason)

    def seconds(self) -> dict[str, float]:
        """Of the start, of the search, and in all until now."""
        return {
            "start_s": self._begun[0] - self._began,
            "search_s": self._ended[-1] - self._begun[0],
            "all_s": time.time() - self._began,
        }


def cut(store: Path, speakers: int, out: Path) -> None:
    """A copy of a store's first speakers, as if nobody had opened it."""
    manifest = Manifest.read(store)
    kept = tuple(sorted(manifest.speakers, key=lambda info: info.speaker)[:speakers])
    out.mkdir()
    for info in kept:
        shutil.copy(store / info.file, out / info.file)
    planned = {info.speaker: info.rows for info in kept}
    manifest.model_copy(update={"speakers": kept, "planned": planned}).write(out)


def named(point: Mapping[str, Any]) -> str:
    """A point of the grid as a person reads it."""
    return f"{point['model'].removesuffix('-CLDNN')} {point['w1']}, {point['w2']}"


def run_side(side: str, store: Path, epochs: int, folder: Path) -> dict[str, Any]:
    """One side in this process: seconds, and each point's validation loss and UA."""
    clock = Clock()
    training = {"epochs": epochs, "patience": epochs, "dropout": 0.0, "learning_rate": LEARNING_RATE}
    if side == "ours":
        from sersearch.run.session import working_on
        from sersearch.search import search

        study = parse_study({"name": "whole", "spaces": SPACES, "training": training}, "whole")
        run = start_run(folder / "run", study, store)
        with working_on(run.storage) as session:
            stopped = search(run, session, run.agenda(), {}, clock)
        assert not stopped, stopped
        seconds = clock.seconds()
        results = run.ledger.results().values()
        points = {
            named(result.trial.configuration.record()): (result.epochs[-1].validation_loss, result.epochs[-1].ua_noisy)
            for result in results
        }
        return seconds | {"points": points}
    from rivals import plain_search

    from sersearch.study.configuration import NetworkConfiguration

    opened = open_store(store)
    partition = make_partition(info.speaker for info in opened.speakers)
    files = {info.speaker: store / info.file for info in opened.speakers}

    def make_trial(point: dict[str, Any]) -> Trial:
        configuration = NetworkConfiguration(**point, **training)
        return Trial(configuration=configuration, fold=partition, data=opened.fingerprint)

    found = plain_search.search(
        [{"model": space["model"], "w1": w1, "w2": space["w2"]} for space in SPACES for w1 in space["w1"]],
        make_trial,
        ([files[name] for name in partition.train], [files[name] for name in partition.validation]),
        opened.emotions,
        folder,
        clock.begun,
        clock.ended,
    )
    return clock.seconds() | {"points": {named(point): (loss, ua) for point, loss, ua in found}}


def measure(side: str, store: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One side in a process and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="whole-", ignore_cleanup_errors=True) as folder:
        cut(store, given.speakers, Path(folder) / "store")
        words = ["--side", side, "--store", Path(folder) / "store", "--epochs", given.epochs, "--folder", folder]
        return run_alone(__file__, words, given.limit_s)


def compare(ours: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, float]:
    """The largest relative difference of a loss, and how many times the plain way takes."""
    assert ours["points"].keys() == plain["points"].keys(), (ours["points"], plain["points"])
    losses = [(ours["points"][name][0], plain["points"][name][0]) for name in ours["points"]]
    difference = max(abs(a - b) / a for a, b in losses)
    assert difference < ALLOWED, losses
    return {
        "difference": difference,
        "times": plain["search_s"] / ours["search_s"],
        "times_in_all": plain["all_s"] / ours["all_s"],
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="a store of RAVDESS")
    parser.add_argument("--speakers", type=int, default=5, help="of the store, taken from its front (5)")
    parser.add_argument("--epochs", type=int, default=1, help="of each trial (1)")
    parser.add_argument("--limit-s", type=float, default=300, help="time limit of a search in seconds (300)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "whole_search.json")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print("\n" + json.dumps(run_side(given.side, given.store, given.epochs, given.folder)))
        return
    kept = open_store(given.store).speakers[: given.speakers]
    learnt = make_partition(info.speaker for info in kept).train
    copies = sum(info.rows for info in kept if info.speaker in learnt)
    print(f"4 trials of {given.epochs} epochs, {copies} copies to learn from")
    print("| side | start | search | in all | validation losses |")
    print("|" + " --- |" * 5)
    found: dict[str, Any] = {"speakers": given.speakers, "epochs": given.epochs}
    for side in SIDES:
        row = found[side] = measure(side, given.store, given)
        if "failed" in row:
            print(f"| {side} | {row['failed']} |", flush=True)
            continue
        losses = ", ".join(f"{name}: {loss:.4f}" for name, (loss, _) in sorted(row["points"].items()))
        seconds = [f"{row[name]:.1f} s" for name in ("start_s", "search_s", "all_s")]
        print(f"| {side} | {' | '.join(seconds)} | {losses} |", flush=True)
    if not any("failed" in found[side] for side in SIDES):
        found |= compare(found["ours"], found["plain"])
        print(
            f"the plain way takes {found['times']:.1f} times as long for the search, {found['times_in_all']:.1f} in "
            f"all; losses differ by at most {found['difference']:.1e} of themselves"
        )
    write_results(given.out, found)


if __name__ == "__main__":
    main()
