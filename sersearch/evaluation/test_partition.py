"""The one place where test speakers are opened: for winners alone, once per winner and condition, on record.

Opening is a step of its own, which `report` and `probe` take and say. Reading commands never open anything.

    RUN/openings/KEY-CONDITION-BY-FIGURES.json  that the test speakers were opened for a winner: put once, and on disk
                                                before anything is predicted
    RUN/ledgers/DIGEST.json                     the results among which winners were chosen then, by their hashes
    RUN/test/KEY-CONDITION.parquet              the winner's predictions
    RUN/test/KEY-CONDITION.json                 their hash, and whose they are; the winner is tested when it is there

So each test figure leads back: to the hash of its predictions, to the result that they are of, to the opening, and to
every result that there was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sersearch.digests import digest
from sersearch.errors import InputError
from sersearch.evaluation.exposure import record_exposure
from sersearch.evaluation.leaderboard import Leaderboard, Winner, predictions_name, record_name, select_winners
from sersearch.run.ledger import Result
from sersearch.run.records import Record, read_record, seal, sha256_of_object
from sersearch.run.run import Run
from sersearch.study.conditions import Condition
from sersearch.study.fold import Fold
from sersearch.training.system import Prediction, System, make_system, system_class

Command = Literal["report", "probe"]

LABELS = ("utterance", "corpus", "speaker", "gender", "emotion", "noise", "snr_db")
"""Columns of a store that predictions are kept with, and `extra` in a store that has it."""

OPENINGS = "openings/"
LEDGERS = "ledgers/"
TESTS = "test/"


class Opening(Record):
    """That the test speakers were opened for a winner.

    Attributes:
        key: the winner's.
        condition: under which it won.
        by: the command that opened them.
        utterances: how many copies of utterances are predicted.
        opened: when, in UTC.
        figures: `Result.figures_digest` of the winner.
        ledger: name of the `LedgerState` of the results that there were.
    """

    key: str
    condition: Condition
    by: Command
    utterances: int
    opened: str
    figures: str
    ledger: str


class LedgerState(Record):
    """The results that there were when the test speakers were opened.

    Attributes:
        results: `Result.figures_digest` by key.
    """

    results: dict[str, str]


class Computed(Record):
    """What the large object beside this record is.

    Attributes:
        key: of the trial whose model computed it.
        condition: under which the trial won.
        figures: `Result.figures_digest` of the trial.
        sha256: of the object.
    """

    key: str
    condition: Condition
    figures: str
    sha256: str


def evaluate_winners(run: Run, say: Callable[[str], object]) -> Leaderboard:
    """Select the winners of a run and, where every trial has an outcome, test those that were not tested before.

    Args:
        run: an opened run.
        say: called with a sentence when test speakers are opened.
    """
    board = select_winners(run)
    if changed := _changed(run, board):
        others = f" (nor are {len(changed) - 1} others)" if len(changed) > 1 else ""
        say(
            f"note: the result of {changed[0]} is not the one that there was when test speakers of {run.path} were "
            f"opened{others}; see `sersearch status {run.path} --verify`"
        )
    if not board.complete:
        return board
    ledger = record_ledger(run, board)
    if board.tested:
        return board
    untested = [winner for winner in (*board.winners, *board.baselines) if not winner.predictions]
    say(f"opening the test speakers of {run.path} for {len(untested)} winners that were not tested before")
    for winner in untested:
        for result, fold in winner.trials:
            if not run.storage.exists(record_name(predictions_name(result.trial.key, winner.condition))):
                _test(run, result, fold, winner.condition, ledger)
    return select_winners(run)


def _test(run: Run, result: Result, fold: Fold, condition: Condition, ledger: str) -> None:
    """Predict the fold's test speakers with a trained model."""
    system = trained_system(run, result)
    labels = _labels(run, fold.test, condition)
    # On record first: an opening that is not recorded must not exist.
    record_exposure(run, result.trial.key, condition, fold.test, "report")
    record_opening(run, result, condition, len(labels), "report", ledger)
    prediction = system.predict(run.store, fold.test, condition)
    put_predictions(run, result, condition, append_prediction(labels, prediction, run.store.emotions))


def append_prediction(labels: pa.Table, prediction: Prediction, emotions: Sequence[str]) -> pa.Table:
    """Append the predicted emotion of each row, and its score of each emotion, to the rows' labels.

    Returns:
        The table with the columns `predicted` and, of a system that gives scores, `probability_EMOTION` or
        `decision_EMOTION`; null for an emotion that the system can't predict.
    """
    table = labels.append_column("predicted", pa.array([emotions[index] for index in prediction.emotion_U.tolist()]))
    if prediction.scores_UE is None:
        return table
    for emotion, scores_U in zip(emotions, prediction.scores_UE.T, strict=True):
        table = table.append_column(f"{prediction.score}_{emotion}", pa.array(scores_U, from_pandas=True))
    return table


def put_predictions(run: Run, result: Result, condition: Condition, table: pa.Table) -> None:
    """Keep a winner's predictions: `LABELS`, the predicted emotion and the scores of each copy."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    name = predictions_name(result.trial.key, condition)
    run.storage.put(name, sink.getvalue().to_pybytes())
    put_computed(run, name, result, condition)


def put_computed(run: Run, name: str, result: Result, condition: Condition) -> None:
    """Put the record of a large object beside it; from now on it is complete."""
    sha256 = sha256_of_object(run.storage, name)
    assert sha256, "the object was written before its record"
    computed = Computed(key=result.trial.key, condition=condition, figures=result.figures_digest, sha256=sha256)
    run.storage.put(record_name(name), seal(computed))


def check_computed(run: Run, name: str, result: Result, condition: Condition, by: Command) -> None:
    """Check that a large object is what was written, and of this result, and that its opening is on record.

    Raises:
        InputError: it is not.
    """
    place, record = run.storage.locate(name), run.storage.locate(record_name(name))
    again = f"delete it and {record}, and `sersearch {by} {run.path}` makes both again"
    computed = read_record(run.storage, record_name(name), Computed, f"delete it, and `sersearch {by} {run.path}`")
    sha256 = sha256_of_object(run.storage, name)
    if computed is None or sha256 is None:
        raise InputError(f"{place if sha256 is None else record} is missing: {again}")
    if (computed.key, computed.condition) != (result.trial.key, condition):
        raise InputError(f"{place} is of another winner, {computed.key} ({computed.condition}): {again}")
    if computed.figures != result.figures_digest:
        raise InputError(f"{place} is of another result of {computed.key} than the run has now: {again}")
    if computed.sha256 != sha256:
        raise InputError(f"{place} is damaged (its hash is not the one on record): {again}")
    if read_opening(run, result, condition, by) is None:
        raise InputError(f"{place} has no opening on record: {again}")


def trained_system(run: Run, result: Result) -> System:
    """A trial's system with its trained weights."""
    data = system_class(result.trial.configuration).open_data(run.store, result.trial)
    system = make_system(result.trial, data)
    system.load(run.ledger.weights(result))
    return system


def read_predictions(run: Run, winner: Winner) -> list[pa.Table]:
    """A tested winner's predictions, one table per trial in the order of `Winner.results`.

    Raises:
        InputError: they are damaged, or another result's.
    """
    tables = []
    for name, result in zip(winner.predictions, winner.results, strict=True):
        check_computed(run, name, result, winner.condition, "report")
        with run.storage.open(name) as file:
            tables.append(pq.read_table(file))
    return tables


def record_ledger(run: Run, board: Leaderboard) -> str:
    """Put on record which results winners are chosen among, before these are tested.

    Returns:
        `ledger_digest` of these results, by which the record is named.
    """
    name = digest(board.figures)
    run.storage.put_once(f"{LEDGERS}{name}.json", seal(LedgerState(results=board.figures)))
    return name


def _changed(run: Run, board: Leaderboard) -> list[str]:
    """The trials whose results are not those that there were when test speakers were opened."""
    states = [read_ledger_state(run, name) for name in run.storage.list(LEDGERS)]
    figures = board.figures if states else {}
    return [key for key, now in figures.items() if any(state.get(key, now) != now for state in states)]


def read_ledger_state(run: Run, name: str) -> dict[str, str]:
    """The hashes of results by key that an object in RUN/ledgers keeps.

    Raises:
        InputError: it is damaged.
    """
    place = f"{LEDGERS}{name}"
    remedy = f"delete it, and `sersearch report {run.path}` writes it again if no result was changed since"
    state = read_record(run.storage, place, LedgerState, remedy)
    if state is None or f"{digest(state.results)}.json" != name:
        raise InputError(f"{run.storage.locate(place)} is another's: {remedy}")
    return state.results


def record_opening(run: Run, result: Result, condition: Condition, utterances: int, by: Command, ledger: str) -> None:
    """Put on record that the test speakers are opened for a winner.

    Args:
        run: whose test speakers.
        result: the winner's.
        condition: under which it won.
        utterances: how many copies of utterances are predicted.
        by: the command that opens them.
        ledger: what `record_ledger` returned.

    Raises:
        InputError: they were opened before, and that record is damaged.
    """
    opening = Opening(
        key=result.trial.key,
        condition=condition,
        by=by,
        utterances=utterances,
        opened=datetime.now(UTC).isoformat(timespec="seconds"),
        figures=result.figures_digest,
        ledger=ledger,
    )
    if not run.storage.put_once(opening_name(result, condition, by), seal(opening)):
        read_opening(run, result, condition, by)


def read_opening(run: Run, result: Result, condition: Condition, by: Command = "report") -> Opening | None:
    """When and for what the test speakers were opened for a winner; None where they were not.

    Raises:
        InputError: the record is damaged, or another winner's.
    """
    name = opening_name(result, condition, by)
    remedy = (
        f"restore it, or delete it and what was computed then (in {run.storage.locate('test')} or "
        f"{run.storage.locate('probe')}, the files of {result.trial.key}-{condition}), and `sersearch {by} {run.path}` "
        "opens them again, on record"
    )
    opening = read_record(run.storage, name, Opening, remedy)
    stated = opening and (opening.key, opening.condition, opening.by, opening.figures)
    if stated and stated != (result.trial.key, condition, by, result.figures_digest):
        raise InputError(f"{run.storage.locate(name)} is of another winner: {remedy}")
    return opening


def opened_at(run: Run, result: Result, condition: Condition) -> str | None:
    """When the test speakers were opened to report a winner, in UTC; None where they were not."""
    opening = read_opening(run, result, condition)
    return None if opening is None else opening.opened


def opening_name(result: Result, condition: Condition, by: Command) -> str:
    """The object that keeps that the test speakers were opened; a result with other figures has another one."""
    return f"{OPENINGS}{result.trial.key}-{condition}-{by}-{result.figures_digest[:8]}.json"


def select_labels(table: pa.Table) -> pa.Table:
    """Select the columns of a speaker's rows that predictions are kept with."""
    return table.select([*LABELS, *(["extra"] if "extra" in table.column_names else [])])


def _labels(run: Run, speakers: Sequence[str], condition: Condition) -> pa.Table:
    """Labels of some speakers' copies, in the order of the store's rows."""
    tables = [run.store.table(speaker) for speaker in speakers]
    labels = pa.concat_tables([select_labels(table) for table in tables]).replace_schema_metadata()
    return labels.filter(pc.is_null(labels["noise"])) if condition == "clean" else labels
