"""Runs whose figures are drawn, not trained: reports are read off ledgers of any size in no time."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import safetensors.numpy

from sersearch.evaluation.exposure import record_exposure
from sersearch.evaluation.leaderboard import select_winners
from sersearch.evaluation.test_partition import put_predictions, record_ledger, record_opening, select_labels
from sersearch.run.ledger import Epoch, Result
from sersearch.run.run import Run, start_run
from sersearch.store.reader import Store
from sersearch.study.conditions import Condition
from sersearch.study.fold import Fold
from sersearch.study.study import load_study
from sersearch.study.trial import Trial

SKILL = {"LDNN": 0.45, "S-CLDNN": 0.52, "T-CLDNN": 0.54, "ST-CLDNN": 0.56, "FST-CLDNN": 0.6}
NOISE_COSTS = {"LDNN": 0.15, "S-CLDNN": 0.2, "T-CLDNN": 0.16, "ST-CLDNN": 0.14, "FST-CLDNN": 0.1}


def generate_run(path: Path, study: Path, store: Store, seed: int = 0, trials: int | None = None) -> Run:
    """A run of a study: all trials done and the winners tested, or only some trials done.

    FST is best and noise costs it least, as the paper claims; nothing else is true of it.
    """
    generator = np.random.default_rng(seed)
    run = start_run(path, load_study(study), store.path)
    while trials != 0 and (left := run.agenda().left[:trials]):
        for trial in left:
            commit(run, draw_result(run, trial, generator))
        if trials is not None:
            return run
    board = select_winners(run)
    ledger = record_ledger(run, board)
    for winner in board.winners:
        for result, fold in winner.trials:
            _test(run, result, fold, winner.condition, ledger, generator)
    return run


def _test(
    run: Run, result: Result, fold: Fold, condition: Condition, ledger: str, generator: np.random.Generator
) -> None:
    """Predictions under a condition, and the opening written down, as if the test speakers had been opened."""
    labels = pa.concat_tables([select_labels(run.store.table(speaker)) for speaker in fold.test])
    noisy = np.array([noise is not None for noise in labels["noise"].to_pylist()])
    if condition == "clean":
        labels, noisy = labels.filter(pa.array(~noisy)), noisy[~noisy]
    speakers, speaker = np.unique(labels["speaker"].to_pylist(), return_inverse=True)
    model = result.trial.configuration.model
    right = SKILL[model] - NOISE_COSTS[model] * noisy + generator.normal(0, 0.08, len(speakers))[speaker]
    truth = np.array(labels["emotion"].to_pylist())
    guess = generator.choice(np.array(run.store.emotions), len(truth))
    predicted = np.where(generator.random(len(truth)) < right, truth, guess)
    table = labels.replace_schema_metadata().append_column("predicted", pa.array(predicted.tolist()))
    record_exposure(run, result.trial.key, condition, fold.test, "report")
    record_opening(run, result, condition, len(table), "report", ledger)
    put_predictions(run, result, condition, table)


def commit(run: Run, result: Result) -> None:
    weights = safetensors.numpy.save({"drawn": np.array([result.parameters])})
    run.ledger.begin(result.trial).commit(result, weights)


def draw_result(run: Run, trial: Trial, generator: np.random.Generator) -> Result:
    emotions, c = len(run.store.emotions), trial.configuration
    kernels = sum(h / 40 + w / 16 for h, w in c.kernels)
    skill = SKILL[c.model] + 0.05 * np.sin(3 * kernels) + generator.normal(0, 0.02)
    confusion = {
        condition: {
            speaker: _drawn(emotions, 24, skill - lost + generator.normal(0, 0.03), generator)
            for speaker in trial.fold.validation
        }
        for condition, lost in (("noisy", NOISE_COSTS[c.model]), ("clean", 0.0))
    }
    ua = {name: _ua(np.sum(list(counts.values()), axis=0)) for name, counts in confusion.items()}
    epochs = int(generator.integers(5, 15))
    best = epochs - 4
    losses = 1.2 + 0.6 * np.exp(-np.arange(epochs) / 3) + 0.02 * np.maximum(0, np.arange(epochs) - best)
    figures = tuple(
        Epoch(
            epoch=number + 1,
            train_loss=float(loss - 0.05 * number),
            validation_loss=float(loss + generator.normal(0, 0.005) * (number != best)),
            ua_noisy=ua["noisy"] - 2.0 * abs(number - best),
            ua_clean=ua["clean"] - 2.0 * abs(number - best),
            seconds=1.5,
        )
        for number, loss in enumerate(losses)
    )
    counted = c.parameters(emotions)
    assert counted
    return Result(
        trial=trial.sealed,
        epochs=figures,
        best=best,
        stopped="early",
        seconds=1.5 * epochs,
        parameters=counted.total,
        confusion=confusion,
        environment={"python": "3.11", "torch": "2.11.0", "device": "cpu (none: drawn)"},
    )


def _drawn(emotions: int, utterances: int, skill: float, generator: np.random.Generator) -> list[list[int]]:
    wrong = (1 - skill) / emotions
    rows = np.eye(emotions) * skill + wrong
    return [generator.multinomial(utterances, row / row.sum()).tolist() for row in np.clip(rows, 0, 1)]


def _ua(counts: np.ndarray) -> float:
    return float(100 * np.mean(np.diag(counts) / counts.sum(1)))
