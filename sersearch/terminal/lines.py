"""Lines that a log has once a minute."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

MINUTE_S = 60.0


class EveryMinute:
    """Prints a line every minute while its context lasts, from a thread of its own."""

    def __init__(self, line: Callable[[], str], say: Callable[[str], object], every_s: float = MINUTE_S) -> None:
        """Begin with nothing said.

        Args:
            line: the line as it is now; an empty one is not printed.
            say: prints a line.
            every_s: seconds between two lines.
        """
        self._line = line
        self._say = say
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Start; the first line comes after a minute."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say nothing more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            if line := self._line():
                self._say(line)
