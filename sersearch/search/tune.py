"""Run a whole study as one Ray Tune run.

Ray decides where and when a trial is trained. The agenda decides which trials there are, and each result is in the
ledger before it is reported to Ray. Ray's own folder is temporary and never restored.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from sersearch.errors import InputError
from sersearch.run.ledger import Epoch, Result
from sersearch.run.run import Run
from sersearch.search.environment import configure_ray_tune, silence_optuna
from sersearch.search.pruning import Pruner
from sersearch.search.session import session_folder, start_local_ray
from sersearch.search.suggest import sources
from sersearch.search.watchdog import Watchdog
from sersearch.search.worker import STOPPING, Worker, commit_pruned
from sersearch.study.agenda import FAILED, Agenda
from sersearch.study.trial import Trial

CONNECTION_TIMEOUT_S = 10.0
"""How long connecting to a cluster may take."""

LOST_WORKERS = 3
"""How often a trial is continued on another worker after its worker or node was lost."""


class Watcher(Protocol):
    """Receives the events of a search, in the driver's process."""

    def started(self, trial: Trial) -> None:
        """A worker has started a trial."""

    def epoch(self, key: str, epoch: Epoch) -> None:
        """A trial has finished an epoch."""

    def finished(self, key: str, result: Result | None, error: str) -> None:
        """A trial has a result, or has failed for good: then the result is None and the error says why."""

    def dropped(self, key: str, reason: str) -> None:
        """A trial has stopped and can be resumed from its last checkpoint; without a reason it had not started."""

    def lost(self, reason: str) -> None:
        """The search can't continue; the process ends when this returns."""


def search(
    run: Run, agenda: Agenda, results: Mapping[str, Result], watcher: Watcher, address: str | None = None
) -> str:
    """Train every trial of an agenda that has no outcome yet.

    The first Ctrl-C (or SIGTERM) ends the search after the epochs that are running; the second ends it immediately. The
    run can be resumed after either.

    Args:
        run: the run to work on.
        agenda: the agenda of the run; outcomes are entered as trials finish.
        results: the results that the agenda was created from, by key.
        watcher: receives each event.
        address: address of a running Ray cluster; None starts Ray on this machine and stops it at the end.

    Returns:
        Why the search ended early; an empty text if it is complete.

    Raises:
        InputError: no Ray cluster answers at the address.
    """
    configure_ray_tune()
    silence_optuna()
    if not agenda.complete:
        agenda.draw_from(sources(run))
    if agenda.complete:
        return ""
    with session_folder() as folder:
        return _search_with_ray(run, agenda, results, watcher, address, folder)


def _search_with_ray(
    run: Run, agenda: Agenda, results: Mapping[str, Result], watcher: Watcher, address: str | None, folder: Path
) -> str:
    """Search as `search` says; files of Ray Tune, and of a Ray that is started on this machine, are in the folder."""
    if failure := _start_ray(address, folder):
        return failure
    _log_to(run.path / "ray.log")
    (run.path / STOPPING).unlink(missing_ok=True)
    watchdog = None
    if not address:
        watchdog = Watchdog(lambda name: _end_process(watcher, f"Ray's {name} on this machine has died"))
    try:
        searcher = AgendaSearcher(agenda, run, results, watcher)
        with _interruptible(searcher):
            _fit(run, searcher, folder / "tune")
        return searcher.stopped
    finally:
        if watchdog:
            watchdog.stop()
        with suppress(OSError):
            (run.path / STOPPING).unlink(missing_ok=True)
        ray.shutdown()


def _start_ray(address: str | None, folder: Path) -> str:
    """Start Ray on this machine, or connect to the cluster at an address.

    Returns:
        Why Ray could not be started on this machine; an empty text on success.

    Raises:
        InputError: no Ray cluster answers at the address.
    """
    try:
        host, _, port = (address or "").rpartition(":")
        if host and port.isdecimal():
            # Ray itself would retry for minutes.
            socket.create_connection((host, int(port)), timeout=CONNECTION_TIMEOUT_S).close()
        if address is None:
            start_local_ray(folder, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many types here, some of them Exception itself.
        ray.shutdown()
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        if address is None:
            return f"Ray could not be started ({reason})"
        raise InputError(
            f"--address {address} was given, but no Ray cluster answers there ({reason}): start one with "
            "`ray start --head`, or leave --address out to train on this machine alone"
        ) from error
    return ""


def _end_process(watcher: Watcher, reason: str) -> None:
    """End this process immediately: its main thread may be waiting for Ray forever."""
    watcher.lost(reason)
    os._exit(1)


def _log_to(file: Path) -> None:
    """Write Ray Tune's log to a file instead of the screen."""
    logger = logging.getLogger("ray.tune")
    logger.handlers = [logging.FileHandler(file, delay=True)]
    logger.propagate = False


@contextmanager
def _interruptible(searcher: AgendaSearcher) -> Iterator[None]:
    """Stop the search gracefully at the first signal. The previous handlers receive the second and end the process."""

    def stop(number: int, frame: FrameType | None) -> None:
        searcher.stop(f"stopped by {signal.Signals(number).name}")
        print("stopping after the running epochs; press Ctrl-C again to stop immediately", file=sys.stderr)
        restore_handlers()

    def restore_handlers() -> None:
        for name, handler in previous_handlers.items():
            signal.signal(name, handler)

    previous_handlers = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore_handlers()


def _fit(run: Run, searcher: AgendaSearcher, scratch: Path) -> None:
    cpus = run.study.resources.cpus
    trainable = tune.with_resources(
        Worker, lambda config: tune.PlacementGroupFactory([{"CPU": cpus, "GPU": config["gpus"]}])
    )
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
            storage_path=str(scratch),
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
