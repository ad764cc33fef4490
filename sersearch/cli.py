"""The command line."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sersearch.errors import InputError
from sersearch.terminal.commands import App

# What is heavy (torch, Ray) is imported by the command that needs it, so that --help and plan answer at once.

app = App(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Architecture search for speech emotion recognition.",
)


class NoiseUnit(StrEnum):
    """What of a noise library is dealt to groups of speakers."""

    recording = "recording"
    folder = "folder"


class Format(StrEnum):
    """How facts are printed: for people, or for programs."""

    text = "text"
    json = "json"


class WonUnder(StrEnum):
    """The condition under which winners were selected."""

    clean = "clean"
    noisy = "noisy"


_Format = Annotated[Format, typer.Option("--format", help="text for people, json for programs.")]
_Run = Annotated[Path, typer.Argument(help="The run's folder.", metavar="RUN")]
_Emotions = Annotated[
    str | None,
    typer.Option(help="Emotions to keep, as in anger,happiness,calm; the corpus' default unless given."),
]
_Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="LABEL=EMOTION",
        help="Map a label of the corpus by hand, as in exc=happiness; may be given several times.",
    ),
]
_DistinctSpeakers = Annotated[
    bool,
    typer.Option("--distinct-speakers", help="Keep speakers apart whose names look alike, such as 01 and 1."),
]
_Speakers = Annotated[
    Path | None,
    typer.Option(
        metavar="TABLE.csv",
        help="A table with a column speaker, and gender or further facts about each speaker.",
    ),
]
_Address = Annotated[
    str | None,
    typer.Option(help="A running Ray cluster, or 'auto'; without it Ray is started on this machine."),
]
_RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try trials that failed for good again.")]
_TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard files to RUN/tensorboard.")]
_Store = Annotated[Path | None, typer.Option(help="The store; the recorded one unless given.")]


def main() -> None:
    """Run a command; exit with 0 when done, 1 when it failed, 2 when the input was wrong."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        print(f"sersearch: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        print(f"sersearch: {error.filename or ''}: {error.strerror}; finished work is kept", file=sys.stderr)
        sys.exit(1)


def _emit(facts: Any) -> None:
    print(json.dumps(facts, indent=1, ensure_ascii=False))


@app.command("corpus")
def describe_corpus(
    name: Annotated[
        str | None, typer.Argument(help="A corpus of the catalogue, or any name for a folder with a manifest.csv.")
    ] = None,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="The corpus' folder, or its manifest.")] = None,
    emotions: _Emotions = None,
    map: _Map = None,
    distinct_speakers: _DistinctSpeakers = False,
    speakers: _Speakers = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core unless given.")] = None,
) -> None:
    """Show what a corpus contains: counts, speakers, durations, and which files were refused and why.

    Without a name, list the corpora whose layout is known.

    Example: [bold]sersearch corpus ravdess data/RAVDESS[/bold]
    """
    from sersearch.speech.corpora import examine, read_corpus
    from sersearch.terminal.corpus import print_catalogue, print_survey

    if name is None:
        print_catalogue(Console())
        return
    if folder is None:
        raise InputError(f"corpus {name}: its folder is missing: give it, as in sersearch corpus ravdess data/RAVDESS")
    recordings = read_corpus(
        name,
        folder,
        _listed(emotions),
        by_hand=_mapping(map),
        distinct_speakers=distinct_speakers,
        about_speakers=speakers,
    )
    survey = examine(recordings, workers)
    print_survey(survey, Console())
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
    emotions: _Emotions = None,
    map: _Map = None,
    distinct_speakers: _DistinctSpeakers = False,
    speakers: _Speakers = None,
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
        _corpora(corpus),
        _listed(emotions),
        by_hand=_mapping(map),
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
            snr_range=_snr_range(snr_range),
            bands=bands,
            seed=seed,
            noise_groups=(noise_groups or 0) if noise else 0,
            noise_unit=noise_unit.value,
            workers=workers,
            skip_refused=skip_refused,
            progress=progress,
            note=lambda sentence: _say_on_stderr(f"note: {sentence}"),
        )
    rows = sum(info.rows for info in store.speakers)
    print(f"{out}: {rows} copies of {len(store.speakers)} speakers, fingerprint {store.fingerprint}")


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
    map: _Map = None,
    distinct_speakers: _DistinctSpeakers = False,
    speakers: _Speakers = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core unless given.")] = None,
) -> None:
    """Add one vector per utterance to a store: openSMILE's functionals (Section 4.1), or a table of your own.

    openSMILE comes with the extra `functionals`; its licence allows research and private use, no products.

    Example: [bold]sersearch functionals --corpus ravdess=data/RAVDESS --out stores/ravdess[/bold]
    """
    from sersearch.speech.corpora import read_corpora
    from sersearch.store.reader import open_store
    from sersearch.store.vectors.opensmile import SETS, extract_functionals
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
        added.append(import_table(store, *_pair("--table", table)))
    if corpus:
        recordings = read_corpora(
            _corpora(corpus),
            store.emotions,
            by_hand=_mapping(map),
            distinct_speakers=distinct_speakers,
            about_speakers=speakers,
        )
        with BuildProgress() as progress:
            wanted = SETS if sets is None else _listed(sets)
            added += extract_functionals(store, recordings, wanted or (), workers, progress)
    for manifest in added:
        print(f"{out}: {manifest.name}: {manifest.utterances} vectors of {manifest.dimensions} numbers")
        if missing := manifest.not_finite:
            counts = f"{sum(missing.values())} numbers of {len(missing)} utterances"
            print(f"{out}: {manifest.name}: {counts} are NaN (too short, or not to be computed)")


@app.command("store")
def show_store(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every file: checksums and counts.")] = False,
    corpus: Annotated[
        str | None, typer.Option(metavar="NAME=DIR", help="With --verify: make some rows again from this corpus.")
    ] = None,
    noise: Annotated[Path | None, typer.Option(metavar="DIR", help="The noise library, for noisy rows.")] = None,
    map: _Map = None,
    distinct_speakers: _DistinctSpeakers = False,
    format: _Format = Format.text,
) -> None:
    """Show what a store holds, and check it.

    Example: [bold]sersearch store stores/ravdess --verify --corpus ravdess=data/RAVDESS --noise data/ESC-10[/bold]
    """
    from sersearch.speech.corpora import read_corpus
    from sersearch.store.reader import open_manifest, open_store
    from sersearch.terminal.store import checked_facts, print_store, store_facts

    if (corpus or noise) and not (verify and corpus):
        raise InputError("rows are made again with --verify and --corpus NAME=DIR; --noise DIR adds noisy ones")
    opened = open_manifest(store) if verify else open_store(store)
    recordings = None
    if corpus:
        name, folder = _pair("--corpus", corpus)
        by_hand = _mapping(map)
        recordings = read_corpus(name, folder, opened.emotions, by_hand=by_hand, distinct_speakers=distinct_speakers)
    facts = store_facts(opened) | (checked_facts(opened, recordings, noise) if verify else {})
    if format is Format.json:
        _emit(facts)
    else:
        print_store(facts, Console())
    if verify and facts["faults"]:
        raise typer.Exit(1)


@app.command("plan")
def plan_study(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="What to look at.")],
    store: _Store = None,
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
) -> None:
    """Show what a study would train: every trial, its shapes and size, what can't be built, what is done.

    Example: [bold]sersearch plan search_spaces/paper.toml[/bold]
    """
    from sersearch.planning.plan import PAPERS_DATA, make_plan, plan_facts
    from sersearch.study.agenda import Agenda
    from sersearch.study.study import load_study
    from sersearch.terminal.plan import print_forecast, print_plan

    loaded, bound, forecast = load_study(study), None, None
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
        _emit(plan_facts(planned) | ({"forecast": forecast.facts()} if forecast else {}))
        return
    print_plan(planned, console := Console(width=None if sys.stdout.isatty() else 100))
    if forecast:
        print_forecast(forecast, console)


@app.command("search")
def search_study(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="What to search.")],
    run: Annotated[Path, typer.Option(metavar="RUN", help="The run's folder; an existing run is continued.")],
    store: _Store = None,
    address: _Address = None,
    retry_failed: _RetryFailed = False,
    tensorboard: _TensorBoard = False,
) -> None:
    """Train every trial of a study that the run does not hold yet: start a run, or continue it.

    Example: [bold]sersearch search search_spaces/smoke.toml --store stores/ravdess --run runs/smoke[/bold]
    """
    from sersearch.run.run import start_run
    from sersearch.study.study import load_study

    _search(start_run(run, load_study(study), store, _say_on_stderr), address, retry_failed, tensorboard)


@app.command("resume")
def resume_run(
    run: _Run,
    store: _Store = None,
    address: _Address = None,
    retry_failed: _RetryFailed = False,
    tensorboard: _TensorBoard = False,
) -> None:
    """Resume a run with nothing but its folder.

    Example: [bold]sersearch resume runs/smoke[/bold]
    """
    from sersearch.run.run import open_run

    _search(open_run(run, store), address, retry_failed, tensorboard)


def _search(run: Any, address: str | None, retry_failed: bool, tensorboard: bool) -> None:
    from sersearch.search import search as train
    from sersearch.terminal.live import SearchProgress

    if retry_failed:
        run.forgive_failures()
    results = run.ledger.results()
    agenda = run.agenda(results)
    with SearchProgress(agenda, results.values(), run.path / "tensorboard" if tensorboard else None) as progress:
        stopped = train(run, agenda, results, progress, address)
    for key in agenda.failed:
        print(
            f"{run.path}: trial {key} failed: {run.ledger.failure(key)}; see {run.ledger.locate(key)}", file=sys.stderr
        )
    if stopped:
        print(f"{run.path}: {stopped}; resume with `sersearch resume {run.path}`", file=sys.stderr)
    elif agenda.failed:
        print(f"{run.path}: add --retry-failed to try the failed trials again", file=sys.stderr)
    if stopped or agenda.failed:
        raise typer.Exit(1)
    print(f"{run.path}: all {len(agenda.trials)} trials are done; see them with `sersearch report {run.path}`")


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
        _emit(facts)
    else:
        print_status(facts, Console())
    if verify and facts["faults"]:
        raise typer.Exit(1)


@app.command("report")
def report_run(run: _Run, store: _Store = None, format: _Format = Format.text) -> None:
    """Write tables, figures and a page to RUN/report, and show the leaderboard.

    Example: [bold]sersearch report runs/smoke[/bold]
    """
    from sersearch.report.folder import make_report, write_report
    from sersearch.report.text import summary
    from sersearch.run.run import open_run

    facts = make_report(open_run(run, store), _say_on_stderr)
    write_report(facts)
    if format is Format.json:
        _emit(facts.record())
    else:
        print(summary(facts))
        print(f"written to {run / 'report'}: open report.html there", file=sys.stderr)


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

    opened = open_run(run, store)
    whose: Condition = "noisy" if condition is WonUnder.noisy else "clean"
    findings = look_into(opened, whose, _say_on_stderr, workers)
    write_report(make_report(opened, _say_on_stderr))
    if format is Format.json:
        _emit(findings.model_dump(mode="json"))
    else:
        print("\n\n".join(table(sheet) for sheet in sheets_of(findings)))
        print(f"written to {run / 'probe'} and {run / 'report'}: open report.html there", file=sys.stderr)


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
    from sersearch.training.rerun import rerun as train_again

    made = train_again(open_run(run, store), key, lambda epoch: print(f"epoch {epoch.epoch}", file=sys.stderr))
    print(made.verdict)
    if not made.same:
        raise typer.Exit(1)


@app.command("compare")
def compare_runs(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of two or more runs.")],
    format: _Format = Format.text,
) -> None:
    """Merge the leaderboards of runs, with paired tests where runs are tested on the same utterances.

    Two runs are also compared row by row.

    Example: [bold]sersearch compare runs/smoke runs/smoke-2[/bold]
    """
    import numpy as np

    from sersearch.report.folder import SEED, read_report
    from sersearch.report.text import table
    from sersearch.report.versus import compare as match
    from sersearch.report.versus import merge, merged, merged_facts, side_by_side, versus_facts
    from sersearch.run.run import open_run

    if len(runs) < 2:
        raise InputError(f"{runs[0]}: is one run, and a comparison needs two; name another run")
    found = [read_report(open_run(run)) for run in runs]
    boards, sheets, facts = merge(found, np.random.default_rng(SEED)), [], {}
    if len(found) == 2:
        a, b = found
        rows = match(a, b, np.random.default_rng(SEED))
        sheets, facts = [side_by_side(a, b, rows)], versus_facts(a, b, rows)
    if format is Format.json:
        _emit(facts | {"leaderboards": merged_facts(boards)})
    else:
        print("\n\n".join(table(sheet) for sheet in [*sheets, *merged(boards)]))


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
        print(f"{name}: {added} trials added")


@app.command("demo")
def run_demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is written.")] = Path("demo"),
) -> None:
    """Run everything on generated speech, in minutes: corpus, store, search, leaderboard. Run it again to continue.

    Example: [bold]sersearch demo --out demo[/bold]
    """
    from sersearch.demo.study import make_demo

    print("Synthetic speech (espeak-ng) and generated noise: its figures only show how the tool works.\n")
    make_demo(out)
    speech, store, run = out / "speech", out / "store", out / "run"
    _say(f"corpus speech {speech}")
    describe_corpus("speech", speech)
    _say(f"features --corpus speech={speech} --noise {out / 'noise'} --noises 1 --snrs 1 --out {store}")
    build_features(f"speech={speech}", store, out / "noise", noises=1, snrs=1)
    _say(f"search {out / 'study.toml'} --run {run}")
    search_study(out / "study.toml", run)
    _say(f"report {run}")
    report_run(run)
    print("Synthetic speech: see README.md for a corpus of your own.")


def _say_on_stderr(words: str) -> None:
    print(words, file=sys.stderr)


def _say(words: str) -> None:
    print(f"\n$ sersearch {words}", flush=True)


def _pair(option: str, given: str, form: str = "NAME=PATH") -> tuple[str, Path]:
    name, separator, path = given.partition("=")
    if not (name and separator and path):
        raise InputError(f"{option} {given}: write {form}, as in --corpus ravdess=data/RAVDESS")
    return name, Path(path)


def _corpora(given: list[str]) -> dict[str, Path]:
    """Read the values of --corpus: name -> folder."""
    folders: dict[str, Path] = {}
    for pair in given:
        name, folder = _pair("--corpus", pair, "NAME=DIR")
        if set(name) & set("/+"):
            raise InputError(f"--corpus {pair}: the name {name} holds / or +, which join names; choose another")
        if name in folders:
            raise InputError(f"--corpus {pair}: the name {name} is given twice; give each corpus a name of its own")
        folders[name] = folder
    return folders


def _mapping(given: list[str] | None) -> dict[str, str]:
    """Read the values of --map: label -> emotion."""
    mapping: dict[str, str] = {}
    for pair in given or ():
        label, separator, emotion = (part.strip() for part in pair.partition("="))
        if not (label and separator and emotion):
            raise InputError(f"--map {pair}: write LABEL=EMOTION, as in --map exc=happiness")
        if mapping.setdefault(label, emotion) != emotion:
            raise InputError(f"--map {pair}: {label} is mapped to {mapping[label]} as well; choose one")
    return mapping


def _listed(names: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in names.split(",") if name.strip()) if names is not None else None


def _snr_range(given: str) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in given.split(":"))
    except ValueError:
        raise InputError(f"--snr-range {given}: write LOW:HIGH in dB, as in -10:15") from None
    return low, high
