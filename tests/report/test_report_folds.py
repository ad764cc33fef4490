"""A board of folds: tested over folds, intervals for networks that are trained again, and the study's hypothesis."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.evaluation.test_partition import read_predictions
from sersearch.report import text
from sersearch.report.facts import Facts
from sersearch.report.folder import read_report
from sersearch.report.page import page
from sersearch.report.sheets import evidence, leaderboards
from sersearch.report.versus import compare, merge
from sersearch.statistics.contrast import ordered_contrast
from sersearch.statistics.intervals import SpeakerStatistic, speaker_interval
from sersearch.statistics.tests import corrected_p
from sersearch.store.reader import Store
from tests.generated import generate_run

STUDY = """
seeds = 2
spaces = [
    { name = "s", model = "S-CLDNN", h1 = [4, 5], h2 = 3 },
    { name = "t", model = "T-CLDNN", w1 = [3, 4], w2 = 2 },
    { name = "st", model = "ST-CLDNN", h1 = 4, h2 = 3, w1 = 3, w2 = 2 },
    { name = "fst", model = "FST-CLDNN", w1 = [3, 4], w2 = 2 },
]
[partition]
folds = 6
validation = 2
[hypothesis]
order = ["S", ["T", "ST"], "FST"]
"""


@pytest.fixture(scope="module")
def facts(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    folder = tmp_path_factory.mktemp("folds")
    (folder / "study.toml").write_text(STUDY)
    return read_report(generate_run(folder / "run", folder / "study.toml", tiny_store))


def by_fold(facts: Facts, number: int) -> list[pd.DataFrame]:
    """All seeds' predictions of each fold."""
    winner = facts.rows[number].winner
    tables = [table.to_pandas() for table in read_predictions(facts.run, winner)]
    folds = len(winner.choices)
    return [pd.concat(tables[fold::folds]) for fold in range(folds)]


def ua(table: pd.DataFrame) -> float:
    present = sorted(set(table["emotion"]))
    return float(100 * recall_score(table["emotion"], table["predicted"], labels=present, average="macro"))


@pytest.mark.slow("it draws every figure of a report")
def test_the_report_answers_the_studys_hypothesis_on_the_terminal_too(facts: Facts) -> None:
    said = CliRunner().invoke(app, ["report", str(facts.run.path)], catch_exceptions=False)
    (found,) = facts.robustness
    assert found.verdict in said.stdout.splitlines()
    assert "These p values are Holm-corrected for 2 measures." in found.verdict


def test_rows_are_tested_over_folds_and_say_so(facts: Facts) -> None:
    assert len(facts.run.folds) == 6
    for condition, ranking in facts.rankings.items():
        assert (ranking.units.kind, len(ranking.units.members), ranking.speakers) == ("fold", 6, 6)
        assert ranking.smallest_p == 2 / 2**6
        assert ranking.units.bound == pytest.approx(1 / 3), "one of six speakers tests, two validate"
        for pair in ranking.pairs:
            first, second = (facts.rows[number] for number in (pair.first, pair.second))
            assert first.test
            assert second.test
            assert pair.comparison.difference == pytest.approx(first.test.overall.ua - second.test.overall.ua)
            assert pair.bound_p is not None
        sheet = next(sheet for sheet in leaderboards(facts) if sheet.name == f"leaderboard-{condition}")
        assert "trained again (%)" in sheet.columns
        assert any("the luck of training is in them" in note for note in sheet.notes)
        assert any("Nadeau and Bengio" in note for note in sheet.notes) is (ranking.smallest_difference is not None)


def test_intervals_are_those_of_speakers_and_of_folds(facts: Facts) -> None:
    for number, row in enumerate(facts.rows):
        assert row.test
        tables = by_fold(facts, number)
        assert row.test.overall.ua == pytest.approx(ua(pd.concat(tables)))
        # Each fold tests one speaker here, so both intervals have the same units.
        assert row.test.recipe
        assert row.test.overall.interval
        assert row.test.recipe.low == pytest.approx(row.test.overall.interval.low)
        assert row.test.recipe.high == pytest.approx(row.test.overall.interval.high)
        values = facts.values(row)
        assert (values["recipe_low"], values["recipe_high"]) == (values["test_low"], values["test_high"])
    columns = text.comma_separated(facts).splitlines()[0].split(",")
    assert {"recipe_low", "test_macro_f1", "test_wa", "chance", "best_rank", "worst_rank"} <= set(columns)


def test_the_hypothesis_is_tested_within_folds_on_the_noisy_copies_alone(facts: Facts) -> None:
    (found,) = facts.robustness
    assert found.named
    assert [loss.model for loss in found.losses] == ["S-CLDNN", "T-CLDNN", "ST-CLDNN", "FST-CLDNN"]
    values = []
    for model in ("S-CLDNN", "T-CLDNN", "ST-CLDNN", "FST-CLDNN"):
        (number,) = (
            n
            for n, row in enumerate(facts.rows)
            if (row.winner.candidates.model, row.winner.condition) == (model, "noisy")
        )
        values.append([ua(table[table["noise"].notna()]) for table in by_fold(facts, number)])
    shares = 0.01 + 0.98 * np.array(values).T / 100
    expected = ordered_contrast(np.log(shares / (1 - shares)), [0, 1, 1, 2], np.random.default_rng(1))
    claim = found.claims[0]
    assert claim.measure == "ua"
    assert claim.contrast.rise == pytest.approx(expected.rise)
    assert claim.contrast.p_value == pytest.approx(expected.p_value, abs=0.01)
    assert claim.contrast.units == 6
    sheet = next(sheet for sheet in evidence(facts) if sheet.name.startswith("robustness"))
    assert any(note.startswith("The study's hypothesis is that noise harms S > {T, ST} > FST.") for note in sheet.notes)
    assert found.verdict in page(facts).replace("&gt;", ">").replace("&#39;", "'")


def test_runs_in_folds_are_compared_over_folds(facts: Facts) -> None:
    matches = compare(facts, facts, np.random.default_rng(0))
    assert {match.comparison.speakers for match in matches if match.comparison} == {6}
    for board in merge([facts], np.random.default_rng(0)):
        assert board.ranking
        assert board.ranking.units == facts.rankings[board.condition].units


def test_the_bound_is_the_corrected_t_test_over_folds(facts: Facts) -> None:
    ranking = facts.rankings["noisy"]
    pair = ranking.pairs[0]
    emotions = list(facts.run.store.emotions)

    def counts(number: int) -> np.ndarray:
        made = [
            pd.crosstab(
                pd.Categorical(table["emotion"], emotions), pd.Categorical(table["predicted"], emotions), dropna=False
            )
            for table in by_fold(facts, number)
        ]
        return np.array(made)

    difference = SpeakerStatistic.of_ua(counts(pair.first)) - SpeakerStatistic.of_ua(counts(pair.second))
    assert pair.bound_p == pytest.approx(corrected_p(difference, 1 / 3))
    row, interval = facts.rows[pair.first], speaker_interval(counts(pair.first))
    assert row.test
    assert row.test.recipe
    assert interval
    assert (row.test.recipe.low, row.test.recipe.high) == pytest.approx((interval.low, interval.high))
