"""Looking twice is seen: test openings over runs, studies that change after one, and all that was tried."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from sersearch.errors import InputError
from sersearch.evaluation.exposure import design_of, read_exposure, record_exposure
from sersearch.evaluation.leaderboard import select_winners
from sersearch.evaluation.verify import verify_computed
from sersearch.report import latex, text
from sersearch.report.folder import read_report
from sersearch.report.page import page
from sersearch.report.sheets import leaderboards
from sersearch.run.run import open_run, start_run
from sersearch.statistics.corrections import select_best
from sersearch.store.reader import Store
from sersearch.study.study import load_study, parse_study
from tests.generated import generate_run

STUDY = """
spaces = [
    {{ name = "t", model = "T-CLDNN", w1 = {w1}, w2 = 2 }},
    {{ name = "fst", model = "FST-CLDNN", w1 = 3, w2 = 2 }},
]
seeds = 2
[partition]
seed = {seed}
{more}
"""


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "sersearch"


def study(folder: Path, w1: str = '"3:8"', seed: int = 0, more: str = "") -> Path:
    path = folder / "study.toml"
    path.write_text(STUDY.format(w1=w1, seed=seed, more=more))
    return path


def test_a_study_that_is_narrowed_after_an_opening_is_exploratory_on_every_page(
    tiny_store: Store, tmp_path: Path
) -> None:
    run = generate_run(tmp_path / "run", study(tmp_path), tiny_store)
    before = read_report(run)
    assert before.state is None
    won = next(row.winner.configuration.record()["w1"] for row in before.rows if row.winner.candidates.space == "t")
    others = sorted({3, 4, 5, 6, 7, 8} - {won})
    narrowed = start_run(run.path, load_study(study(tmp_path, str(others))), tiny_store.path)
    facts = read_report(narrowed)
    sentence = "Exploratory: the study was changed after its test speakers were opened"
    assert facts.state
    assert sentence in facts.state
    document = latex.document(facts)
    for shown in (text.markdown(facts), text.summary(facts), document, page(facts)):
        assert sentence in shown
    captions = [line for line in document.splitlines() if "\\caption" in line]
    assert captions
    assert all("(exploratory)" in caption for caption in captions)
    assert facts.record()["exploratory"] is True
    generate_run(run.path, study(tmp_path, str(others)), tiny_store)
    again = start_run(run.path, load_study(study(tmp_path)), tiny_store.path)
    assert read_report(again).state, "what was opened for another study in between stays seen"


def test_best_of_counts_what_the_ledger_holds_of_a_kind(tiny_store: Store, tmp_path: Path) -> None:
    run = generate_run(tmp_path / "run", study(tmp_path), tiny_store)
    narrowed = start_run(run.path, load_study(study(tmp_path, "[4, 5]")), tiny_store.path)
    whole, facts = read_report(run), read_report(narrowed)
    t = [[row for row in each.rows if row.winner.candidates.space == "t"] for each in (whole, facts)]
    for before, now in zip(*t, strict=True):
        assert (before.tried, before.tried_before, now.tried, now.tried_before) == (6, 0, 6, 4)
        assert facts.values(now)["candidates"] == 6
        candidates = before.winner.candidates
        place = list(candidates.results).index(now.winner.configuration)
        assert now.selection
        expected = select_best(candidates.counts(before.winner.condition), place)
        assert now.selection.optimism == pytest.approx(expected.optimism)
        assert now.selection.validation_ua == pytest.approx(now.winner.validation_ua)
    others = [row for row in facts.rows if row.winner.candidates.space == "fst"]
    assert all((row.tried, row.tried_before) == (1, 0) for row in others)
    assert any("does not name any more" in note for note in leaderboards(facts)[0].notes)
    assert len(select_winners(narrowed).others) == 4 * 2


def test_openings_are_counted_over_folders_by_store_and_test_speakers(tiny_store: Store, tmp_path: Path) -> None:
    first = generate_run(tmp_path / "one", study(tmp_path), tiny_store)
    systems = {result.trial.key for winner in select_winners(first).winners for result in winner.results}
    alone = read_report(first).exposure
    assert (alone.systems, alone.runs) == (len(systems), 1)
    assert f"opened for {len(systems)} trained systems from 1 run folder," in alone.note
    other_seed = 4
    more = "[training]\nepochs = 3"
    second = generate_run(tmp_path / "two", study(tmp_path, more=more), tiny_store)
    both = read_report(second).exposure
    assert both == read_report(first).exposure
    assert both.runs == 2
    assert both.systems > alone.systems
    apart = generate_run(tmp_path / "three", study(tmp_path, seed=other_seed), tiny_store)
    assert set(apart.partition.test).isdisjoint(first.partition.test)
    assert read_report(apart).exposure.runs == 1
    shutil.copytree(first.path, tmp_path / "copy")
    assert read_report(open_run(tmp_path / "copy")).exposure == both


def test_without_a_data_folder_a_run_counts_its_own(tiny_store: Store, tmp_path: Path, data_folder: Path) -> None:
    data_folder.parent.mkdir()
    data_folder.touch()
    with pytest.warns(RuntimeWarning, match=r"the data folder .* is not used, because .*: set XDG_DATA_HOME"):
        run = generate_run(tmp_path / "run", study(tmp_path), tiny_store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exposure = read_report(run).exposure
    assert exposure.runs == 1
    assert exposure.systems == len({name.split("-")[0] for name in run.storage.list("openings/")})


def test_only_what_moves_a_figure_or_a_test_changes_a_study() -> None:
    t = {"name": "t", "model": "T-CLDNN", "w1": [3, 4], "w2": 2}
    table: dict[str, Any] = {"name": "x", "spaces": [t, {"name": "fst", "model": "FST-CLDNN", "w1": 3, "w2": 2}]}
    claim: dict[str, Any] = {"order": ["T", "FST"]}
    design = design_of(parse_study(table, "x"))
    assert design == design_of(parse_study(table | {"name": "y", "resources": {"cpus": 2}, "store": "s"}, "x"))
    with_claim = design_of(parse_study(table | {"hypothesis": claim}, "x"))
    assert with_claim != design
    assert with_claim == design_of(parse_study(table | {"hypothesis": claim | {"luck": 3}}, "x"))
    assert with_claim != design_of(parse_study(table | {"hypothesis": claim | {"on": ["ua"]}}, "x"))
    assert design != design_of(parse_study(table | {"seeds": 2}, "x"))


def test_an_opening_is_on_record_once(tiny_store: Store, tmp_path: Path) -> None:
    run = start_run(tmp_path / "run", load_study(study(tmp_path)), tiny_store.path)
    speakers = run.partition.test
    assert read_exposure(run, speakers).systems == 0
    for condition in ("noisy", "noisy", "clean"):
        record_exposure(run, "0123456789abcdef", condition, speakers, "report")
    assert (read_exposure(run, speakers).systems, read_exposure(run, ["nobody"]).systems) == (1, 0)
    assert len(run.storage.list("designs/")) == 1


def test_a_damaged_record_is_one_line_with_a_remedy(tiny_store: Store, tmp_path: Path, data_folder: Path) -> None:
    run = generate_run(tmp_path / "run", study(tmp_path), tiny_store)
    (design,) = (run.path / "designs").iterdir()
    whole = design.read_bytes()
    design.write_bytes(whole.replace(b"T-CLDNN", b"S-CLDNN"))
    assert [finding.file for finding in verify_computed(run, {}) if finding.file.startswith("designs/")]
    other = design.with_name("0" * 16 + ".json")
    design.rename(other)
    other.write_bytes(whole)
    with pytest.raises(InputError, match="is another's: restore it from a copy, or delete it"):
        read_report(run)
    other.rename(design)
    assert read_report(run).state is None
    indexed = next(iter((data_folder / "openings" / run.identity.fingerprint).iterdir()))
    indexed.write_bytes(indexed.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"is damaged .*: delete it, and one opening less is counted"):
        read_report(run)
