"""Trials whose worker was lost: they are put back, with growing pauses, and count as failed never.

A worker is lost for a reason of the machine: it was killed, its node died, Ray killed it because the memory was full.
Waiting is the remedy. A trial that makes no progress is set aside in the end, so no search goes on forever, and so is
a search in which no trial makes any.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sersearch.search.notices import GivenBackError
from sersearch.study.trial import Trial

PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Pause before a trial is handed out again after so many losses in a row, without a checkpoint between them."""

STALLED_AFTER = 3
"""After so many trials were set aside, without an epoch of any trial between them, no further trial begins."""

NODE_DIED = "its node died"

NOT_STARTED = "its worker could not start"


@dataclass
class Losses:
    """The trials that wait to be handed out again, and those that are set aside until another search.

    Attributes:
        waiting: trials that wait, with the time at which each is due, in seconds.
        set_aside: the last reason of each trial that is set aside, by key.
    """

    waiting: list[tuple[float, Trial]] = field(default_factory=list)
    set_aside: dict[str, str] = field(default_factory=dict)
    _in_a_row: dict[str, int] = field(default_factory=dict)
    _set_aside_in_a_row: int = 0

    @property
    def stalled(self) -> bool:
        """Whether the machine seems to be at fault, so that no further trial should begin."""
        return self._set_aside_in_a_row >= STALLED_AFTER

    def lost(self, trial: Trial, reason: str, now_s: float) -> float | None:
        """Enter that the worker of a trial was lost.

        Args:
            trial: the trial.
            reason: why, in words.
            now_s: time in seconds.

        Returns:
            The pause in seconds after which the trial is due again; None if it is set aside.
        """
        losses = self._in_a_row.get(trial.key, 0)
        self._in_a_row[trial.key] = losses + 1
        if losses >= len(PAUSES_S):
            self.set_aside[trial.key] = reason
            self._set_aside_in_a_row += 1
            return None
        pause_s = PAUSES_S[losses]
        self.waiting.append((now_s + pause_s, trial))
        return pause_s

    def progressed(self, key: str) -> None:
        """Enter that a trial has written a checkpoint, or is done."""
        self._in_a_row.pop(key, None)
        self._set_aside_in_a_row = 0

    def trained(self) -> None:
        """Enter that some trial has finished an epoch: the machine works."""
        self._set_aside_in_a_row = 0

    def due(self, now_s: float) -> Trial | None:
        """Take the trial whose pause was over first; None if no pause is over."""
        if not self.waiting:
            return None
        first = min(self.waiting, key=lambda entry: entry[0])
        if first[0] > now_s:
            return None
        self.waiting.remove(first)
        return first[1]

    @property
    def verdict(self) -> str:
        """Why a search ends that can only wait for trials that are set aside."""
        key, reason = list(self.set_aside.items())[-1]
        many = f"{len(self.set_aside)} trials" if len(self.set_aside) > 1 else f"trial {key}"
        which = f" (trial {key}: {reason})" if len(self.set_aside) > 1 else f" ({reason})"
        return f"{many} lost {len(PAUSES_S) + 1} workers in a row without a checkpoint between them{which}"


def describe_loss(error: str) -> str:
    """Say in a few words why Ray lost a worker.

    Args:
        error: what Ray says about it, many lines.
    """
    _, is_given_back, reason = error.rpartition(f"{GivenBackError.__name__}: ")
    if is_given_back:
        return reason.strip().splitlines()[0]
    if "its node has died" in error or "NodeDiedError" in error:
        return NODE_DIED
    # What Ray says about every process that was killed mentions memory as a possible reason; these two are certain.
    if "low on memory" in error or "Memory on the node" in error:
        return "the memory of its node was full"
    if "creation task" in error:
        return f"{NOT_STARTED}: {error.strip().splitlines()[-1].strip()}"
    if "worker process has died" in error or "unexpectedly" in error:
        return "its worker process died"
    lines = error.strip().splitlines()
    return f"its worker was lost: {lines[-1].strip()}" if lines else "its worker was lost"


def node_in(error: str) -> str:
    """The id of the node that died, in what Ray says about it; empty if it says none."""
    found = re.search(r"\b[0-9a-f]{56}\b", error)
    return found[0] if found else ""


def address_in(error: str) -> str:
    """The address of the node where a worker could not start, in what Ray says about it; empty if it says none."""
    found = re.search(r"\bip=([0-9a-fA-F.:]+)", error)
    return found[1] if found else ""
