"""The check of a cluster: whether each of its nodes can train a study's trials, before any trial is sent there.

One task runs on each node. It looks at versions, the processor, the store and, where GPUs are asked for, at what torch
sees of them. In the run's folder it reads what the driver has written, and writes an object of its own: beside its
place, fsynced, then linked into it, as the ledger's objects are. A second task reads the objects of all other nodes.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from platform import node as host_name
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sersearch.cluster.connection import connect
from sersearch.errors import InputError, machine_fault, printable
from sersearch.run.run import RUN, Run, open_run
from sersearch.run.session import FOLDER as SESSIONS
from sersearch.run.storage import Folder
from sersearch.search.nodes import Finding, Node, Nodes, Sight, alive, lacking
from sersearch.search.worker import STORE_VARIABLE
from sersearch.store.reader import open_store
from sersearch.study.agenda import Agenda
from sersearch.training.gpu_memory import find_gpus
from sersearch.training.system import environment, processor

NO_CUDA = "torch finds no CUDA device there"

ANSWERS_WITHIN_S = 300.0
"""How long nodes may take for their task: many that import the package from one disk take minutes."""

FIRST_WAITS_S = 60.0
"""How long a check goes on after the first node has answered; others are checked again later."""

SEEN_WITHIN_S = 5.0
"""How long an object that one node has written may take to be seen by another."""


@dataclass(frozen=True)
class Demand:
    """What a search needs of each node.

    Attributes:
        run: the run's folder; None if there is none yet.
        store: the store; None if there is none yet.
        fingerprint: of the store's recipe; empty if any store will do.
        gpus: whether trials are trained on GPUs.
        others: whether other trials, that take none, are trained beside these.
        sersearch: version of the driver's package.
        commit: its commit; empty where that can't be told.
        probe: the objects that nodes write to the run in one check begin with this name.
    """

    run: Path | None = None
    store: Path | None = None
    fingerprint: str = ""
    gpus: bool = False
    others: bool = False
    sersearch: str = field(default_factory=lambda: version("sersearch"))
    commit: str = field(default_factory=lambda: environment("")["commit"])
    probe: str = ""

    @classmethod
    def of_run(cls, run: Run) -> Demand:
        """What a search of a run needs."""
        devices = run.study.devices
        of_both = len(devices) > 1
        return cls(run.path.resolve(), run.store_path, run.identity.fingerprint, True in devices, of_both)

    def of_node(self, node: Node) -> Demand:
        """What it needs of a node: of one without GPUs, none, if it can train other trials."""
        return replace(self, gpus=False) if self.others and not node.gpus else self


def check_cluster(address: str, run: Path | None, store: Path | None, gpus: bool = False) -> list[Finding]:
    """Check all nodes of the cluster at an address.

    Args:
        address: of the cluster.
        run: a run's folder, there or new; None if the nodes need not see one.
        store: a store; that of the run unless given; None if there is no run either.
        gpus: whether trials are to be trained on GPUs, which the run's study says otherwise.

    Raises:
        InputError: no Ray cluster answers at the address, what is in the run's folder is no run, the store is none, or
            no node can train a trial.
    """
    demand = Demand(run and run.resolve(), store and store.resolve(), gpus=gpus)
    if run is not None and Folder(run).exists(RUN):
        demand = Demand.of_run(open_run(run, store))
    elif store is not None:
        demand = replace(demand, fingerprint=open_store(store).fingerprint)
    connect(address)
    try:
        found = alive(ray.nodes())
        findings = check_nodes([node for node in found.values() if node.cpus], demand)
    finally:
        ray.shutdown()
    if all(finding.fault for finding in findings):
        reasons = "; ".join(f"node {finding.node.address}: {finding.fault}" for finding in findings)
        raise InputError(f"--address {address}: no node can train a trial ({reasons or 'none has a CPU'})")
    return findings


def ready_nodes(run: Run, checked: Callable[[Sequence[Finding]], object], is_cluster: bool) -> Nodes:
    """The nodes that can train a study's trials; those of a cluster are checked, now and when they join.

    Args:
        run: of the study.
        checked: called with the check of each node that has what a trial takes.
        is_cluster: whether Ray was there before, perhaps on other machines.

    Raises:
        InputError: no node has what a trial takes, or each that has it can't train a trial.
    """
    study, found = run.study, alive(ray.nodes())
    nodes = Nodes(study.resources, devices=study.devices)
    for on_gpu in sorted(nodes.devices, reverse=True):
        if lack := lacking(nodes.resources_of(on_gpu), found.values()):
            raise InputError(f"study {study.name}: {lack}; set cpus and gpus in [resources] to less, or add a node")
    demand = Demand.of_run(run)
    with_slots = [node for node in found.values() if nodes.has_slots(node)]
    findings: list[Finding] = []
    if is_cluster:
        nodes.check = lambda nodes, closed: check_nodes(nodes, demand, closed)
        findings = check_nodes(with_slots, demand)
        checked(findings)
    elif demand.gpus:
        # What this machine lacks ends the search with the first trial; the memory of its GPUs has to be known before.
        findings = check_nodes(with_slots, Demand(gpus=True, others=demand.others))
    nodes.begin(found, findings, time.monotonic())
    if nodes.lack:
        raise InputError(f"{run.path}: {nodes.lack}; mend a node, and start the search again")
    return nodes


def copy_store(run: Run, agenda: Agenda, note: Callable[[str], object]) -> None:
    """Write the Arrow files that the nodes' workers will map, before they all find them missing at once."""
    folds = {trial.fold for trial in agenda.trials.values() if trial.configuration.vectors is None}
    missing = run.store.without_arrow(sorted({speaker for fold in folds for speaker in fold.learnt}))
    if missing:
        note(f"writing the Arrow files of {len(missing)} speakers of {run.store_path}, once for all nodes")
        run.store.write_arrow(missing)


def check_nodes(nodes: Sequence[Node], demand: Demand, closed: threading.Event | None = None) -> list[Finding]:
    """Check nodes of the cluster that this process is connected to.

    Args:
        nodes: the nodes, in the order of the findings.
        demand: what a search needs of each.
        closed: ends the check when it is set; nodes that have not answered by then are found at fault.
    """
    closed = closed or threading.Event()
    # Several checks may be under way, and a network's file system may remember objects of one before.
    demand = replace(demand, probe=f"{SESSIONS}/{secrets.token_hex(8)}")
    with _probe_of_driver(demand) as storage:
        looks = {node.id: (demand.of_node(node), node.id) for node in nodes}
        # A process that has looked at the GPUs might go on to hold some of their memory, so it ends then.
        answers = _ask(nodes, _look, looks, closed, calls=1 if demand.gpus else 0)
        findings = [_find(node, answers[node.id], demand) for node in nodes]
        if storage is None or closed.is_set():
            return findings
        whole = [finding.node for finding in findings if not finding.fault]
        names = {node.id: _probe(demand, node.id) for node in whole}
        answers = _ask(whole, _read_back, {id: (demand, [*names.values()]) for id in names}, closed)
        unseen_by_driver = set(_read_back(demand, [*names.values()]))
        return [_find_unseen(finding, names, answers, unseen_by_driver) for finding in findings]


@contextmanager
def _probe_of_driver(demand: Demand) -> Iterator[Folder | None]:
    """Write the driver's own object, for nodes to read; at the end remove the objects of all."""
    if demand.run is None:
        yield None
        return
    is_new = not demand.run.exists()
    storage = Folder(demand.run)
    storage.put_once(_probe(demand, "driver"), b"driver")
    try:
        yield storage
    finally:
        with suppress(OSError):
            for name in storage.list(f"{SESSIONS}/"):
                if f"{SESSIONS}/{name}".startswith(demand.probe):
                    storage.delete(f"{SESSIONS}/{name}")
            if is_new:
                (demand.run / SESSIONS).rmdir()
                demand.run.rmdir()


def _ask(
    nodes: Sequence[Node],
    function: Any,
    arguments: Mapping[str, tuple[Any, ...]],
    closed: threading.Event,
    calls: int = 0,
) -> dict[str, Any]:
    """Run a function on each node; an answer is what it returns, or why there is none, as a text.

    A process ends after so many calls of the function; 0 lets it go on.
    """
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        remote = ray.remote(max_calls=calls)(function)
        task = remote.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        asked[node.id] = task.remote(*arguments[node.id])
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    awaited = list(asked.values())
    while awaited and time.monotonic() < deadline and not closed.is_set():
        answered, awaited = ray.wait(awaited, num_returns=len(awaited), timeout=0.5)
        if answered:
            deadline = min(deadline, time.monotonic() + FIRST_WAITS_S)
    return {id: _answer(task) for id, task in asked.items()}


def _answer(task: Any) -> Any:
    try:
        return ray.get(task, timeout=0)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(task, force=True)
        return "it does not answer in time"
    except RayError as error:
        last = str(error).strip().splitlines()[-1].strip()
        if "No module named" in last:
            return f"sersearch can't be imported there ({last})"
        return f"its task failed ({last})"


def _find(node: Node, answer: Sight | str, demand: Demand) -> Finding:
    if isinstance(answer, str):
        return Finding(node, None, printable(answer))
    faults = [*answer.faults]
    if answer.sersearch != demand.sersearch:
        faults.insert(0, f"it has sersearch {answer.sersearch}, and the driver {demand.sersearch}")
    elif answer.commit and demand.commit and answer.commit != demand.commit:
        faults.insert(0, f"it has commit {answer.commit} of sersearch, and the driver {demand.commit}")
    gpu_fault = NO_CUDA if answer.gpus == 0 else ""
    if not demand.others:
        return Finding(node, answer, printable("; ".join([*faults, *filter(None, [gpu_fault])])))
    return Finding(node, answer, printable("; ".join(faults)), gpu_fault)


def _find_unseen(
    finding: Finding, names: Mapping[str, str], answers: Mapping[str, list[str] | str], unseen_by_driver: set[str]
) -> Finding:
    """Add what a node did not see of the other nodes, or the driver of it."""
    if finding.fault:
        return finding
    answer = answers[finding.node.id]
    fault = ""
    if isinstance(answer, str):
        fault = answer
    elif names[finding.node.id] in unseen_by_driver:
        fault = "what it writes to the run's folder is not seen by the driver"
    elif unseen := set(answer) - unseen_by_driver:
        fault = f"it does not see what {len(unseen)} other nodes have written to the run's folder"
    return replace(finding, fault=fault)


def _look(demand: Demand, id: str) -> Sight:
    """Look at a node; this runs there."""
    faults = [*_store_faults(demand), *_run_faults(demand, id)]
    found = find_gpus() if demand.gpus else []
    ours = environment(processor(), "torch")
    return Sight(
        host=host_name(),
        sersearch=ours["sersearch"],
        commit=ours["commit"],
        torch=ours["torch"],
        processor=ours["device"],
        gpus=len(found) if demand.gpus else None,
        faults=tuple(faults),
        gpu=", ".join(sorted({gpu.name for gpu in found})),
        gpu_memory=min((gpu.memory for gpu in found), default=0),
    )


def _store_faults(demand: Demand) -> Iterator[str]:
    if demand.store is None:
        return
    path = Path(os.environ.get(STORE_VARIABLE) or demand.store)
    try:
        found = open_store(path).fingerprint
    except (InputError, OSError) as error:
        yield machine_fault(error) or str(error)
        return
    if demand.fingerprint not in ("", found):
        yield f"{path}: its recipe's fingerprint is {found}, not {demand.fingerprint}"


def _run_faults(demand: Demand, id: str) -> Iterator[str]:
    if demand.run is None:
        return
    try:
        if _read_back(demand, [_probe(demand, "driver")]):
            yield f"{demand.run}: is not the folder that the driver sees"
            return
        if not Folder(demand.run).put_once(_probe(demand, id), id.encode()):
            yield f"{demand.run}: a hard link failed"
    except (InputError, OSError) as error:
        yield machine_fault(error) or str(error)


def _read_back(demand: Demand, names: Sequence[str]) -> list[str]:
    """Which of some objects can't be read here; those that are not there at once are waited for."""
    assert demand.run
    storage = Folder(demand.run)
    deadline = time.monotonic() + SEEN_WITHIN_S
    unseen = [name for name in names if storage.get(name) is None]
    while unseen and time.monotonic() < deadline:
        time.sleep(0.5)
        unseen = [name for name in unseen if storage.get(name) is None]
    return unseen


def _probe(demand: Demand, who: str) -> str:
    return f"{demand.probe}-{who}.probe"
