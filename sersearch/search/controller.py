"""What Ray Tune's controller keeps in memory of trials that have ended, and how many it lets wait.

This module alone uses private attributes of Ray Tune 2.60. `tests/search/test_controller.py` fails if Ray changes them.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from typing import Any

from ray.air._internal import usage as air_usage
from ray.tune.progress_reporter import TrialProgressCallback


class NoProgress(TrialProgressCallback):
    """Takes the place of Ray Tune's own display of progress, which prints nothing here and keeps every trial."""

    def on_trial_result(self, *arguments: Any, **named: Any) -> None:
        """Nothing."""

    def on_trial_error(self, *arguments: Any, **named: Any) -> None:
        """Nothing."""

    def on_trial_complete(self, *arguments: Any, **named: Any) -> None:
        """Nothing."""


def count_no_callbacks() -> None:
    """Spare a search the second in which Ray Tune imports MLflow and others, where they are installed.

    It would count for its usage statistics how many of the callbacks are theirs. No statistics are sent.
    """
    air_usage.tag_callbacks = lambda callbacks: False


def allow_pending(controller: Any, trials: int) -> None:
    """Let so many trials wait for a worker.

    Args:
        controller: Ray Tune's controller, or the wrapper of it that schedulers get.
        trials: the number.
    """
    _unwrapped(controller).update_max_pending_trials(trials)


def forget(controller: Any, trials: Collection[Any]) -> list[Any]:
    """Remove trials that have ended from Ray Tune's memory, and their empty folders from its scratch folder.

    Ray Tune keeps about 45 KB per trial, for snapshots and for the table that `fit` returns. A search uses neither.

    Args:
        controller: Ray Tune's controller, or the wrapper of it that schedulers get.
        trials: trials that have ended.

    Returns:
        Those of the trials that still have a worker and can't be forgotten yet.
    """
    controller = _unwrapped(controller)
    busy = [trial for trial in trials if not trial.is_finished() or trial in controller._trial_to_actor]
    ended = set(trials) - set(busy)
    # In place, because Ray Tune's callers hold the same list.
    controller._trials[:] = [trial for trial in controller._trials if trial not in ended]
    controller._pending_trials_list[:] = [trial for trial in controller._pending_trials_list if trial not in ended]
    for kept in (
        controller._live_trials,
        controller._stopped_trials,
        controller._failed_trials,
        controller._trials_to_cache,
    ):
        kept.difference_update(ended)
    for trial in ended:
        controller._trial_metadata.pop(trial.trial_id, None)
        shutil.rmtree(trial.local_path, ignore_errors=True)
    _forget_requests(controller._actor_manager)
    return busy


def _forget_requests(manager: Any) -> None:
    """Remove what Ray keeps of workers that were asked for and were not needed, because another became free."""
    tasks = manager._pending_actors_to_enqueued_actor_tasks
    for actor in [actor for actor in tasks if actor not in manager._pending_actors_to_attrs]:
        del tasks[actor]


def _unwrapped(controller: Any) -> Any:
    return getattr(controller, "_tune_controller", controller)
