"""Detect that the Ray of this machine, or the head of a cluster, has died.

The driver would otherwise wait forever, or be ended by Ray after a minute without a word on how to resume.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import psutil

CHECK_INTERVAL_S = 0.2
FAMILY_INTERVAL_S = 2.0
"""Listing all processes costs milliseconds; looking at the vital ones costs microseconds."""
VITAL_PROCESSES = ("raylet", "gcs_server")
"""Processes without which Ray can't continue, by name."""

HEAD_INTERVAL_S = 2.0
HEAD_ANSWERS_WITHIN_S = 5.0
HEAD_AWAITED_S = 45.0
"""How long the head of a cluster may be silent: Ray itself ends a driver after 60 s."""


class Watchdog:
    """Watches the raylet and the GCS server that this process has started.

    When one of them dies, all other processes of that Ray are killed, so that no worker continues training unnoticed.
    Then `lost` is called with the name of the process that died, in a thread of its own.
    """

    def __init__(self, lost: Callable[[str], None]) -> None:
        """Start watching. Create it after Ray has started, and call `stop` before Ray is shut down."""
        self._lost = lost
        self._stopped = threading.Event()
        self._ray_processes = _descendants()
        names = {process: _name(process) for process in self._ray_processes}
        self._vital = {process: name for process, name in names.items() if name in VITAL_PROCESSES}
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def _watch(self) -> None:
        listed_at = time.monotonic()
        while not self._stopped.wait(CHECK_INTERVAL_S):
            dead = [name for process, name in self._vital.items() if not _alive(process)]
            if dead:
                self._kill()
                self._lost(dead[0])
                return
            if time.monotonic() - listed_at > FAMILY_INTERVAL_S:
                # Workers start and end all the time, and are no longer descendants once their raylet is dead.
                self._ray_processes |= _descendants()
                listed_at = time.monotonic()

    def _kill(self) -> None:
        for process in self._ray_processes | _descendants():
            try:
                process.kill()
            except psutil.Error:
                continue


class HeadWatch:
    """Watches the head of a cluster, by connecting to its GCS server.

    `silent` is called with a sentence when it does not answer, and when it answers again; `lost` is called when it has
    been silent for too long. Both are called in a thread of their own.
    """

    def __init__(self, address: str, silent: Callable[[str], object], lost: Callable[[str], object]) -> None:
        """Start watching the GCS server at HOST:PORT."""
        self._address = address
        self._silent = silent
        self._lost = lost
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def _watch(self) -> None:
        since_s: float | None = None
        while not self._stopped.wait(HEAD_INTERVAL_S):
            now_s = time.monotonic()
            if self._answers():
                if since_s is not None:
                    self._silent(f"the cluster's head at {self._address} answers again")
                since_s = None
            elif since_s is None:
                since_s = now_s
                self._silent(f"the cluster's head at {self._address} does not answer; waiting {HEAD_AWAITED_S:.0f} s")
            elif now_s > since_s + HEAD_AWAITED_S and not self._stopped.is_set():
                self._lost(f"the cluster's head at {self._address} is lost")
                return

    def _answers(self) -> bool:
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), HEAD_ANSWERS_WITHIN_S).close()
        except OSError:
            return False
        return True


def _descendants() -> set[psutil.Process]:
    """Find all child processes of this process, and theirs."""
    return set(psutil.Process().children(recursive=True))


def _name(process: psutil.Process) -> str:
    """Look up the name of a process; empty if it has ended."""
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
