"""From a ledger to the best models and their test figures (Section 6.2).

Per space, model and features the best model on validation under a condition is tested under that condition; the SVMs of
all sets of functionals are one group, and of each set the best is tested as well (Table 3). The test partition is
opened here alone, when the search is complete, for these winners alone, once each; every opening is written down in
RUN/test/.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import safetensors.torch

from sersearch import durable
from sersearch.models.cldnn import CLDNN
from sersearch.models.kernels.loops import one_thread
from sersearch.run.ledger import Result
from sersearch.run.run import Run
from sersearch.statistics.counts import Counts
from sersearch.study.agenda import Agenda
from sersearch.study.configuration import Configuration, Model, Protocol, SVMConfiguration, System
from sersearch.study.paper import FUNCTIONALS, TABLE_3, TABLE_4, departures, is_papers_space
from sersearch.study.study import CONDITIONS, Condition
from sersearch.training.dataset import Dataset, Utterances, View, open_dataset, open_utterances
from sersearch.training.network import predict
from sersearch.training.svm import Vectors, open_vectors, predict_svm


@dataclass(frozen=True)
class Group:
    """The configurations of one model and features in one space, as far as all their seeds were trained to the end.

    Attributes:
        space: name of the space.
        model: of all its configurations.
        features: likewise; "functionals" of SVMs, whatever their sets.
        candidates: the trials of each configuration, one a seed; an SVM's, which draws nothing, stands for each.
    """

    space: str
    model: Model
    features: str
    candidates: Mapping[System, tuple[Result, ...]]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Those under which it can be ranked: an SVM has only ever heard clean speech."""
        return next(iter(self.candidates.values()))[0].conditions

    def ua(self, configuration: System, condition: Condition) -> float:
        """Validation UA in per cent, mean over the seeds."""
        return fmean(result.ua(condition) for result in self.candidates[configuration])

    def best(self, condition: Condition) -> System:
        """The best on validation; ties go to fewer parameters, then to the key."""

        def rank(configuration: System) -> tuple[float, int, str]:
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
    configuration: System
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
    def features(self) -> str:
        """The winner's: of an SVM its set of functionals."""
        return self.configuration.features

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

    @property
    def departures(self) -> dict[str, Any]:
        """Settings in which the winner is not trained as the paper's whose figure stands beside it."""
        return departures(self.configuration) if self.paper_ua is not None else {}


@dataclass(frozen=True)
class Baseline:
    """The best SVM on one set of functionals under one protocol: a cell of Table 3.

    Attributes:
        space: name of the space.
        features: the set.
        protocol: of the partition, or leaving one subject out.
        winners: the best on validation; leaving one subject out, of each speaker those that were best on the others.
        candidates: how many configurations there were.
        predictions: files of the test predictions, one a winner; none while the search is not complete.
    """

    space: str
    features: str
    protocol: Protocol
    winners: tuple[Result, ...]
    candidates: int
    predictions: tuple[Path, ...] = ()

    @property
    def validation_ua(self) -> float:
        """In per cent; leaving one subject out, the mean of that within the speakers that are learnt from."""
        return fmean(result.ua("clean") for result in self.winners)

    @property
    def paper_ua(self) -> float | None:
        """Table 3's figure in per cent."""
        return TABLE_3[self.features][1][self.protocol] if self.features in TABLE_3 else None


@dataclass(frozen=True)
class Leaderboard:
    """The rows of a run and how far it is.

    Attributes:
        rows: in the paper's order of models, noisy before clean.
        baselines: the SVMs by set of functionals and protocol.
        groups: what they are the best of, in the same order.
        done: trials of the study with a result.
        total: trials of the study, at most.
        failed: trials that failed for good.
        results: all that are done, by name of space; those of a sampler's as far as they are drawn.
        complete: whether every trial has an outcome.
    """

    rows: tuple[Row, ...]
    baselines: tuple[Baseline, ...]
    groups: tuple[Group, ...]
    done: int
    total: int
    failed: int
    results: Mapping[str, tuple[Result, ...]]
    complete: bool

    @property
    def pruned(self) -> int:
        """Trials that a pruner stopped; those and what failed make no candidate."""
        return len({r.trial.key for found in self.results.values() for r in found if r.stopped == "pruned"})


def select_winners(run: Run) -> Leaderboard:
    """Select the winners of a run by validation; the test partition stays sealed."""
    results = run.ledger.results()
    agenda = run.agenda(results)
    conditions: tuple[Condition, ...] = CONDITIONS if run.store.recipe.noises > 0 else ("clean",)
    groups = sorted(_groups(agenda, results), key=_paper_order)
    rows = [
        Row(group, group.best(condition), condition)
        for group in groups
        for condition in conditions
        if condition in group.conditions
    ]
    return Leaderboard(
        rows=tuple(rows),
        baselines=tuple(_baselines(agenda, results)),
        groups=tuple(groups),
        done=sum(key in results for key in agenda.trials),
        total=agenda.upper_bound(),
        failed=len(agenda.failed),
        results={
            name: tuple(results[trial.key] for trial in trials if trial.key in results)
            for name, trials in agenda.spaces.items()
        },
        complete=agenda.complete,
    )


def make_leaderboard(run: Run) -> Leaderboard:
    """Select the winners of a run; if it is complete, test those that were not tested before."""
    board = select_winners(run)
    if not board.complete:
        return board
    tests = Tests(run)
    rows = [replace(row, predictions=tests.of(row.results, row.condition)) for row in board.rows]
    baselines = [replace(each, predictions=tests.of(each.winners, "clean")) for each in board.baselines]
    return replace(board, rows=tuple(rows), baselines=tuple(baselines))


def _groups(agenda: Agenda, results: Mapping[str, Result]) -> list[Group]:
    found: dict[tuple[str, Model, str], dict[System, list[Result]]]
    found = defaultdict(lambda: defaultdict(list))
    seeds = agenda.study.seeds
    for space, trials in agenda.spaces.items():
        for trial in trials:
            if trial.held_out or not (result := results.get(trial.key)) or result.stopped == "pruned":
                continue
            c = trial.configuration
            if isinstance(c, SVMConfiguration):
                found[space, c.model, FUNCTIONALS][c] += [result] * seeds
            else:
                found[space, c.model, c.features][c].append(result)
    whole = {name: {c: tuple(r) for c, r in of.items() if len(r) == seeds} for name, of in found.items()}
    return [Group(*name, candidates) for name, candidates in whole.items() if candidates]


def _baselines(agenda: Agenda, results: Mapping[str, Result]) -> Iterator[Baseline]:
    """The best SVM of each set and protocol; leaving one subject out, once every speaker was left out."""
    found: dict[tuple[str, str, Protocol], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for space, trials in agenda.spaces.items():
        for trial in trials:
            c = trial.configuration
            if isinstance(c, SVMConfiguration) and (result := results.get(trial.key)):
                found[space, c.features, c.protocol][trial.held_out].append(result)
    for (space, features, protocol), folds in found.items():
        if protocol == "partition" or set(folds) == set(agenda.material.speakers):
            winners = tuple(min(folds[name], key=_rank) for name in sorted(folds))
            yield Baseline(space, features, protocol, winners, min(map(len, folds.values())))


def _rank(result: Result) -> tuple[float, int, str]:
    return -result.ua("clean"), result.parameters, result.trial.key


def _paper_order(group: Group) -> tuple[int, str]:
    order = list(TABLE_4)
    kind = (group.model, group.features)
    return order.index(kind) if kind in order else len(order), group.space


def predictions_file(run: Run, key: str, condition: Condition) -> Path:
    """Where a winner's test predictions under a condition are kept."""
    return run.path / "test" / f"{key}-{condition}.parquet"


class Tests:
    """Opens the test partition for winners, each once, and writes every opening down."""

    def __init__(self, run: Run) -> None:
        """Open nothing yet."""
        self._run = run

    def of(self, winners: Iterable[Result], condition: Condition) -> tuple[Path, ...]:
        """The files of winners' test predictions; those that were not tested before are tested now."""
        files = []
        for result in winners:
            file = predictions_file(self._run, result.trial.key, condition)
            if not file.exists():
                configuration = result.trial.configuration
                if isinstance(configuration, SVMConfiguration):
                    table = self._heard(configuration, result)
                else:
                    table = self._seen(configuration, result, condition)
                # Written down first: an opening that is not recorded must not exist.
                record_opening(self._run, result.trial.key, condition, len(table), "report")
                sink = pa.BufferOutputStream()
                pq.write_table(table, sink)
                durable.write(file, sink.getvalue().to_pybytes())
            files.append(file)
        return tuple(files)

    @cached_property
    def _data(self) -> Dataset:
        return open_dataset(self._run.store, self._run.partition)

    @cached_property
    def _test(self) -> Utterances:
        return open_utterances(self._run.store, self._run.partition.test)

    @cached_property
    def _labels(self) -> pa.Table:
        return _labels(self._run, self._test.speakers)

    def _seen(self, configuration: Configuration, result: Result, condition: Condition) -> pa.Table:
        """A network's predictions."""
        chosen = np.flatnonzero(~self._test.noisy) if condition == "clean" else np.arange(len(self._test))
        one_thread()
        view = View(self._test.select(chosen), configuration, self._data.moments)
        logits = predict(trained_model(self._run, result), view)
        return _predicted(self._labels.take(pa.array(chosen)), logits.argmax(1).tolist(), self._data.emotions)

    def _heard(self, configuration: SVMConfiguration, result: Result) -> pa.Table:
        """An SVM's predictions: of the test part, or of the speaker that it left out."""
        partition, left_out = self._run.partition, result.trial.held_out
        everybody = (*partition.train, *partition.validation, *partition.test)
        train = tuple(name for name in everybody if name != left_out) if left_out else partition.train
        tested = (left_out,) if left_out else partition.test
        vectors = self._vectors(configuration.features, everybody if left_out else (*train, *tested))
        found, predicted = predict_svm(configuration, vectors, train)
        labels = _labels(self._run, sorted(tested))
        labels = labels.filter(pc.is_null(labels["noise"]))
        at = {utterance: index for index, utterance in enumerate(found.utterance)}
        order = [at[utterance] for utterance in labels["utterance"].to_pylist()]
        return _predicted(labels, predicted[order].tolist(), found.emotions)

    @lru_cache(maxsize=1)  # noqa: B019
    def _vectors(self, features: str, speakers: tuple[str, ...]) -> Vectors:
        return open_vectors(self._run, features, speakers)


def _labels(run: Run, speakers: Iterable[str]) -> pa.Table:
    kept = ("utterance", "speaker", "gender", "emotion", "noise", "snr_db")
    tables = [run.store.table(speaker).select(kept) for speaker in speakers]
    return pa.concat_tables(tables).replace_schema_metadata()


def _predicted(labels: pa.Table, predicted: Iterable[int], emotions: Sequence[str]) -> pa.Table:
    return labels.append_column("predicted", pa.array([emotions[index] for index in predicted]))


def record_opening(run: Run, key: str, condition: Condition, utterances: int, by: str) -> None:
    """Write down that the test partition is opened for a winner.

    Args:
        run: whose test partition.
        key: the winner's.
        condition: under which it won.
        utterances: how many copies of utterances it is shown.
        by: the command that asks for it.
    """
    opened = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"key": key, "condition": condition, "utterances": utterances, "opened": opened, "by": by}
    file = run.path / "test" / "openings.jsonl"
    file.parent.mkdir(exist_ok=True)
    with file.open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def trained_model(run: Run, result: Result) -> CLDNN:
    """A trial's network with the weights of its best epoch."""
    configuration = result.trial.configuration
    assert isinstance(configuration, Configuration)
    model = CLDNN(configuration, len(run.store.emotions))
    model.load_state_dict(safetensors.torch.load(run.ledger.weights(result).read_bytes()))
    return model
