"""The order in which Ray Tune starts trials: that in which they came."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler

from sersearch.search.controller import allow_pending, forget

FORGET_EVERY = 64
"""After so many ended trials Ray Tune forgets them, which takes a look at each trial that it holds."""


COUNT_EVERY_S = 2.0
"""How often it is asked how many trials may wait."""


class FirstCome(FIFOScheduler):
    """Starts trials in the order in which they came, in a time that depends neither on their number nor on the cluster.

    Ray's own scheduler looks at every trial of the run before it starts one.
    """

    def __init__(
        self,
        lost: Callable[[str, str], None],
        pending: Callable[[], int],
        used_again: Callable[[], Set[str]] = frozenset,
    ) -> None:
        """Begin without trials.

        Args:
            lost: called with a trial's id in Ray Tune and Ray's words when its worker is lost.
            pending: how many trials may wait for a worker, by what is known of the cluster now.
            used_again: the nodes that trials were kept away from and that are used since this was called before.
        """
        super().__init__()
        self._lost = lost
        self._pending = pending
        self._used_again = used_again
        self._pending_allowed = 0
        self._count_at_s = -math.inf
        self._waiting: OrderedDict[str, Any] = OrderedDict()
        self._ended: list[Any] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Put a trial at the end of the queue."""
        self._waiting[trial.trial_id] = trial

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Say that the worker of a trial was lost; Ray Tune calls this before the searcher, which gets no reason."""
        error_file = Path(trial.error_file or "")
        self._lost(trial.trial_id, error_file.read_text() if error_file.is_file() else "")
        self._end(trial)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Note that a trial has ended."""
        self._end(trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Note that a trial has ended before it began."""
        self._end(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first trial that waits; Ray Tune asks for it in each step of its loop."""
        self._allow_pending(tune_controller)
        if used_again := self._used_again():
            self._recall(tune_controller, used_again)
        if len(self._ended) >= FORGET_EVERY:
            self._ended = forget(tune_controller, self._ended)
        while self._waiting:
            trial = next(iter(self._waiting.values()))
            if trial.status == trial.PENDING:
                return trial
            self._waiting.popitem(last=False)
        return None

    def _allow_pending(self, tune_controller: Any) -> None:
        now_s = time.monotonic()
        if now_s < self._count_at_s:
            return
        self._count_at_s = now_s + COUNT_EVERY_S
        allowed = self._pending()
        if allowed != self._pending_allowed:
            allow_pending(tune_controller, allowed)
            self._pending_allowed = allowed

    def _recall(self, tune_controller: Any, used_again: Set[str]) -> None:
        """Stop trials that wait and could go to a node that is used again: their placement groups would not follow.

        These are the trials that avoid it, and those that were sent to other nodes by name. The searcher hands them out
        again. The controller's `request_stop_trial` has no effect in Ray 2.60.
        """
        for trial in list(self._waiting.values()):
            named = trial.config["nodes"]
            could = not used_again.isdisjoint(trial.config["avoided"]) or (named and not used_again <= set(named))
            if could and trial.status == trial.PENDING:
                tune_controller.stop_trial(trial)

    def _end(self, trial: Any) -> None:
        self._waiting.pop(trial.trial_id, None)
        self._ended.append(trial)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles it to restore a run, which is never done."""
        return {}
