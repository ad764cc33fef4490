"""Whether a machine or cluster can train a trial at all: Ray itself would wait forever for what no node has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ray

from sersearch.study.study import Resources


def lacking(resources: Resources, nodes: Iterable[Mapping[str, Any]]) -> str:
    """Compare what a trial asks for with what each node has.

    Args:
        resources: of one trial; all of it has to be on one node.
        nodes: the cluster's, as `ray.nodes()` lists them.

    Returns:
        What is lacking, in words; empty if some node has enough.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = [float(node.get("CPU", 0)) for node in alive]
    gpus = [float(node.get("GPU", 0)) for node in alive]
    if any(c >= resources.cpus and g >= resources.gpus for c, g in zip(cpus, gpus, strict=True)):
        return ""
    asked = _amounts(resources.cpus, resources.gpus)
    if len(alive) == 1:
        return f"a trial takes {asked}, but the only machine has {_amounts(cpus[0], gpus[0])}"
    most = _amounts(max(cpus, default=0), max(gpus, default=0))
    return f"a trial takes {asked}, but none of {len(alive)} machines has that (at most {most})"


def draining_nodes() -> dict[str, str]:
    """The nodes of the connected cluster that will be taken away, by their identity in Ray: each one's address.

    A node is drained by `ray drain-node`, by Ray's autoscaler, and when `ray start --block` receives SIGTERM.
    """
    draining = ray._private.state.state.get_draining_nodes()
    if not draining:
        return {}
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] in draining}


def _amounts(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU{'s' if cpus != 1 else ''} and {gpus:g} GPU{'s' if gpus != 1 else ''}"
