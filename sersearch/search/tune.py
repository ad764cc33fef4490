"""One Ray Tune run for a whole study.

Ray decides where and when; what is trained comes from the agenda, and what was trained is in the ledger before Ray
hears of it. Ray's own folder is scratch and is never restored.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

# Read when Ray Tune is imported or starts: no result files beside the ledger, no reports home, and Ctrl-C is ours.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# A worker that finds a trial waiting goes on with it; one that finds none is ended, and a fresh one takes 2 s.
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "16")
# Nobody reads Ray's snapshots, and each one writes down every trial since the start.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1e9")

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from sersearch.errors import InputError
from sersearch.run.ledger import Epoch, Result
from sersearch.run.run import Run
from sersearch.search.pruning import Pruner
from sersearch.search.suggest import sources
from sersearch.search.watchdog import Watchdog
from sersearch.search.worker import STOPPING, Worker, commit_pruned
from sersearch.study.agenda import FAILED, Agenda
from sersearch.study.trial import Trial

ANSWER_S = 10.0
"""How long a cluster may take to answer at all."""

LOST_WORKERS = 3
"""How often a trial goes on elsewhere after its worker or node was lost."""


class Watcher(Protocol):
    """Who is told how a search goes."""

    def started(self, trial: Trial) -> None:
        """A trial is handed out."""

    def epoch(self, key: str, epoch: Epoch) -> None:
        """A trial has finished an epoch."""

    def finished(self, key: str, result: Result | None, error: str) -> None:
        """A trial has a result, or failed with an error."""

    def dropped(self, key: str, reason: str) -> None:
        """A trial stands where its last checkpoint is and goes on later; without a reason it had not begun."""

    def lost(self, reason: str) -> None:
        """The search can't go on; the process ends after this."""


def search(
    run: Run, agenda: Agenda, results: Mapping[str, Result], watcher: Watcher, address: str | None = None
) -> str:
    """Train every trial that an agenda still holds.

    Ctrl-C (or SIGTERM) once ends it when the running trials have finished their epochs; twice at once. Either way the
    run can go on from there.

    Args:
        run: study, store and folder.
        agenda: the run's; its trials are entered as they finish.
        results: the ledger's, which the agenda was made of.
        watcher: told of each event, in the driver's process.
        address: of a running Ray cluster; without it one is started here and stopped at the end.

    Returns:
        Why it ended before its time; empty if it did not.

    Raises:
        InputError: no cluster answers at the address.
    """
    if not agenda.complete:
        agenda.draw_from(sources(run))
    if agenda.complete:
        return ""
    if failure := _start_ray(address):
        return failure
    _log_to(run.path / "ray.log")
    (run.path / STOPPING).unlink(missing_ok=True)
    watchdog = Watchdog(lambda name: _end(watcher, f"Ray's {name} on this machine has died")) if not address else None
    try:
        searcher = AgendaSearcher(agenda, run, results, watcher)
        with _interruptible(searcher):
            _fit(run, searcher)
        return searcher.stopped
    finally:
        if watchdog:
            watchdog.stop()
        with suppress(OSError):
            (run.path / STOPPING).unlink(missing_ok=True)
        ray.shutdown()


def _start_ray(address: str | None) -> str:
    """Start Ray here, or join the cluster at an address; why that failed, empty if it did not."""
    try:
        host, _, port = (address or "").rpartition(":")
        if host and port.isdecimal():
            # Ray itself would try for minutes.
            socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises anything, bare exceptions included.
        ray.shutdown()
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if address is None:
            return f"Ray could not be started ({reason})"
        raise InputError(
            f"--address {address} was given, but no Ray cluster answers there ({reason}): start one with "
            "`ray start --head`, or leave --address out to train on this machine alone"
        ) from error
    return ""


def _end(watcher: Watcher, reason: str) -> None:
    watcher.lost(reason)
    os._exit(1)


def _log_to(file: Path) -> None:
    """Keep what Ray has to say in the run's folder, not on the screen."""
    logger = logging.getLogger("ray.tune")
    logger.handlers = [logging.FileHandler(file, delay=True)]
    logger.propagate = False


@contextmanager
def _interruptible(searcher: AgendaSearcher) -> Iterator[None]:
    """Stop gracefully at the first signal; the second finds the usual handlers, and ends the process."""

    def stop(number: int, frame: FrameType | None) -> None:
        searcher.stop(f"stopped by {signal.Signals(number).name}")
        print("stopping when the running epochs are done; once more to stop at once", file=sys.stderr)
        restore()

    def restore() -> None:
        for name, handler in before.items():
            signal.signal(name, handler)

    before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()


def _fit(run: Run, searcher: AgendaSearcher) -> None:
    cpus = run.study.resources.cpus
    trainable = tune.with_resources(
        Worker, lambda config: tune.PlacementGroupFactory([{"CPU": cpus, "GPU": config["gpus"]}])
    )
    with tempfile.TemporaryDirectory(prefix="sersearch-ray-", ignore_cleanup_errors=True) as scratch:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=_FirstCome(),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["key"],
                trial_dirname_creator=lambda trial: trial.config["key"],
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=scratch,
                verbose=0,
                stop=_Stop(searcher),
                failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[_Relay(searcher)],
            ),
        ).fit()


class AgendaSearcher(Searcher):
    """Hands the agenda's trials to Ray Tune, each once, and ends the run when there are none left."""

    def __init__(self, agenda: Agenda, run: Run, results: Mapping[str, Result], watcher: Watcher) -> None:
        """Begin with what the agenda and the ledger hold."""
        super().__init__()
        self.agenda = agenda
        self.run = run
        self.watcher = watcher
        self.stopped = ""
        self._handed_out: dict[str, Trial] = {}
        self._started: set[str] = set()
        self._again: deque[Trial] = deque()
        self._lagging: set[str] = set()
        self.pruner = Pruner(run.study.search, results.values() if run.study.search.pruner != "none" else ())

    @property
    def stopping(self) -> bool:
        """Whether no further trial is handed out."""
        return bool(self.stopped)

    def stop(self, reason: str) -> None:
        """Hand out nothing more; running trials end with their epoch, and those that wait don't begin."""
        self.stopped = self.stopped or reason
        with suppress(OSError):
            (self.run.path / STOPPING).touch()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, None while there is none, or the end."""
        if self.stopping:
            return str(Searcher.FINISHED)
        trial = self._again.popleft() if self._again else self.agenda.take()
        if trial is None:
            return str(Searcher.FINISHED) if self.agenda.complete else None
        self._handed_out[trial_id] = trial
        return {
            "key": trial.key,
            "run": str(self.run.path.resolve()),
            "trial": trial.sealed.model_dump(mode="json"),
            "gpus": self._gpus(trial.key),
        }

    def on_trial_start(self, trial_id: str) -> None:
        """A worker takes a trial on, perhaps once more after another was lost."""
        if trial_id not in self._started:
            self._started.add(trial_id)
            self.watcher.started(self._handed_out[trial_id])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Enter how a trial ended: what the ledger says, not what Ray does."""
        self.on_trial_start(trial_id)
        trial = self._handed_out.pop(trial_id)
        if fatal := (result or {}).get("fatal"):
            self.stop(fatal)
        if trial.key in self._lagging:
            commit_pruned(self.run, trial)
        committed = self.run.ledger.result(trial.key)
        if committed:
            self.pruner.ended(committed)
            self.agenda.finish(trial.key, self.run.outcome(committed))
            self.watcher.finished(trial.key, committed, "")
        elif self.stopping:
            begun = (result or {}).get("epoch")
            self.watcher.dropped(trial.key, self.stopped if begun else "")
        else:
            self._failed(trial)

    def ends(self, result: dict[str, Any]) -> bool:
        """Whether a trial is to end with the epoch that it reports: the search stops, or the trial lags behind."""
        epoch = None if result["done"] or self.run.study.search.pruner == "none" else result.get("epoch")
        if epoch and self.pruner.lags(result["key"], Epoch(**epoch)):
            self._lagging.add(result["key"])
            return True
        return self.stopping

    def _failed(self, trial: Trial) -> None:
        """Try a trial again as often as the study says."""
        ledger = self.run.ledger
        if not ledger.failures(trial.key):
            ledger.fail(trial, f"its worker was lost {LOST_WORKERS + 1} times")
        failures = ledger.failures(trial.key)
        if self.run.given_up(failures):
            self.agenda.finish(trial.key, FAILED)
            self.watcher.finished(trial.key, None, failures[-1])
        else:
            self._again.append(trial)
            self.watcher.dropped(trial.key, failures[-1])

    def _gpus(self, key: str) -> float:
        """A trial's share of a GPU, doubled each time that it found too little memory; more than half is a whole."""
        share = self.run.study.resources.gpus
        for error in self.run.ledger.failures(key):
            # The second is what a process says that can't even begin with the GPU.
            if share and error.startswith(("OutOfMemoryError", "AcceleratorError: CUDA error: out of memory")):
                share = 1.0 if share > 0.5 else share * 2
        return share

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger remembers."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles it to restore a run, which is never done."""
        return {}


class _FirstCome(FIFOScheduler):
    """Starts trials in the order in which they came, looking at those alone that have not ended."""

    def __init__(self) -> None:
        super().__init__()
        self._live: list[Any] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._live.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        self._live = [trial for trial in self._live if not trial.is_finished()]
        return next((trial for trial in self._live if trial.status == trial.PENDING), None)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as the searcher."""
        return {}


class _Relay(tune.Callback):
    """Tells of each start and each epoch."""

    def __init__(self, searcher: AgendaSearcher) -> None:
        self._searcher = searcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._searcher.on_trial_start(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if epoch := result.get("epoch"):
            self._searcher.watcher.epoch(result["key"], Epoch(**epoch))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as the searcher."""
        return {}


class _Stop(Stopper):
    """Ends a trial at the end of an epoch, its checkpoint safe."""

    def __init__(self, searcher: AgendaSearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._searcher.ends(result)

    def stop_all(self) -> bool:
        return False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as the searcher."""
        return {}
