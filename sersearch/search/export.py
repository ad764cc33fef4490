"""A run's trials as Optuna studies, for optuna-dashboard and whatever else reads a storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, DBAPIError

from sersearch.errors import InputError
from sersearch.run.ledger import Result
from sersearch.run.run import Run
from sersearch.search.dimensions import parameters
from sersearch.search.suggest import new_study, values
from sersearch.study.space import Space
from sersearch.study.trial import Trial

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}


def export_optuna(run: Run, storage: str) -> dict[str, int]:
    """Add what a run's ledger holds to an Optuna storage, one study a space; what is there already is not doubled.

    Args:
        run: any.
        storage: URL of a data base, as in "sqlite:///studies.db".

    Returns:
        How many trials were added to each Optuna study, by name: RUN-STUDY/SPACE.

    Raises:
        InputError: the storage can't be opened, or holds a study whose categories were others.
    """
    opened, results, added = _open(storage), run.ledger.results(), {}
    planned = run.agenda(results).spaces
    for space in run.study.spaces:
        name = f"{run.path.resolve().name}-{run.study.name}/{space.name}"
        found = [(trial, results.get(trial.key)) for trial in planned.get(space.name, ())]
        added[name] = _export(run, space, found, name, opened)
    return added


def _open(storage: str) -> optuna.storages.BaseStorage:
    try:
        return optuna.storages.get_storage(storage)
    except (ArgumentError, ImportError, DBAPIError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise InputError(f"{storage}: is no storage ({reason}); name a data base, as in sqlite:///studies.db") from None


Found = Sequence[tuple[Trial, Result | None]]


def _export(run: Run, space: Space, found: Found, name: str, storage: optuna.storages.BaseStorage) -> int:
    study = new_study(run.study.search, storage=storage, study_name=name, load_if_exists=True)
    there = {(trial.user_attrs["key"], trial.state) for trial in study.get_trials(deepcopy=False)}
    new = [t for t in _trials(run, space, found, study) if (t.user_attrs["key"], t.state) not in there]
    try:
        study.add_trials(new)
    except ValueError:
        raise InputError(
            f"study {name} was exported with other categories, which Optuna can't change: name another storage"
        ) from None
    return len(new)


def _trials(run: Run, space: Space, found: Found, study: optuna.Study) -> Iterator[FrozenTrial]:
    """The space's trials that ended, in the order of its configurations; those to come follow another time."""
    for trial, result in found:
        if result:
            yield _finished(run, space, study, trial, result)
        elif error := run.ledger.failure(trial.key):
            yield _frozen(trial, space, TrialState.FAIL, error=error)


def _finished(run: Run, space: Space, study: optuna.Study, trial: Trial, result: Result) -> FrozenTrial:
    outcome, objective = run.outcome(result), run.study.search.objective
    others = {f"ua_{condition}": result.ua(condition) for condition in result.conditions if condition != objective}
    found = _frozen(trial, space, STATES[outcome.state], parameters=result.parameters, **others)
    found.values = values(study, outcome.ua, outcome.parameters)
    if len(study.directions) == 1:
        # Optuna has intermediate values for one objective only.
        found.intermediate_values = {epoch.epoch: epoch.ua(objective) for epoch in result.epochs}
    # Optuna's times are local and naive.
    found.datetime_complete = datetime.fromisoformat(result.finished).astimezone().replace(tzinfo=None)
    found.datetime_start = found.datetime_complete - timedelta(seconds=result.seconds)
    return found


def _frozen(trial: Trial, space: Space, state: TrialState, **attributes: object) -> FrozenTrial:
    chosen, distributions = parameters(trial.configuration, space)
    attributes = {"key": trial.key, "seed": trial.seed, "fold": trial.fold.name, **attributes}
    value = None if state is TrialState.FAIL else 0.0
    return optuna.trial.create_trial(
        state=state, value=value, params=chosen, distributions=distributions, user_attrs=attributes
    )
