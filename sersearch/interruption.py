"""Ctrl-C ends the process at once, as a kill would, so nothing that it interrupts is ever recorded as done.

Python's own Ctrl-C raises KeyboardInterrupt somewhere in the main thread. That is too late while a library computes,
and the exception is lost in the callback of a library, whose result is then wrong. Here a thread waits for the signal,
prints one line and ends the process; the main thread runs no further. Every file is written so that a kill can't
damage it.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

Reaction = Callable[[int], None]

# The cursor that a progress display has hidden is shown again.
_SHOW_CURSOR = "\x1b[?25h\n"
_CLEANUP_S = 2.0

_reactions: list[Reaction] = []
_cleanups: list[Callable[[], object]] = []
_watching = threading.Event()
_ending = threading.Lock()


def end_on_ctrl_c() -> None:
    """Have Ctrl-C end this process and its child processes with one line and exit code 130, within a second.

    Call it in the main thread, where a program starts; a second call has no effect.
    """
    if _watching.is_set():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, _stand_still)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    _watching.set()


@contextmanager
def reacting(react: Reaction) -> Iterator[None]:
    """Have a function called with each SIGINT and SIGTERM instead, in a thread.

    After the block, Ctrl-C ends the process again. Where `end_on_ctrl_c` was not called, as in a notebook, signals keep
    their effect.
    """
    if not _watching.is_set():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _stand_still)
    _reactions.append(react)
    try:
        yield
    finally:
        _reactions.remove(react)
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def cleaning_up(clean_up: Callable[[], object]) -> Iterator[None]:
    """Have a function called at the end of the block, also if the process ends within it by `end_process`."""
    _cleanups.append(clean_up)
    try:
        yield
    finally:
        _cleanups.remove(clean_up)
        clean_up()


def end_process(code: int, line: str = "") -> None:
    """End this process at once, after its clean-ups, with all its child processes.

    Args:
        code: exit code.
        line: what is printed to standard error before.
    """
    if not _ending.acquire(blocking=False):
        return  # another thread is about to end the process
    if line:
        _print(line)
    # A clean-up may hang, as on a file system that does not answer.
    with suppress(RuntimeError):  # without memory there is no new thread
        threading.Timer(_CLEANUP_S, os._exit, [code]).start()
    for clean_up in reversed(_cleanups):
        with suppress(Exception):
            clean_up()
    _kill_children()
    os._exit(code)


def is_ending() -> bool:
    """Whether `end_process` was called: what dies from now on has been killed."""
    return _ending.locked()


def _watch(reader: int) -> None:
    """Wait for signals, and react to each."""
    while True:
        for number in os.read(reader, 1):
            if number not in (signal.SIGINT, signal.SIGTERM):
                continue  # a library handles it
            if _reactions:
                _reactions[-1](number)
            elif number == signal.SIGINT:
                end_process(130, "sersearch: stopped by Ctrl-C; finished work is kept")


def _print(line: str) -> None:
    """Write to standard error without its lock, which the main thread may hold."""
    with suppress(OSError):
        stream = sys.stderr.fileno()  # not 2 while a library's output is led elsewhere
        end_of_display = _SHOW_CURSOR if os.isatty(stream) else ""
        os.write(stream, f"{end_of_display}{line}\n".encode(sys.stderr.encoding or "ascii", "backslashreplace"))


def _kill_children() -> None:
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()


def _stand_still(number: int, frame: FrameType | None) -> None:
    """Let the main thread do nothing more, while the thread that reads the signal's number ends the process.

    Otherwise it might report that a child process has ended, which the same Ctrl-C ends.
    """
    while not _reactions:
        time.sleep(_CLEANUP_S)
