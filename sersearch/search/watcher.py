"""Who is told what happens in a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sersearch.run.ledger import Epoch, Result
from sersearch.search.nodes import Finding
from sersearch.study.trial import Trial


class Watcher(Protocol):
    """Receives the events of a search, in the driver's process."""

    def started(self, trial: Trial) -> None:
        """A worker has started a trial."""

    def epoch(self, key: str, epoch: Epoch) -> None:
        """A trial has finished an epoch."""

    def finished(self, key: str, result: Result | None, error: str) -> None:
        """A trial has a result, or has failed for good: then the result is None and the error says why."""

    def dropped(self, key: str, reason: str) -> None:
        """A trial has stopped and can be resumed from its last checkpoint; without a reason it had not started."""

    def checked(self, findings: Sequence[Finding]) -> None:
        """The nodes of the cluster were checked before the search begins."""

    def note(self, sentence: str) -> None:
        """Something happened that a person should read; may be called by any thread."""

    def lost(self, reason: str) -> None:
        """The search can't continue; the process ends when this returns."""
