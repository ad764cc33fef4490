"""A program on a terminal of a given size: a pseudo-terminal, and the screen that a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import pyte

PATIENCE_S = 120.0


class Terminal:
    """Runs a Python program on a terminal; use it as a context.

    Attributes:
        said: everything that the program has written, control codes included.
    """

    def __init__(self, arguments: Sequence[object], columns: int, lines: int = 24) -> None:
        self.said = ""
        self._screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        modes = termios.tcgetattr(slave)
        modes[3] &= ~termios.ECHO  # What is typed would move the cursor under the program.
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self._process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def screen(self) -> list[str]:
        """The lines on the screen."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def scrolled(self) -> list[str]:
        """All lines: those that have left the screen at its top, then those on it."""
        width = self._screen.columns
        gone = ["".join(row[x].data for x in range(width)).rstrip() for row in self._screen.history.top]
        return gone + self.screen

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> list[str]:
        """Read until the screen shows a text, and return the screen."""
        end = time.monotonic() + PATIENCE_S
        while not any(text in line for line in self.screen):
            assert time.monotonic() < end, f"{text!r} is not on the screen:\n" + "\n".join(self.screen)
            if not self._read():
                raise AssertionError(f"the program ended without {text!r}:\n" + "\n".join(self.scrolled))
        return self.screen

    def finish(self) -> int:
        """Read until the program ends, and return its exit status."""
        while self._read():
            pass
        return self._process.wait(PATIENCE_S)

    def _read(self) -> bool:
        """Take in what is written within a second; whether more may come."""
        readable, _, _ = select.select([self._master], [], [], 1.0)
        if not readable:
            return True
        try:
            written = os.read(self._master, 65_536)
        except OSError:  # Linux: the program has closed its end.
            return False
        self.said += written.decode(errors="replace")
        self._stream.feed(written)
        return bool(written)


def command(columns: int, *words: object, lines: int = 24) -> list[str]:
    """All lines that a command of sersearch writes on a terminal of so many columns."""
    with Terminal(["-m", "sersearch", *words], columns, lines) as terminal:
        status = terminal.finish()
        shown = terminal.scrolled
    assert status == 0, "\n".join(shown)
    while shown and not shown[-1]:
        shown.pop()
    return shown
