"""The command line."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from sersearch.errors import InputError, machine_fault, printable
from sersearch.interruption import end_on_ctrl_c
from sersearch.terminal.arguments import (
    Changes,
    DistinctSpeakers,
    Emotions,
    Format,
    Mapping,
    NoiseUnit,
    Speakers,
    StudyName,
    WonUnder,
    parse_corpora,
    parse_list,
    parse_mapping,
    parse_pair,
    parse_snr_range,
)
from sersearch.terminal.commands import App
from sersearch.terminal.screen import Screen, json_text, let_streams_take_anything, say, say_json, say_on_stderr

# What is heavy (torch, Ray) is imported by the command that needs it, so that --help and plan answer at once.

app = App(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"sersearch {version('sersearch')}")
        raise typer.Exit


@app.callback()
def program(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Architecture search for speech emotion recognition."""


_Format = Annotated[Format, typer.Option("--format", help="text for people, json for programs.")]
_Run = Annotated[Path, typer.Argument(help="The run's folder.", metavar="RUN")]
_Address = Annotated[
    str | None,
    typer.Option(help="A running Ray cluster, or 'auto'; without it Ray is started on this machine."),
]
_RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try trials that failed for good again.")]
_TakeOver = Annotated[
    bool,
    typer.Option("--take-over", help="Work on the run although another search does, which is dead or out of reach."),
]
_TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard files to RUN/tensorboard.")]
_Store = Annotated[Path | None, typer.Option(help="The store; the recorded one unless given.")]


def main() -> None:
    """Run a command; exit with 0 when done, 1 when it failed, 2 when the input was wrong, 130 when Ctrl-C ended it."""
    end_on_ctrl_c()
    let_streams_take_anything()
    warnings.formatwarning = lambda message, *where, **more: f"sersearch: {printable(str(message))}\n"
    try:
        app(standalone_mode=True)
    except InputError as error:
        say_on_stderr(f"sersearch: {error}")
        sys.exit(2)
    except Exception as error:
        reason = machine_fault(error)
        if not reason:
            raise
        say_on_stderr(f"sersearch: {reason}; finished work is kept")
        sys.exit(1)


@app.command("corpus")
def describe_corpus(
    name: Annotated[
        str | None, typer.Argument(help="A corpus of the catalogue, or any name for a folder with a manifest.csv.")
    ] = None,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="The corpus' folder, or its manifest.")] = None,
    emotions: Emotions = None,
    map: Mapping = None,
    distinct_speakers: DistinctSpeakers = False,
    speakers: Speakers = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core unless given.")] = None,
) -> None:
    """Show what a corpus contains: counts, speakers, durations, and which files were refused and why.

    Without a name, list the corpora whose layout is known.

    Example: [bold]sersearch corpus ravdess data/RAVDESS[/bold]
    """
    from sersearch.speech.corpora import examine, read_corpus
    from sersearch.terminal.corpus import BuildProgress, print_catalogue, print_survey

    if name is None:
        print_catalogue(Screen())
        return
    if folder is None:
        raise InputError(f"corpus {name}: its folder is missing: give it, as in sersearch corpus ravdess data/RAVDESS")
    recordings = read_corpus(
        name,
        folder,
        parse_list(emotions),
        by_hand=parse_mapping(map),
        distinct_speakers=distinct_speakers,
        about_speakers=speakers,
    )
    with BuildProgress() as progress:
        survey = examine(recordings, workers, progress.counting("decoding"))
    print_survey(survey, Screen())
    if survey.refused:
        raise typer.Exit(2)


@app.command("features")
def build_features(
    corpus: Annotated[
        list[str],
        typer.Option(metavar="NAME=DIR", help="The corpus, as for the command corpus; several of them share a store."),
    ],
    out: Annotated[Path, typer.Option(metavar="STORE", help="Where the store is built; run again to continue.")],
    noise: Annotated[Path | None, typer.Option(metavar="DIR", help="Any folder of audio.")] = None,
    emotions: Emotions = None,
    map: Mapping = None,
    distinct_speakers: DistinctSpeakers = False,
    speakers: Speakers = None,
    noises: Annotated[int, typer.Option(min=0, help="Noises drawn for each clean utterance.")] = 20,
    snrs: Annotated[int, typer.Option(min=0, help="SNRs drawn for each clean utterance.")] = 3,
    snr_range: Annotated[str, typer.Option(metavar="LOW:HIGH", help="In dB.")] = "-10:15",
    bands: Annotated[int, typer.Option(min=2, help="Mel bands, the paper's M.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the noises and SNRs.")] = 0,
    noise_groups: Annotated[
        int | None, typer.Option(min=2, help="Groups of speakers with noises of their own, as many as a study's folds.")
    ] = None,
    noise_unit: Annotated[
        NoiseUnit, typer.Option(help="What is dealt to the groups: recordings, or whole folders of the library.")
    ] = NoiseUnit.recording,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core unless given.")] = None,
    skip_refused: Annotated[bool, typer.Option("--skip-refused", help="Leave out files that can't be used.")] = False,
) -> None:
    """Build the store: log-Mels of each utterance and of its noisy copies (Section 5.2).

    Example: [bold]sersearch features --corpus ravdess=data/RAVDESS --noise data/ESC-10 --out stores/ravdess[/bold]
    """
    from sersearch.speech.corpora import read_corpora
    from sersearch.store.build import build_store
    from sersearch.terminal.corpus import BuildProgress

    recordings = read_corpora(
        parse_corpora(corpus),
        parse_list(emotions),
        by_hand=parse_mapping(map),
        distinct_speakers=distinct_speakers,
        about_speakers=speakers,
    )
    with BuildProgress() as progress:
        store = build_store(
            out,
            recordings,
            noise,
            noises=noises if noise else 0,
            snrs=snrs if noise else 0,
            snr_range=parse_snr_range(snr_range),
            bands=bands,
            seed=seed,
            noise_groups=(noise_groups or 0) if noise else 0,
            noise_unit=noise_unit.value,
            workers=workers,
            skip_refused=skip_refused,
            progress=progress,
            decoded=progress.counting("decoding"),
            note=lambda sentence: say_on_stderr(f"note: {sentence}"),
        )
    rows = sum(info.rows for info in store.speakers)
    say(f"{out}: {rows} copies of {len(store.speakers)} speakers, fingerprint {store.fingerprint}")


@app.command("functionals")
def add_functionals(
    out: Annotated[
        Path,
        typer.Option(metavar="STORE", help="The store to add to; run again to continue."),
    ],
    corpus: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="The corpus (or corpora) of the store: openSMILE's sets."),
    ] = None,
    sets: Annotated[str | None, typer.Option(help="Sets, as in IS09,IS13; all six unless given.")] = None,
    table: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Your own .csv or .parquet: a column utterance, all others numbers.",
        ),
    ] = None,
    map: Mapping = None,
    distinct_speakers: DistinctSpeakers = False,
    speakers: Speakers = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core unless given.")] = None,
) -> None:
    """Add one vector per utterance to a store: openSMILE's functionals (Section 4.1), or a table of your own.

    openSMILE comes with the extra `functionals`; its licence allows research and private use, no products.

    Example: [bold]sersearch functionals --corpus ravdess=data/RAVDESS --out stores/ravdess[/bold]
    """
    from sersearch.speech.corpora import read_corpora
    from sersearch.store.reader import open_store
    from sersearch.store.vectors.opensmile import SETS, extract_functionals, reasons_for_nan
    from sersearch.store.vectors.table import import_table
    from sersearch.terminal.corpus import BuildProgress

    if sets is not None and not corpus:
        raise InputError(f"--sets {sets} was given without a corpus; openSMILE needs the sound: give --corpus NAME=DIR")
    if not (corpus or table):
        raise InputError(
            "The source of the vectors is missing: give --corpus NAME=DIR for openSMILE's functionals, or "
            "--table NAME=FILE for your own numbers"
        )
    store, added = open_store(out), []
    if table:
        added.append(import_table(store, *parse_pair("--table", table)))
    if corpus:
        recordings = read_corpora(
            parse_corpora(corpus),
            store.emotions,
            by_hand=parse_mapping(map),
            distinct_speakers=distinct_speakers,
            about_speakers=speakers,
        )
        with BuildProgress() as progress:
            wanted = SETS if sets is None else parse_list(sets)
            added += extract_functionals(store, recordings, wanted or (), workers, progress)
    for manifest in added:
        say(f"{out}: {manifest.name}: {manifest.utterances} vectors of {manifest.dimensions} numbers")
        for sentence in reasons_for_nan(manifest):
            say(f"{out}: {manifest.name}: {sentence}")


@app.command("store")
def show_store(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every file: checksums and counts.")] = False,
    corpus: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="With --verify: make some rows again from the corpus.")
    ] = None,
    noise: Annotated[Path | None, typer.Option(metavar="DIR", help="The noise library, for noisy rows.")] = None,
    map: Mapping = None,
    distinct_speakers: DistinctSpeakers = False,
    speakers: Speakers = None,
    format: _Format = Format.text,
) -> None:
    """Show what a store holds, and check it.

    Example: [bold]sersearch store stores/ravdess --verify --corpus ravdess=data/RAVDESS --noise data/ESC-10[/bold]
    """
    from sersearch.speech.corpora import read_corpora
    from sersearch.store.reader import open_manifest, open_store
    from sersearch.terminal.store import checked_facts, print_store, store_facts

    if (corpus or noise) and not (verify and corpus):
        raise InputError("rows are made again with --verify and --corpus NAME=DIR; --noise DIR adds noisy ones")
    opened = open_manifest(store) if verify else open_store(store)
    recordings = None
    if corpus:
        recordings = read_corpora(
            parse_corpora(corpus),
            opened.emotions,
            by_hand=parse_mapping(map),
            distinct_speakers=distinct_speakers,
            about_speakers=speakers,
        )
    facts = store_facts(opened) | (checked_facts(opened, recordings, noise) if verify else {})
    if format is Format.json:
        say_json(facts)
    else:
        print_store(facts, Screen())
    if verify and facts["faults"]:
        raise typer.Exit(1)


@app.command("new")
def new_study(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The file to write; it must not exist.")],
) -> None:
    """Write a commented study to start from, with the default of every setting.

    Example: [bold]sersearch new mine.toml[/bold]
    """
    from sersearch.study.reference import write_new_study

    write_new_study(study)
    say(f"written to {study}: see what it would train with `sersearch plan {study}`")


@app.command("plan")
def plan_study(
    study: StudyName,
    store: _Store = None,
    set: Changes = None,
    run: Annotated[Path | None, typer.Option(metavar="RUN", help="Mark what this run has done.")] = None,
    format: _Format = Format.text,
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


@app.command("search")
def search_study(
    study: StudyName,
    run: Annotated[Path, typer.Option(metavar="RUN", help="The run's folder; an existing run is continued.")],
    store: _Store = None,
    set: Changes = None,
    address: _Address = None,
    retry_failed: _RetryFailed = False,
    take_over: _TakeOver = False,
    tensorboard: _TensorBoard = False,
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


@app.command("resume")
def resume_run(
    run: _Run,
    store: _Store = None,
    address: _Address = None,
    retry_failed: _RetryFailed = False,
    take_over: _TakeOver = False,
    tensorboard: _TensorBoard = False,
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
    results = run.ledger.results()
    agenda = run.agenda(results)
    with SearchProgress(agenda, results.values(), run.path / "tensorboard" if tensorboard else None) as progress:
        stopped = train(run, session, agenda, results, progress, address)
    for key in agenda.failed:
        say_on_stderr(f"{run.path}: trial {key} failed: {run.ledger.failure(key)}; see {run.ledger.locate(key)}")
    if stopped:
        say_on_stderr(f"{run.path}: {stopped}; resume with `sersearch resume {run.path}`")
    elif agenda.failed:
        say_on_stderr(f"{run.path}: add --retry-failed to try the failed trials again")
    if stopped or agenda.failed:
        raise typer.Exit(1)
    say(f"{run.path}: all {len(agenda.trials)} trials are done; see them with `sersearch report {run.path}`")


@app.command("status")
def show_status(
    run: _Run,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every file of the run, and the plan against it.")
    ] = False,
    format: _Format = Format.text,
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


@app.command("report")
def report_run(run: _Run, store: _Store = None, format: _Format = Format.text) -> None:
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
    say_on_stderr(f"written to {run / 'report'}: open report.html there")


@app.command("probe")
def probe_run(
    run: _Run,
    condition: Annotated[WonUnder, typer.Option(help="Whose winners to probe; the paper's are those of clean.")] = (
        WonUnder.clean
    ),
    store: _Store = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core unless given.")] = None,
    format: _Format = Format.text,
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


@app.command("rerun")
def rerun_trial(
    run: _Run,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The trial's key, or its first characters.")],
    store: _Store = None,
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


@app.command("compare")
def compare_runs(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of two or more runs.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all of it to a file too: .md for Markdown, or .json.")
    ] = None,
    format: _Format = Format.text,
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


@app.command("export-optuna")
def export_run(
    run: _Run,
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="URL of a database; run again to add what is new.")],
) -> None:
    """Write a run's trials to an Optuna storage, one study per space, for optuna-dashboard.

    Example: [bold]sersearch export-optuna runs/smoke sqlite:///studies.db[/bold]
    """
    from sersearch.run.run import open_run
    from sersearch.search.export import export_optuna as export

    for name, added in export(open_run(run), storage).items():
        say(f"{name}: {added} trials added")


@app.command("demo")
def run_demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is written.")] = Path("demo"),
) -> None:
    """Run everything on generated speech, in minutes: corpus, store, search, leaderboard. Run it again to continue.

    Example: [bold]sersearch demo --out demo[/bold]
    """
    from sersearch.demo.study import make_demo
    from sersearch.terminal.corpus import BuildProgress

    say("Synthetic speech (espeak-ng) and generated noise: its figures only show how the tool works.\n")
    with BuildProgress() as progress:
        make_demo(out, progress.counting("generating speech"))
    speech, store, run = out / "speech", out / "store", out / "run"
    _say(f"corpus speech {speech}")
    describe_corpus("speech", speech)
    _say(f"features --corpus speech={speech} --noise {out / 'noise'} --noises 1 --snrs 1 --out {store}")
    build_features(f"speech={speech}", store, out / "noise", noises=1, snrs=1)
    _say(f"search {out / 'study.toml'} --run {run}")
    search_study(out / "study.toml", run)
    _say(f"report {run}")
    report_run(run)
    say("Synthetic speech: the README says how to bring a corpus of your own, or try `sersearch corpus --help`.")


def _say(words: str) -> None:
    say(f"\n$ sersearch {words}", flush=True)
