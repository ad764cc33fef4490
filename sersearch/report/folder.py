"""Writing a report: every format, into one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sersearch import durable
from sersearch.evaluation.leaderboard import make_leaderboard
from sersearch.report import latex, text
from sersearch.report.facts import Facts, gather
from sersearch.report.figures import figures
from sersearch.report.page import page
from sersearch.run.run import Run

SEED = 0


def make_report(run: Run) -> Facts:
    """Select, test and compare; a run gives the same report each time."""
    return gather(run, make_leaderboard(run), np.random.default_rng(SEED))


def write_report(folder: Path, facts: Facts) -> None:
    """Write all formats into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {
        "leaderboard.md": text.markdown(facts).encode(),
        "leaderboard.csv": text.comma_separated(facts).encode(),
        "leaderboard.json": text.as_json(facts).encode(),
        "leaderboard.parquet": text.parquet(facts.values(entry) for entry in facts.entries),
        "leaderboard.tex": latex.document(facts).encode(),
        "report.html": page(facts).encode(),
        "trials.parquet": text.parquet(text.trial_lines(facts)),
    }.items():
        durable.write(folder / name, content)
    (folder / "figures").mkdir(exist_ok=True)
    for name, content in figures(facts):
        durable.write(folder / "figures" / name, content)
