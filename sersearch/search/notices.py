"""What tells a worker to stop training: the search stops, its node is drained, or it receives SIGTERM."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray

from sersearch.run.session import DRAINING, STOPPING, list_notices
from sersearch.run.storage import Storage

LOOK_EVERY_S = 2.0
"""How often a worker looks whether it is to stop, in seconds."""

_terminated = threading.Event()


class GivenBackError(Exception):
    """A worker has stopped a trial at a checkpoint because its machine will be taken away; the message says why."""


class Notices:
    """What a session tells the workers that train its trials, and what SIGTERM tells this process."""

    def __init__(self, storage: Storage, session: str) -> None:
        """Look at nothing yet.

        Args:
            storage: storage of the run.
            session: identity of the session.
        """
        self._storage = storage
        self._session = session
        self._look_at = 0.0
        self._notices: set[str] = set()

    @property
    def interrupted(self) -> bool:
        """Whether to stop; it is cheap to ask after each step."""
        now_s = time.monotonic()
        if now_s >= self._look_at:
            self._look_at = now_s + LOOK_EVERY_S
            # A storage that fails for good is noticed where a checkpoint is written.
            with suppress(OSError):
                self._notices = list_notices(self._storage, self._session)
        return self.stopping or bool(self.lost_machine)

    @property
    def stopping(self) -> bool:
        """Whether the search stops."""
        return STOPPING in self._notices

    @property
    def lost_machine(self) -> str:
        """Why this process will soon be gone, in words; empty if it is not known to be."""
        if _terminated.is_set():
            return "its worker received SIGTERM"
        draining = any(notice.startswith(DRAINING) for notice in self._notices)
        if draining and f"{DRAINING}{ray.get_runtime_context().get_node_id()}" in self._notices:
            return "its node is being drained"
        return ""


@contextmanager
def noting_sigterm() -> Iterator[None]:
    """Take notice of SIGTERM in a block, where Ray's own handler would end the process in the middle of a step.

    Call it in the main thread, in which Ray runs the methods of an actor.
    """
    previous = signal.signal(signal.SIGTERM, lambda number, frame: _terminated.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def draining_nodes() -> set[str]:
    """Ids of the nodes of the connected cluster that will be taken away.

    A node is drained by `ray drain-node`, by Ray's autoscaler, and when `ray start --block` receives SIGTERM.
    """
    return set(ray._private.state.state.get_draining_nodes())
