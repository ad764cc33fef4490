"""The command line."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from sersearch.commands import cluster, data, models, results, studies, templates
from sersearch.errors import InputError, machine_fault, printable
from sersearch.interruption import end_on_ctrl_c, end_process
from sersearch.terminal.commands import App
from sersearch.terminal.screen import let_streams_take_anything, say, say_on_stderr

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
        # At once: without memory, libraries crash where they clean up.
        sys.stdout.flush()
        end_process(1, f"sersearch: {reason}; finished work is kept")


app.command("corpus")(data.describe_corpus)
app.command("features")(data.build_features)
app.command("functionals")(data.add_functionals)
app.command("store")(data.show_store)
app.command("new")(studies.new_study)
app.command("plan")(studies.plan_study)
app.command("search")(studies.search_study)
app.command("resume")(studies.resume_run)
app.command("status")(studies.show_status)
app.command("report")(results.report_run)
app.command("probe")(results.probe_run)
app.command("rerun")(results.rerun_trial)
app.command("compare")(results.compare_runs)
app.command("export")(models.export_trial)
app.command("predict")(models.predict_audio)
app.command("export-optuna")(results.export_run)
app.command("export-mlflow")(results.export_run_to_mlflow)

cluster_app = App(no_args_is_help=True, rich_markup_mode="rich", help="Prepare a search on more than one machine.")
cluster_app.command("slurm")(templates.render_slurm)
cluster_app.command("ssh")(templates.render_ssh)
cluster_app.command("kuberay")(templates.render_kuberay)
cluster_app.command("aws")(templates.render_aws)
cluster_app.command("gcp")(templates.render_gcp)
cluster_app.command("docker")(templates.render_docker)
cluster_app.command("check")(cluster.check_cluster)
app.add_typer(cluster_app, name="cluster")


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
    data.describe_corpus("speech", speech)
    _say(f"features --corpus speech={speech} --noise {out / 'noise'} --noises 1 --snrs 1 --out {store}")
    data.build_features([f"speech={speech}"], store, str(out / "noise"), noises=1, snrs=1)
    _say(f"search {out / 'study.toml'} --run {run}")
    studies.search_study(out / "study.toml", run)
    _say(f"report {run}")
    results.report_run(run)
    say("Synthetic speech: the README says how to bring a corpus of your own, or try `sersearch corpus --help`.")


def _say(words: str) -> None:
    say(f"\n$ sersearch {words}", flush=True)
