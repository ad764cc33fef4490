"""Jobs in parallel, in worker processes that end when their parent ends, even if it is killed."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None = None) -> Iterator[Result]:
    """Call a function with each job, in several processes.

    Args:
        work: function that is called with each job; it is pickled and sent to each process once, not per job.
        jobs: arguments of the calls, which start in this order.
        workers: number of processes; None for one per core. With one worker or one job, this process does the work.

    Yields:
        Results, in the order in which the calls end.
    """
    workers = min(workers or available_cores(), len(jobs))
    if workers <= 1:
        yield from map(work, jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _start_worker, (work,)) as pool:
        futures = [pool.submit(_call, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # missing on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_work: Callable[[Any], Any]


def _start_worker(work: Callable[[Any], Any]) -> None:
    """Prepare a worker process: keep the function, ignore Ctrl-C, and end when the parent ends."""
    global _work
    _work = work
    # The parent handles Ctrl-C and then stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait until the parent process has ended, even by a kill, and end this process at once."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _call(job: Any) -> Any:
    return _work(job)
