"""Tables on terminals of 80, 110 and 200 columns, and Markdown where standard output is piped."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.run.run import Run
from sersearch.store.reader import Store
from sersearch.terminal.tables import GAP, WIDEST, fitting_widths
from tests.generated import generate_run
from tests.terminal.screen import command

WIDTHS = (80, 110, 200)
STUDY = """\
name = "tables"
spaces = [
    { name = "ldnn", model = "LDNN", features = ["log-mels", "mfccs"] },
    { name = "fst", model = "FST-CLDNN", w1 = "3:5", w2 = 2 },
]
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_store: Store) -> tuple[Run, Run]:
    folder = tmp_path_factory.mktemp("tables")
    (folder / "study.toml").write_text(STUDY)
    first, second = (
        generate_run(folder / name, folder / "study.toml", tiny_store, seed) for seed, name in enumerate("ab")
    )
    return first, second


def piped(*words: object) -> str:
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


cells = st.text(st.characters(categories=("L", "N")), max_size=50)


@given(st.integers(1, 200), st.lists(st.tuples(cells, cells, cells, cells), min_size=1, max_size=4))
def test_what_fits_is_never_wider_than_the_terminal(width: int, table: list[tuple[str, ...]]) -> None:
    columns, *rows = table
    widths = fitting_widths(columns, rows, width)
    assert 1 <= len(widths) <= len(columns)
    if len(widths) > 1:
        assert sum(widths) + GAP * (len(widths) - 1) <= width
    if width >= len(columns) * (WIDEST + GAP):
        assert len(widths) == len(columns)


def rows_of(lines: Sequence[str], first: str) -> list[str]:
    return [line for line in lines if re.match(first, line)]


@pytest.mark.slow("it starts commands on terminals")
@pytest.mark.parametrize("columns", WIDTHS)
def test_a_report_is_a_table_whose_rows_are_lines(runs: tuple[Run, Run], columns: int) -> None:
    lines = command(columns, "report", runs[0].path)
    rows = rows_of(lines, r"\d a ")
    assert len(rows) == 6
    assert all("against" not in row and "…" not in row for row in rows)
    text = " ".join(lines)
    assert "|" not in text
    assert ("Not shown at this width: " in text) == (columns < 200)
    assert ("parameters" in text.partition("Not shown")[0]) == (columns > 110)
    notes = [line for line in lines if line.startswith("Test UA; one speaker")]
    assert len(notes) == 1


@pytest.mark.slow("it starts commands on terminals")
@pytest.mark.parametrize("columns", WIDTHS)
def test_a_comparison_and_a_status_are_tables(runs: tuple[Run, Run], columns: int) -> None:
    lines = command(columns, "compare", *(run.path for run in runs))
    assert len(rows_of(lines, r"(LDNN|FST-CLDNN) \(")) == 6
    assert len(rows_of(lines, r"\d+ a ")) == 12
    lines = command(columns, "status", runs[0].path)
    assert len(rows_of(lines, r"(ldnn|fst) +\d+ +\d+ +[\d.]+ +[\d.]+$")) == 2
    assert len(rows_of(lines, r"(noisy|clean) +[\d.]+ +\S.* [0-9a-f]{16}$")) == 2


@pytest.mark.slow("it starts commands on terminals")
@pytest.mark.parametrize("columns", WIDTHS)
def test_a_plan_begins_with_totals_and_speakers(runs: tuple[Run, Run], columns: int) -> None:
    run = runs[0]
    lines = command(columns, "plan", run.path.parent / "study.toml", "--store", run.store_path)
    assert lines[0] == "tables: 5 trials: 0 done, 5 left"
    assert lines.index("test: 1 speaker: s1") < lines.index("ldnn: 2 trials")
    assert len(rows_of(lines, r"40x[345] 1x2 +[\d,]+ +\d+ +\d+$")) == 3
    lines = command(columns, "plan", run.path.parent / "study.toml", "--store", run.store_path, "--wide")
    if columns >= 100:
        assert len(rows_of(lines, r"40x[345] 1x2 +1x\d+ 1x\d+ +\d+ +[\d,]+ +[\d,]+ +[\d,]+ +\d+ +\d+$")) == 3


@pytest.mark.slow("it draws every figure of a report")
def test_piped_tables_are_markdown(runs: tuple[Run, Run]) -> None:
    paths = [run.path for run in runs]
    for text in (piped("report", paths[0]), piped("compare", *paths), piped("status", paths[0])):
        assert "\n| --- | --- |" in text


def test_a_comparison_is_written_to_a_file_too(runs: tuple[Run, Run], tmp_path: Path) -> None:
    paths = [run.path for run in runs]
    said = piped("compare", *paths, "--out", tmp_path / "both.md")
    assert (tmp_path / "both.md").read_text() == said
    piped("compare", *paths, "--out", tmp_path / "both.json")
    facts = json.loads(piped("compare", *paths, "--format", "json"))
    assert json.loads((tmp_path / "both.json").read_text()) == facts
    refused = CliRunner().invoke(app, ["compare", *map(str, paths), "--out", str(tmp_path / "both.pdf")])
    assert "ends with .md" in str(refused.exception)
    assert not (tmp_path / "both.pdf").exists()


def test_what_a_stopped_run_lacks_is_unfinished_and_no_fault(runs: tuple[Run, Run], tmp_path: Path) -> None:
    from sersearch.run.run import start_run

    run = start_run(tmp_path / "run", runs[0].study, runs[0].store_path)
    said = piped("status", run.path, "--verify")
    assert "verified: 0 of 5 trials are done, 5 unfinished, 0 faults; the digest of the results is" in said
    assert "missing" not in said
    facts = json.loads(piped("status", run.path, "--verify", "--format", "json"))
    assert (facts["faults"], facts["unfinished"]) == (0, 5)
