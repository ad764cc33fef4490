"""Notice that the Ray of this machine has died: its driver would otherwise wait for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psutil

INTERVAL_S = 2.0
VITAL = ("raylet", "gcs_server")


class Watchdog:
    """Watches the raylet and the GCS that this process has started.

    When one of them dies, the other processes of that Ray are killed, workers included, so that none goes on training
    unseen, and `lost` is called with the name of what died, in a thread of its own.
    """

    def __init__(self, lost: Callable[[str], None]) -> None:
        """Find the processes; call it after Ray has started, and `stop` before Ray is shut down."""
        self._lost = lost
        self._stopped = threading.Event()
        self._family = _descendants()
        self._vital = [(process, _name(process)) for process in self._family if _name(process) in VITAL]
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            dead = [name for process, name in self._vital if not _alive(process)]
            if dead:
                self._kill()
                self._lost(dead[0])
                return
            # Workers come and go, and are no longer descendants once their raylet is dead.
            self._family = self._family | _descendants()

    def _kill(self) -> None:
        for process in self._family | _descendants():
            try:
                process.kill()
            except psutil.Error:
                continue


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
