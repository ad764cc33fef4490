"""One Ray Tune run for a whole study.

Ray decides where and when; what is trained comes from the agenda, and what was trained is in the ledger before Ray
hears of it. Ray's own folder is scratch and is never restored.
"""

from __future__ import annotations

import logging
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

# Read when Ray Tune is imported or starts: no result files beside the ledger, no reports home, and Ctrl-C is ours.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune
from ray.tune.search import Searcher

from sersearch.agenda import Agenda
from sersearch.dataset import Dataset
from sersearch.ledger import Epoch, Ledger, Result
from sersearch.run import Run, open_run
from sersearch.study import Trial
from sersearch.trial import Training, run_epochs


class Watcher(Protocol):
    """Who is told how a search goes."""

    def started(self, trial: Trial) -> None:
        """A trial is handed out."""

    def epoch(self, key: str, epoch: Epoch) -> None:
        """A trial has finished an epoch."""

    def finished(self, key: str, result: Result | None, error: str) -> None:
        """A trial has a result, or failed with an error."""


def search(run: Run, agenda: Agenda, watcher: Watcher, address: str | None = None) -> dict[str, str]:
    """Train every trial that an agenda still holds.

    Args:
        run: study, store and folder.
        agenda: the run's; its trials are entered as they finish.
        watcher: told of each event, in the driver's process.
        address: of a running Ray cluster; without it one is started here and stopped at the end.

    Returns:
        The trials that failed: their errors by key.
    """
    if agenda.complete:
        return {}
    ray.init(
        address=address or "local",
        include_dashboard=False if address is None else None,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    _log_to(run.path / "ray.log")
    try:
        searcher = _AgendaSearcher(agenda, run, watcher)
        _fit(run, searcher)
        return searcher.failed
    finally:
        ray.shutdown()


def _log_to(file: Path) -> None:
    """Keep what Ray has to say in the run's folder, not on the screen."""
    logger = logging.getLogger("ray.tune")
    logger.handlers = [logging.FileHandler(file, delay=True)]
    logger.propagate = False


def _fit(run: Run, searcher: _AgendaSearcher) -> None:
    resources = run.study.resources
    trainable = tune.with_resources(_Trainable, {"cpu": resources.cpus, "gpu": resources.gpus})
    with tempfile.TemporaryDirectory(prefix="sersearch-ray-") as scratch:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["key"],
                trial_dirname_creator=lambda trial: trial.config["key"],
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=3),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[_Relay(searcher)],
            ),
        ).fit()


class _AgendaSearcher(Searcher):
    """Hands the agenda's trials to Ray Tune, each once, and ends the run when there are none left."""

    def __init__(self, agenda: Agenda, run: Run, watcher: Watcher) -> None:
        super().__init__()
        self.agenda = agenda
        self.run = run
        self.watcher = watcher
        self.failed: dict[str, str] = {}
        self._keys: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        trial = self.agenda.take()
        if trial is None:
            return Searcher.FINISHED if self.agenda.complete else None
        self._keys[trial_id] = trial.key
        self.watcher.started(trial)
        return {"key": trial.key, "run": str(self.run.path.resolve()), "trial": trial.record()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        key = self._keys.pop(trial_id)
        committed = self.run.ledger.result(key)
        failure = ""
        if committed is None:
            failure = self.run.ledger.failure(key) or "the worker died without a word"
            self.failed[key] = failure
        self.agenda.finish(key, committed.ua(self.run.study.search.objective) if committed else None)
        self.watcher.finished(key, committed, failure)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger remembers."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles it to restore a run, which is never done."""
        return {}


class _Relay(tune.Callback):
    """Tells the watcher of each epoch."""

    def __init__(self, searcher: _AgendaSearcher) -> None:
        self._searcher = searcher

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if epoch := result.get("epoch"):
            self._searcher.watcher.epoch(result["key"], Epoch(**epoch))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as the searcher."""
        return {}


class _Trainable(tune.Trainable):
    """One trial on a worker; a step is an epoch. The worker is reused for the next trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self._config = config
        self._training: Training | None = None

    def step(self) -> dict[str, Any]:
        trial = Trial.from_record(self._config["trial"])
        ledger = Ledger(Path(self._config["run"]))
        if self._training is None:
            if ledger.result(trial.key):
                return {"key": trial.key, "done": True}
            self._attempt = ledger.begin(trial)
        try:
            epoch = self._advance(trial)
        except Exception as error:  # any failure of a trial is recorded, and the search goes on
            self._attempt.fail(error)
            return {"key": trial.key, "done": True}
        assert self._training
        return {"key": trial.key, "epoch": vars(epoch) if epoch else None, "done": self._training.finished}

    def _advance(self, trial: Trial) -> Epoch | None:
        if self._training is None:
            run, data = _open(Path(self._config["run"]))
            self._training = Training(trial, data, "cuda" if run.study.resources.gpus else "cpu")
            self._epochs = run_epochs(self._training, self._attempt)
        epoch = next(self._epochs, None)
        if self._training.finished:
            # The generator commits the result behind its last epoch: before Ray is told.
            next(self._epochs, None)
        return epoch

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True


@lru_cache(maxsize=1)
def _open(path: Path) -> tuple[Run, Dataset]:
    """The run and its frames, kept from trial to trial in the same worker."""
    run = open_run(path)
    return run, run.dataset()
