"""Run a whole study as one Ray Tune run.

Ray decides where and when a trial is trained. The agenda decides which trials there are, and each result is in the
ledger before it is reported to Ray. Ray's own folder is temporary and never restored.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from sersearch.errors import InputError
from sersearch.interruption import end_process, is_ending, reacting
from sersearch.run.ledger import Epoch, Result
from sersearch.run.run import Run
from sersearch.run.session import Session
from sersearch.search.environment import configure_ray_tune, silence_optuna
from sersearch.search.losses import Losses, describe_loss
from sersearch.search.nodes import draining_nodes, lacking
from sersearch.search.pruning import Pruner
from sersearch.search.session import session_folder, start_local_ray
from sersearch.search.suggest import sources
from sersearch.search.watchdog import Watchdog
from sersearch.search.worker import Worker, commit_pruned
from sersearch.study.agenda import FAILED, Agenda
from sersearch.study.trial import Trial

CONNECTION_TIMEOUT_S = 10.0
"""How long connecting to a cluster may take."""

LOOK_EVERY_S = 2.0
"""How often a search looks whether it still holds the run, and whether a node is left that can train a trial."""

NODE_AWAITED_S = 300.0
"""How long a search waits for a node that can train a trial, after the last one was lost."""


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

    def note(self, sentence: str) -> None:
        """Something happened that a person should read; may be called by any thread."""

    def lost(self, reason: str) -> None:
        """The search can't continue; the process ends when this returns."""


def search(
    run: Run,
    session: Session,
    agenda: Agenda,
    results: Mapping[str, Result],
    watcher: Watcher,
    address: str | None = None,
) -> str:
    """Train every trial of an agenda that has no outcome yet.

    The first Ctrl-C (or SIGTERM) ends the search when the running trials have written checkpoints, or immediately if
    none is running; the second ends it immediately. The run can be resumed after either.

    Args:
        run: the run to work on.
        session: the session of the run that this process holds.
        agenda: the agenda of the run; outcomes are entered as trials finish.
        results: the results that the agenda was created from, by key.
        watcher: receives each event.
        address: address of a running Ray cluster; None starts Ray on this machine and stops it at the end.

    Returns:
        Why the search ended early; an empty text if it is complete.

    Raises:
        InputError: no Ray cluster answers at the address, or no node has what a trial takes.
    """
    configure_ray_tune()
    silence_optuna()
    if not agenda.complete:
        agenda.draw_from(sources(run, agenda))
    if agenda.complete:
        return ""
    with session_folder() as folder:
        return _search_with_ray(run, session, agenda, results, watcher, address, folder)


def _search_with_ray(
    run: Run,
    session: Session,
    agenda: Agenda,
    results: Mapping[str, Result],
    watcher: Watcher,
    address: str | None,
    folder: Path,
) -> str:
    """Search as `search` says; files of Ray Tune, and of a Ray that is started on this machine, are in the folder."""
    if failure := _start_ray(address, folder):
        return failure
    watchdog = None
    if not address:
        watchdog = Watchdog(lambda name: _end_process(watcher, f"Ray's {name} on this machine has died"))
    with _output_to(run.path / "ray.log"):
        try:
            _refuse_unschedulable(run)
            searcher = AgendaSearcher(agenda, run, session, results, watcher)
            with reacting(searcher.signalled):
                _fit(run, searcher, folder / "tune")
            return searcher.stopped
        finally:
            if watchdog:
                watchdog.stop()
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


def _refuse_unschedulable(run: Run) -> None:
    """Refuse a study whose trials Ray would never start.

    Raises:
        InputError: no node has what a trial takes.
    """
    if lack := lacking(run.study.resources, ray.nodes()):
        raise InputError(f"study {run.study.name}: {lack}; set cpus and gpus in [resources] to less, or add a node")


def _end_process(watcher: Watcher, reason: str) -> None:
    """End this process immediately: its main thread may be waiting for Ray forever."""
    if is_ending():
        return  # Ray was killed because the process ends
    watcher.lost(reason)
    end_process(1)


@contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """Write Ray Tune's log, and what Ray prints on standard output when workers are lost, to a file."""
    logger = logging.getLogger("ray.tune")
    logger.handlers = [logging.FileHandler(file, delay=True)]
    logger.propagate = False
    with file.open("a") as log, redirect_stdout(log):
        yield


def _fit(run: Run, searcher: AgendaSearcher, scratch: Path) -> None:
    cpus = run.study.resources.cpus
    trainable = tune.with_resources(
        Worker, lambda config: tune.PlacementGroupFactory([{"CPU": cpus, "GPU": config["gpus"]}])
    )
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=_FirstCome(searcher),
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
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[_Relay(searcher)],
        ),
    ).fit()


@dataclass
class _HandedOut:
    """A trial that Ray Tune has.

    Attributes:
        trial: the trial.
        failures: number of its failures on record when it was handed out.
        attempts: number of its attempts on record then.
        error: what Ray says about the loss of its worker; empty while there is none.
    """

    trial: Trial
    failures: int
    attempts: int
    error: str = ""


class AgendaSearcher(Searcher):
    """Hands the agenda's trials to Ray Tune, each once, and ends the run when there are none left.

    Attributes:
        stopped: why no further trial is handed out; empty while trials are.
    """

    def __init__(
        self, agenda: Agenda, run: Run, session: Session, results: Mapping[str, Result], watcher: Watcher
    ) -> None:
        """Begin with what the agenda and the ledger hold."""
        super().__init__()
        self.agenda = agenda
        self.run = run
        self.session = session
        self.watcher = watcher
        self.stopped = ""
        self._handed_out: dict[str, _HandedOut] = {}
        self._running: set[str] = set()
        self._again: deque[Trial] = deque()
        self._losses = Losses()
        self._lagging: set[str] = set()
        self._told = False
        self._draining: set[str] = set()
        self._signals = 0
        self._look_at = 0.0
        self._no_node_since: float | None = None
        self.pruner = Pruner(run.study.search, results.values() if run.study.search.pruner != "none" else ())

    @property
    def stopping(self) -> bool:
        """Whether no further trial is handed out."""
        return bool(self.stopped)

    @property
    def over(self) -> bool:
        """Whether the search stops and no trial is running any more."""
        return self.stopping and not self._running

    def stop(self, reason: str) -> None:
        """Hand out nothing more; running trials stop at a checkpoint, and those that wait don't begin."""
        self.stopped = self.stopped or reason
        with suppress(OSError):
            self.session.stop()
            self._told = True

    def signalled(self, number: int) -> None:
        """React to Ctrl-C or SIGTERM, in a thread of its own."""
        self._signals += 1
        name = signal.Signals(number).name
        resume = f"resume with `sersearch resume {self.run.path}`"
        if self._signals > 1:
            end_process(128 + number, f"{self.run.path}: stopped immediately by {name}; {resume}")
        if not self._running:
            end_process(1, f"{self.run.path}: stopped by {name}; {resume}")
        self.watcher.note("stopping: running trials write checkpoints; press Ctrl-C again to stop immediately")
        self.stop(f"stopped by {name}")

    def look_around(self) -> None:
        """Look after the run and the nodes.

        The search stops if another one took the run over, or if no node is left that can train a trial.
        """
        now_s = time.monotonic()
        if now_s < self._look_at or self.stopping:
            return
        self._look_at = now_s + LOOK_EVERY_S
        if not self.session.is_held:
            self.stop("another search has taken the run over (--take-over)")
            return
        draining = draining_nodes()
        self._announce(draining)
        staying = [node for node in ray.nodes() if node.get("NodeID") not in draining]
        lack = lacking(self.run.study.resources, staying)
        if not lack:
            self._no_node_since = None
        elif self._no_node_since is None:
            self._no_node_since = now_s
            self.watcher.note(f"{lack}; waiting {NODE_AWAITED_S:.0f} s for such a node")
        elif now_s > self._no_node_since + NODE_AWAITED_S:
            self.stop(f"{lack}, for {NODE_AWAITED_S:.0f} s")

    def _announce(self, draining: Mapping[str, str]) -> None:
        """Tell the workers on nodes that are drained to give their trials back; `draining` are addresses by node."""
        for node, address in draining.items():
            if node not in self._draining:
                self.session.drain(node)
                self._draining.add(node)
                self.watcher.note(
                    f"node {address} is being drained: its trials stop at checkpoints, to go on elsewhere"
                )

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, None while there is none, or the end."""
        self.look_around()
        if self.stopping:
            return str(Searcher.FINISHED)
        trial = self._next_trial()
        if trial is None:
            if self._losses.set_aside and not (self._handed_out or self._losses.waiting):
                self.stop(self._losses.verdict)
            return str(Searcher.FINISHED) if self.stopping or self.agenda.complete else None
        failures = self.run.ledger.failures(trial.key)
        self._handed_out[trial_id] = _HandedOut(trial, len(failures), self.run.ledger.attempts(trial.key))
        return {
            "key": trial.key,
            "run": str(self.run.path.resolve()),
            "session": self.session.record.id,
            "trial": trial.sealed.model_dump(mode="json"),
            "gpus": self._gpus(failures),
        }

    def on_trial_start(self, trial_id: str) -> None:
        """A worker takes a trial on."""
        if trial_id not in self._running:
            self._running.add(trial_id)
            self.watcher.started(self._handed_out[trial_id].trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Enter how a trial ended: what the ledger says, not what Ray does."""
        self.on_trial_start(trial_id)
        self._running.remove(trial_id)
        handed_out = self._handed_out.pop(trial_id)
        if fatal := (result or {}).get("fatal"):
            self.stop(fatal)
        try:
            self._enter(handed_out, begun=bool((result or {}).get("epoch") or (result or {}).get("begun")))
        except (InputError, OSError) as error:
            # Ray Tune would log the error and go on.
            self.stop(str(error))
            self.watcher.dropped(handed_out.trial.key, self.stopped)

    def _enter(self, handed_out: _HandedOut, begun: bool) -> None:
        """Enter a trial that has ended: its result, or that it is put back."""
        trial = handed_out.trial
        if trial.key in self._lagging:
            commit_pruned(self.run, trial)
        committed = self.run.ledger.result(trial.key)
        if committed:
            self._losses.progressed(trial.key)
            self.pruner.ended(committed)
            self.agenda.finish(trial.key, self.run.outcome(committed))
            self.watcher.finished(trial.key, committed, "")
        elif self.stopping:
            self.watcher.dropped(trial.key, self.stopped if begun else "")
        else:
            self._put_back(handed_out)

    def progressed(self, key: str, epoch: Epoch) -> None:
        """Enter that a trial has finished an epoch."""
        self._losses.trained()
        self.watcher.epoch(key, epoch)

    def lost(self, trial_id: str, error: str) -> None:
        """Enter what Ray says about the loss of a worker, before it says that its trial has ended."""
        if trial_id in self._handed_out:
            self._handed_out[trial_id].error = error

    def ends(self, result: dict[str, Any]) -> bool:
        """Whether a trial is to end with the epoch that it reports.

        It does if it lags behind, or if the search stops and could not tell the workers, as on a full disk.
        """
        epoch = None if result["done"] or self.run.study.search.pruner == "none" else result.get("epoch")
        if epoch and self.pruner.lags(self.agenda.trials[result["key"]], Epoch(**epoch)):
            self._lagging.add(result["key"])
            return True
        return self.stopping and not self._told

    def _next_trial(self) -> Trial | None:
        if self._again:
            return self._again.popleft()
        trial = self._losses.due(time.monotonic())
        if trial is None and not self._losses.stalled:
            trial = self.agenda.take()
        return trial

    def _put_back(self, handed_out: _HandedOut) -> None:
        """Hand a trial out again: as often as the study says if it failed, after a pause if its worker was lost.

        A failure is an attempt on record that was not there before. Everything else is a loss.
        """
        trial = handed_out.trial
        failures = self.run.ledger.failures(trial.key)
        if len(failures) <= handed_out.failures:
            self._pause(handed_out)
        elif self.run.given_up(failures):
            self.agenda.finish(trial.key, FAILED)
            self.watcher.finished(trial.key, None, failures[-1])
        else:
            self._again.append(trial)
            self.watcher.dropped(trial.key, failures[-1])

    def _pause(self, handed_out: _HandedOut) -> None:
        """Let a trial whose worker was lost wait, and not at all if that worker has written a checkpoint."""
        trial, reason = handed_out.trial, describe_loss(handed_out.error)
        has_begun = self.run.ledger.attempts(trial.key) > handed_out.attempts
        if has_begun and self.run.ledger.has_advanced(trial.key):
            self._losses.progressed(trial.key)
        pause_s = self._losses.lost(trial, reason, time.monotonic())
        if pause_s is None:
            self.watcher.dropped(trial.key, f"{reason}, again and again; it is left to another search")
        else:
            self.watcher.dropped(trial.key, f"{reason}; it continues in {pause_s:g} s")

    def _gpus(self, failures: Sequence[str]) -> float:
        """A trial's share of a GPU, doubled each time that it found too little memory; more than half is a whole."""
        share = self.run.study.resources.gpus
        for error in failures:
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

    def __init__(self, searcher: AgendaSearcher) -> None:
        super().__init__()
        self._searcher = searcher
        self._live: list[Any] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._live.append(trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        # Ray Tune calls this before the searcher, which does not get the error.
        error_file = Path(trial.error_file or "")
        self._searcher.lost(trial.trial_id, error_file.read_text() if error_file.is_file() else "")

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        self._live = [trial for trial in self._live if not trial.is_finished()]
        return next((trial for trial in self._live if trial.status == trial.PENDING), None)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as the searcher."""
        return {}


class _Relay(tune.Callback):
    """Tells of each step of Ray Tune's loop, each start and each epoch."""

    def __init__(self, searcher: AgendaSearcher) -> None:
        self._searcher = searcher

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._searcher.look_around()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._searcher.on_trial_start(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if epoch := result.get("epoch"):
            self._searcher.progressed(result["key"], Epoch(**epoch))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as the searcher."""
        return {}


class _Stop(Stopper):
    """Ends a trial that lags behind, its checkpoint safe, and the search when no trial is left that runs."""

    def __init__(self, searcher: AgendaSearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._searcher.ends(result)

    def stop_all(self) -> bool:
        return self._searcher.over

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as the searcher."""
        return {}
