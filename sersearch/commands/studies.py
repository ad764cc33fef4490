"""Commands from a study to trained trials: new, plan, search, resume, status."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sersearch.errors import InputError
from sersearch.terminal.arguments import (
    Address,
    Changes,
    Format,
    FormatOption,
    RetryFailed,
    RunFolder,
    StoreOption,
    StudyName,
    TakeOver,
    TensorBoard,
)
from sersearch.terminal.screen import Screen, say, say_json, say_on_stderr


def new_study(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The file to write; it must not exist.")],
) -> None:
    """Write a commented study to start from, with the default of every setting.

    Example: [bold]sersearch new mine.toml[/bold]
    """
    from sersearch.study.reference import write_new_study

    write_new_study(study)
    say(f"written to {study}: see what it would train with `sersearch plan {study}`")


def plan_study(
    study: StudyName,
    store: StoreOption = None,
    set: Changes = None,
    run: Annotated[Path | None, typer.Option(metavar="RUN", help="Mark what this run has done.")] = None,
    format: FormatOption = Format.text,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Train a few steps here and forecast how long it takes.")
    ] = False,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time; as many as fit on this machine unless given.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs that a trial is assumed to take; early stopping's unless given.")
    ] = None,
    export_split: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write who trains, validates and tests, to share the split.")
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Show the shapes and each module's parameters too: 100 columns.")
    ] = False,
) -> None:
    """Show what a study would train: every trial, its shapes and size, what can't be built, what is done.

    Example: [bold]sersearch plan paper[/bold]
    """
    from sersearch.planning.plan import PAPERS_DATA, make_plan, plan_facts
    from sersearch.study.agenda import Agenda
    from sersearch.study.changes import load_changed_study
    from sersearch.terminal.plan import WIDE, print_forecast, print_plan

    loaded, bound, forecast = load_changed_study(study, set or ()), None, None
    if store or run or loaded.store:
        from sersearch.planning.calibration import bind

        bound = bind(loaded, store, run)
    if bound:
        planned = make_plan(bound.agenda, bound.size, bound.results, epochs)
    else:
        planned = make_plan(Agenda(loaded, PAPERS_DATA.identity, {}), PAPERS_DATA, epochs=epochs)
    if export_split:
        from sersearch.run.split import write_split

        if not bound:
            raise InputError("--export-split: a split is one of a store's speakers: name it, as in --store STORE")
        export_split.write_text(write_split(bound.folds), encoding="utf-8")
    if calibrate:
        from sersearch.planning.calibration import forecast_plan

        forecast = forecast_plan(planned, bound, parallel, epochs)
    if format is Format.json:
        say_json(plan_facts(planned) | ({"forecast": forecast.facts()} if forecast else {}))
        return
    console = Screen() if sys.stdout.isatty() else Screen(width=WIDE)
    print_plan(planned, Screen(width=max(console.width, WIDE)) if wide else console, wide)
    if forecast:
        print_forecast(forecast, console)


def search_study(
    study: StudyName,
    run: Annotated[Path, typer.Option(metavar="RUN", help="The run's folder; an existing run is continued.")],
    store: StoreOption = None,
    set: Changes = None,
    address: Address = None,
    retry_failed: RetryFailed = False,
    take_over: TakeOver = False,
    tensorboard: TensorBoard = False,
) -> None:
    """Train every trial of a study that the run does not hold yet: start a run, or continue it.

    Example: [bold]sersearch search smoke --store stores/ravdess --run runs/smoke[/bold]
    """
    from sersearch.run.run import bind_run, start_run
    from sersearch.run.session import working_on
    from sersearch.study.changes import load_changed_study

    loaded = load_changed_study(study, set or ())
    # What is refused is refused before anything is written.
    storage = bind_run(run, loaded, store).storage
    with working_on(storage, take_over) as session:
        _search(start_run(run, loaded, store, say_on_stderr), session, address, retry_failed, tensorboard)


def resume_run(
    run: RunFolder,
    store: StoreOption = None,
    address: Address = None,
    retry_failed: RetryFailed = False,
    take_over: TakeOver = False,
    tensorboard: TensorBoard = False,
) -> None:
    """Resume a run with nothing but its folder.

    Example: [bold]sersearch resume runs/smoke[/bold]
    """
    from sersearch.run.run import open_run
    from sersearch.run.session import working_on

    with working_on(open_run(run, store).storage, take_over) as session:
        # Another search may have changed the run until this one had it.
        _search(open_run(run, store), session, address, retry_failed, tensorboard)


def _search(run: Any, session: Any, address: str | None, retry_failed: bool, tensorboard: bool) -> None:
    from sersearch.search import search as train
    from sersearch.terminal.live import SearchProgress

    for other in session.replaced:
        say_on_stderr(f"{run.path}: taking over from another search ({other})")
    if retry_failed:
        run.forgive_failures()
    in_bf16 = run.study.settings.get("precision") == "bf16" and not run.study.resources.gpus
    if in_bf16 and address is None:
        from sersearch.models.kernels.units import bf16_on_this_processor

        # Workers train on this processor too, but what they warn of stays in Ray's logs.
        bf16_on_this_processor()
    results = run.ledger.results()
    agenda = run.agenda(results)
    with SearchProgress(agenda, results.values(), run.path / "tensorboard" if tensorboard else None) as progress:
        stopped = train(run, session, agenda, results, progress, address)
    if in_bf16:
        _say_float32(run)
    for key in agenda.failed:
        say_on_stderr(f"{run.path}: trial {key} failed: {run.ledger.failure(key)}; see {run.ledger.locate(key)}")
    if stopped:
        say_on_stderr(f"{run.path}: {stopped}; resume with `sersearch resume {run.path}`")
    elif agenda.failed:
        say_on_stderr(f"{run.path}: add --retry-failed to try the failed trials again")
    if stopped or agenda.failed:
        raise typer.Exit(1)
    say(f"{run.path}: all {len(agenda.trials)} trials are done; see them with `sersearch report {run.path}`")


def _say_float32(run: Any) -> None:
    """Say how many trials were to be computed in bfloat16, but were not, on whatever nodes they were trained."""
    results = run.ledger.results().values()
    in_float32 = sum(result.environment.get("products", "").startswith("float32") for result in results)
    if in_float32:
        say_on_stderr(
            f"{run.path}: {in_float32} of {len(results)} trials were computed in float32 instead of bf16, because "
            "their processors have no units for it"
        )


def show_status(
    run: RunFolder,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every file of the run, and the plan against it.")
    ] = False,
    format: FormatOption = Format.text,
) -> None:
    """Show what is done, begun and left, the best so far and the time left.

    Example: [bold]sersearch status runs/smoke[/bold]
    """
    from sersearch.run.run import open_run
    from sersearch.terminal.status import print_status, status_facts, verified_facts

    opened = open_run(run)
    # What is damaged is among what is looked for.
    results = opened.ledger.whole_results() if verify else opened.ledger.results()
    agenda = opened.agenda(results)
    facts = status_facts(opened, agenda, results) | (verified_facts(opened, agenda, results) if verify else {})
    if format is Format.json:
        say_json(facts)
    else:
        print_status(facts, Screen())
    if verify and facts["faults"]:
        raise typer.Exit(1)
