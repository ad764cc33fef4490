"""The nodes of a cluster as a search sees them: which can train a trial, which are set aside, which were lost.

A node is checked when a search begins and when the node joins; one that can't train is left out by name. A node that
refuses trials is set aside for a while. Then it is checked again, so that no trial is needed to find out whether it was
mended. Trials are kept away from a node by its label `ray.io/node-id`, which every node of Ray has.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sersearch.study.study import Resources

REFUSALS = 3
"""After so many refusals in a row, without an epoch on the node between them, a node is set aside."""

PAUSES_S = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Pause before a node is checked again after it was set aside so many times in a row."""

CLOSES_WITHIN_S = 10.0

LOSS_SETTLES_S = 5.0
"""How long after the loss of a node its trials are counted: Ray reports their loss one by one."""

Check = Callable[[Sequence["Node"], threading.Event], Mapping[str, str]]
"""Says why nodes can't be used, by their ids; empty for one that can. It returns soon after the event is set."""


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
    """

    host: str
    sersearch: str
    commit: str
    torch: str
    processor: str
    gpus: int | None
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """The check of one node.

    Attributes:
        node: the node.
        sight: what its task found; None if there was no answer.
        fault: why no trial can be trained there, as a sentence; empty if one can.
    """

    node: Node
    sight: Sight | None
    fault: str


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
    """

    refusals: int = 0
    times_aside: int = 0
    reason: str = ""
    until_s: float | None = None
    is_drained: bool = False


@dataclass
class Nodes:
    """The nodes that a search may use.

    Attributes:
        resources: of one trial.
        check: checks nodes; None where the search runs on this machine alone, which it knows already.
        alive: the nodes that are alive, by their ids.
    """

    resources: Resources
    check: Check | None = None
    alive: dict[str, Node] = field(default_factory=dict)
    _standings: dict[str, _Standing] = field(default_factory=dict)
    _lost: dict[str, tuple[Node, float]] = field(default_factory=dict)
    _used_again: set[str] = field(default_factory=set)
    _put_back: Counter[str] = field(default_factory=Counter)
    _checked: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def begin(self, nodes: Mapping[str, Node], faults: Mapping[str, str], now_s: float) -> None:
        """Begin with nodes that were checked already; those with a fault are left out for now."""
        self.alive = dict(nodes)
        self._standings = {id: _Standing() for id in nodes}
        for id, fault in faults.items():
            if fault and id in self._standings:
                self._set_aside(id, fault, now_s)

    @property
    def usable(self) -> list[Node]:
        """The nodes that trials may be sent to."""
        return [node for id, node in self.alive.items() if not self._standings[id].reason]

    @property
    def avoided(self) -> list[str]:
        """Ids of the nodes that trials are kept away from, sorted."""
        return sorted(id for id in self.alive if self._standings[id].reason)

    def take_used_again(self) -> set[str]:
        """Ids of the nodes that are used again since this was asked before; trials may wait that avoid them."""
        used_again, self._used_again = self._used_again, set()
        return used_again

    @property
    def lack(self) -> str:
        """Why no node can train a trial at present; empty if one can."""
        lack = lacking(self.resources, self.usable)
        if lack and self.avoided:
            nodes = [(self.alive[id], self._standings[id].reason) for id in self.avoided]
            reasons = "; ".join(f"node {node.address}: {reason}" for node, reason in nodes)
            return f"no node is left that can train a trial ({reasons})"
        return lack

    @property
    def slots(self) -> int:
        """How many trials can be trained at a time."""
        return sum(node.slots(self.resources) for node in self.usable)

    @property
    def counted(self) -> str:
        """How many nodes there are that can train a trial, and how many trials at a time."""
        nodes = sum(bool(node.slots(self.resources)) for node in self.usable)
        return f"{_plural(nodes, 'node')}, {_plural(self.slots, 'slot')}"

    def update(self, nodes: Mapping[str, Node], now_s: float) -> Iterator[str]:
        """Compare with the nodes that are alive now.

        Yields:
            What a person should read, as sentences.
        """
        for id in self.alive.keys() - nodes.keys():
            self._lost[id] = (self.alive.pop(id), now_s)
            self._standings.pop(id)
        joined = [node for id, node in nodes.items() if id not in self.alive]
        for node in joined:
            self.alive[node.id] = node
            self._standings[node.id] = _Standing()
            if self.check and node.slots(self.resources):
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
        for id, fault in checked.items():
            if id not in self.alive or self._standings[id].is_drained:
                continue
            node, standing = self.alive[id], self._standings[id]
            if fault:
                is_told = standing.reason == fault
                self._set_aside(id, fault, now_s)
                if is_told:
                    continue
                yield f"node {node.address} is left out ({fault}), now {self.counted}"
            else:
                standing.reason = ""
                self._used_again.add(id)
                yield f"node {node.address} is used, now {self.counted}"

    def _check_those_due(self, now_s: float) -> None:
        """Have the nodes checked that joined, and those whose pause is over, in a thread."""
        due = []
        for id in self.avoided:
            standing = self._standings[id]
            if standing.until_s is not None and now_s >= standing.until_s:
                standing.until_s = None
                due.append(self.alive[id])
        if due:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(threading.Thread(target=self._check, args=(due,), daemon=True))
            self._threads[-1].start()

    def _check(self, nodes: Sequence[Node]) -> None:
        assert self.check
        try:
            faults = dict(self.check(nodes, self._closed))
        except Exception as error:
            faults = {node.id: f"it could not be checked: {error}" for node in nodes}
        with self._lock:
            self._checked.update(faults)

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
        pause_s = PAUSES_S[min(standing.times_aside, len(PAUSES_S) - 1)]
        standing.times_aside += 1
        standing.refusals, standing.reason, standing.until_s = 0, reason, now_s + pause_s
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
            standing.refusals = standing.times_aside = 0

    def put_back(self, id: str) -> None:
        """Enter that a trial was put back because its node was lost."""
        self._put_back[id] += 1

    def at(self, address: str) -> str:
        """The id of the node at an address; empty if there is none."""
        return next((id for id, node in self.alive.items() if node.address == address), "")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
