"""From a trial of a run to a folder that needs neither the run nor the store."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.deployment.card import model_card
from sersearch.deployment.classifier import (
    CARD,
    CONFIG,
    ONNX,
    WEIGHTS,
    FrontEnd,
    ModelRecord,
    Provenance,
    TestFigures,
    classifier_class,
    open_model,
    read_model_record,
)
from sersearch.errors import InputError
from sersearch.evaluation.leaderboard import predictions_name, record_name
from sersearch.evaluation.test_partition import check_computed, opened_at, trained_system
from sersearch.run.ledger import Result
from sersearch.run.records import seal
from sersearch.run.run import Run
from sersearch.run.storage import Folder
from sersearch.statistics.counts import mean_recall, recalls, speaker_confusions
from sersearch.statistics.intervals import speaker_interval
from sersearch.study.conditions import CONDITIONS, Condition
from sersearch.training.rerun import find_result


def export_model(run: Run, key: str, folder: Path, onnx: bool = False) -> ModelRecord:
    """Write a trial's model to a folder; no test speaker is opened, the card shows the tests that exist.

    Args:
        run: an opened run.
        key: the trial's, or its first characters.
        folder: a new one, an empty one, or one with an earlier export of the same trial.
        onnx: whether to write `model.onnx` too, see `sersearch.deployment.onnx`.

    Raises:
        InputError: the run has no such result, its system can't be exported, or the folder holds other things.
    """
    result = find_result(run, key)
    configuration = result.trial.configuration
    if type(configuration).classifier is None:
        raise InputError(
            f"{result.trial.key}: {configuration.model} can't be exported: its configuration names no `classifier` "
            "(docs/models.md)"
        )
    if onnx:
        # It imports torch's exporter, which most exports have no need of.
        from sersearch.deployment.onnx import check_onnx, write_onnx

        check_onnx(configuration)
    _check_folder(folder, result.trial.key)
    weights = trained_system(run, result).portable(run.store)
    assert weights is not None, f"{configuration.model} names a classifier and has nothing to export"
    record = ModelRecord(
        sersearch=version("sersearch"),
        configuration=configuration,
        emotions=run.store.emotions,
        score=classifier_class(configuration).score,
        front_end=_front_end(run),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        provenance=trace(run, result),
    )
    files = Folder(folder)
    files.put(WEIGHTS, weights)
    files.put(CARD, model_card(record).encode())
    files.put(CONFIG, seal(record))
    if onnx:
        write_onnx(open_model(folder), folder / ONNX)
    return record


def _check_folder(folder: Path, key: str) -> None:
    """Refuse a folder that holds anything but an earlier export of the same trial."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder to export to")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / CONFIG).exists():
        raise InputError(f"{folder}: holds other things; name an empty or a new folder")
    before = read_model_record(folder).provenance.key
    if before != key:
        raise InputError(f"{folder}: holds the model of another trial, {before}; name an empty or a new folder")


def _front_end(run: Run) -> FrontEnd:
    recipe = run.store.recipe
    return FrontEnd(
        sampling_rate=recipe.sampling_rate,
        window_ms=recipe.window_ms,
        shift_ms=recipe.shift_ms,
        bands=recipe.bands,
        dtype=recipe.dtype,
    )


def trace(run: Run, result: Result) -> Provenance:
    """Where a trial's model comes from, and how it was tested, as far as it was."""
    recipe, trial = run.store.recipe, result.trial
    tests = {condition: _test_figures(run, result, condition) for condition in CONDITIONS}
    return Provenance(
        run=run.path.resolve().name,
        study=run.study.name,
        key=trial.key,
        seed=trial.seed,
        fold=trial.fold.name,
        stopped=result.stopped,
        corpus=recipe.corpus,
        noise=recipe.noise_library or ("a folder of noises" if recipe.noises else "none"),
        fingerprint=run.identity.fingerprint,
        train=len(trial.fold.train),
        validation=len(trial.fold.validation),
        environment=result.environment,
        validation_ua={condition: result.ua(condition) for condition in result.conditions},
        test={condition: figures for condition, figures in tests.items() if figures is not None},
    )


def _test_figures(run: Run, result: Result, condition: Condition) -> TestFigures | None:
    """What the trial's own test predictions show; None where it was not tested under a condition."""
    name = predictions_name(result.trial.key, condition)
    if not run.storage.exists(record_name(name)):
        return None
    check_computed(run, name, result, condition, "report")
    with run.storage.open(name) as file:
        table: pa.Table = pq.read_table(file, columns=["emotion", "predicted", "speaker"])
    index = {emotion: number for number, emotion in enumerate(run.store.emotions)}
    true, predicted = ([index[emotion] for emotion in table[column].to_pylist()] for column in ("emotion", "predicted"))
    counts_SEE = speaker_confusions(true, predicted, table["speaker"].to_pylist(), len(index))
    interval = speaker_interval(counts_SEE)
    confusion_EE = counts_SEE.sum(0)
    recall_E = recalls(confusion_EE)
    return TestFigures(
        ua=float(mean_recall(confusion_EE)),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        speakers=len(counts_SEE),
        copies=len(table),
        recalls={
            emotion: float(recall_E[number]) for emotion, number in index.items() if not np.isnan(recall_E[number])
        },
        opened=opened_at(run, result, condition) or "",
    )
