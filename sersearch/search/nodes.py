"""The nodes of a cluster as a search sees them: which can train a trial, which are set aside, which were lost.

A node is checked when a search begins and when the node joins; one that can't train is left out by name. A node that
refuses trials is set aside for a while. Then it is checked again, so that no trial is needed to find out whether it was
mended. Trials are kept away from a node by its label `ray.io/node-id`, which every node of Ray has.

A study may have two kinds of trials: those that take GPUs, and those of systems without a GPU form. A node whose GPUs
can't be used trains the latter.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sersearch.search.turns import Slots
from sersearch.study.study import Resources

REFUSALS = 3
"""After so many refusals in a row, without an epoch on the node between them, a node is set aside."""

PAUSES_S = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Pause before a node is checked again after it was set aside so many times in a row."""

CLOSES_WITHIN_S = 10.0

LOSS_SETTLES_S = 5.0
"""How long after the loss of a node its trials are counted: Ray reports their loss one by one."""

Check = Callable[[Sequence["Node"], threading.Event], Sequence["Finding"]]
"""Checks nodes. It returns soon after the event is set."""


@dataclass(frozen=True)
class Node:
    """A node that is alive.

    Attributes:
        id: its Ray id, which it has until its Ray ends.
        address: of its network.
        cpus: that Ray may hand out.
        gpus: that Ray may hand out.
    """

    id: str
    address: str
    cpus: float
    gpus: float

    def slots(self, resources: Resources) -> int:
        """How many trials fit on the node at a time."""
        return resources.slots(self.cpus, self.gpus)


@dataclass(frozen=True)
class Sight:
    """What a node's task has found.

    Attributes:
        host: name of the machine.
        sersearch: version of the package.
        commit: its commit; empty where that can't be told.
        torch: its version.
        processor: its model.
        gpus: how many GPUs torch sees; None if that was not asked.
        faults: why no trial can be trained here, as sentences; empty if one can.
        gpu: names of the GPUs.
        gpu_memory: bytes of memory of the smallest GPU; 0 if there is none.
    """

    host: str
    sersearch: str
    commit: str
    torch: str
    processor: str
    gpus: int | None
    faults: tuple[str, ...]
    gpu: str = ""
    gpu_memory: int = 0


@dataclass(frozen=True)
class Finding:
    """The check of one node.

    Attributes:
        node: the node.
        sight: what its task found; None if there was no answer.
        fault: why no trial can be trained there, as a sentence; empty if one can.
        gpu_fault: why only trials that take no GPU can be trained there; empty if those on GPUs can be, too.
    """

    node: Node
    sight: Sight | None
    fault: str
    gpu_fault: str = ""


def alive(listed: Iterable[Mapping[str, Any]]) -> dict[str, Node]:
    """The nodes that are alive, by their ids.

    Args:
        listed: the cluster's nodes, as `ray.nodes()` lists them.
    """
    nodes = {}
    for node in listed:
        if node["Alive"]:
            cpus, gpus = (float(node["Resources"].get(name, 0)) for name in ("CPU", "GPU"))
            nodes[node["NodeID"]] = Node(node["NodeID"], node["NodeManagerAddress"], cpus, gpus)
    return nodes


def lacking(resources: Resources, nodes: Iterable[Node]) -> str:
    """Compare what a trial asks for with what each node has: Ray itself would wait forever for what no node has.

    Args:
        resources: of one trial; all of it has to be on one node.
        nodes: that are alive.

    Returns:
        What is lacking, in words; empty if some node has enough.
    """
    nodes = list(nodes)
    if any(node.cpus >= resources.cpus and node.gpus >= resources.gpus for node in nodes):
        return ""
    asked = _amounts(resources.cpus, resources.gpus)
    if len(nodes) == 1:
        return f"a trial takes {asked}, but the only machine has {_amounts(nodes[0].cpus, nodes[0].gpus)}"
    most = _amounts(max((n.cpus for n in nodes), default=0), max((n.gpus for n in nodes), default=0))
    return f"a trial takes {asked}, but none of {len(nodes)} machines has that (at most {most})"


def _amounts(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU{'s' if cpus != 1 else ''} and {gpus:g} GPU{'s' if gpus != 1 else ''}"


@dataclass
class _Standing:
    """What became of a node so far.

    Attributes:
        refusals: trials that it refused since it last finished an epoch.
        times_aside: how often it was set aside since then.
        reason: why it is not used; empty if it is.
        until_s: when it is checked again; None while it is being checked.
        is_drained: whether it will be taken away, so that it is not used again.
        gpu_reason: why its GPUs are not used; empty if they are.
        gpu_memory: bytes of memory of its smallest GPU; 0 if that is not known.
    """

    refusals: int = 0
    times_aside: int = 0
    reason: str = ""
    until_s: float | None = None
    is_drained: bool = False
    gpu_reason: str = ""
    gpu_memory: int = 0


@dataclass
class Nodes:
    """The nodes that a search may use.

    Attributes:
        resources: of one trial.
        check: checks nodes; None where the search runs on this machine alone, which it knows already.
        devices: the kinds of trials that the study has, by `Study.on_gpu`; one kind unless given.
        alive: the nodes that are alive, by their ids.
    """

    resources: Resources
    check: Check | None = None
    devices: Collection[bool] = ()
    alive: dict[str, Node] = field(default_factory=dict)
    _standings: dict[str, _Standing] = field(default_factory=dict)
    _lost: dict[str, tuple[Node, float]] = field(default_factory=dict)
    _used_again: set[str] = field(default_factory=set)
    _put_back: Counter[str] = field(default_factory=Counter)
    _checked: dict[str, Finding] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take all trials for trials of one kind, unless kinds are given."""
        self.devices = self.devices or (self.resources.gpus > 0,)
        self._resources = {True: self.resources, False: self.resources.without_gpus}

    def begin(self, nodes: Mapping[str, Node], findings: Iterable[Finding], now_s: float) -> None:
        """Begin with nodes that were checked already; those with a fault are left out for now."""
        self.alive = dict(nodes)
        self._standings = {id: _Standing() for id in nodes}
        for finding in findings:
            if finding.node.id not in self._standings:
                continue
            if finding.fault:
                self._set_aside(finding.node.id, finding.fault, now_s)
            else:
                self._enter_gpus(finding, now_s)

    @property
    def usable(self) -> list[Node]:
        """The nodes that trials may be sent to."""
        return [node for id, node in self.alive.items() if not self._standings[id].reason]

    @property
    def avoided(self) -> list[str]:
        """Ids of the nodes that trials are kept away from, sorted."""
        return sorted(id for id in self.alive if self._standings[id].reason)

    def usable_by(self, on_gpu: bool) -> list[Node]:
        """The nodes that trials of a kind may be sent to."""
        return [node for node in self.usable if not (on_gpu and self._standings[node.id].gpu_reason)]

    def avoided_by(self, on_gpu: bool) -> list[str]:
        """Ids of the nodes that trials of a kind are kept away from, sorted."""
        gpus_at_fault = {id for id in self.alive if on_gpu and self._standings[id].gpu_reason}
        return sorted(gpus_at_fault.union(self.avoided))

    @property
    def gpu_memories(self) -> dict[str, int]:
        """Bytes of memory of the smallest GPU of each node that can train a trial on GPUs; 0 where it is not known."""
        nodes = [node for node in self.usable_by(True) if node.slots(self.resources)]
        return {node.id: self._standings[node.id].gpu_memory for node in nodes}

    def take_used_again(self) -> set[str]:
        """Ids of the nodes that are used again since this was asked before; trials may wait that avoid them."""
        used_again, self._used_again = self._used_again, set()
        return used_again

    @property
    def lack(self) -> str:
        """Why no node can train a trial of one of the kinds at present; empty if each can be trained."""
        return next(filter(None, map(self.lack_of, sorted(self.devices, reverse=True))), "")

    def lack_of(self, on_gpu: bool) -> str:
        """Why no node can train a trial of a kind at present; empty if one can."""
        lack = lacking(self.resources_of(on_gpu), self.usable_by(on_gpu))
        if lack and (avoided := self.avoided_by(on_gpu)):
            reasons = "; ".join(f"node {self.alive[id].address}: {self._reason(id)}" for id in avoided)
            what = "a trial on a GPU" if on_gpu and len(self.devices) > 1 else "a trial"
            return f"no node is left that can train {what} ({reasons})"
        return lack

    def _reason(self, id: str) -> str:
        return self._standings[id].reason or self._standings[id].gpu_reason

    def resources_of(self, on_gpu: bool) -> Resources:
        """What a trial of a kind takes."""
        return self._resources[on_gpu]

    def has_slots(self, node: Node) -> bool:
        """Whether a trial of some kind fits on a node."""
        return any(node.slots(self.resources_of(on_gpu)) for on_gpu in self.devices)

    @property
    def without_spare_cores(self) -> frozenset[str]:
        """Ids of the usable nodes whose cores trials on GPUs can all take, if there are others that can train."""
        full: set[str] = set()
        others: set[str] = set()
        with_gpus = {node.id for node in self.usable_by(True)}
        for node in self.usable:
            on_gpus = node.slots(self.resources) if node.id in with_gpus else 0
            on_cores = node.slots(self._resources[False])
            if on_cores:
                (full if on_gpus >= on_cores else others).add(node.id)
        return frozenset(full) if others else frozenset()

    @property
    def slots_by_kind(self) -> Slots:
        """How many trials of each kind can be trained at a time, if all are of that kind."""
        return Slots(self._slots_of(True), self._slots_of(False))

    def _slots_of(self, on_gpu: bool) -> int:
        resources = self._resources[on_gpu]
        return sum(node.slots(resources) for node in self.usable_by(on_gpu))

    @property
    def slots(self) -> int:
        """How many trials can be trained at a time; those that take no GPU use the cores that those on GPUs leave."""
        return self._slots_of(False not in self.devices)

    @property
    def counted(self) -> str:
        """How many nodes there are that can train a trial, and how many trials at a time."""
        nodes = sum(self.has_slots(node) for node in self.usable)
        on_gpus = f", {self.slots_by_kind.on_gpus} of them on GPUs" if len(self.devices) > 1 else ""
        return f"{_plural(nodes, 'node')}, {_plural(self.slots, 'slot')}{on_gpus}"

    def update(self, nodes: Mapping[str, Node], now_s: float) -> Iterator[str]:
        """Compare with the nodes that are alive now.

        Yields:
            What a person should read, as sentences.
        """
        lost = self.alive.keys() - nodes.keys()
        for id in lost:
            self._lost[id] = (self.alive.pop(id), now_s)
            self._standings.pop(id)
        if lost:
            # Trials may wait that were sent to these alone, or that leave the other nodes to trials on GPUs.
            self._used_again.update(node.id for node in self.usable)
        joined = [node for id, node in nodes.items() if id not in self.alive]
        for node in joined:
            self.alive[node.id] = node
            self._standings[node.id] = _Standing()
            if self.check and self.has_slots(node):
                self._standings[node.id] = _Standing(reason="it has just joined", until_s=now_s)
        yield from self._settle_losses(now_s)
        yield from self._settle_checks(now_s)
        self._check_those_due(now_s)

    def _settle_losses(self, now_s: float) -> Iterator[str]:
        for id, (node, since_s) in list(self._lost.items()):
            if now_s >= since_s + LOSS_SETTLES_S:
                del self._lost[id]
                trials = self._put_back.pop(id, 0)
                put_back = f", {_plural(trials, 'trial')} put back" if trials else ""
                yield f"node {node.address} lost{put_back}, now {self.counted}"

    def _settle_checks(self, now_s: float) -> Iterator[str]:
        with self._lock:
            checked, self._checked = self._checked, {}
        for id, finding in checked.items():
            if id not in self.alive or self._standings[id].is_drained:
                continue
            node, standing = self.alive[id], self._standings[id]
            before = (standing.reason, standing.gpu_reason)
            if finding.fault:
                self._set_aside(id, finding.fault, now_s)
                sentence = f"node {node.address} is left out ({finding.fault})"
            else:
                standing.reason = ""
                self._enter_gpus(finding, now_s)
                without = f" without its GPUs ({finding.gpu_fault})" if finding.gpu_fault else ""
                sentence = f"node {node.address} is used{without}"
            if before == (standing.reason, standing.gpu_reason):
                continue  # that was said before
            if not finding.fault:
                self._used_again.add(id)
            yield f"{sentence}, now {self.counted}"

    def _enter_gpus(self, finding: Finding, now_s: float) -> None:
        """Enter what a check says of the GPUs of a node that can be used; GPUs at fault are checked again later."""
        standing = self._standings[finding.node.id]
        standing.gpu_reason = finding.gpu_fault
        standing.gpu_memory = finding.sight.gpu_memory if finding.sight else 0
        if finding.gpu_fault:
            self._pause(standing, now_s)

    def _check_those_due(self, now_s: float) -> None:
        """Have the nodes checked that joined, and those whose pause is over, in a thread."""
        due = []
        for id in self.avoided_by(on_gpu=True):
            standing = self._standings[id]
            if standing.until_s is not None and now_s >= standing.until_s:
                standing.until_s = None
                due.append(self.alive[id])
        if due and self.check:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(threading.Thread(target=self._check, args=(due,), daemon=True))
            self._threads[-1].start()

    def _check(self, nodes: Sequence[Node]) -> None:
        assert self.check
        try:
            findings = list(self.check(nodes, self._closed))
        except Exception as error:
            findings = [Finding(node, None, f"it could not be checked: {error}") for node in nodes]
        with self._lock:
            self._checked.update((finding.node.id, finding) for finding in findings)

    def close(self) -> None:
        """End the checks that are under way: Ray ends a process that asks for something while Ray is shut down."""
        self._closed.set()
        for thread in self._threads:
            thread.join(CLOSES_WITHIN_S)

    def refused(self, id: str, reason: str, now_s: float) -> str:
        """Enter that a node refused a trial.

        Returns:
            What a person should read, if the node is set aside for it; else an empty text.
        """
        standing = self._standings.get(id)
        if standing is None or standing.reason:
            return ""
        standing.refusals += 1
        if standing.refusals < REFUSALS:
            return ""
        pause_s = self._set_aside(id, reason, now_s)
        return f"node {self.alive[id].address} is set aside for {pause_s:g} s ({reason}), now {self.counted}"

    def _set_aside(self, id: str, reason: str, now_s: float) -> float:
        standing = self._standings[id]
        standing.refusals, standing.reason = 0, reason
        return self._pause(standing, now_s)

    def _pause(self, standing: _Standing, now_s: float) -> float:
        """Have a node checked again after a pause, which is returned."""
        pause_s = PAUSES_S[min(standing.times_aside, len(PAUSES_S) - 1)]
        standing.times_aside += 1
        standing.until_s = now_s + pause_s
        return pause_s

    def drain(self, id: str) -> str:
        """Set a node aside for good, because it will be taken away; returns what a person should read."""
        standing = self._standings[id]
        standing.reason, standing.until_s, standing.is_drained = "it is being drained", None, True
        address = self.alive[id].address
        return (
            f"node {address} is being drained: its trials stop at checkpoints, to go on elsewhere; now {self.counted}"
        )

    def progressed(self, id: str) -> None:
        """Enter that a trial has finished an epoch on a node."""
        standing = self._standings.get(id)
        if standing is not None and not standing.reason:
            standing.refusals = 0
            if not standing.gpu_reason:
                standing.times_aside = 0

    def put_back(self, id: str) -> None:
        """Enter that a trial was put back because its node was lost."""
        self._put_back[id] += 1

    def at(self, address: str) -> str:
        """The id of the node at an address; empty if there is none."""
        return next((id for id, node in self.alive.items() if node.address == address), "")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
