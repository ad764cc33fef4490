"""A run's trials as runs of MLflow, in a local database or on a server, through MLflow's own library (an extra)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from sersearch.errors import InputError
from sersearch.run.ledger import Result
from sersearch.run.run import Run
from sersearch.study.trial import Trial

EPOCH_METRICS = ("train_loss", "validation_loss", "ua_noisy", "ua_clean")

# MLflow takes this many metrics, and this many parameters, at once.
_METRICS_AT_ONCE = 1000
_PARAMETERS_AT_ONCE = 100


def export_mlflow(run: Run, uri: str) -> dict[str, int]:
    """Add the trials in a run's ledger to MLflow, one experiment per space, one MLflow run per trial.

    Trials that an earlier export added are not added again; one that was cut off while it was added is completed.

    Args:
        run: the run to export; it may be unfinished.
        uri: of the tracking store: a database such as "sqlite:///mlflow.db", or a server such as
            "http://localhost:5000".

    Returns:
        The number of trials added to each experiment, by its name "RUN STUDY SPACE".

    Raises:
        InputError: MLflow is not installed, or the store can't be used.
    """
    if find_spec("mlflow") is None:
        raise InputError("export-mlflow needs MLflow: run pip install 'sersearch[mlflow]'")
    # A server that is away is tried again for minutes otherwise.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # It takes a second to import.
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    results = run.ledger.results()
    planned = run.agenda(results).spaces
    added = {}
    try:
        client = MlflowClient(tracking_uri=uri)
        for space in run.study.spaces:
            name = f"{run.path.resolve().name} {run.study.name} {space.name}"
            trials = planned.get(space.name, ())
            ended = [(trial, results[trial.key]) for trial in trials if trial.key in results]
            added[name] = _export(client, name, run, ended)
    except (MlflowException, SQLAlchemyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{uri}: MLflow can't use it ({reason}); give a database, as in sqlite:///mlflow.db, or a server, as in "
            "http://localhost:5000"
        ) from None
    return added


def _export(client: Any, name: str, run: Run, ended: Iterable[tuple[Trial, Result]]) -> int:
    """Add trials to an experiment; returns how many were not there before."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        tags = {"run": str(run.path.resolve()), "study": run.study.name, "store": str(run.store_path)}
        number = client.create_experiment(name, tags=tags)
    else:
        number = experiment.experiment_id
    known = _known_runs(client, number)
    added = 0
    for trial, result in ended:
        before = known.get(trial.key)
        if before is None or before.info.status != "FINISHED":
            _add(client, number, trial, result, before)
            added += 1
    return added


def _known_runs(client: Any, experiment: str) -> dict[str, Any]:
    """The experiment's MLflow runs by the keys of their trials."""
    known: dict[str, Any] = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        known |= {each.data.tags["key"]: each for each in page if "key" in each.data.tags}
        token = page.token
        if not token:
            return known


def _add(client: Any, experiment: str, trial: Trial, result: Result, before: Any) -> None:
    """Write a trial; its MLflow run is called finished when all is there."""
    from mlflow.entities import Metric, Param

    end_ms = int(datetime.fromisoformat(result.finished).astimezone(UTC).timestamp() * 1000)
    start_ms = end_ms - int(result.seconds * 1000)
    if before is None:
        tags = {"key": trial.key, "stopped": result.stopped, "fold": trial.fold.name, "sersearch": version("sersearch")}
        before = client.create_run(
            experiment, start_time=start_ms, tags=tags, run_name=f"{trial.configuration.description} {trial.key[:8]}"
        )
    settings = {"seed": trial.seed, **trial.configuration.record()}
    parameters = [Param(name, str(value)) for name, value in settings.items() if value is not None]
    for start in range(0, len(parameters), _PARAMETERS_AT_ONCE):
        client.log_batch(before.info.run_id, params=parameters[start : start + _PARAMETERS_AT_ONCE])
    metrics = [Metric(*figures) for figures in _metrics(result, start_ms, end_ms)]
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(before.info.run_id, metrics=metrics[start : start + _METRICS_AT_ONCE])
    client.set_terminated(before.info.run_id, "FINISHED", end_time=end_ms)


def _metrics(result: Result, start_ms: int, end_ms: int) -> Iterator[tuple[str, float, int, int]]:
    """Name, value, time in ms and step of each figure: of each epoch, then of the trained model."""
    seconds = 0.0
    for epoch in result.epochs:
        seconds += epoch.seconds
        for name in EPOCH_METRICS:
            yield name, getattr(epoch, name), start_ms + int(seconds * 1000), epoch.epoch
    for condition in result.conditions:
        yield f"validation_ua_{condition}", result.ua(condition), end_ms, 0
    yield "parameters", float(result.parameters), end_ms, 0
