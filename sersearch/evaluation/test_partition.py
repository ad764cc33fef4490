"""The one place where test speakers are opened: for winners alone, once per winner and condition, on record.

Opening is a step of its own, which `report` and `probe` take and say. Reading commands never open anything.

    RUN/openings/KEY-CONDITION-BY.json   that the test speakers were opened for a winner: written before anything is
                                         predicted
    RUN/test/KEY-CONDITION.parquet       the winner's predictions
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sersearch.evaluation.exposure import record_exposure
from sersearch.evaluation.leaderboard import Leaderboard, Winner, predictions_name, select_winners
from sersearch.run.ledger import Result
from sersearch.run.run import Run
from sersearch.study.conditions import Condition
from sersearch.study.fold import Fold
from sersearch.training.system import System, make_system, system_class

Command = Literal["report", "probe"]

LABELS = ("utterance", "speaker", "gender", "emotion", "noise", "snr_db")


def evaluate_winners(run: Run, say: Callable[[str], object]) -> Leaderboard:
    """Select the winners of a run and, where every trial has an outcome, test those that were not tested before.

    Args:
        run: an opened run.
        say: called with a sentence when test speakers are opened.
    """
    board = select_winners(run)
    if not board.complete or board.tested:
        return board
    untested = [winner for winner in (*board.winners, *board.baselines) if not winner.predictions]
    say(f"opening the test speakers of {run.path} for {len(untested)} winners that were not tested before")
    for winner in untested:
        for result, fold in winner.trials:
            if not run.storage.exists(predictions_name(result.trial.key, winner.condition)):
                _test(run, result, fold, winner.condition)
    return select_winners(run)


def _test(run: Run, result: Result, fold: Fold, condition: Condition) -> None:
    """Predict the fold's test speakers with a trained model."""
    labels = _labels(run, fold.test, condition)
    # On record first: an opening that is not recorded must not exist.
    record_exposure(run, result.trial.key, condition, fold.test, "report")
    record_opening(run, result.trial.key, condition, len(labels), "report")
    predicted = trained_system(run, result).predict(run.store, fold.test, condition)
    emotions = run.store.emotions
    names = pa.array([emotions[index] for index in predicted.tolist()])
    sink = pa.BufferOutputStream()
    pq.write_table(labels.append_column("predicted", names), sink)
    run.storage.put(predictions_name(result.trial.key, condition), sink.getvalue().to_pybytes())


def trained_system(run: Run, result: Result) -> System:
    """A trial's system with its trained weights."""
    data = system_class(result.trial.configuration).open_data(run.store, result.trial)
    system = make_system(result.trial, data)
    system.load(run.ledger.weights(result))
    return system


def read_predictions(run: Run, winner: Winner) -> list[pa.Table]:
    """A tested winner's predictions, one table per trial in the order of `Winner.results`."""
    tables = []
    for name in winner.predictions:
        with run.storage.open(name) as file:
            tables.append(pq.read_table(file))
    return tables


def record_opening(run: Run, key: str, condition: Condition, utterances: int, by: Command) -> None:
    """Put on record that the test speakers are opened for a winner.

    Args:
        run: whose test speakers.
        key: the winner's.
        condition: under which it won.
        utterances: how many copies of utterances are predicted.
        by: the command that opens them.
    """
    opened = datetime.now(UTC).isoformat(timespec="seconds")
    opening = {"key": key, "condition": condition, "utterances": utterances, "opened": opened, "by": by}
    run.storage.put_once(_opening_name(key, condition, by), json.dumps(opening).encode())


def opened_at(run: Run, key: str, condition: Condition, by: Command = "report") -> str | None:
    """When the test speakers were opened for a winner, in UTC; None where they were not."""
    content = run.storage.get(_opening_name(key, condition, by))
    return None if content is None else str(json.loads(content)["opened"])


def _opening_name(key: str, condition: Condition, by: Command) -> str:
    return f"openings/{key}-{condition}-{by}.json"


def _labels(run: Run, speakers: Sequence[str], condition: Condition) -> pa.Table:
    """Labels of some speakers' copies, in the order of the store's rows."""
    tables = [run.store.table(speaker).select(LABELS) for speaker in speakers]
    labels = pa.concat_tables(tables).replace_schema_metadata()
    return labels.filter(pc.is_null(labels["noise"])) if condition == "clean" else labels
