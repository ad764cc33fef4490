"""Every number of a report against another way to it; every format read back."""

import io
import json
import shutil
import subprocess
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.signal import medfilt
from scipy.stats import f_oneway
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.evaluation.test_partition import read_predictions
from sersearch.report import latex, text
from sersearch.report.captions import ranking_notes
from sersearch.report.comparison import format_p, rank
from sersearch.report.evidence import noise_kind
from sersearch.report.facts import Facts
from sersearch.report.figures import FORMATS, draw
from sersearch.report.folder import read_report, write_report
from sersearch.report.importance import explained_share
from sersearch.report.landscape import landscape
from sersearch.report.overview import one_row_per_model, reading_order
from sersearch.report.paper import TABLE_4
from sersearch.report.sheets import evidence, leaderboards
from sersearch.report.units import Units
from sersearch.report.versus import compare, merge, merged, merged_facts, side_by_side
from sersearch.run.run import Run, open_run
from sersearch.statistics.corrections import max_t
from sersearch.statistics.counts import mean_recall, speaker_shares
from sersearch.statistics.intervals import noise_loss, speaker_interval
from sersearch.statistics.tests import paired_difference
from sersearch.store.reader import Store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.fold import Fold
from sersearch.study.paper import is_papers_corpus, is_papers_space
from tests.generated import generate_run
from tests.records import forge

STUDY = """
name = "all types & 100 %"
seeds = {seeds}
spaces = [
    {{ name = "s_", model = "S-CLDNN", h1 = "4:9", h2 = "3:4" }},
    {{ name = "t", model = "T-CLDNN", w1 = "3:8", w2 = "2:3", features = ["log-mels", "mfccs"] }},
    {{name = "st", model = "ST-CLDNN", h1 = "4:9", h2 = "3:4", w1 = "3:8", w2 = "2:3", top = {{k=2, h="s_", w="t"}} }},
    {{ name = "fst", model = "FST-CLDNN", w1 = "3:8", w2 = 2 }},
    {{ name = "ldnn", model = "LDNN", learning_rate = [0.001, 0.01] }},
    {{ name = "sweep", model = "S-CLDNN", h1 = "4:30", h2 = 3 }},
]
[partition]
train = 34
validation = 33
test = 33
"""


@pytest.fixture(scope="module")
def run(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("report")
    (folder / "study.toml").write_text(STUDY.format(seeds=2))
    return generate_run(folder / "run", folder / "study.toml", tiny_store)


@pytest.fixture(scope="module")
def facts(run: Run) -> Facts:
    return read_report(run)


@pytest.fixture(scope="module")
def unfinished(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    folder = tmp_path_factory.mktemp("unfinished")
    (folder / "study.toml").write_text(STUDY.format(seeds=1))
    return read_report(generate_run(folder / "run", folder / "study.toml", tiny_store, trials=14))


@pytest.fixture(scope="module")
def written(facts: Facts) -> Path:
    """A whole report on disk; it takes seconds, because each figure is drawn as PDF, PNG and SVG."""
    write_report(facts)
    return facts.run.path / "report"


def predictions(facts: Facts, number: int) -> pd.DataFrame:
    tables = read_predictions(facts.run, facts.rows[number].winner)
    return pd.concat(table.to_pandas() for table in tables)


def ua(table: pd.DataFrame) -> float:
    present = sorted(set(table["emotion"]))
    return float(100 * recall_score(table["emotion"], table["predicted"], labels=present, average="macro"))


def test_evidence_against_scikit_learn(facts: Facts) -> None:
    emotions = list(facts.run.store.emotions)
    for number, row in enumerate(facts.rows):
        table, test = predictions(facts, number), row.test
        assert test
        assert test.overall.ua == pytest.approx(ua(table))
        assert test.overall.utterances * 2 == len(table)
        recalls = recall_score(table["emotion"], table["predicted"], labels=emotions, average=None)
        assert list(test.recalls.values()) == pytest.approx(list(100 * recalls))
        assert test.confusion == confusion_matrix(table["emotion"], table["predicted"], labels=emotions).tolist()
        assert test.macro_f1 == pytest.approx(100 * f1_score(table["emotion"], table["predicted"], average="macro"))
        assert test.wa == pytest.approx(100 * accuracy_score(table["emotion"], table["predicted"]))
        assert facts.values(row)["chance"] == round(100 / len(emotions), 4)
        assert test.recipe is None, "one partition"
        for each in test.speakers:
            assert each.ua == pytest.approx(ua(table[table["speaker"] == each.name]))
        clean = table[table["noise"].isna()]
        assert test.snr_bands[0].name == "clean"
        assert test.snr_bands[0].ua == pytest.approx(ua(clean))
        noisy = table[table["noise"].notna()]
        assert sum(band.utterances for band in test.snr_bands) * 2 == len(table)
        if row.winner.condition == "noisy":
            assert test.noisy_alone
            assert test.noisy_alone.ua == pytest.approx(ua(noisy))
        else:
            assert test.noisy_alone is None
        for band in test.snr_bands[1:]:
            low = float(band.name.split()[0])
            inside = noisy[(noisy["snr_db"] >= low) & (noisy["snr_db"] < low + 5)]
            assert len(inside) == 2 * band.utterances
            assert band.ua == pytest.approx(ua(inside))
            assert band.emotions == inside["emotion"].nunique()
        for kind in test.noise_kinds:
            assert kind.ua == pytest.approx(ua(noisy[noisy["noise"].map(noise_kind) == kind.name]))


@pytest.mark.parametrize(
    ("noise", "kind"),
    [
        ("001 - Dog bark/1-30226-A.ogg", "Dog bark"),
        ("rain/heavy/3.wav", "heavy"),
        ("engine-12.flac", "engine"),
        ("white noise.wav", "white noise"),
        ("1234.wav", "1234"),
        ("Lärm_2.wav", "Lärm"),
    ],
)
def test_kinds_of_noise(noise: str, kind: str) -> None:
    assert noise_kind(noise) == kind


def test_selection_against_pandas(facts: Facts) -> None:
    trials = pd.DataFrame(text.trial_records(facts))
    for row in facts.rows:
        winner, candidates = row.winner, row.winner.candidates
        own = trials[
            (trials["space"] == candidates.space)
            & (trials["model"] == candidates.model)
            & (trials["features"] == candidates.features)
        ]
        settings = ["h1", "w1", "h2", "w2", "learning_rate"]
        means = own.groupby(settings, dropna=False)[f"validation_ua_{winner.condition}"].mean()
        assert winner.validation_ua == pytest.approx(means.max())
        assert len(candidates.results) == len(means)
        assert row.selection
        assert row.selection.validation_ua == pytest.approx(winner.validation_ua)
        assert row.corrected_ua is not None
        assert row.corrected_ua <= row.selection.validation_ua


def test_rows_are_compared_on_the_same_utterances(facts: Facts) -> None:
    for condition, ranking in facts.rankings.items():
        uas = [facts.rows[number].test.overall.ua for number in ranking.order]
        assert uas == sorted(uas, reverse=True)
        rows = [number for number, row in enumerate(facts.rows) if row.winner.condition == condition]
        assert [(pair.first, pair.second) for pair in ranking.neighbours] == list(pairwise(ranking.order))
        assert len(ranking.pairs) == len(rows) * (len(rows) - 1) // 2
        for pair in ranking.neighbours:
            differ = ua(predictions(facts, pair.first)) - ua(predictions(facts, pair.second))
            assert pair.comparison.difference == pytest.approx(differ)
            assert pair.adjusted_p >= pair.comparison.p_value
        assert ranking.smallest_p == 0.5, "two speakers"
        assert set(ranking.letters) == {"a"}
        assert set(ranking.ranks) == {(1, len(rows))}
        assert ranking.smallest_difference is None
        assert not ranking.decidable


def _twelve(correct: int) -> np.ndarray:
    """Twelve speakers, each with as many right answers of 20 per emotion."""
    return np.array([[[correct, 20 - correct], [20 - correct, correct]]] * 12)


def _units(folds: int) -> Units:
    parts = np.array_split([f"s{number:02}" for number in range(12)], folds)
    return Units.of_folds([Fold(train=("a", "b", "c"), validation=("d",), test=tuple(part)) for part in parts])


def test_rows_that_differ_for_every_speaker_are_told_apart() -> None:
    rows = {7: _twelve(10), 3: _twelve(18), 5: _twelve(10)}
    ranking = rank(rows, _units(1), np.random.default_rng(0))
    assert ranking.order[0] == 3
    assert ranking.letters == ("a", "b", "b")
    assert ranking.ranks == ((1, 1), (2, 3), (2, 3))
    assert ranking.decidable
    direct = paired_difference(_twelve(18), _twelve(10), np.random.default_rng(0))
    assert ranking.neighbours[0].comparison == direct
    assert ranking.neighbours[0].adjusted_p == direct.p_value == 2 / 2**12
    assert ranking.neighbours[0].bound_p is None


def test_folds_are_the_unit_where_there_are_several_and_the_caption_says_what_that_means() -> None:
    generator = np.random.default_rng(0)
    rows = {number: np.concatenate([_twelve(10 + number)[:6], _twelve(9 + number)[6:]]) for number in range(3)}
    alone, six, four = (rank(rows, _units(folds), generator) for folds in (1, 6, 4))
    assert [each.smallest_p for each in (alone, six, four)] == [2 / 2**12, 2 / 2**6, 2 / 2**4]
    assert (six.letters, four.letters) == (("a", "b", "c"), ("a", "a", "a"))
    better, worse = (rows[number].reshape(6, 2, 2, 2).sum(1) for number in (2, 1))
    assert six.neighbours[0].comparison == paired_difference(better, worse, generator)
    assert "about these trained systems, not about their kinds" in " ".join(ranking_notes(alone))
    assert "over 6 folds" in " ".join(ranking_notes(six))
    assert "the luck of training is in them" in " ".join(ranking_notes(six))
    assert "no difference can be shown here, however large: train six folds or more" in " ".join(ranking_notes(four))


def test_what_noise_costs_is_one_models_loss(facts: Facts) -> None:
    log_mels, mfccs = sorted(facts.robustness, key=lambda found: found.features)
    assert [loss.model for loss in log_mels.losses] == ["S-CLDNN", "T-CLDNN", "ST-CLDNN", "FST-CLDNN", "LDNN"]
    assert [loss.model for loss in mfccs.losses] == ["T-CLDNN"]
    assert log_mels.losses[0].space == "s_", "Table 2's S, not the sweep's (Section 7.4)"
    for loss in log_mels.losses:
        (number,) = [
            n
            for n, w in enumerate(row.winner for row in facts.rows)
            if (w.candidates.space, w.candidates.model, w.candidates.features, w.condition)
            == (loss.space, loss.model, "log-mels", "noisy")
        ]
        table = predictions(facts, number)
        clean = table[table["noise"].isna()]
        assert loss.clean_ua == pytest.approx(ua(clean))
        noisy = table[table["noise"].notna()]
        assert loss.loss.value == pytest.approx(ua(clean) - ua(table))
        assert loss.loss == noise_loss(*_counts(clean, table, facts))
        assert loss.alone == noise_loss(*_counts(clean, noisy, facts))
        copies = facts.run.store.recipe.copies
        assert loss.loss.value == pytest.approx((copies - 1) / copies * loss.alone.value)
        counts = _counts(clean, noisy, facts)[1]
        assert loss.at_chance is (speaker_interval(counts).low <= 100 / len(facts.run.store.emotions))
    assert len(log_mels.pairs) == 6, "LDNN is not in the claim"
    assert "noise harms S > {T, ST} > FST" in log_mels.verdict
    assert log_mels.verdict.startswith("Exploratory, as the study names no hypothesis")
    assert mfccs.verdict == ""
    for claim in log_mels.claims:
        assert claim.contrast.smallest_p == pytest.approx((2 / 24) ** 2), "two speakers"
        tables = [_counts(*_parts(facts, loss.space), facts) for loss in log_mels.losses[:4]]
        points = np.array([mean_recall(n) - (claim.measure == "loss") * mean_recall(c) for c, n in tables])
        assert claim.points == pytest.approx(np.polyfit([0, 1, 1, 2], points.mean(1), 1)[0])
    sheet = next(sheet for sheet in evidence(facts) if sheet.name == "robustness-log-mels")
    assert any("S 8.94, T 8.69, ST 9.49, FST 8.37) are not in the order" in note for note in sheet.notes)


def _parts(facts: Facts, space: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clean and noisy copies as a space's noisy winner on log-Mels predicts them."""
    kinds = [(row.winner.candidates.space, row.winner.features, row.winner.condition) for row in facts.rows]
    table = predictions(facts, kinds.index((space, "log-mels", "noisy")))
    return table[table["noise"].isna()], table[table["noise"].notna()]


def _counts(clean: pd.DataFrame, everything: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    labels = list(facts.run.store.emotions)
    made = [
        [confusion_matrix(t["emotion"], t["predicted"], labels=labels) for _, t in table.groupby("speaker")]
        for table in (clean, everything)
    ]
    return np.array(made[0]), np.array(made[1])


def test_the_sweep_of_h1(facts: Facts) -> None:
    (sweep,) = facts.sweeps
    assert sweep.is_papers
    assert sweep.h1 == tuple(range(4, 31))
    trials = pd.DataFrame(text.trial_records(facts))
    own = trials[trials["space"] == "sweep"]
    for condition, curve in sweep.curves.items():
        means = own.groupby("h1")[f"validation_ua_{condition}"].mean()
        assert curve.ua == pytest.approx(tuple(means))
        assert curve.peak_h1 == means.idxmax()
        assert curve.filtered[2:-2] == pytest.approx(tuple(medfilt(means.to_numpy(), 5)[2:-2]))


def test_landscapes(facts: Facts) -> None:
    found = {(g.space, g.features): landscape(g, "noisy") for g in facts.board.candidates}
    assert found["ldnn", "log-mels"] is None
    t, st = found["t", "mfccs"], found["st", "log-mels"]
    assert t
    assert st
    assert (t.rows, t.columns, len(t.row_sizes), len(t.column_sizes)) == (("w1",), ("w2",), 6, 2)
    assert all(name.startswith("h") for name in st.rows)
    for each in (t, st):
        values = [cell for row in each.ua for cell in row if cell is not None]
        assert len(values) == len(each.candidates.results)
        assert each.ua[each.best[0]][each.best[1]] == max(values)
    sweep = found["sweep", "log-mels"]
    assert sweep
    assert (sweep.rows, sweep.columns, len(sweep.ua[0])) == ((), ("h1",), 27)


def test_the_papers_figures_stand_beside_its_own_spaces_alone(facts: Facts) -> None:
    beside = {
        (row.winner.candidates.space, row.winner.candidates.features): row.paper_ua for row in facts.ranked("clean")
    }
    assert beside["s_", "log-mels"] == TABLE_4["S-CLDNN", "log-mels"]["clean"]
    assert beside["t", "mfccs"] == TABLE_4["T-CLDNN", "mfccs"]["clean"]
    assert beside["fst", "log-mels"] is None, "w2 = 2 alone is not Table 2's"
    assert beside["sweep", "log-mels"] is None
    s = next(candidates for candidates in facts.board.candidates if candidates.space == "s_")
    wider = [*s.results, *(c.model_copy(update={"learning_rate": 0.1}) for c in s.results)]
    assert is_papers_space(s.model, s.features, s.results)
    assert not is_papers_space(s.model, s.features, wider), "it was the best of twice as many"


def test_the_papers_columns_need_its_corpus_and_its_emotions(facts: Facts) -> None:
    assert not facts.of_papers_corpus
    assert not any("paper" in column for sheet in leaderboards(facts) for column in sheet.columns)
    six = ["surprise", "anger", "disgust", "fear", "happiness", "sadness"]
    assert is_papers_corpus("enterface", six)
    assert not is_papers_corpus("enterface", six[1:])
    assert not is_papers_corpus("ravdess", six)
    assert not is_papers_corpus("enterface", [*six, "neutral"])


def test_a_csv_row_has_every_setting_that_varies(tiny_store: Store, tmp_path: Path) -> None:
    spaces = """spaces = [
        { name = "fst", model = "FST-CLDNN", w1 = 3, w2 = 2, learning_rate = [0.001, 0.01], dense = [[8], [16, 4]] },
        { name = "ldnn", model = "LDNN", dropout = [0.1, 0.4] },
    ]"""
    (tmp_path / "study.toml").write_text(spaces)
    facts = read_report(generate_run(tmp_path / "run", tmp_path / "study.toml", tiny_store))
    table = pd.read_csv(io.StringIO(text.comma_separated(facts)))
    for row, facts_row in zip(table.to_dict("records"), facts.rows, strict=True):
        settings = facts_row.winner.configuration.record()
        for name in ("learning_rate", "dropout"):
            assert row[name] == settings[name]
        assert row["dense"] == str(list(settings["dense"]))


def test_a_setting_of_several_kinds_is_a_column_of_text(tiny_store: Store, tmp_path: Path) -> None:
    spaces = """spaces = [{ name = "ldnn", model = "LDNN", epochs = [20, "2000 steps"] }]"""
    (tmp_path / "study.toml").write_text(spaces)
    facts = read_report(generate_run(tmp_path / "run", tmp_path / "study.toml", tiny_store))
    for rows in (text.trial_records(facts), [facts.values(row) for row in facts.rows]):
        table = pl.read_parquet(text.parquet(rows))
        assert set(table["epochs"]) <= {"20", "2000 steps", 20}


def test_main_effects_are_those_of_an_analysis_of_variance() -> None:
    generator = np.random.default_rng(0)
    a, b = np.repeat(np.arange(3), 8), np.tile(np.arange(4), 6)
    value = 3 * a + 0.5 * b + generator.normal(size=24)
    for setting in (a, b):
        groups = [value[setting == each] for each in np.unique(setting)]
        f = f_oneway(*groups).statistic
        between, within = len(groups) - 1, len(value) - len(groups)
        expected = f * between / (f * between + within)
        assert explained_share(value, setting.tolist()) == pytest.approx(expected)
    many = generator.permutation(24).astype(float)
    bins = np.argsort(np.argsort(many)) // 4
    assert explained_share(value, many.tolist()) == pytest.approx(explained_share(value, bins.tolist()))


def test_the_narrow_table_has_a_row_per_model_and_the_best_in_bold(facts: Facts, unfinished: Facts) -> None:
    assert latex.narrow_tables(unfinished) == []
    (table,) = latex.narrow_tables(facts)
    lines = table.split(r"\midrule")[1]
    rows = [line for line in lines.splitlines() if line.endswith("\\\\")]
    assert len(rows) == len({(row.winner.candidates.space, row.winner.candidates.features) for row in facts.rows})
    for number, condition in enumerate(reading_order(facts)):
        best = max(row.test.overall.ua for row in facts.ranked(condition) if row.test)
        whole, tenth = f"{best:.1f}".split(".")
        cells = [row.removesuffix("\\\\").split(" & ")[2 + 2 * number : 4 + 2 * number] for row in rows]
        bold = [cell for cell in cells if "textbf" in cell[0]]
        assert bold
        assert all([part.strip() for part in cell] == [rf"\textbf{{{whole}}}", rf"\textbf{{{tenth}}}"] for cell in bold)


def test_a_row_says_how_its_training_departs_from_the_papers(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The generated corpus stands for the paper's.
    monkeypatch.setattr(Facts, "of_papers_corpus", True)
    space = '{ name = "fst", model = "FST-CLDNN", w1 = "3:8", w2 = "2:3" }'
    training = "epochs = 20\nmaps = 8\ndense = [16, 4]\n"
    for name, settings in (("as-it-is", ""), ("other", training)):
        (tmp_path / f"{name}.toml").write_text(f"spaces = [{space}]\n[training]\n{settings}")
    kept, other = (
        read_report(generate_run(tmp_path / name, tmp_path / f"{name}.toml", tiny_store))
        for name in ("as-it-is", "other")
    )
    figure = TABLE_4["FST-CLDNN", "log-mels"]["clean"]
    for facts, words, cell in (
        (kept, "", f"{figure:.2f}"),
        (other, "maps = 8, dense = [16, 4], epochs = 20", f"{figure:.2f}*"),
    ):
        (row,) = facts.ranked("clean")
        assert facts.values(row)["paper_ua"] == figure
        assert facts.values(row)["unlike_paper"] == words
        sheet = leaderboards(facts)[1]
        assert sheet.rows[0][sheet.columns.index("paper (%)")] == cell
        assert (f"* Not trained as in the paper: {words}." in sheet.notes) == bool(words)
        assert any("learnt from 61 copies of each utterance, here from 3" in note for note in sheet.notes)
    papers = NetworkConfiguration(model="S-CLDNN", h1=5, h2=3)
    assert papers.departures == {}
    in_2017 = NetworkConfiguration(model="S-CLDNN", h1=5, h2=3, patience=4, epsilon=1e-8, keep="last")
    assert in_2017.departures == {}
    for name in NetworkConfiguration.model_fields.keys() - {"model", "features", "h1", "w1", "h2", "w2"}:
        before = getattr(papers, name)
        named = {"normalisation": "none", "dense": (8,), "precision": "tf32", "protocol": "loso", "keep": "ua"}
        another = not before if isinstance(before, bool) else before + 1 if isinstance(before, int) else 0.5
        value = named.get(name, another)
        if name == "patience":
            value = 9
        changed = papers.model_copy(update={name: value})
        assert list(changed.departures) == [name]


def test_what_failed_or_was_pruned_is_told_and_makes_no_candidate(tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('spaces = [{ name = "fst", model = "FST-CLDNN", w1 = "3:8", w2 = "2:3" }]')
    run = generate_run(tmp_path / "run", tmp_path / "study.toml", tiny_store)
    won = {row.winner.key for row in read_report(run).rows}
    failed, pruned, *left = sorted(run.agenda().trials.keys() - won)
    run.storage.delete(f"trials/{failed}/result.json")
    run.ledger.fail(run.agenda().trials[failed], "FloatingPointError: nan")
    file = run.path / "trials" / pruned / "result.json"
    forge(file, lambda record: record.update(stopped="pruned"))
    facts = read_report(run)
    assert (facts.unfinished, facts.board.failed, facts.board.pruned, facts.board.done) == (None, 1, 1, 11)
    assert {len(row.winner.candidates.results) for row in facts.rows} == {10}
    assert "Trials that make no candidate: 1 failed and 1 stopped by the pruner." in text.markdown(facts)
    trials = {line["key"]: line["stopped"] for line in text.trial_records(facts)}
    assert trials.keys() == run.agenda().trials.keys() - {failed}
    assert [key for key, stopped in trials.items() if stopped == "pruned"] == [pruned]
    assert len(left) >= 8


def test_spaces_stand_beside_table_2_with_all_that_they_vary(facts: Facts) -> None:
    (sheet,) = (sheet for sheet in evidence(facts) if sheet.name == "spaces")
    rows = {(row[0], row[1]): dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows}
    s, ldnn = rows["S-CLDNN (log-mels)", "s_"], rows["LDNN (log-mels)", "ldnn"]
    assert (s["h1"], s["h2"], s["Table 2's"], s["and"]) == ("4:9", "3:4", "h1 4:9, h2 3:4", "–")
    assert rows["FST-CLDNN (log-mels)", "fst"]["Table 2's"] == "w1 3:8, w2 2:3"
    assert rows["ST-CLDNN (log-mels)", "st"]["Table 2's"] == "h1 4:9, w1 3:8, h2 3:4, w2 2:3"
    assert (ldnn["and"], ldnn["Table 2's"]) == ("learning_rate: 0.001, 0.01", "–")
    assert ldnn["optimum, noisy"] in ("learning_rate = 0.001", "learning_rate = 0.01")


def test_rows_of_one_model_are_told_apart_by_their_space(facts: Facts) -> None:
    for sheet in evidence(facts):
        own = 3 if sheet.name == "seeds" else 2
        if "space" in sheet.columns:
            assert len({row[:own] for row in sheet.rows}) == len(sheet.rows), sheet.title


def test_models_stand_side_by_side(facts: Facts, unfinished: Facts) -> None:
    (sheet,) = one_row_per_model(facts)
    shown = {row[:2]: dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows}
    assert len(shown) == len(sheet.rows) == 7
    for row in facts.rows:
        cells = shown[f"{row.winner.candidates.model} ({row.winner.features})", row.winner.candidates.space]
        standing = facts.standing(row)
        assert row.test
        assert standing
        figure, letters = f"{row.test.overall.ua:.2f} ", f" {standing.tie}"
        assert cells[f"{row.winner.condition}, UA (%)"].startswith(figure)
        assert cells[f"{row.winner.condition}, UA (%)"].endswith(letters)
        if row.test.noisy_alone:
            assert cells["noisy copies alone, UA (%)"].startswith(f"{row.test.noisy_alone.ua:.2f}")
    clean = [float(row[2].split()[0]) for row in sheet.rows]
    assert clean == sorted(clean, reverse=True)
    assert text.markdown(facts).index(sheet.title) < text.markdown(facts).index("Leaderboard, ")
    assert one_row_per_model(unfinished) == []


def test_formats_read_back(written: Path) -> None:
    rows = json.loads((written / "leaderboard.json").read_text())["rows"]
    with_pandas = pd.read_csv(written / "leaderboard.csv")
    with_polars = pl.read_parquet(written / "leaderboard.parquet")
    assert list(with_pandas.columns) == with_polars.columns
    assert len(rows) == len(with_pandas) == len(with_polars) == 14
    for name in ("test_ua", "test_low", "validation_corrected_ua"):
        expected = [np.nan if row[name] is None else row[name] for row in rows]
        assert with_pandas[name].tolist() == pytest.approx(expected, nan_ok=True)
        assert with_polars[name].fill_null(np.nan).to_list() == pytest.approx(expected, nan_ok=True)
    assert with_polars["key"].to_list() == [row["key"] for row in rows]
    trials = pd.read_parquet(written / "trials.parquet")
    assert len(trials) == 2 * (12 + 24 + 4 + 6 + 2 + 27)
    assert pl.read_parquet(written / "trials.parquet").shape == trials.shape
    markdown = (written / "leaderboard.md").read_text()
    assert "no difference can be shown here, however large" in markdown
    assert "Unfinished" not in markdown


def test_the_same_results_give_the_same_leaderboard(run: Run, facts: Facts, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "moved")
    again = read_report(open_run(tmp_path / "moved"))
    assert text.comma_separated(again) == text.comma_separated(facts)
    assert text.markdown(again) == text.markdown(read_report(run))


def test_an_unfinished_run_says_so_everywhere(unfinished: Facts) -> None:
    assert unfinished.unfinished
    assert unfinished.unfinished.startswith("Unfinished: 14 of")
    write_report(unfinished)
    folder = unfinished.run.path / "report"
    for name in ("leaderboard.md", "leaderboard.tex", "report.html"):
        assert "Unfinished: 14 of" in (folder / name).read_text()
    captions = [line for line in (folder / "leaderboard.tex").read_text().splitlines() if "caption" in line]
    assert captions
    assert all("(unfinished)" in caption for caption in captions)
    drawn = list((folder / "figures").glob("*.svg"))
    assert drawn
    for figure in drawn:
        assert "Unfinished: 14 of" in figure.read_text()
    rows = pd.read_csv(folder / "leaderboard.csv")
    assert len(rows) > 0
    assert rows["test_ua"].isna().all()
    assert not (unfinished.run.path / "test").exists()


def test_figures(written: Path) -> None:
    starts = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}
    assert set(starts) == set(FORMATS)
    drawn = list((written / "figures").iterdir())
    names = {path.stem for path in drawn}
    assert len(drawn) == len(names) * len(FORMATS)
    assert {
        "leaderboard-noisy",
        "confusion-clean",
        "curves-noisy",
        "snr",
        "robustness-log-mels",
        "sweep-sweep",
        "landscape-st-ST-CLDNN-log-mels",
    } <= names
    for path in drawn:
        assert path.read_bytes().startswith(starts[path.suffix[1:]])


def test_learning_curves_are_those_of_the_winners(facts: Facts) -> None:
    drawn = dict(draw(facts))
    for condition in facts.conditions:
        panels = {axes.get_title(): axes.get_lines() for axes in drawn[f"curves-{condition}"].axes if axes.get_title()}
        learnt = [row for row in facts.ranked(condition) if row.winner.results[0].epochs]
        assert panels.keys() == {f"{row.winner.title}, {row.winner.candidates.space}" for row in learnt}
        for row in learnt:
            curve, kept, *_ = panels[f"{row.winner.title}, {row.winner.candidates.space}"]
            result = row.winner.results[0]
            assert result.best_epoch
            assert np.asarray(curve.get_ydata()).tolist() == [epoch.ua(condition) for epoch in result.epochs]
            assert np.asarray(kept.get_xdata()).tolist() == [result.best_epoch.epoch]


def test_latex_compiles(facts: Facts, unfinished: Facts, tmp_path: Path) -> None:
    if not (pdflatex := shutil.which("pdflatex")):
        pytest.skip("no pdflatex here: LaTeX is not compiled")
    for number, each in enumerate((facts, unfinished)):
        (tmp_path / f"{number}.tex").write_text(latex.document(each))
        words = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", f"{number}.tex"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]


def test_latex_escapes_what_it_must(facts: Facts) -> None:
    document = latex.document(facts)
    assert r"all types \& 100 \%" in document
    assert r"s\_" in document
    for sheet in [*leaderboards(facts), *evidence(facts)]:
        table = latex.table(sheet)
        assert table.count(r"\begin") == table.count(r"\end{")
        assert table.count(r" \\") == len(sheet.rows) + 1
    assert latex.escape("a_b <50% & {c}~^\\") == (
        r"a\_b \textless{}50\% \& \{c\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
    )


@pytest.mark.parametrize(("p", "words"), [(1.0, "1.00"), (0.25, "0.25"), (0.0312, "0.031"), (1e-7, "< 0.0001")])
def test_p_values_in_words(p: float, words: str) -> None:
    assert format_p(p) == words


def test_a_run_compared_with_itself_and_with_another(run: Run, facts: Facts, tiny_store: Store, tmp_path: Path) -> None:
    same = compare(facts, facts, np.random.default_rng(0))
    assert len(same) == 14
    assert all(row.comparison and row.comparison.difference == 0 and row.adjusted_p == 1 for row in same)
    assert len(side_by_side(facts, facts, same).notes) == 1
    (tmp_path / "study.toml").write_text(STUDY.format(seeds=1) + "seed = 5\n[training]\nepochs = 3\n")
    other = read_report(generate_run(tmp_path / "run", tmp_path / "study.toml", tiny_store, seed=1))
    rows = compare(facts, other, np.random.default_rng(0))
    assert len(rows) == 14
    assert all(row.a and row.b and row.comparison is None for row in rows)
    unpaired, differ = side_by_side(facts, other, rows).notes
    assert "can't be paired" in unpaired
    assert differ.startswith("The runs differ in test speakers (")
    assert differ.endswith("), seeds (2 and 1), epochs (– and 3).")
    done = CliRunner().invoke(app, ["compare", str(run.path), str(other.run.path), "--format", "json"])
    found = json.loads(done.output)
    assert not found["same_test"]
    assert found["rows"][0]["difference"] == pytest.approx(
        found["rows"][0]["a"]["test_ua"] - found["rows"][0]["b"]["test_ua"], abs=1e-3
    )


@pytest.fixture(scope="module")
def several(facts: Facts, tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> list[Facts]:
    """A run, its copy, its trials with other figures, the copy less the first winner, and a run of other speakers."""
    folder = tmp_path_factory.mktemp("several")
    shutil.copytree(facts.run.path, folder / "copy")
    shutil.copytree(facts.run.path, folder / "under-way", ignore=shutil.ignore_patterns("test", "openings"))
    (folder / "under-way" / "trials" / facts.rows[0].winner.key / "result.json").unlink()
    rate = f"learning_rate = [{facts.rows[0].winner.configuration.learning_rate}]"
    (folder / "same.toml").write_text(STUDY.format(seeds=2).replace("learning_rate = [0.001, 0.01]", rate))
    (folder / "other.toml").write_text(STUDY.format(seeds=2) + "seed = 5\n")
    generate_run(folder / "again", folder / "same.toml", tiny_store, seed=1)
    generate_run(folder / "other", folder / "other.toml", tiny_store)
    return [facts, *(read_report(open_run(folder / name)) for name in ("copy", "again", "under-way", "other"))]


def test_runs_merge_into_a_leaderboard_for_each_test(several: list[Facts]) -> None:
    boards = merge(several, np.random.default_rng(0))
    conditions = [(board.condition, len(board.runs)) for board in boards]
    assert conditions == [("noisy", 4), ("noisy", 1), ("clean", 4), ("clean", 1)]
    for board, found in zip(boards, merged_facts(boards), strict=True):
        expected = {
            tuple(each.run.storage.get(name) for name in row.winner.predictions): ua(predictions(each, number))
            for each in board.runs
            for number, row in enumerate(each.rows)
            if row.winner.condition == board.condition and row.test
        }
        ranked = [row for row in found["rows"] if row["place"]]
        assert [row["test_ua"] for row in ranked] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-4)
        assert [row["place"] for row in ranked] == list(range(1, len(expected) + 1))
        counts = [merged_row.counts() for merged_row in board.rows if merged_row.row.test]
        pairs = list(combinations(range(len(counts)), 2))
        tested = found["comparisons"]["pairs"]
        assert [(pair["first"], pair["second"]) for pair in tested] == pairs
        shares = np.stack([speaker_shares(counts[a]) - speaker_shares(counts[b]) for a, b in pairs], axis=1)
        adjusted = max_t(shares, np.random.default_rng(0))
        assert [pair["adjusted_p"] for pair in tested] == pytest.approx(adjusted)
        to_next = [round(pair["adjusted_p"], 4) for pair in tested if pair["second"] == pair["first"] + 1]
        assert [row["next_p"] for row in ranked] == [*to_next, None]


def test_a_trial_that_wins_in_several_runs_is_one_row(several: list[Facts]) -> None:
    first, copy, again, under_way, other = (str(each.run.path) for each in several)
    boards = merge(several, np.random.default_rng(0))
    rows = merged_facts(boards)[0]["rows"]
    assert len({(*row["keys"], row["validation_ua"]) for row in rows}) == len(rows)
    assert {tuple(row["runs"]) for row in rows if row["place"]} == {(first, copy), (first, copy, under_way), (again,)}
    assert [row["runs"] for row in rows if not row["place"]] == [rows[-1]["runs"]] == [[under_way]]
    assert rows[-1]["test_ua"] is rows[-1]["tie"] is None
    for row in rows[:-1]:
        facts = several[2] if again in row["runs"] else several[0]
        winners = [each.winner for each in facts.rows]
        won = [winner for winner in winners if (winner.key, winner.condition) == (row["key"], "noisy")]
        assert set(row["spaces"]) == {winner.candidates.space for winner in won}
    both = {row["key"] for row in rows if first in row["runs"]} & {row["key"] for row in rows if again in row["runs"]}
    *_, others, twice, chance, unfinished = merged(boards)[0].notes
    assert chance.startswith("Chance: a UA of ")
    assert "a table for each test" in others
    assert several[0].rows[0].winner.key in both
    assert all(key in twice for key in both)
    assert unfinished.startswith(f"{under_way}: Unfinished: ")
    assert {tuple(row["runs"]) for row in merged_facts(boards)[1]["rows"]} == {(other,)}


def test_the_command_compares_any_number_of_runs(several: list[Facts]) -> None:
    paths = [str(each.run.path) for each in several]
    boards = merge(several, np.random.default_rng(0))
    said = CliRunner().invoke(app, ["compare", *paths, "--format", "json"])
    assert json.loads(said.output) == {"leaderboards": json.loads(json.dumps(merged_facts(boards)))}
    said = CliRunner().invoke(app, ["compare", *paths])
    assert said.output == "\n\n".join(text.table(sheet) for sheet in merged(boards)) + "\n"
    for row in merged_facts(boards)[0]["rows"]:
        ranks = f"{row['best_rank']} to {row['worst_rank']}"
        cells = f"| {row['place']} {row['tie']} | {ranks} | {', '.join(row['runs'])} |" if row["place"] else "|  | – "
        assert any(cells in line and row["key"] in line for line in said.output.splitlines())
    two = json.loads(CliRunner().invoke(app, ["compare", *paths[:2], "--format", "json"]).output)
    assert two["same_test"]
    assert {tuple(row["runs"]) for board in two["leaderboards"] for row in board["rows"]} == {tuple(paths[:2])}
    alone = CliRunner().invoke(app, ["compare", paths[0]])
    assert "is one run, and a comparison needs two; name another run" in str(alone.exception)


def test_noises_that_were_trained_on_are_told_from_unseen_ones(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "noises_of", lambda self, speaker: Counter({"hiss.flac": 1}))
    facts = read_report(run)
    sheets = {sheet.title: sheet for sheet in evidence(facts)}
    assert sheets["Test UA by noise in training (%), noisy condition"].columns[2:] == ("trained on", "unseen")
    assert "Test UA by noise in training (%), clean condition" not in sheets
    for number, row in enumerate(facts.rows):
        if row.winner.condition == "noisy":
            table = predictions(facts, number)
            noisy = table[table["noise"].notna()]
            assert row.test
            trained_on, unseen = row.test.groups["noise in training"]
            assert trained_on.ua == pytest.approx(ua(noisy[noisy["noise"] == "hiss.flac"]))
            assert unseen.ua == pytest.approx(ua(noisy[noisy["noise"] != "hiss.flac"]))
