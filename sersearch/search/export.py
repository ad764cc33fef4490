"""Export a run's trials as Optuna studies, for optuna-dashboard and other readers of an Optuna storage."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, DBAPIError

from sersearch.errors import InputError
from sersearch.run.ledger import Result
from sersearch.run.run import Run
from sersearch.search.dimensions import optuna_parameters
from sersearch.search.environment import silence_optuna
from sersearch.search.suggest import directions, objective_values
from sersearch.study.space import Space
from sersearch.study.trial import Trial

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}


def export_optuna(run: Run, storage_url: str) -> dict[str, int]:
    """Add the trials in a run's ledger to an Optuna storage, one study per space.

    Trials that an earlier export added are not added again.

    Args:
        run: the run to export; it may be unfinished.
        storage_url: URL of a database, such as "sqlite:///studies.db".

    Returns:
        The number of trials added to each Optuna study, by its name "RUN STUDY SPACE".

    Raises:
        InputError: the storage can't be opened, or contains a study of that name with other categories.
    """
    silence_optuna()
    storage = _open(storage_url)
    results = run.ledger.results()
    planned = run.agenda(results).spaces
    added = {}
    for space in run.study.spaces:
        # Words alone: a slash would be part of a path in a dashboard's addresses.
        name = f"{run.path.resolve().name} {run.study.name} {space.name}"
        trials = [(trial, results.get(trial.key)) for trial in planned.get(space.name, ())]
        added[name] = _export(run, space, trials, name, storage)
    return added


def _open(url: str) -> optuna.storages.BaseStorage:
    try:
        return optuna.storages.get_storage(url)
    except (ArgumentError, ImportError, DBAPIError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise InputError(
            f"{url}: can't be opened as an Optuna storage ({reason}); give a database URL, as in sqlite:///studies.db"
        ) from None


TrialResults = Sequence[tuple[Trial, Result | None]]
"""Trials with their results; None for a trial without one."""


def _export(run: Run, space: Space, trials: TrialResults, name: str, storage: optuna.storages.BaseStorage) -> int:
    # The study is never asked, so it needs no sampler of its own.
    study = optuna.create_study(
        directions=directions(run.study.search), storage=storage, study_name=name, load_if_exists=True
    )
    with warnings.catch_warnings():
        # Optuna calls it experimental since 3.2.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(_metric_names(run, study))
    for attribute, value in _attributes(run, space).items():
        study.set_user_attr(attribute, value)
    exported = {_identity(trial) for trial in study.get_trials(deepcopy=False)}
    new = [trial for trial in _ended_trials(run, space, trials, study) if _identity(trial) not in exported]
    try:
        study.add_trials(new)
    except ValueError:
        raise InputError(
            f"Optuna study {name}: an earlier export used other categories, which Optuna can't change; "
            "give another storage"
        ) from None
    return len(new)


def _metric_names(run: Run, study: optuna.Study) -> list[str]:
    """What the values are, in the order of `objective_values`."""
    return [f"validation UA, {run.study.search.objective} (%)", "parameters"][: len(study.directions)]


def _attributes(run: Run, space: Space) -> dict[str, Any]:
    """What tells where a study's trials come from."""
    return {
        "run": str(run.path.resolve()),
        "study": run.study.name,
        "space": space.name,
        "sampler": run.study.search.sampler if run.study.samples(space) else "grid",
        "objective": run.study.search.objective,
        "store": str(run.store_path),
        "fingerprint": run.identity.fingerprint,
        "sersearch": version("sersearch"),
    }


def _identity(trial: FrozenTrial) -> tuple[str, TrialState]:
    """Identify an exported trial: one that failed may be exported again once it has succeeded."""
    return trial.user_attrs["key"], trial.state


def _ended_trials(run: Run, space: Space, trials: TrialResults, study: optuna.Study) -> Iterator[FrozenTrial]:
    """Convert the trials of a space that have ended, in the order of its configurations."""
    for trial, result in trials:
        if result:
            yield _finished(run, space, study, trial, result)
        elif error := run.ledger.failure(trial.key):
            yield _frozen(trial, space, TrialState.FAIL, error=error)


def _finished(run: Run, space: Space, study: optuna.Study, trial: Trial, result: Result) -> FrozenTrial:
    """Convert a trial with a result."""
    outcome = run.outcome(result)
    objective = run.study.search.objective
    other_uas = {f"ua_{condition}": result.ua(condition) for condition in result.conditions if condition != objective}
    finished = _frozen(trial, space, STATES[outcome.state], parameters=result.parameters, **other_uas)
    finished.values = objective_values(study, outcome.ua, outcome.parameters)
    if len(study.directions) == 1:
        # Optuna supports intermediate values for a single objective only.
        finished.intermediate_values = {epoch.epoch: epoch.ua(objective) for epoch in result.epochs}
    # Optuna's times are local and without a time zone.
    finished.datetime_complete = datetime.fromisoformat(result.finished).astimezone().replace(tzinfo=None)
    finished.datetime_start = finished.datetime_complete - timedelta(seconds=result.seconds)
    return finished


def _frozen(trial: Trial, space: Space, state: TrialState, **attributes: object) -> FrozenTrial:
    """Convert a trial to Optuna's form, with its key, seed and other attributes."""
    params, distributions = optuna_parameters(trial.configuration, space)
    attributes = {"key": trial.key, "seed": trial.seed, "fold": trial.fold.name, **attributes}
    # Optuna demands a value for each state but FAIL; `_finished` replaces this one.
    value = None if state is TrialState.FAIL else 0.0
    return optuna.trial.create_trial(
        state=state, value=value, params=params, distributions=distributions, user_attrs=attributes
    )
