"""From a ledger to the best models and their test figures (Section 6.2).

Per space, model and features the best model on validation under a condition is tested under that condition. The test
partition is opened here alone, when the search is complete, for these winners alone, once each; every opening is
written down in RUN/test/.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
from numpy.typing import NDArray

from sersearch import durable
from sersearch.agenda import Agenda
from sersearch.architecture import Configuration, Features, Model
from sersearch.dataset import Dataset, Utterances, View, open_utterances
from sersearch.ledger import Result
from sersearch.models import CLDNN
from sersearch.paper import TABLE_4, is_papers_space
from sersearch.run import Run
from sersearch.statistics import unweighted_accuracy
from sersearch.study import CONDITIONS, Condition
from sersearch.trial import predict

Group = tuple[str, Model, Features]


@dataclass(frozen=True)
class Row:
    """The winner of one space, model and features under one condition; UA in per cent.

    Attributes:
        space: name of the space.
        configuration: the winner's.
        condition: under which it was selected, and is tested.
        results: the winner's trials, one a seed.
        candidates: how many configurations it was the best of.
        validation_ua: mean over the seeds.
        test_ua: mean over the seeds; None while the search is not complete.
        paper_ua: the paper's figure, where the space is the paper's; another corpus' figure all the same.
    """

    space: str
    configuration: Configuration
    condition: Condition
    results: tuple[Result, ...]
    candidates: int
    validation_ua: float
    test_ua: float | None
    paper_ua: float | None


@dataclass(frozen=True)
class Leaderboard:
    """The rows of a run and how far it is.

    Attributes:
        rows: in the paper's order of models, noisy before clean.
        done: trials of the study with a result.
        total: trials of the study, at most.
        complete: whether every trial has an outcome.
    """

    rows: tuple[Row, ...]
    done: int
    total: int
    complete: bool


def make_leaderboard(run: Run) -> Leaderboard:
    """Select the winners of a run; if it is complete, test those that were not tested before."""
    results = run.ledger.results()
    agenda = run.agenda()
    conditions = CONDITIONS if _has_noisy(run) else ("clean",)
    rows = [
        row
        for group, candidates in sorted(_groups(agenda, results).items(), key=_paper_order)
        for condition in conditions
        for row in [_winner(group, candidates, condition)]
    ]
    if agenda.complete:
        rows = _tested(run, rows)
    done = sum(key in results for key in agenda.trials)
    return Leaderboard(tuple(rows), done, agenda.upper_bound(), agenda.complete)


def _groups(agenda: Agenda, results: dict[str, Result]) -> dict[Group, dict[Configuration, list[Result]]]:
    """The configurations of each group all of whose seeds have a result."""
    groups: dict[Group, dict[Configuration, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for space, trials in agenda.spaces.items():
        for trial in trials:
            if result := results.get(trial.key):
                c = trial.configuration
                groups[space, c.model, c.features][c].append(result)
    seeds = agenda.study.seeds
    whole = {g: {c: r for c, r in found.items() if len(r) == seeds} for g, found in groups.items()}
    return {group: candidates for group, candidates in whole.items() if candidates}


def _winner(group: Group, candidates: dict[Configuration, list[Result]], condition: Condition) -> Row:
    def rank(entry: tuple[Configuration, list[Result]]) -> tuple[float, int, str]:
        _, results = entry
        mean = fmean(result.ua(condition) for result in results)
        return -mean, results[0].parameters, results[0].trial.key

    configuration, results = min(candidates.items(), key=rank)
    _, model, features = group
    paper = TABLE_4.get((model, features), {}) if is_papers_space(model, features, candidates) else {}
    return Row(
        space=group[0],
        configuration=configuration,
        condition=condition,
        results=tuple(results),
        candidates=len(candidates),
        validation_ua=fmean(result.ua(condition) for result in results),
        test_ua=None,
        paper_ua=paper.get(condition),
    )


def _paper_order(entry: tuple[Group, object]) -> tuple[int, str]:
    space, model, features = entry[0]
    order = list(TABLE_4)
    return order.index((model, features)) if (model, features) in order else len(order), space


def _has_noisy(run: Run) -> bool:
    return run.store.recipe.noises > 0


def _tested(run: Run, rows: Iterable[Row]) -> list[Row]:
    data: Dataset | None = None
    test: Utterances | None = None
    tested = []
    for row in rows:
        uas = []
        for result in row.results:
            file = predictions_file(run, result.trial.key, row.condition)
            if not file.exists():
                data = data or run.dataset()
                test = test or open_utterances(run.store, run.partition.test)
                _open_test(run, result, row.condition, data, test)
            uas.append(_test_ua(file))
        tested.append(Row(**{**vars(row), "test_ua": fmean(uas)}))
    return tested


def predictions_file(run: Run, key: str, condition: Condition) -> Path:
    """Where a winner's test predictions under a condition are kept."""
    return run.path / "test" / f"{key}-{condition}.parquet"


def _open_test(run: Run, result: Result, condition: Condition, data: Dataset, test: Utterances) -> None:
    """Predict the test partition under a condition, keep the predictions, and write the opening down."""
    chosen = np.flatnonzero(~test.noisy) if condition == "clean" else np.arange(len(test))
    predicted = _predict(run, result, data, test.select(chosen))
    columns = [run.store.table(speaker) for speaker in test.speakers]
    kept = ("utterance", "speaker", "gender", "emotion", "noise", "snr_db")
    labels = pa.concat_tables([table.select(kept) for table in columns]).take(pa.array(chosen))
    table = labels.append_column("predicted", pa.array([data.emotions[index] for index in predicted]))
    file = predictions_file(run, result.trial.key, condition)
    file.parent.mkdir(exist_ok=True)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    opening = {
        "key": result.trial.key,
        "condition": condition,
        "utterances": len(chosen),
        "opened": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # Written down first: an opening that is not recorded must not exist.
    with (file.parent / "openings.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(opening) + "\n")
    durable.write(file, sink.getvalue().to_pybytes())


def _predict(run: Run, result: Result, data: Dataset, utterances: Utterances) -> NDArray[np.int64]:
    configuration = result.trial.configuration
    model = CLDNN(configuration, len(data.emotions))
    model.load_state_dict(safetensors.torch.load(run.ledger.weights(result).read_bytes()))
    logits = predict(model, View(utterances, configuration, data.moments))
    return logits.argmax(1).numpy().astype(np.int64)


def _test_ua(file: Path) -> float:
    table = pq.read_table(file, columns=["emotion", "predicted"])
    emotion, predicted = (table[name].to_pylist() for name in ("emotion", "predicted"))
    names = sorted(set(emotion) | set(predicted))
    return unweighted_accuracy([names.index(e) for e in emotion], [names.index(p) for p in predicted], len(names))
