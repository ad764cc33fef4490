"""What the page's script draws, as short as 10,000 trials need it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sersearch.evaluation.leaderboard import Candidates
from sersearch.planning.plan import FRAMES_PER_SECOND
from sersearch.report import cells
from sersearch.report.facts import Facts, Row, Sweep, varying
from sersearch.report.importance import main_effects
from sersearch.report.modules import module_data
from sersearch.report.overview import reading_order
from sersearch.report.paper import PEAK_H1, PEAK_TEST_UA
from sersearch.run.ledger import Epoch
from sersearch.study.configuration import Configuration

CURVES = ("train_loss", "validation_loss", "ua_noisy", "ua_clean")
"""Figures of an epoch that are drawn."""


def chart_data(facts: Facts, rows: Sequence[Row]) -> dict[str, Any]:
    """Collect what the page's charts show.

    Args:
        facts: the report.
        rows: the leaderboard's rows in the order of the page.
    """
    return {
        "chance": 100 / len(facts.run.store.emotions),
        "conditions": reading_order(facts),
        "groups": [_group(facts, candidates) for candidates in facts.board.candidates],
        "modules": module_data(facts),
        "rows": [[_curves(result.epochs) for result in row.winner.results] for row in rows],
        "sweeps": [_sweep(sweep, facts.of_papers_corpus) for sweep in facts.sweeps],
    }


def group_title(candidates: Candidates) -> str:
    """Model, features and space."""
    return f"{candidates.title}, {candidates.space}"


def _sweep(sweep: Sweep, beside_paper: bool) -> dict[str, Any]:
    papers = sweep.is_papers and beside_paper
    return {
        "title": group_title(sweep.candidates),
        "h1": sweep.h1,
        "curves": {
            condition: {
                "ua": _short(curve.ua),
                "filtered": _short(curve.filtered),
                "peak": curve.peak_h1,
                "test": cells.percent(curve.test_ua),
                "paper": [PEAK_H1, cells.percent(PEAK_TEST_UA[condition])] if papers else None,
            }
            for condition, curve in sweep.curves.items()
        },
    }


def _group(facts: Facts, candidates: Candidates) -> dict[str, Any]:
    """One space's trials, in the order in which they finished, and its configurations.

    A trial is its settings, its validation UA per condition, its curves, its parameters, and the conditions under
    which its configuration won. A configuration is its parameters, its million multiply-adds per second of speech,
    its mean validation UA per condition, its settings in words, and the conditions under which it won.
    """
    names = varying(candidates)
    winners = {
        row.winner.condition: row.winner.configuration for row in facts.rows if row.winner.candidates is candidates
    }
    trials, configurations = [], []
    for configuration, by_fold in candidates.results.items():
        record = configuration.record()
        won = [
            number for number, condition in enumerate(reading_order(facts)) if winners.get(condition) == configuration
        ]
        results = [result for of_fold in by_fold for result in of_fold]
        for result in results:
            ua = [
                round(result.ua(condition), 2) if condition in result.conditions else None
                for condition in reading_order(facts)
            ]
            trial = [[record[name] for name in names], ua, _curves(result.epochs), result.parameters, won]
            trials.append((result.finished, result.trial.key, trial))
        mean_ua = [
            round(candidates.ua(configuration, condition), 2) if condition in candidates.conditions else None
            for condition in reading_order(facts)
        ]
        words = ", ".join(cells.settings(candidates, configuration))
        cost = million_multiply_adds(configuration, len(facts.run.store.emotions))
        configurations.append([results[0].parameters, cost, mean_ua, words, won])
    return {
        "title": group_title(candidates),
        "names": names,
        "trials": [trial for _, _, trial in sorted(trials, key=lambda entry: entry[:2])],
        "configurations": configurations,
        "importance": {
            condition: main_effects(candidates, condition)
            for condition in reading_order(facts)
            if condition in candidates.conditions
        },
    }


def million_multiply_adds(configuration: Configuration, emotions: int) -> float | None:
    """Multiply-adds of a forward pass in millions per second of speech; None where they mean nothing."""
    counted = configuration.multiply_adds(emotions)
    return round(FRAMES_PER_SECOND * (counted.cnn + counted.blstm) / 1e6, 2) if counted else None


def _curves(epochs: Iterable[Epoch]) -> Mapping[str, list[float]]:
    """The figures of all epochs; none where training is one fit."""
    known = list(epochs)
    if not known:
        return {}
    return {name: _short(getattr(epoch, name) for epoch in known) for name in CURVES}


def _short(values: Iterable[float | None]) -> list[float]:
    return [round(value, 3) for value in values if value is not None]
