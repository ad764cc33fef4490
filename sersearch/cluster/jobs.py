"""Jobs on the nodes of a Ray cluster, in place of worker processes on this machine.

The nodes read and write the same files as this machine does: folders have to be on a file system that all share.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sersearch.cluster.connection import connect, first_line
from sersearch.errors import InputError

Job = TypeVar("Job")
Result = TypeVar("Result")

LOSSES = 9
"""How often a job is tried again after its worker or node was lost."""

ANSWERED_S = 120.0
"""How long a node may take to answer: a worker process has to start there."""


@contextmanager
def cluster_jobs(address: str, reads: Sequence[Path], writes: Path) -> Iterator[None]:
    """Connect to a cluster for the block, after a check that its nodes see what is read and written.

    Args:
        address: of the cluster.
        reads: files and folders that jobs read.
        writes: a folder that jobs write to, which may not exist yet.

    Raises:
        InputError: no cluster answers, no node has a core for jobs, or a node lacks a folder or this package.
    """
    connect(address)
    try:
        _check_nodes(reads, writes)
        yield
    finally:
        ray.shutdown()


def on_cluster(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None = None) -> Iterator[Result]:
    """Call a function with each job, on the nodes of the cluster that this process is connected to.

    A job whose worker or node is lost is given to another one.

    Args:
        work: function that is called with each job; it is sent to each worker process once.
        jobs: arguments of the calls, which start in this order; each takes one core.
        workers: most calls at a time; None for as many as the cluster has cores.

    Yields:
        Results, in the order in which the calls end.

    Raises:
        ChildProcessError: the workers of one job were lost again and again.
    """
    call = ray.remote(_call).options(num_cpus=1, max_retries=LOSSES)
    shared = [ray.put(work)]
    left = iter(jobs)
    running = [call.remote(shared, job) for job in islice(left, workers or len(jobs))]
    try:
        while running:
            (done,), running = ray.wait(running, num_returns=1)
            running += [call.remote(shared, job) for job in islice(left, 1)]
            yield _result(done)
    finally:
        for each in running:
            ray.cancel(each, force=True)


def _result(done: ray.ObjectRef[Any]) -> Any:
    try:
        return ray.get(done)
    except RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, Exception) else error) from error
    except RayError as error:
        raise ChildProcessError(
            errno.ECHILD,
            f"the workers of one job were lost {LOSSES + 1} times ({first_line(error)}); run the same command again to "
            "continue",
        ) from error


def _call(work: list[ray.ObjectRef[Any]], job: Any) -> Any:
    """Call the function with a job, on a node; the function comes in a list, because Ray would unpack it each time."""
    return _fetch(work[0])(job)


@lru_cache(maxsize=1)
def _fetch(work: ray.ObjectRef[Any]) -> Any:
    """Get the function once per process: what it remembers, such as decoded noise, serves all jobs of the process."""
    return ray.get(work)


def _check_nodes(reads: Sequence[Path], writes: Path) -> None:
    nodes = {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
    }
    if not nodes:
        raise InputError("no node of the cluster has a core for jobs: add a node to it, or leave --address out")
    existing = next(folder for folder in (writes, *writes.parents) if folder.is_dir())
    # A folder of the same name may be another one, which the name of a new file shows.
    with NamedTemporaryFile(prefix=".sersearch-", dir=existing) as probe:
        wanted = [str(path) for path in (*reads, probe.name)]
        for node, name in nodes.items():
            if fault := _ask(node, wanted):
                fault = fault.replace(probe.name, str(existing))
                raise InputError(f"node {name} of the cluster {fault}")


def _ask(node: str, paths: Sequence[str]) -> str:
    """What keeps a node from working with some paths; "" if nothing does."""
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    asked = ray.remote(_invisible).options(num_cpus=0, scheduling_strategy=strategy).remote(paths)
    try:
        invisible = ray.get(asked, timeout=ANSWERED_S)
    except RayError as error:
        return f"can't run jobs ({first_line(error)}): install sersearch there, in the Python that Ray runs in"
    if not invisible:
        return ""
    return f"does not see {invisible[0]}, or can't write there: put it where all nodes have it under the same path"


def _invisible(paths: Sequence[str]) -> list[str]:
    """The paths that this node lacks or, of the last one's folder, can't write to."""
    lacking = [path for path in paths if not os.access(path, os.R_OK)]
    return lacking or [path for path in paths[-1:] if not os.access(Path(path).parent, os.W_OK)]
