"""From a ledger to the best models and their test figures (Section 6.2).

Per space, model and features the best model on validation under a condition is tested under that condition. The test
partition is opened here alone, when the search is complete, for these winners alone, once each; every opening is
written down in RUN/test/.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
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
from sersearch.statistics import Counts
from sersearch.study import CONDITIONS, Condition
from sersearch.trial import predict


@dataclass(frozen=True)
class Group:
    """The configurations of one model and features in one space, as far as all their seeds were trained to the end.

    Attributes:
        space: name of the space.
        model: of all its configurations.
        features: likewise.
        candidates: the trials of each configuration, one a seed.
    """

    space: str
    model: Model
    features: Features
    candidates: Mapping[Configuration, tuple[Result, ...]]

    def ua(self, configuration: Configuration, condition: Condition) -> float:
        """Validation UA in per cent, mean over the seeds."""
        return fmean(result.ua(condition) for result in self.candidates[configuration])

    def best(self, condition: Condition) -> Configuration:
        """The best on validation; ties go to fewer parameters, then to the key."""

        def rank(configuration: Configuration) -> tuple[float, int, str]:
            first = self.candidates[configuration][0]
            return -self.ua(configuration, condition), first.parameters, first.trial.key

        return min(self.candidates, key=rank)

    def counts(self, condition: Condition) -> Counts:
        """Validation confusions [configurations, speakers, emotions, emotions], summed over the seeds."""
        return np.array(
            [
                np.sum([list(result.confusion[condition].values()) for result in results], axis=0)
                for results in self.candidates.values()
            ],
            np.int64,
        )

    @cached_property
    def is_papers(self) -> bool:
        """Whether the space is the paper's (Table 2)."""
        return is_papers_space(self.model, self.features, self.candidates)


@dataclass(frozen=True)
class Row:
    """The winner of a group under one condition.

    Attributes:
        group: what it is the best of.
        configuration: the winner's.
        condition: under which it was selected, and is tested.
        predictions: files of its test predictions, one a seed; none while the search is not complete.
    """

    group: Group
    configuration: Configuration
    condition: Condition
    predictions: tuple[Path, ...] = ()

    @property
    def results(self) -> tuple[Result, ...]:
        """The winner's trials, one a seed."""
        return self.group.candidates[self.configuration]

    @property
    def key(self) -> str:
        """The first seed's."""
        return self.results[0].trial.key

    @property
    def parameters(self) -> int:
        """Trained parameters."""
        return self.results[0].parameters

    @property
    def validation_ua(self) -> float:
        """In per cent, mean over the seeds."""
        return self.group.ua(self.configuration, self.condition)

    @property
    def paper_ua(self) -> float | None:
        """Table 4's figure in per cent where the space is the paper's; another corpus' figure all the same."""
        paper = TABLE_4.get((self.group.model, self.group.features), {}) if self.group.is_papers else {}
        return paper.get(self.condition)


@dataclass(frozen=True)
class Leaderboard:
    """The rows of a run and how far it is.

    Attributes:
        rows: in the paper's order of models, noisy before clean.
        groups: what they are the best of, in the same order.
        done: trials of the study with a result.
        total: trials of the study, at most.
        complete: whether every trial has an outcome.
    """

    rows: tuple[Row, ...]
    groups: tuple[Group, ...]
    done: int
    total: int
    complete: bool


def select_winners(run: Run) -> Leaderboard:
    """Select the winners of a run by validation; the test partition stays sealed."""
    results = run.ledger.results()
    agenda = run.agenda()
    conditions: tuple[Condition, ...] = CONDITIONS if run.store.recipe.noises > 0 else ("clean",)
    groups = sorted(_groups(agenda, results), key=_paper_order)
    rows = [Row(group, group.best(condition), condition) for group in groups for condition in conditions]
    done = sum(key in results for key in agenda.trials)
    return Leaderboard(tuple(rows), tuple(groups), done, agenda.upper_bound(), agenda.complete)


def make_leaderboard(run: Run) -> Leaderboard:
    """Select the winners of a run; if it is complete, test those that were not tested before."""
    board = select_winners(run)
    return replace(board, rows=tuple(_tested(run, board.rows))) if board.complete else board


def _groups(agenda: Agenda, results: Mapping[str, Result]) -> list[Group]:
    found: dict[tuple[str, Model, Features], dict[Configuration, list[Result]]]
    found = defaultdict(lambda: defaultdict(list))
    for space, trials in agenda.spaces.items():
        for trial in trials:
            if (result := results.get(trial.key)) and result.stopped != "pruned":
                c = trial.configuration
                found[space, c.model, c.features][c].append(result)
    seeds = agenda.study.seeds
    whole = {name: {c: tuple(r) for c, r in of.items() if len(r) == seeds} for name, of in found.items()}
    return [Group(*name, candidates) for name, candidates in whole.items() if candidates]


def _paper_order(group: Group) -> tuple[int, str]:
    order = list(TABLE_4)
    kind = (group.model, group.features)
    return order.index(kind) if kind in order else len(order), group.space


def _tested(run: Run, rows: Iterable[Row]) -> list[Row]:
    data: Dataset | None = None
    test: Utterances | None = None
    tested = []
    for row in rows:
        files = [predictions_file(run, result.trial.key, row.condition) for result in row.results]
        for result, file in zip(row.results, files, strict=True):
            if not file.exists():
                data = data or run.dataset()
                test = test or open_utterances(run.store, run.partition.test)
                _open_test(run, result, row.condition, data, test)
        tested.append(replace(row, predictions=tuple(files)))
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
    named = pa.array([data.emotions[index] for index in predicted])
    table = labels.replace_schema_metadata().append_column("predicted", named)
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
