"""Writing a report: every format, into one folder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sersearch.evaluation.leaderboard import select_winners
from sersearch.evaluation.test_partition import evaluate_winners
from sersearch.report import latex, text
from sersearch.report.facts import Facts, gather
from sersearch.report.figures import figures
from sersearch.report.page import page
from sersearch.run.run import Run

SEED = 0


def make_report(run: Run, say: Callable[[str], object]) -> Facts:
    """Select the winners, test those that were not tested before, and compare; a run gives the same report each time.

    Args:
        run: an opened run.
        say: called with a sentence when test speakers are opened.
    """
    return gather(run, evaluate_winners(run, say), np.random.default_rng(SEED))


def read_report(run: Run) -> Facts:
    """What `make_report` made of a run, as far as its winners are tested; no test speaker is opened."""
    return gather(run, select_winners(run), np.random.default_rng(SEED))


def write_report(facts: Facts) -> None:
    """Write all formats to RUN/report."""
    storage = facts.run.storage
    for name, content in {
        "leaderboard.md": text.markdown(facts).encode(),
        "leaderboard.csv": text.comma_separated(facts).encode(),
        "leaderboard.json": text.as_json(facts).encode(),
        "leaderboard.parquet": text.parquet(facts.values(row) for row in facts.rows),
        "leaderboard.tex": latex.document(facts).encode(),
        "folds.csv": text.folds(facts).encode(),
        "report.html": page(facts).encode(),
        "trials.parquet": text.parquet(text.trial_records(facts)),
    }.items():
        storage.put(f"report/{name}", content)
    for name, content in figures(facts):
        storage.put(f"report/figures/{name}", content)
