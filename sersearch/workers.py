"""Jobs in parallel, in worker processes that end when their parent ends, even if it is killed."""

import errno
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn, Protocol, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Parallel(Protocol):
    """What calls a function with each job, as `in_parallel` does on this machine."""

    def __call__(
        self, work: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None = None
    ) -> Iterator[Result]:
        """Yield results in the order in which the calls end."""


def in_parallel(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None = None) -> Iterator[Result]:
    """Call a function with each job, in several processes.

    Args:
        work: function that is called with each job; it is pickled and sent to each process once, not per job.
        jobs: arguments of the calls, which start in this order.
        workers: number of processes; None for one per core. With one worker or one job, this process does the work.

    Yields:
        Results, in the order in which the calls end.

    Raises:
        ChildProcessError: a worker process died before its job was done.
    """
    workers = min(workers or available_cores(), len(jobs))
    if workers <= 1:
        yield from map(work, jobs)
        return
    left = iter(jobs)
    pool: list[_Worker] = []
    try:
        for _ in range(workers):
            pool.append(_Worker(work))
        busy = {worker.connection: worker for worker in pool if worker.start_next(left)}
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker = busy[connection]
                result = worker.result()
                # The worker computes again while the caller uses the result.
                if not worker.start_next(left):
                    del busy[worker.connection]
                yield result
    finally:
        # Jobs that still run are of no use to anybody: there was an error, or the caller wants no more results.
        for worker in pool:
            worker.kill()


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # missing on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """A worker process, and the connection by which jobs are sent and results received.

    Connections leave nothing behind if a process is killed. The semaphores of `concurrent.futures` would.
    """

    def __init__(self, work: Callable[[Any], Any]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, work), daemon=True)
        with _ctrl_c_blocked():
            self._process.start()
        theirs.close()

    def start_next(self, jobs: Iterator[Any]) -> bool:
        """Send the next job to the process; return whether there was one."""
        for job in jobs:
            try:
                self.connection.send(job)
            except OSError:
                self._raise_died()
            return True
        return False

    def result(self) -> Any:
        """Receive the result of the job; raise what its call raised."""
        try:
            error, result = self.connection.recv()
        except (EOFError, OSError):
            self._raise_died()
        if error is not None:
            raise error
        return result

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _raise_died(self) -> NoReturn:
        self._process.join()
        code = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise ChildProcessError(
            errno.ECHILD, f"a worker process {how} (is there enough memory?); run the same command again to continue"
        )


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Let processes that start in the block ignore Ctrl-C, from their first instruction on: the parent handles it."""
    resource_tracker.ensure_running()  # starting it later would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    """Call the function with each job that arrives, in a worker process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(_outcome(work, job))


def _outcome(work: Callable[[Any], Any], job: Any) -> tuple[Exception | None, Any]:
    """The error of a call, with the traceback in a note, or its result."""
    try:
        return None, work(job)
    except Exception as error:
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        return error, None


def _end_with_parent() -> None:
    """Wait until the parent process has ended, even by a kill, and end this process at once."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
