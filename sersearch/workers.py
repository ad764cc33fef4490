"""Work shared out among processes that end with their parent, however it ends."""

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
    """Do the jobs and give what comes of them in the order of completion.

    Args:
        work: what is done with a job; sent to each process once, and kept there from job to job.
        jobs: begun in this order.
        workers: processes; None for one a core. One job, or one worker, is done in this process.
    """
    workers = min(workers or cores(), len(jobs))
    if workers <= 1:
        yield from map(work, jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _start, (work,)) as pool:
        futures = [pool.submit(_do, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_work: Callable[[Any], Any]


def _start(work: Callable[[Any], Any]) -> None:
    """Keep what is to be done; leave Ctrl-C to the parent, and end when it is killed."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _do(job: Any) -> Any:
    return _work(job)
