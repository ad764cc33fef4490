"""A trial on a Ray worker: a step of Ray's is a step of training, and the ledger holds it before Ray is told."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from cachetools import LRUCache
from ray import tune

from sersearch.errors import InputError
from sersearch.run.ledger import Attempt, Epoch
from sersearch.run.run import Run, open_run
from sersearch.search.notices import GivenBackError, Notices, noting_sigterm
from sersearch.study.trial import Trial
from sersearch.training.system import Device, System, make_system, run_steps, system_class

# No trial can be trained before someone mends this, so the search ends where it stands.
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE}

# Opened data are kept from trial to trial; more folds than this at a time are opened again.
OPENED = 2


class Worker(tune.Trainable):
    """Trains one trial, and then, reused, the next.

    A failure of the trial is in the ledger, and one of the machine is said in the report. Nothing is raised to Ray but
    that the trial is given back, so that Ray ends this worker and reuses it for no other trial.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take a trial over; what can fail is left to the first step."""
        self._key: str = config["key"]
        self._record: dict[str, Any] = config["trial"]
        self._path = Path(config["run"])
        self._session: str = config["session"]
        self._notices: Notices | None = None
        self._attempt: Attempt | None = None
        self._system: System | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial over."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one step.

        Returns:
            The trial's key, the epoch's figures, whether the trial is done, and what, if anything, has to be mended.

        Raises:
            GivenBackError: the trial has stopped at a checkpoint, because this worker's machine will be taken away.
        """
        with noting_sigterm():
            try:
                return self._step()
            except GivenBackError:
                raise
            except Exception as error:
                return self._failed(error)

    def _step(self) -> dict[str, Any]:
        # The run names the systems of a user's own that the trial's configuration may be of.
        run = _open_run(self._path)
        trial = Trial.model_validate(self._record)
        self._notices = self._notices or Notices(run.storage, self._session)
        if self._attempt is None:
            if run.ledger.result(trial.key):
                return self._report(done=True)
            if self._notices.interrupted:
                return self._stop(self._notices)
            self._attempt = run.ledger.begin(trial)
        return self._advance(run, self._attempt)

    def _advance(self, run: Run, attempt: Attempt) -> dict[str, Any]:
        notices = self._notices
        assert notices
        if self._system is None:
            resources = run.study.resources
            device: Device = "cuda" if resources.gpus else "cpu"
            self._system = make_system(attempt.trial, open_data(run, attempt.trial), device)
            # A trial that is pruned ends with the checkpoint of the epoch that it has reported.
            after_epochs = run.study.search.pruner != "none"
            self._steps: Iterator[Epoch] = run_steps(
                self._system, attempt, resources.checkpoint_every_s, after_epochs, lambda: notices.interrupted
            )
        epoch = next(self._steps, None)
        done = self._system.stopped is not None
        if done:
            # The generator commits the result after its last step.
            next(self._steps, None)
        elif epoch is None:
            return self._stop(notices)
        return self._report(done=done, epoch=epoch.model_dump() if epoch else None)

    def _stop(self, notices: Notices) -> dict[str, Any]:
        """End without a result, because the search stops or the trial is given back."""
        if not notices.stopping:
            raise GivenBackError(notices.lost_machine)
        return self._report(done=True, begun=self._attempt is not None)

    def _failed(self, error: Exception) -> dict[str, Any]:
        """Record what a trial can be blamed for; report what it can't."""
        if isinstance(error, OSError) and error.errno in FATAL:
            return self._report(done=True, fatal=f"{error.strerror}: {error.filename or self._path}")
        if isinstance(error, InputError) or self._attempt is None:
            return self._report(done=True, fatal=str(error))
        try:
            self._attempt.fail(error)
        except OSError as unwritten:
            return self._report(done=True, fatal=f"{unwritten.strerror}: {unwritten.filename or self._path}")
        return self._report(done=True)

    def _report(self, done: bool, **more: Any) -> dict[str, Any]:
        return {"key": self._key, "done": done, **more}


def commit_pruned(run: Run, trial: Trial) -> None:
    """Make a trial's newest checkpoint its result: it lagged behind, and its worker is done with it."""
    attempt = run.ledger.begin(trial)
    checkpoint = attempt.checkpoint()
    assert checkpoint, "a trial is pruned after its checkpoint"
    system = make_system(attempt.trial, open_data(run, attempt.trial))
    system.restore(checkpoint)
    attempt.commit(system.result("pruned"), system.weights())


@lru_cache(maxsize=1)
def _open_run(path: Path) -> Run:
    """The run, kept from trial to trial in the same worker."""
    return open_run(path)


_OPENED: LRUCache[tuple[Any, ...], Any] = LRUCache(OPENED)


def open_data(run: Run, trial: Trial) -> Any:
    """What a trial may see, kept from trial to trial in the same process."""
    system = system_class(trial.configuration)
    configuration = trial.configuration
    settings = (configuration.vectors, configuration.data_settings)
    key = (run.store_path, system, trial.data, settings, trial.fold.sealed)
    if key not in _OPENED:
        _OPENED[key] = system.open_data(run.store, trial)
    return _OPENED[key]
