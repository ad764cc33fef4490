"""Run a whole study as one Ray Tune run.

Ray decides where and when a trial is trained. The agenda decides which trials there are, and each result is in the
ledger before it is reported to Ray. Ray's own folder is temporary and never restored.
"""

from __future__ import annotations

import logging
import signal
import time
from collections import deque
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from sersearch.cluster.connection import connect, first_line, output_to
from sersearch.errors import InputError
from sersearch.interruption import end_process, is_ending, reacting
from sersearch.run.ledger import Epoch, Result, result_name
from sersearch.run.records import unseal
from sersearch.run.run import Run
from sersearch.run.session import Session
from sersearch.search.check import copy_store, ready_nodes
from sersearch.search.controller import NoProgress, count_no_callbacks
from sersearch.search.environment import configure_ray_tune, silence_optuna
from sersearch.search.losses import NODE_DIED, NOT_STARTED, Losses, address_in, describe_loss, node_in
from sersearch.search.nodes import Nodes, alive
from sersearch.search.notices import draining_nodes
from sersearch.search.places import HandedOut, Places, bundle
from sersearch.search.pruning import Pruner
from sersearch.search.scheduler import FirstCome
from sersearch.search.session import session_folder, start_local_ray
from sersearch.search.suggest import sources
from sersearch.search.watchdog import HeadWatch, Watchdog
from sersearch.search.watcher import Watcher
from sersearch.search.worker import Worker, commit_pruned
from sersearch.study.agenda import FAILED, Agenda
from sersearch.study.trial import Trial

LOOK_EVERY_S = 2.0
"""How often a search looks whether it still holds the run, and whether a node is left that can train a trial."""

NODE_AWAITED_S = 300.0
"""How long a search waits for a node that can train a trial, after the last one was lost."""

RESULT_AWAITED_S = 90.0
"""How long a result that a node has reported may take to be seen in the run's folder; NFS remembers for 30 s that an
object was not there."""


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
    count_no_callbacks()
    silence_optuna()
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

    def lost(reason: str) -> None:
        _end_process(watcher, f"{reason}; finished work is kept: resume with `sersearch resume {run.path}{resume_at}`")

    resume_at = f" --address {address}" if address else ""
    if address:
        watch: HeadWatch | Watchdog = HeadWatch(ray.get_runtime_context().gcs_address, watcher.note, lost)
    else:
        watch = Watchdog(lambda name: lost(f"Ray's {name} on this machine has died"))
    with output_to(run.path / "ray.log"):
        try:
            with closing(ready_nodes(run, watcher.checked, is_cluster=address is not None)) as nodes:
                if _begin_drawing(run, agenda, watcher, nodes):
                    return ""
                if address:
                    # Only now the agenda has trials of spaces that a sampler draws from.
                    copy_store(run, agenda, watcher.note)
                searcher = AgendaSearcher(agenda, run, session, results, watcher, nodes)
                with reacting(searcher.signalled):
                    _fit(run, searcher, folder / "tune")
                return searcher.stopped
        finally:
            watch.stop()
            ray.shutdown()


def _start_ray(address: str | None, folder: Path) -> str:
    """Start Ray on this machine, or connect to the cluster at an address.

    Returns:
        Why Ray could not be started on this machine; an empty text on success.

    Raises:
        InputError: no Ray cluster answers at the address.
    """
    if address is not None:
        connect(address)
        return ""
    try:
        start_local_ray(folder, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many types here, some of them Exception itself.
        ray.shutdown()
        return f"Ray could not be started ({first_line(error)})"
    return ""


def _begin_drawing(run: Run, agenda: Agenda, watcher: Watcher, nodes: Nodes) -> bool:
    """Have samplers draw for an agenda; whether it is complete then."""
    slots, on_gpus = nodes.slots, nodes.slots_by_kind.on_gpus if len(nodes.devices) > 1 else None
    agenda.draw_from(sources(run, agenda, slots, on_gpus))
    agenda.order_for(slots)
    most = agenda.most_at_a_time
    if most is not None and most < slots and not agenda.complete:
        watcher.note(f"{slots} trials fit on the cluster, but this study has at most {most} to train at a time")
    return agenda.complete


def _end_process(watcher: Watcher, reason: str) -> None:
    """End this process immediately: its main thread may be waiting for Ray forever."""
    if is_ending():
        return  # Ray was killed because the process ends
    watcher.lost(reason)
    end_process(1)


def _fit(run: Run, searcher: AgendaSearcher, scratch: Path) -> None:
    trainable = tune.with_resources(Worker, lambda config: bundle(run.study.resources.cpus, config))
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=FirstCome(searcher.lost, lambda: searcher.places.pending, searcher.nodes.take_used_again),
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
            callbacks=[_Relay(searcher), NoProgress()],
        ),
    ).fit()


class AgendaSearcher(Searcher):
    """Hands the agenda's trials to Ray Tune, each once, and ends the run when there are none left.

    Attributes:
        stopped: why no further trial is handed out; empty while trials are.
    """

    def __init__(
        self,
        agenda: Agenda,
        run: Run,
        session: Session,
        results: Mapping[str, Result],
        watcher: Watcher,
        nodes: Nodes,
    ) -> None:
        """Begin with what the agenda and the ledger hold, and with the nodes that can train."""
        super().__init__()
        self.agenda = agenda
        self.run = run
        self.session = session
        self.watcher = watcher
        self.nodes = nodes
        self.stopped = ""
        self._handed_out: dict[str, HandedOut] = {}
        self._running: set[str] = set()
        self._again: dict[bool, deque[Trial]] = {True: deque(), False: deque()}
        self._losses = Losses()
        self._lagging: set[str] = set()
        self._told = False
        self._draining: set[str] = set()
        self._signals = 0
        self._look_at = 0.0
        self._no_node_since: float | None = None
        self._unseen: dict[str, tuple[str, float]] = {}
        self.places = Places(run, agenda, results.values(), nodes, watcher.note)
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
        """Look after the nodes; stop if another search took the run over, or if no node is left to train on."""
        now_s = time.monotonic()
        if now_s < self._look_at or self.stopping:
            return
        self._look_at = now_s + LOOK_EVERY_S
        if not self.session.is_held:
            self.stop("another search has taken the run over (--take-over)")
            return
        for sentence in self.nodes.update(alive(ray.nodes()), now_s):
            self.watcher.note(sentence)
        self._look_for_drained_nodes()
        self.places.look_around()
        self._look_for_results(now_s)
        self._look_for_lack(now_s)

    def _look_for_lack(self, now_s: float) -> None:
        """Stop if none of the trials that are left can be trained any more."""
        lack = self.places.lack
        if not lack:
            self._no_node_since = None
        elif self._no_node_since is None:
            self._no_node_since = now_s
            self.watcher.note(f"{lack}; waiting {NODE_AWAITED_S:.0f} s for such a node")
        elif now_s > self._no_node_since + NODE_AWAITED_S:
            self.stop(f"{lack}, for {NODE_AWAITED_S:.0f} s")

    def _look_for_drained_nodes(self) -> None:
        """Tell the workers on nodes that are drained to give their trials back."""
        for node in draining_nodes() & self.nodes.alive.keys() - self._draining:
            self.session.drain(node)
            self._draining.add(node)
            self.watcher.note(self.nodes.drain(node))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, None while there is none, or the end."""
        self.look_around()
        if self.stopping:
            return str(Searcher.FINISHED)
        trial = self._next_trial()
        if trial is None:
            if self._losses.set_aside and not (self._handed_out or self._losses.waiting):
                self.stop(self._losses.verdict)
            is_over = self.stopping or (self.agenda.complete and not self._unseen)
            return str(Searcher.FINISHED) if is_over else None
        failures = self.run.ledger.failures(trial.key)
        place = self.places.hand_out(trial_id, trial, failures)
        self._handed_out[trial_id] = HandedOut(trial, len(failures), self.run.ledger.attempts(trial.key), place)
        return {
            "key": trial.key,
            "run": str(self.run.path.resolve()),
            "store": str(self.run.store_path),
            "session": self.session.record.id,
            "trial": trial.sealed.model_dump(mode="json"),
            "gpus": place.share,
            "nodes": sorted(place.nodes),
            "avoided": sorted(place.avoided),
        }

    def on_trial_start(self, trial_id: str) -> None:
        """A worker takes a trial on."""
        if trial_id not in self._running:
            self._running.add(trial_id)
            self.places.start(trial_id)
            self.watcher.started(self._handed_out[trial_id].trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Enter how a trial ended: what the ledger says, not what Ray does."""
        self.on_trial_start(trial_id)
        self._running.remove(trial_id)
        self.places.end(trial_id)
        handed_out = self._handed_out.pop(trial_id)
        report = result or {}
        if result is None and not error and not self.stopping:
            # It was recalled before it had a node, because a node that it avoids is used again.
            self._put_first(handed_out.trial)
            self.watcher.dropped(handed_out.trial.key, "")
            return
        if fatal := report.get("fatal"):
            self.stop(fatal)
        try:
            self._enter(handed_out, report)
        except (InputError, OSError) as error:
            # Ray Tune would log the error and go on.
            self.stop(str(error))
            self.watcher.dropped(handed_out.trial.key, self.stopped)

    def _enter(self, handed_out: HandedOut, report: Mapping[str, Any]) -> None:
        """Enter a trial that has ended: its result, or that it is put back.

        Args:
            handed_out: the trial.
            report: the last of its worker; empty if the worker was lost before it could report.
        """
        trial = handed_out.trial
        committed = self.run.ledger.result(trial.key)
        if committed is None and report.get("outcome") == "committed":
            committed = unseal(Result, report["result"])
            self._unseen[trial.key] = (report["node"], time.monotonic() + RESULT_AWAITED_S)
        if committed is None and trial.key in self._lagging:
            # Reports of several epochs at a time may come when the trial is already done.
            commit_pruned(self.run, trial)
            committed = self.run.ledger.result(trial.key)
        if committed:
            self._losses.progressed(trial.key)
            self.pruner.ended(committed)
            self.places.finished(committed)
            self.agenda.finish(trial.key, self.run.outcome(committed))
            self.watcher.finished(trial.key, committed, "")
        elif self.stopping:
            self.watcher.dropped(trial.key, self.stopped if report.get("epoch") or report.get("begun") else "")
        else:
            if self.run.ledger.has_advanced(trial.key, handed_out.attempts):
                self._losses.progressed(trial.key)
            if report.get("outcome") == "refused":
                self._refuse(trial, report["node"], report["reason"])
            else:
                self._put_back(handed_out, report)

    def _look_for_results(self, now_s: float) -> None:
        """Look again for results that were reported, but not seen in the run's folder."""
        for key, (node, until_s) in list(self._unseen.items()):
            if self.run.storage.exists(result_name(key)):
                del self._unseen[key]
            elif now_s > until_s:
                where = self.nodes.alive[node].address if node in self.nodes.alive else node
                self.stop(
                    f"node {where} reported the result of trial {key}, but {self.run.ledger.locate(key)} lacks it"
                )

    def _refuse(self, trial: Trial, node: str, reason: str) -> None:
        """Put a trial back that its node can't train, and keep further trials away from the node if it goes on so."""
        if self.nodes.check is None:
            self.stop(reason)
            self.watcher.dropped(trial.key, self.stopped)
            return
        if node in self.nodes.avoided:
            self._put_first(trial)  # it was on its way when the node was set aside
            self.watcher.dropped(trial.key, "")
            return
        address = self.nodes.alive[node].address if node in self.nodes.alive else node
        self._pause(trial, f"node {address} refused it ({reason})")
        if sentence := self.nodes.refused(node, reason, time.monotonic()):
            self.watcher.note(sentence)

    def progressed(self, key: str, epoch: Epoch, node: str) -> None:
        """Enter that a trial has finished an epoch on a node."""
        self._losses.trained()
        self.nodes.progressed(node)
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
        """A trial that was put back or the agenda's next one, of a kind whose turn it is."""
        while trial := self._losses.due(time.monotonic()):
            self._put_first(trial)
        for on_gpu in self.places.next_kinds(self._again):
            if self._again[on_gpu]:
                return self._again[on_gpu].popleft()
            if not self._losses.stalled and (trial := self.agenda.take(on_gpu)):
                return trial
        return None

    def _put_first(self, trial: Trial) -> None:
        """Have a trial handed out again before those of its kind that the agenda has left."""
        self._again[self.places.on_gpu(trial)].append(trial)

    def _put_back(self, handed_out: HandedOut, report: Mapping[str, Any]) -> None:
        """Hand a trial out again: as often as the study says if it failed, after a pause if its worker was lost.

        A failure is an attempt on record that was not there before, or one that the worker reports. Everything else is
        a loss.
        """
        trial = handed_out.trial
        failures = self.run.ledger.failures(trial.key)
        if report.get("outcome") == "failed" and len(failures) <= handed_out.failures:
            failures.append(report["reason"])
        self.places.failed(trial, handed_out.place, failures[handed_out.failures :])
        if len(failures) <= handed_out.failures:
            self._lose(trial, handed_out.error)
        elif self.run.given_up(failures):
            self.agenda.finish(trial.key, FAILED)
            self.watcher.finished(trial.key, None, failures[-1])
        else:
            self._put_first(trial)
            self.watcher.dropped(trial.key, failures[-1])

    def _lose(self, trial: Trial, error: str) -> None:
        """Put a trial back whose worker was lost; the trials of a node that was lost are counted and told together."""
        reason = describe_loss(error)
        node = node_in(error) if reason == NODE_DIED else ""
        address = address_in(error) if reason.startswith(NOT_STARTED) else ""
        if node:
            self.nodes.put_back(node)
        if address and self.nodes.check is not None:
            self._refuse(trial, self.nodes.at(address) or address, reason)
        else:
            self._pause(trial, reason, is_told=not node)

    def _pause(self, trial: Trial, reason: str, is_told: bool = True) -> None:
        pause_s = self._losses.lost(trial, reason, time.monotonic())
        if pause_s is None:
            self.watcher.dropped(trial.key, f"{reason}, again and again; it is left to another search")
        else:
            self.watcher.dropped(trial.key, f"{reason}; it continues in {pause_s:g} s" if is_told else "")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger remembers."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles it to restore a run, which is never done."""
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
            self._searcher.progressed(result["key"], Epoch(**epoch), result["node"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Ray Tune keeps the last report of every trial.
        trial.last_result.pop("result", None)

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
