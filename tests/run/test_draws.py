"""What suggestions were drawn from, against the ledger."""

from pathlib import Path

from sersearch.run.records import seal
from sersearch.run.run import Run
from sersearch.run.verify import FAULTS, verify_draws
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.study import parse_study
from sersearch.study.trial import Trial
from tests.trials import IDENTITY

STUDY = {
    "name": "drawn",
    "spaces": [{"name": "l", "model": "LDNN", "cells": "2:9"}],
    "search": {"sampler": "random", "trials": 6, "window": 2},
}
DRAWN = [NetworkConfiguration(model="LDNN", cells=cells) for cells in (5, 3, 8, 2)]


def start(path: Path) -> Run:
    """A run of which four suggestions are on record; the last knows the outcomes of the first two."""
    run = Run(path, parse_study(STUDY, "drawn.toml"), path, IDENTITY)
    run.storage.put("run.json", seal(run.record()))
    suggestions = run.suggestions()
    for number, configuration in enumerate(DRAWN):
        suggestions.add("l", number, configuration, known=max(0, number - 1))
    return run


def fail_for_good(run: Run, trial: Trial) -> None:
    """Give a trial an outcome."""
    for _ in range(1 + run.study.resources.retries):
        run.ledger.begin(trial).fail(ValueError("no luck"))


def test_outcomes_that_a_draw_knew_and_that_are_gone_are_named(tmp_path: Path) -> None:
    run = start(tmp_path)
    trials = list(run.agenda().trials.values())
    assert [trial.configuration for trial in trials] == DRAWN
    fail_for_good(run, trials[0])
    (finding,) = verify_draws(run, run.agenda())
    assert (finding.kind, finding.key) == ("outdated", trials[1].key)
    assert "what follows suggestion 1 was drawn from its outcome, which is not there" in finding.text
    assert finding.kind not in FAULTS, "a resumed search mends it"
    fail_for_good(run, trials[1])
    assert list(verify_draws(run, run.agenda())) == [], "of the last two nothing was known yet"
    run.forgive_failures()
    (finding,) = verify_draws(run, run.agenda())
    assert finding.key == trials[0].key
