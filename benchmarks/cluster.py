"""Simulate a search on a cluster of 200 nodes: the real searcher and ledger, on a simulated clock and simulated slots.

    python benchmarks/cluster.py                    200 nodes x 8 GPUs x 4, 10,000 trials
    python benchmarks/cluster.py --losses 20        20 nodes are lost on the way and come back
    python benchmarks/cluster.py --durations RUN --trials 1000      1,000 trials of each kind of model of a real run

`AgendaSearcher` hands trials out, hears of epochs and losses, and reads each result from a ledger in a temporary
folder, which simulated workers write with the calls that real ones use. In Ray's place a queue of events lets as many
trials wait as `sersearch.search.turns` allows, starts workers in the time that they take, and sends reports as
often as Ray Tune's buffer does. Durations and epochs are drawn from 60 networks that sampling.py trained with early
stopping, or, by kind of model, from the results of real runs, scaled to a mean of `--minutes`.

The lower bound is the larger of all work divided by the slots and the longest trial; no scheduler reaches it that does
not know the durations beforehand. "In order" is the makespan of trials that are started in the same order without any
cost. The driver's CPU time is that of the searcher alone; what Ray takes for a trial is in no_op_trials.py, and what it
takes to wait for one of so many workers is measured here by `--ray-wait`.
"""

import argparse
import heapq
import itertools
import json
import random
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, BinaryIO, TypeVar
from unittest.mock import patch

import ray
from no_op_trials import make_grid
from results_file import write_results

from sersearch.planning.forecast import Job, makespan
from sersearch.run.ledger import Attempt, Epoch, Result
from sersearch.run.records import read_record, seal
from sersearch.run.run import Run
from sersearch.run.session import list_notices, working_on
from sersearch.run.storage import Folder
from sersearch.search import tune
from sersearch.search.environment import configure_ray_tune
from sersearch.search.nodes import Finding, Nodes, alive
from sersearch.study.study import parse_study
from sersearch.study.trial import StoreIdentity, Trial

T = TypeVar("T")

Kind = tuple[str, str]
"""Model and features."""

KERNELS: dict[str, dict[str, int]] = {
    "LDNN": {},
    "S-CLDNN": {"h1": 9, "h2": 4},
    "T-CLDNN": {"w1": 8, "w2": 2},
    "ST-CLDNN": {"h1": 5, "h2": 3, "w1": 8, "w2": 2},
    "FST-CLDNN": {"w1": 8, "w2": 2},
}
"""Of the configurations that stand for a kind; their costs decide the order of trials, as in a real search."""

TRAINED = Path(__file__).parent / "results" / "sampling.json"
"""Has the seconds and epochs of real trials."""

WORKER_START_S = 4.0
"""Placement group, process, imports of Ray Tune and torch."""
NEXT_TRIAL_S = 0.1
"""From the end of a trial to the first step of the next one in the same worker."""
LOSS_SEEN_S = 15.0
NODE_BACK_S = 600.0
CHECKPOINT_S = 600.0
"""Between two checkpoints of a trial; the other steps of a trial write nothing."""
REPORT_S = 30.0
"""Most seconds between two reports of a trial whose epochs are shorter."""


class CountingFolder(Folder):
    """Counts the operations on a folder, those of the driver and those of workers."""

    def __init__(self, path: Path) -> None:
        """Begin with the driver."""
        super().__init__(path)
        self.counts: dict[str, Counter[str]] = {"driver": Counter(), "workers": Counter()}
        self.seconds = {"driver": 0.0, "workers": 0.0}
        self.side = "driver"

    def _count(self, name: str, operation: Callable[[], T]) -> T:
        self.counts[self.side][name] += 1
        start = time.perf_counter()
        try:
            return operation()
        finally:
            self.seconds[self.side] += time.perf_counter() - start

    def put(self, name: str, content: bytes) -> None:
        """Count and put."""
        self._count("put", lambda: super(CountingFolder, self).put(name, content))

    def put_once(self, name: str, content: bytes) -> bool:
        """Count and put once."""
        return self._count("put once", lambda: super(CountingFolder, self).put_once(name, content))

    def get(self, name: str) -> bytes | None:
        """Count and get."""
        return self._count("get", lambda: super(CountingFolder, self).get(name))

    def open(self, name: str) -> BinaryIO:
        """Count and open."""
        return self._count("open", lambda: super(CountingFolder, self).open(name))

    def exists(self, name: str) -> bool:
        """Count and look."""
        return self._count("exists", lambda: super(CountingFolder, self).exists(name))

    def list(self, prefix: str = "") -> list[str]:
        """Count and list."""
        return self._count("list", lambda: super(CountingFolder, self).list(prefix))

    def delete(self, name: str) -> None:
        """Count and delete."""
        self._count("delete", lambda: super(CountingFolder, self).delete(name))


class CountedRun(Run):
    """A run whose storage counts."""

    @cached_property
    def storage(self) -> CountingFolder:
        """The storage."""
        return CountingFolder(self.path)


class Watcher:
    """Counts what the searcher says."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.finished_trials = 0
        self.put_back = 0

    def started(self, trial: Trial) -> None:
        """Nothing."""

    def epoch(self, key: str, epoch: Epoch) -> None:
        """Nothing."""

    def finished(self, key: str, result: Result | None, error: str) -> None:
        """Count."""
        assert result, error
        self.finished_trials += 1

    def dropped(self, key: str, reason: str) -> None:
        """Count."""
        self.put_back += 1

    def checked(self, findings: Sequence[Finding]) -> None:
        """Nothing."""

    def note(self, sentence: str) -> None:
        """Print it."""
        print(sentence)

    def lost(self, reason: str) -> None:
        """The search can't go on."""
        raise RuntimeError(reason)


@dataclass
class Working:
    """A trial at work in a slot.

    Attributes:
        id: Ray Tune's.
        trial: which one.
        attempt: in the ledger; None until its first step.
        epochs: of the trial so far.
        saved_s: when the newest checkpoint was written.
    """

    id: str
    trial: Trial
    attempt: Attempt | None = None
    epochs: list[Epoch] = field(default_factory=list)
    saved_s: float = 0.0


class Cluster:
    """Nodes with slots, a clock, and the searcher that is asked for trials."""

    def __init__(
        self, run: CountedRun, nodes: int, gpus: int, slots: int, drawn: Callable[[str], tuple[int, float]]
    ) -> None:
        """Set the clock to zero; `drawn` gives a trial's epochs and seconds."""
        self.now_s = 0.0
        self.run = run
        self.drawn = drawn
        self.driver_cpu_s = 0.0
        self.events_done = 0
        self.nodes: list[dict[str, Any]] = [
            {
                "Alive": True,
                "NodeID": str(number),
                "NodeManagerAddress": f"node-{number}",
                "Resources": {"CPU": float(slots), "GPU": float(gpus)},
            }
            for number in range(nodes)
        ]
        self._cold = deque((node, slot) for slot in range(slots) for node in range(nodes))
        self._warm: deque[tuple[int, int]] = deque()
        self._at: dict[tuple[int, int], Working] = {}
        self._suggested: deque[Working] = deque()
        self._starting = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._ids = itertools.count()
        self._exhausted = False
        self.order: list[str] = []

    @contextmanager
    def _driver(self) -> Iterator[None]:
        """Count the CPU time of the searcher."""
        start = time.process_time()
        yield
        self.driver_cpu_s += time.process_time() - start

    @contextmanager
    def _worker(self) -> Iterator[None]:
        self.run.storage.side = "workers"
        yield
        self.run.storage.side = "driver"

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        """Let something happen later."""
        heapq.heappush(self._events, (self.now_s + seconds, next(self._sequence), event))

    def search(self, searcher: tune.AgendaSearcher) -> None:
        """Run until the searcher has no trial left."""
        self.searcher = searcher
        self._step()
        while not self.searcher.agenda.complete:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
            self._step()

    def _step(self) -> None:
        """One turn of Ray Tune's loop."""
        self.events_done += 1
        with self._driver():
            self.searcher.look_around()
            while not self._exhausted and len(self._suggested) + self._starting < self.searcher.places.pending:
                id = f"{next(self._ids):08x}"
                config = self.searcher.suggest(id)
                if not isinstance(config, dict):
                    break
                self._suggested.append(Working(id, Trial.model_validate(config["trial"])))
        if not self._events:
            self.after(1.0, lambda: None)
        while self._suggested and (self._warm or self._cold):
            slot, seconds = (
                (self._warm.popleft(), NEXT_TRIAL_S) if self._warm else (self._cold.popleft(), WORKER_START_S)
            )
            working = self._suggested.popleft()
            self._at[slot] = working
            self._starting += 1
            self.order.append(working.trial.key)
            self.after(seconds, lambda slot=slot, working=working: self._start(slot, working))  # type: ignore[misc]

    def _start(self, slot: tuple[int, int], working: Working) -> None:
        if self._at.get(slot) is not working:
            return
        self._starting -= 1
        with self._driver():
            self.searcher.on_trial_start(working.id)
        with self._worker():
            ledger = self.run.ledger
            assert ledger.result(working.trial.key) is None
            list_notices(self.run.storage, "none")
            working.attempt, working.saved_s = ledger.begin(working.trial), self.now_s
            if checkpoint := working.attempt.checkpoint():
                working.epochs = [Epoch(**epoch) for epoch in json.loads(checkpoint)]
        self._train(slot, working)

    def _train(self, slot: tuple[int, int], working: Working) -> None:
        """Train until the next report."""
        epochs, seconds = self.drawn(working.trial.key)
        each_s = seconds / epochs
        together = min(max(1, int(REPORT_S / each_s)), epochs - len(working.epochs))
        self.after(together * each_s, lambda: self._report(slot, working, together, each_s))

    def _report(self, slot: tuple[int, int], working: Working, together: int, each_s: float) -> None:
        if self._at.get(slot) is not working:
            return
        assert working.attempt
        done = False
        reports = []
        for _ in range(together):
            number = len(working.epochs) + 1
            epoch = Epoch(
                epoch=number, train_loss=1.0, validation_loss=1.0, ua_noisy=50.0, ua_clean=50.0, seconds=each_s
            )
            working.epochs.append(epoch)
            done = number == self.drawn(working.trial.key)[0]
            with self._worker():
                if done:
                    working.attempt.commit(_result(working), b"weights")
                elif self.now_s >= working.saved_s + CHECKPOINT_S:
                    working.attempt.save(json.dumps([each.model_dump() for each in working.epochs]).encode(), (epoch,))
                    working.saved_s = self.now_s
            reports.append(
                {
                    "key": working.trial.key,
                    "done": done,
                    "outcome": "committed" if done else "",
                    "node": str(slot[0]),
                    "epoch": epoch.model_dump(),
                    "result": seal(_result(working)) if done else None,
                }
            )
        with self._driver():
            for report in reports:
                ends = self.searcher.ends(report)
                self.searcher.progressed(working.trial.key, Epoch(**report["epoch"]), str(slot[0]))  # type: ignore[arg-type]
                assert not ends
            if done:
                self.searcher.on_trial_complete(working.id, reports[-1])
        if done:
            del self._at[slot]
            self._warm.append(slot)
        else:
            self._train(slot, working)

    def lose(self, node: int) -> None:
        """Lose a node; the driver hears of it later, and the node comes back."""
        if not self.nodes[node]["Alive"]:
            return
        self.nodes[node]["Alive"] = False
        lost = {slot: working for slot, working in self._at.items() if slot[0] == node}
        self._warm = deque(slot for slot in self._warm if slot[0] != node)
        self._cold = deque(slot for slot in self._cold if slot[0] != node)
        for slot in lost:
            del self._at[slot]
        self.after(LOSS_SEEN_S, lambda: self._hear_of(list(lost.values())))
        slots = int(self.nodes[node]["Resources"]["CPU"])

        def back() -> None:
            self.nodes[node]["Alive"] = True
            self._cold.extend((node, slot) for slot in range(slots))

        self.after(NODE_BACK_S, back)

    def _hear_of(self, lost: Sequence[Working]) -> None:
        with self._driver():
            for working in lost:
                if working.attempt is None:
                    self._starting -= 1
                self.searcher.lost(working.id, "The actor is dead because its node has died. Node Id: 8f")
                self.searcher.on_trial_complete(working.id, None, error=True)


def _result(working: Working) -> Result:
    counts = {"b": [[1, 1], [1, 1]]}
    return Result(
        trial=working.trial,
        epochs=tuple(working.epochs),
        best=0,
        stopped="early",
        seconds=1.0,
        parameters=1,
        confusion={"noisy": counts, "clean": counts},
        environment={},
    )


def read_durations(runs: Sequence[Path]) -> dict[Kind, list[tuple[int, float]]]:
    """Epochs and seconds of networks by model and features: of some runs, else of those that sampling.py trained."""
    if not runs:
        table = json.loads(TRAINED.read_text())["table"]
        return {("FST-CLDNN", "log-mels"): [(epochs, seconds) for _, _, seconds, epochs in table]}
    found: dict[Kind, list[tuple[int, float]]] = {}
    for run in runs:
        storage = Folder(run)
        for name in storage.list("trials/"):
            result = read_record(storage, f"trials/{name}result.json", Result, "")
            if result and result.epochs:
                configuration = result.trial.configuration
                kind = configuration.model, configuration.features
                found.setdefault(kind, []).append((len(result.epochs), result.seconds))
    if not found:
        raise SystemExit("--durations: none of these runs holds a network's result")
    return found


def make_spaces(kinds: Sequence[Kind], trials: int) -> list[dict[str, Any]]:
    """A space of each kind with so many trials."""
    grid = make_grid(trials)
    return [
        {"name": f"{model} {features}", "model": model, "features": features, **KERNELS[model], **grid}
        for model, features in kinds
    ]


def simulate(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One search; what it took."""
    durations = read_durations(given.durations)
    mean_s = fmean(fmean(seconds for _, seconds in found) for found in durations.values())
    scale = 60 * given.minutes / mean_s

    @cache
    def drawn(key: str) -> tuple[int, float]:
        configuration = agenda.trials[key].configuration
        epochs, seconds = random.Random(key).choice(durations[configuration.model, configuration.features])
        return epochs, scale * seconds

    resources = {"cpus": 1, "gpus": 1 / given.share}
    study = parse_study(
        {"name": "cluster", "spaces": make_spaces(sorted(durations), given.trials), "resources": resources}, "cluster"
    )
    run = CountedRun(folder / "run", study, folder, StoreIdentity(fingerprint="none", speakers=("a", "b", "c")))
    run.storage.put("run.json", seal(run.record()))
    agenda, watcher = run.agenda(), Watcher()
    trials = list(agenda.trials)
    cluster = Cluster(run, given.nodes, given.gpus, given.gpus * given.share, drawn)
    slots = given.nodes * given.gpus * given.share
    work = [drawn(key)[1] for key in trials]
    generator = random.Random(0)
    for _ in range(given.losses):
        node = generator.randrange(given.nodes)
        cluster.after(generator.uniform(0, sum(work) / slots), lambda node=node: cluster.lose(node))  # type: ignore[misc]
    start = time.perf_counter()
    with (
        patch.object(tune, "time", SimpleNamespace(monotonic=lambda: cluster.now_s)),
        patch.object(ray, "nodes", lambda: cluster.nodes),
        patch.object(tune, "draining_nodes", set),
        working_on(run.storage) as session,
    ):
        nodes = Nodes(study.resources)
        nodes.begin(alive(cluster.nodes), (), cluster.now_s)
        agenda.order_for(nodes.slots)
        cluster.search(tune.AgendaSearcher(agenda, run, session, {}, watcher, nodes))
    assert watcher.finished_trials == len(trials) == len(run.ledger.results())
    bound_s = max(sum(work) / slots, max(work))
    in_order_s = makespan([Job(seconds) for seconds in work], slots)
    longest_first_s = makespan([Job(seconds) for seconds in sorted(work, reverse=True)], slots)
    operations = {side: sum(counts.values()) for side, counts in run.storage.counts.items()}
    return {
        "slots": slots,
        "kinds": [" ".join(kind) for kind in sorted(durations)],
        "trials": len(trials),
        "put_back": watcher.put_back,
        "makespan_s": cluster.now_s,
        "bound_s": bound_s,
        "in_order_s": in_order_s,
        "longest_first_s": longest_first_s,
        "longest_s": max(work),
        "work_per_slot_s": sum(work) / slots,
        "events": cluster.events_done,
        "driver_cpu_s": cluster.driver_cpu_s,
        "operations": operations,
        "counts": {side: dict(counts) for side, counts in run.storage.counts.items()},
        "ledger_s": dict(run.storage.seconds),
        "simulation_s": time.perf_counter() - start,
    }


def time_ray_wait(futures: int) -> float:
    """CPU seconds of the driver for one turn of Ray Tune's wait with so many workers at work."""
    from ray.air.execution._internal.event_manager import RayEventManager

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

    @ray.remote(num_cpus=0)
    class Sleeper:
        def sleep(self, seconds: float) -> None:
            time.sleep(seconds)

    sleeper = Sleeper.remote()  # type: ignore[attr-defined]
    ray.get(sleeper.sleep.remote(0))
    manager = RayEventManager()
    for _ in range(futures):
        manager.track_future(sleeper.sleep.remote(3600))
    turns, start = 0, time.process_time()
    while time.process_time() < start + 2:
        waiting = list(manager.get_futures())
        random.shuffle(waiting)
        ray.wait(waiting, num_returns=1, timeout=0)
        turns += 1
    found = (time.process_time() - start) / turns
    ray.kill(sleeper)
    ray.shutdown()
    return found


def describe(found: dict[str, Any], minutes: float) -> Iterator[str]:
    """What was found, in lines."""
    span, trials, cpu_s = found["makespan_s"], found["trials"], found["driver_cpu_s"]
    bound, in_order, longest_first = (found[name] / 60 for name in ("bound_s", "in_order_s", "longest_first_s"))
    yield f"{trials:,} trials on {found['slots']:,} slots, {minutes:g} minutes each in the mean"
    yield f"makespan {span / 60:.1f} min; lower bound {bound:.1f} min: {span / 60 / bound:.3f} times"
    yield f"in order without costs {in_order:.1f} min: {span / 60 / in_order:.3f} times"
    yield f"longest first, as if durations were known: {longest_first:.1f} min"
    share, per_trial_ms = cpu_s / span, 1000 * cpu_s / trials
    yield f"searcher: {cpu_s:.1f} CPU seconds, {share:.2%} of a core, {per_trial_ms:.2f} ms per trial"
    operations = found["operations"]
    rate = {side: count / span for side, count in operations.items()}
    yield f"ledger: {rate['driver']:.1f} operations per second of the driver, {rate['workers']:.0f} of all workers"
    possible = sum(operations.values()) / sum(found["ledger_s"].values())
    yield f"ledger in this folder, from one process: {possible:.0f} operations per second"
    yield f"put back after losses: {found['put_back']}"


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--durations",
        type=Path,
        nargs="+",
        default=[],
        help="runs whose networks' durations are drawn, by kind of model",
    )
    parser.add_argument("--minutes", type=float, default=10, help="of a trial in the mean (10)")
    parser.add_argument(
        "--trials", type=int, default=10_000, help="of each kind of model: 2 to 10 times a power of ten (10000)"
    )
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--gpus", type=int, default=8, help="of a node (8)")
    parser.add_argument("--share", type=int, default=4, help="trials per GPU (4)")
    parser.add_argument("--losses", type=int, default=0, help="nodes that are lost on the way (0)")
    parser.add_argument("--ray-wait", action="store_true", help="time Ray's wait for one of so many workers too")
    parser.add_argument("--folder", type=Path, help="where the ledger is written for the time; the system's choice")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cluster.json")
    given = parser.parse_args()
    configure_ray_tune()
    with tempfile.TemporaryDirectory(prefix="cluster-", dir=given.folder) as folder:
        found = simulate(given, Path(folder))
    for line in describe(found, given.minutes):
        print(line)
    if given.ray_wait:
        found["ray_wait_s"] = time_ray_wait(found["slots"])
        print(f"Ray's wait for one of {found['slots']:,} workers: {1000 * found['ray_wait_s']:.1f} ms of CPU")
    write_results(given.out, found)


if __name__ == "__main__":
    main()
