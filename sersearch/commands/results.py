"""Commands from trained trials to tables and figures: report, probe, rerun, compare, export-optuna, export-mlflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sersearch.errors import InputError
from sersearch.terminal.arguments import (
    Format,
    FormatOption,
    RunFolder,
    StoreOption,
    WonUnder,
)
from sersearch.terminal.screen import json_text, say, say_json, say_on_stderr


def report_run(run: RunFolder, store: StoreOption = None, format: FormatOption = Format.text) -> None:
    """Write tables, figures and a page to RUN/report, and show the leaderboard.

    Example: [bold]sersearch report runs/smoke[/bold]
    """
    from sersearch.report.folder import make_report, write_report
    from sersearch.report.sheets import leaderboards
    from sersearch.report.text import summary
    from sersearch.run.run import open_run
    from sersearch.terminal.tables import show_sheets

    facts = make_report(open_run(run, store), say_on_stderr)
    write_report(facts)
    if format is Format.json:
        say_json(facts.record())
        return
    show_sheets(leaderboards(facts), summary(facts), f"see {run / 'report' / 'leaderboard.md'}", facts.state)
    for tested in facts.robustness:
        if tested.named and tested.claims:
            say(tested.verdict)
    say_on_stderr(f"written to {run / 'report'}: open report.html there")


def probe_run(
    run: RunFolder,
    condition: Annotated[WonUnder, typer.Option(help="Whose winners to probe; the paper's are those of clean.")] = (
        WonUnder.clean
    ),
    store: StoreOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core unless given.")] = None,
    format: FormatOption = Format.text,
) -> None:
    """Probe the winners: how well emotion, speaker and gender are read off each module (Table 5, Figures 3 to 9).

    Writes RUN/probe, and the report again with these tables and figures. Representations that exist are used again.

    Example: [bold]sersearch probe runs/smoke[/bold]
    """
    from sersearch.evaluation.probe.inquiry import probe as look_into
    from sersearch.report.folder import make_report, write_report
    from sersearch.report.modules import sheets_of
    from sersearch.report.text import table
    from sersearch.run.run import open_run
    from sersearch.study.conditions import Condition
    from sersearch.terminal.tables import show_sheets

    opened = open_run(run, store)
    whose: Condition = "noisy" if condition is WonUnder.noisy else "clean"
    findings = look_into(opened, whose, say_on_stderr, workers)
    write_report(make_report(opened, say_on_stderr))
    if format is Format.json:
        say_json(findings.model_dump(mode="json"))
        return
    sheets = list(sheets_of(findings))
    show_sheets(sheets, "\n\n".join(map(table, sheets)), f"see {run / 'report' / 'leaderboard.md'}")
    say_on_stderr(f"written to {run / 'probe'} and {run / 'report'}: open report.html there")


def rerun_trial(
    run: RunFolder,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The trial's key, or its first characters.")],
    store: StoreOption = None,
) -> None:
    """Train a recorded trial again, without Ray, and say whether the numbers are the same.

    Example: [bold]sersearch rerun runs/smoke 190c615aedf03d54[/bold]
    """
    from sersearch.run.run import open_run
    from sersearch.terminal.live import describe_epoch
    from sersearch.training.rerun import rerun as train_again

    say_on_stderr(f"training {key} again")
    made = train_again(open_run(run, store), key, lambda epoch: say_on_stderr(describe_epoch(epoch)))
    say(made.verdict)
    if not made.same:
        raise typer.Exit(1)


def compare_runs(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of two or more runs.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all of it to a file too: .md for Markdown, or .json.")
    ] = None,
    format: FormatOption = Format.text,
) -> None:
    """Merge the leaderboards of runs, with paired tests where runs are tested on the same utterances.

    Two runs are also compared row by row.

    Example: [bold]sersearch compare runs/smoke runs/smoke-2 --out comparison.md[/bold]
    """
    import numpy as np

    from sersearch.report.folder import SEED, read_report
    from sersearch.report.text import table
    from sersearch.report.versus import compare as match
    from sersearch.report.versus import merge, merged, merged_facts, side_by_side, versus_facts
    from sersearch.run.run import open_run
    from sersearch.terminal.tables import show_sheets

    if len(runs) < 2:
        raise InputError(f"{runs[0]}: is one run, and a comparison needs two; name another run")
    if out and out.suffix not in (".md", ".json"):
        raise InputError(f"--out {out}: write to a file that ends with .md (Markdown) or .json")
    found = [read_report(open_run(run)) for run in runs]
    boards, sheets, facts = merge(found, np.random.default_rng(SEED)), [], {}
    if len(found) == 2:
        a, b = found
        rows = match(a, b, np.random.default_rng(SEED))
        sheets, facts = [side_by_side(a, b, rows)], versus_facts(a, b, rows)
    facts["leaderboards"] = merged_facts(boards)
    sheets += merged(boards)
    markdown = "\n\n".join(map(table, sheets))
    if out:
        content = f"{markdown}\n" if out.suffix == ".md" else json_text(facts)
        out.write_text(content, encoding="utf-8")
    if format is Format.json:
        say_json(facts)
    else:
        show_sheets(sheets, markdown, f"see {out}" if out else "write all of them with --out FILE.md")


def export_run_to_mlflow(
    run: RunFolder,
    storage: Annotated[
        str, typer.Argument(metavar="URI", help="A database or a server; run again to add what is new.")
    ],
) -> None:
    """Write a run's trials to MLflow, one experiment per space.

    Example: [bold]sersearch export-mlflow runs/smoke sqlite:///mlflow.db[/bold]
    """
    from sersearch.report.mlflow import export_mlflow
    from sersearch.run.run import open_run

    for name, added in export_mlflow(open_run(run), storage).items():
        say(f"{name}: {added} trials added")


def export_run(
    run: RunFolder,
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="URL of a database; run again to add what is new.")],
) -> None:
    """Write a run's trials to an Optuna storage, one study per space, for optuna-dashboard.

    Example: [bold]sersearch export-optuna runs/smoke sqlite:///studies.db[/bold]
    """
    from sersearch.run.run import open_run
    from sersearch.search.export import export_optuna as export

    for name, added in export(open_run(run), storage).items():
        say(f"{name}: {added} trials added")
