"""A trial on a Ray worker: a step is an epoch, and the ledger knows of it before Ray does."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from ray import tune

from sersearch.errors import InputError
from sersearch.run.ledger import Attempt, Epoch, Ledger
from sersearch.run.run import Run, open_run
from sersearch.study.configuration import SVMConfiguration
from sersearch.study.study import Trial
from sersearch.training.dataset import Dataset, open_dataset
from sersearch.training.network import Training, run_epochs
from sersearch.training.svm import Vectors, open_vectors, train_svm

# No trial can be trained before someone mends this, so the search ends where it stands.
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE}


STOPPING = "stopping"
"""In a run's folder while its search ends: a trial that was handed out does not begin."""


class Worker(tune.Trainable):
    """Trains one trial, and then, reused, the next.

    Nothing is raised to Ray: a failure of the trial is in the ledger, and one of the machine is said in the report.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take a trial over; what can fail is left to the first step."""
        self._trial = Trial.from_record(config["trial"])
        self._run = Path(config["run"])
        self._attempt: Attempt | None = None
        self._training: Training | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial over."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch.

        Returns:
            The trial's key, the epoch's figures, whether the trial is done, and what, if anything, has to be mended.
        """
        try:
            if self._attempt is None:
                ledger = Ledger(self._run)
                if ledger.result(self._trial.key) or (self._run / STOPPING).exists():
                    return self._report(done=True)
                self._attempt = ledger.begin(self._trial)
            return self._advance(self._attempt)
        except Exception as error:
            return self._failed(error)

    def _advance(self, attempt: Attempt) -> dict[str, Any]:
        if isinstance(self._trial.configuration, SVMConfiguration):
            self._fit(attempt, self._trial.configuration)
            return self._report(done=True)
        if self._training is None:
            run, data = _open(self._run)
            self._training = Training(self._trial, data, "cuda" if run.study.resources.gpus else "cpu")
            self._epochs: Iterator[Epoch] = run_epochs(self._training, attempt)
        epoch = next(self._epochs, None)
        if self._training.finished:
            # The generator commits the result behind its last epoch.
            next(self._epochs, None)
        return self._report(done=self._training.finished, epoch=vars(epoch) if epoch else None)

    def _fit(self, attempt: Attempt, configuration: SVMConfiguration) -> None:
        """Train an SVM, which is done in one step."""
        partition = open_run(self._run).partition
        speakers = (*partition.train, *partition.validation)
        if configuration.protocol == "loso":
            seen = _vectors(self._run, configuration.features, (*speakers, *partition.test))
            vectors = seen.of({*speakers, *partition.test} - {self._trial.held_out})
        else:
            vectors = _vectors(self._run, configuration.features, speakers)
        train_svm(attempt, vectors, partition.train, partition.validation)

    def _failed(self, error: Exception) -> dict[str, Any]:
        """Record what a trial can be blamed for; report what it can't."""
        if isinstance(error, OSError) and error.errno in FATAL:
            return self._report(done=True, fatal=f"{error.strerror}: {error.filename or self._run}")
        if isinstance(error, InputError) or self._attempt is None:
            return self._report(done=True, fatal=str(error))
        try:
            self._attempt.fail(error)
        except OSError as unwritten:
            return self._report(done=True, fatal=f"{unwritten.strerror}: {self._attempt.folder}")
        return self._report(done=True)

    def _report(self, done: bool, **more: Any) -> dict[str, Any]:
        return {"key": self._trial.key, "done": done, **more}


def commit_pruned(run: Run, trial: Trial) -> None:
    """Make a trial's newest checkpoint its result: it lagged behind, and its worker is done with it."""
    attempt = run.ledger.begin(trial)
    checkpoint = attempt.checkpoint()
    assert checkpoint, "a trial is pruned after its checkpoint"
    _, data = _open(run.path.resolve())
    training = Training(trial, data)
    training.restore(checkpoint)
    attempt.commit(training.result(attempt, "pruned"), training.best_weights())


@lru_cache(maxsize=1)
def _open(path: Path) -> tuple[Run, Dataset]:
    """The run and its frames, kept from trial to trial in the same worker."""
    run = open_run(path)
    return run, open_dataset(run.store, run.partition)


@lru_cache(maxsize=2)
def _vectors(path: Path, features: str, speakers: tuple[str, ...]) -> Vectors:
    """Functionals of some speakers, likewise kept."""
    return open_vectors(open_run(path), features, speakers)
