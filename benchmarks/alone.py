"""A side of a benchmark in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


class Alone:
    """A script at work in another process; what it prints last is its answer, as JSON."""

    def __init__(self, script: str, words: Sequence[object]) -> None:
        """Start `script` with `words` as its arguments."""
        self._process = subprocess.Popen(
            [sys.executable, script, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def answer(self, limit_s: float) -> dict[str, Any]:
        """Wait for the answer; {"failed": why} where there is none within the limit. What the side started ends."""
        try:
            out, error = self._process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            return {"failed": f"over {limit_s:g} s"}
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        if self._process.returncode:
            return {"failed": (error.strip().splitlines() or [f"ended with {self._process.returncode}"])[-1]}
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found


def run_alone(script: str, words: Sequence[object], limit_s: float) -> dict[str, Any]:
    """Start a script and wait for its answer; see `Alone`."""
    return Alone(script, words).answer(limit_s)
