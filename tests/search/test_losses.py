"""Lost workers, without Ray: pauses, progress and the end."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from sersearch.run.ledger import Result
from sersearch.run.records import seal, unseal
from sersearch.run.run import Run, start_run
from sersearch.run.session import Session, list_notices, working_on
from sersearch.search import tune
from sersearch.search.losses import PAUSES_S, STALLED_AFTER, Losses, describe_loss
from sersearch.search.nodes import REFUSALS, Finding, Nodes, alive
from sersearch.search.tune import AgendaSearcher
from sersearch.search.worker import open_data
from sersearch.store.reader import Store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.study import parse_study
from sersearch.study.trial import Trial
from sersearch.training.system import run_trial
from tests.trials import make_trial

TRIALS = [make_trial(NetworkConfiguration(model="LDNN", cells=cells)) for cells in (4, 5, 6, 7)]


def lose(losses: Losses, trial: Trial) -> list[float]:
    """Lose a trial's workers until it is set aside; return the pauses, and check that each was waited for."""
    pauses_s: list[float] = []
    now_s = 100.0
    while (pause_s := losses.lost(trial, "its worker process died", now_s)) is not None:
        pauses_s.append(pause_s)
        if pause_s:
            assert losses.due(now_s + 0.99 * pause_s) is None
        now_s += pause_s
        assert losses.due(now_s) == trial
    return pauses_s


def test_pauses_grow_and_end() -> None:
    losses = Losses()
    pauses_s = lose(losses, TRIALS[0])
    assert pauses_s == list(PAUSES_S) == sorted(PAUSES_S)
    assert losses.waiting == []
    assert losses.set_aside == {TRIALS[0].key: "its worker process died"}
    assert losses.verdict == (
        f"trial {TRIALS[0].key} lost {len(PAUSES_S) + 1} workers in a row without a checkpoint between them "
        "(its worker process died)"
    )


def test_a_checkpoint_between_losses_begins_the_count_again() -> None:
    losses = Losses()
    for _ in range(100):
        assert losses.lost(TRIALS[0], "its node died", 0.0) == 0.0
        assert losses.due(0.0) == TRIALS[0]
        losses.progressed(TRIALS[0].key)
    assert not losses.set_aside


def test_an_epoch_that_no_checkpoint_holds_does_not() -> None:
    losses = Losses()
    handed_out = 0
    while not losses.set_aside:
        losses.trained()
        losses.lost(TRIALS[0], "its node died", 0.0)
        losses.due(1000.0)
        handed_out += 1
    assert handed_out == len(PAUSES_S) + 1


def test_trials_are_due_in_the_order_of_their_pauses() -> None:
    losses = Losses()
    for _ in range(2):
        losses.lost(TRIALS[0], "", 0.0)
        losses.due(100.0)
    losses.lost(TRIALS[0], "", 0.0)
    losses.lost(TRIALS[1], "", 0.5)
    assert losses.due(0.4) is None
    assert losses.due(10.0) == TRIALS[1]
    assert losses.due(10.0) == TRIALS[0]
    assert losses.due(10.0) is None


def test_a_machine_at_fault_stalls_the_search_until_a_trial_makes_an_epoch() -> None:
    losses = Losses()
    for trial in TRIALS[:STALLED_AFTER]:
        assert not losses.stalled
        lose(losses, trial)
    assert losses.stalled
    losses.trained()
    assert not losses.stalled


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("its worker process has died. Potential causes: killed by SIGKILL by OOM killer", "its worker process died"),
        ("The actor is dead because its node has died. Node Id: 8f", "its node died"),
        ("Task was killed due to the node running low on memory.\nOOM: Ray killed this worker", "memory of its node"),
        ("The actor died because of an error raised in its creation task\nModuleNotFoundError: sersearch", "could not"),
        ("", "its worker was lost"),
        (
            "ray::train()\n  raise GivenBackError\nsersearch.search.notices.GivenBackError: its node drains\n",
            "its node drains",
        ),
    ],
)
def test_why_a_worker_was_lost(error: str, reason: str) -> None:
    assert reason in describe_loss(error)


@pytest.fixture
def run(tiny_store: Store, tmp_path: Path) -> Run:
    table = {"name": "x", "spaces": [{"name": "l", "model": "LDNN", "cells": [4, 5]}], "resources": {"retries": 1}}
    return start_run(tmp_path / "run", parse_study(table, "x.toml"), tiny_store.path)


class Clock:
    """A clock that goes on by a second with each look at it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Mock:
    monkeypatch.setattr(tune.time, "monotonic", Clock())
    monkeypatch.setattr(tune.ray, "nodes", lambda: [listed("only", CPU=2.0)])
    monkeypatch.setattr(tune, "draining_nodes", set)
    return Mock()


def listed(id: str, **resources: float) -> dict[str, Any]:
    """A node as `ray.nodes()` lists it."""
    return {"NodeID": id, "NodeManagerAddress": f"{id}.lan", "Alive": True, "Resources": resources}


def searcher_of(run: Run, session: Session, watcher: Mock) -> AgendaSearcher:
    return AgendaSearcher(run.agenda(), run, session, {}, watcher, Nodes(run.study.resources))


def test_a_search_whose_workers_are_all_lost_ends(run: Run, watcher: Mock) -> None:
    """Some begin an attempt before, some do not; none counts as a failure, not even after a failure on record."""
    with working_on(run.storage) as session:
        searcher = searcher_of(run, session, watcher)
        first = run.agenda().left[0]
        run.ledger.begin(first).fail(RuntimeError("out of luck"))
        handed_out = 0
        for number in range(10_000):
            given = searcher.suggest(str(number))
            if given == tune.Searcher.FINISHED:
                break
            if isinstance(given, dict):
                handed_out += 1
                if handed_out == 1:
                    # What this one has saved is no progress of those after it.
                    run.ledger.begin(first).save(b"further", [])
                elif handed_out % 3 == 0:
                    run.ledger.begin(next(trial for trial in run.agenda().left if trial.key == given["key"]))
                searcher.lost(str(number), "its worker process has died")
                searcher.on_trial_complete(str(number), error=True)
    assert handed_out == 2 * (len(PAUSES_S) + 1)
    assert searcher.stopped.startswith(f"2 trials lost {len(PAUSES_S) + 1} workers in a row")
    assert len(run.agenda().left) == 2
    assert run.agenda().failed == []
    watcher.finished.assert_not_called()


def test_a_failure_is_an_attempt_on_record(run: Run, watcher: Mock) -> None:
    with working_on(run.storage) as session:
        searcher = searcher_of(run, session, watcher)
        for number in range(2):
            given = searcher.suggest(str(number))
            assert isinstance(given, dict)
            if number == 0:
                failing = next(trial for trial in run.agenda().left if trial.key == given["key"])
            assert given["key"] == failing.key, "a failed trial is tried again before others begin"
            run.ledger.begin(failing).fail(RuntimeError("out of luck"))
            searcher.on_trial_complete(str(number), {"key": failing.key, "done": True})
        assert searcher.agenda.failed == [failing.key]
        watcher.finished.assert_called_once_with(failing.key, None, "RuntimeError: out of luck")


@pytest.mark.slow("it trains two epochs")
def test_a_trial_that_is_done_before_its_lag_is_seen_keeps_its_result(
    tiny_store: Store, tmp_path: Path, watcher: Mock
) -> None:
    """Several epochs come in one report; the first of them lags, and the worker has committed the last one."""
    table = {
        "name": "x",
        "spaces": [{"name": "l", "model": "LDNN", "cells": [4], "dense": [[4]], "learning_rate": [0.01, 0.001]}],
        "training": {"epochs": 2, "patience": 2},
        "search": {"pruner": "asha"},
    }
    run = start_run(tmp_path / "run", parse_study(table, "x.toml"), tiny_store.path)
    with working_on(run.storage) as session:
        searcher = searcher_of(run, session, watcher)
        given = searcher.suggest("0")
        assert isinstance(given, dict)
        trial = searcher.agenda.trials[given["key"]]
        result = run_trial(trial, open_data(run, trial), attempt=run.ledger.begin(trial))
        searcher.pruner.lags = lambda trial, epoch: True  # type: ignore[method-assign]
        report = {"key": trial.key, "done": False, "epoch": result.epochs[0].model_dump()}
        assert searcher.ends(report)
        searcher.on_trial_complete("0", report)
    (key, committed, error) = watcher.finished.call_args.args
    assert (key, committed.stopped, len(committed.epochs), error) == (trial.key, "epochs", 2, "")


def test_a_record_that_is_damaged_stops_the_search(run: Run, watcher: Mock) -> None:
    """Ray Tune would log the error and go on."""
    with working_on(run.storage) as session:
        searcher = searcher_of(run, session, watcher)
        given = searcher.suggest("0")
        assert isinstance(given, dict)
        run.storage.put(f"trials/{given['key']}/result.json", b"{")
        searcher.on_trial_complete("0", {"key": given["key"], "done": True})
        assert "result.json is damaged" in searcher.stopped
        assert searcher.over
        watcher.dropped.assert_called_once_with(given["key"], searcher.stopped)


def test_the_last_node_is_awaited_for_a_while(run: Run, watcher: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [listed("worker", CPU=2.0), listed("head")]
    monkeypatch.setattr(tune.ray, "nodes", lambda: nodes)
    with working_on(run.storage) as session:
        searcher = searcher_of(run, session, watcher)
        nodes[0]["Alive"] = False
        searcher.look_around()
        (sentence,) = watcher.note.call_args.args
        assert sentence == "a trial takes 1 CPU and 0 GPUs, but the only machine has 0 CPUs and 0 GPUs; " + (
            f"waiting {tune.NODE_AWAITED_S:.0f} s for such a node"
        )
        nodes[0]["Alive"] = True
        while tune.time.monotonic() < 2 * tune.NODE_AWAITED_S:
            searcher.look_around()
        assert not searcher.over
        nodes[0]["Alive"] = False
        while tune.time.monotonic() < 4 * tune.NODE_AWAITED_S:
            searcher.look_around()
        assert searcher.over
        assert searcher.stopped.endswith(f"for {tune.NODE_AWAITED_S:.0f} s")
        _, awaited, lost = [call.args[0] for call in watcher.note.call_args_list]
        assert lost == "node worker.lan lost, now 0 nodes, 0 slots"
        assert awaited == sentence


def test_each_worker_that_writes_a_checkpoint_is_followed_at_once_by_another(run: Run, watcher: Mock) -> None:
    """More workers are lost than would set the trial aside, each after a checkpoint; then one after none."""
    with working_on(run.storage) as session:
        searcher = searcher_of(run, session, watcher)
        (trial, _) = run.agenda().left
        for number in range(2 * len(PAUSES_S)):
            given = searcher.suggest(str(number))
            assert isinstance(given, dict)
            assert given["key"] == trial.key
            run.ledger.begin(trial).save(b"further", [])
            searcher.lost(str(number), "GivenBackError: its node is being drained")
            searcher.on_trial_complete(str(number), error=True)
            reason = "its node is being drained; it continues in 0 s"
            assert watcher.dropped.call_args.args == (trial.key, reason)
        searcher.suggest("next")
        run.ledger.begin(trial)
        searcher.on_trial_complete("next", error=True)
        assert watcher.dropped.call_args.args == (trial.key, "its worker was lost; it continues in 1 s")
    assert run.ledger.failures(trial.key) == []


def test_a_node_that_is_drained_is_announced_once(run: Run, watcher: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [listed("first", CPU=2.0), listed("second", CPU=2.0)]
    monkeypatch.setattr(tune.ray, "nodes", lambda: nodes)
    with working_on(run.storage) as session:
        searcher = searcher_of(run, session, watcher)
        given = searcher.suggest("0")
        assert isinstance(given, dict)
        assert given["avoided"] == []
        id = nodes[0]["NodeID"]
        monkeypatch.setattr(tune, "draining_nodes", lambda: {id, "unknown"})
        for _ in range(10):
            searcher.look_around()
        assert list_notices(run.storage, session.record.id) == {f"draining-{id}"}
        (sentence,) = watcher.note.call_args.args
        assert sentence == (
            "node first.lan is being drained: its trials stop at checkpoints, to go on elsewhere; now 1 node, 2 slots"
        )
        watcher.note.assert_called_once()
        given = searcher.suggest("1")
        assert isinstance(given, dict)
        assert given["avoided"] == [id]


def test_running_trials_end_with_their_epoch_where_they_can_not_be_told_to_stop(run: Run, watcher: Mock) -> None:
    with working_on(run.storage) as session:
        reported = {"key": run.agenda().left[0].key, "done": False, "epoch": {}}
        searcher = searcher_of(run, session, watcher)
        assert not searcher.ends(reported)
        searcher.stop("enough")
        assert not searcher.ends(reported), "its worker writes a checkpoint first"
        mute = Mock(stop=Mock(side_effect=OSError("no space left on device")))
        searcher = searcher_of(run, mute, watcher)
        searcher.stop("enough")
        assert searcher.ends(reported)


def test_a_search_that_was_taken_over_stops(run: Run, watcher: Mock) -> None:
    with working_on(run.storage) as session:
        searcher = searcher_of(run, session, watcher)
        assert isinstance(searcher.suggest("0"), dict)
        with working_on(run.storage, take_over=True):
            for _ in range(10):
                searcher.look_around()
            assert searcher.stopped == "another search has taken the run over (--take-over)"
            assert searcher.suggest("1") == tune.Searcher.FINISHED


def searcher_on_cluster(
    run: Run, session: Session, watcher: Mock, monkeypatch: pytest.MonkeyPatch, fault: str = ""
) -> AgendaSearcher:
    """A searcher on two nodes, which passed the first check; later checks find a fault, if one is given."""
    nodes = [listed("one", CPU=1.0), listed("two", CPU=1.0)]
    monkeypatch.setattr(tune.ray, "nodes", lambda: nodes)
    cluster = Nodes(run.study.resources, lambda nodes, closed: [Finding(node, None, fault) for node in nodes])
    cluster.begin(alive(nodes), (), 0.0)
    return AgendaSearcher(run.agenda(), run, session, {}, watcher, cluster)


def test_a_refusal_is_charged_to_the_node(run: Run, watcher: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that refuses each trial is set aside; trials that still land there are put back at no cost."""
    refusal: dict[str, Any] = {"done": True, "outcome": "refused", "node": "two", "reason": "Stale file handle: RUN"}
    with working_on(run.storage) as session:
        searcher = searcher_on_cluster(run, session, watcher, monkeypatch, fault=refusal["reason"])
        for number in range(REFUSALS):
            given = searcher.suggest(str(number))
            assert isinstance(given, dict)
            assert given["avoided"] == []
            searcher.on_trial_complete(str(number), refusal)
        words = "node two.lan is set aside for 10 s (Stale file handle: RUN), now 1 node, 1 slot"
        watcher.note.assert_called_once_with(words)
        for number in range(REFUSALS, 100 + REFUSALS):
            given = searcher.suggest(str(number))
            while not isinstance(given, dict):  # pauses go on with each look at the clock
                given = searcher.suggest(str(number))
            assert given["avoided"] == ["two"]
            searcher.on_trial_complete(str(number), refusal)
        assert not searcher.stopping
        assert watcher.dropped.call_args.args[1] == ""
        assert run.agenda().failed == []
        assert [run.ledger.failures(key) for key in run.ledger.keys()] == []  # noqa: SIM118


def test_a_trial_that_every_node_refuses_is_left_in_the_end(
    run: Run, watcher: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other trials go on, so no node is at fault."""
    with working_on(run.storage) as session:
        searcher = searcher_on_cluster(run, session, watcher, monkeypatch)
        refused = run.agenda().left[0].key
        for number in range(1000):
            given = searcher.suggest(str(number))
            if given == tune.Searcher.FINISHED:
                break
            if not isinstance(given, dict):
                continue
            node = ("one", "two")[number % 2]
            searcher.nodes.progressed(node)
            report = {"done": True, "outcome": "refused", "node": node, "reason": "no such vectors"}
            if given["key"] != refused:
                run.ledger.begin(next(trial for trial in run.agenda().left if trial.key == given["key"])).fail(
                    OSError()
                )
                report["outcome"] = "failed"
            searcher.on_trial_complete(str(number), report)
        assert searcher.stopped.startswith(f"trial {refused} lost {len(PAUSES_S) + 1} workers in a row")
        assert "refused it (no such vectors)" in searcher.stopped
        assert searcher.nodes.avoided == []


def test_a_trial_that_waits_without_a_node_is_recalled_when_one_is_used_again(
    run: Run, watcher: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would wait for the other nodes alone, which may be lost."""
    with working_on(run.storage) as session:
        searcher = searcher_on_cluster(run, session, watcher, monkeypatch)
        for _ in range(REFUSALS):
            searcher.nodes.refused("two", "EIO", tune.time.monotonic())
        given = searcher.suggest("0")
        assert isinstance(given, dict)
        assert given["avoided"] == ["two"]
        assert not searcher.nodes.take_used_again()
        while searcher.nodes.avoided:
            searcher.look_around()
        assert searcher.nodes.take_used_again() == {"two"}
        assert not searcher.nodes.take_used_again()
        searcher.on_trial_complete("0")
        again = searcher.suggest("1")
        assert isinstance(again, dict)
        assert (again["key"], again["avoided"]) == (given["key"], [])
        watcher.dropped.assert_called_once_with(given["key"], "")


def test_on_one_machine_a_refusal_ends_the_search(run: Run, watcher: Mock) -> None:
    with working_on(run.storage) as session:
        searcher = searcher_of(run, session, watcher)
        given = searcher.suggest("0")
        assert isinstance(given, dict)
        report = {"done": True, "outcome": "refused", "node": "only", "reason": "Read-only file system: RUN"}
        searcher.on_trial_complete("0", report)
        assert searcher.stopped == "Read-only file system: RUN"
        watcher.dropped.assert_called_once_with(given["key"], searcher.stopped)


@pytest.mark.parametrize("appears", [True, False])
def test_a_result_that_is_not_seen_at_once(
    appears: bool, run: Run, watcher: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network's file system the driver may see it later, so it is in the report; its absence is told."""
    with working_on(run.storage) as session:
        searcher = searcher_on_cluster(run, session, watcher, monkeypatch)
        reports: list[dict[str, Any]] = []
        for number in range(2):
            given = searcher.suggest(str(number))
            assert isinstance(given, dict)
            trial = searcher.agenda.trials[given["key"]]
            counts = {"noisy": {"s3": [[1, 0], [0, 1]]}}
            committed = Result(trial=trial, stopped="epochs", seconds=1, parameters=1, confusion=counts, environment={})
            reports.append({"done": True, "outcome": "committed", "node": "two", "result": seal(committed)})
            searcher.on_trial_complete(str(number), reports[-1])
            watcher.finished.assert_called_with(trial.key, committed, "")
        assert searcher.agenda.complete
        assert searcher.suggest("2") is None, "the search does not end before its results are seen"
        if appears:
            for report in reports:
                committed = unseal(Result, report["result"])
                run.storage.put(f"trials/{committed.trial.key}/result.json", report["result"])
        while searcher.suggest("2") is None:
            pass
        assert bool(searcher.stopped) != appears
        if not appears:
            assert searcher.stopped.startswith("node two.lan reported the result of trial ")
