"""What the command line shows of corpora, stores and runs."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sersearch.planning.forecast import seconds_left
from sersearch.planning.tasks import tasks
from sersearch.run.ledger import Result, verify
from sersearch.run.run import Run
from sersearch.speech.corpora import Survey
from sersearch.study.agenda import Agenda
from sersearch.study.conditions import CONDITIONS, Condition
from sersearch.terminal.live import clock, spent


def print_survey(survey: Survey, console: Console) -> None:
    """Counts by emotion and gender, speakers, durations, refused files and identical recordings."""
    genders = sorted({gender or "unknown" for _, gender in survey.counts})
    table = Table("emotion", *genders, "all", title=f"{survey.name}: utterances", title_justify="left")
    counts = {(emotion, gender or "unknown"): n for (emotion, gender), n in survey.counts.items()}
    for emotion in sorted({emotion for emotion, _ in counts}):
        numbers = [counts.get((emotion, gender), 0) for gender in genders]
        table.add_row(emotion, *map(str, numbers), str(sum(numbers)))
    totals = [sum(n for (_, g), n in counts.items() if g == gender) for gender in genders]
    table.add_section()
    table.add_row("all", *map(str, totals), str(sum(totals)))
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)
    shortest, middle, longest = survey.durations_s
    console.print(
        f"{len(survey.speakers)} speakers; {clock(survey.total_s)} in all, "
        f"{shortest:.2f} to {longest:.2f} s, median {middle:.2f} s",
        highlight=False,
    )
    for group in survey.identical:
        console.print(f"note: {', '.join(group)} are the same recording", highlight=False, soft_wrap=True)
    for refusal in survey.refused:
        console.print(
            f"refused: {refusal.path}: {refusal.reason}",
            style="red",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )


class BuildProgress:
    """A progress bar with the time left, on standard error."""

    def __init__(self) -> None:
        """Prepare the bar; it shows once there is something to count."""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("decoding", total=None)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()

    def __call__(self, done: int, total: int, speaker: str) -> None:
        """Rows that are done, rows in all, and the speaker that was finished last."""
        self._progress.update(self._task, completed=done, total=total, description=f"speaker {speaker}")


def status_facts(run: Run, agenda: Agenda, results: Mapping[str, Result]) -> dict[str, Any]:
    """How far a run is, from its folder alone: its agenda and the results that this was made of."""
    ledger = run.ledger
    done = [results[key] for key in agenda.trials if key in results]
    begun = {key for key in ledger.keys() if key in agenda.trials and key not in results}  # noqa: SIM118
    failed = {key: error for key in sorted(begun) if (error := ledger.failure(key))}
    took = [spent(result) for result in done]
    left = agenda.upper_bound() - len(done)
    return {
        "run": str(run.path),
        "study": run.study.name,
        "total": agenda.upper_bound(),
        "done": len(done),
        "begun": sorted(begun - set(failed)),
        "failed": failed,
        "left": left,
        "complete": agenda.complete,
        "best": {condition: _best(done, condition) for condition in CONDITIONS},
        "device_seconds_left": seconds_left(took, {}, tasks(agenda)),
    }


def _best(done: list[Result], condition: Condition) -> dict[str, Any] | None:
    done = [result for result in done if condition in result.conditions]
    if not done:
        return None
    best = max(done, key=lambda result: result.ua(condition))
    name = best.trial.configuration.description
    return {"key": best.trial.key, "validation_ua": best.ua(condition), "model": name}


def print_status(facts: dict[str, Any], console: Console) -> None:
    """Status for people."""
    console.print(
        f"{facts['run']}: study {facts['study']}, {facts['done']} of {facts['total']} trials done, "
        f"{len(facts['begun'])} begun, {len(facts['failed'])} failed, {facts['left']} left",
        highlight=False,
        soft_wrap=True,
    )
    for condition, best in facts["best"].items():
        if best:
            console.print(
                f"best {condition}: {best['validation_ua']:.2f} % validation UA, {best['model']}, {best['key']}",
                highlight=False,
                soft_wrap=True,
            )
    if facts["left"] and facts["device_seconds_left"] is not None:
        console.print(f"about {clock(facts['device_seconds_left'])} of device time left", highlight=False)
    for key, error in facts["failed"].items():
        console.print(f"failed: {key}: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
    if "findings" in facts:
        for finding in facts["findings"]:
            console.print("{kind}: {key}: {text}".format_map(finding), highlight=False, markup=False, soft_wrap=True)
        console.print(f"verified: {facts['faults']} of {facts['total']} trials missing or damaged", highlight=False)


def verified_facts(run: Run, agenda: Agenda) -> dict[str, Any]:
    """What a check of every trial found; faults are what is missing or damaged."""
    findings = verify(run.ledger, agenda.trials)
    faults = sum(finding.kind in ("missing", "damaged") for finding in findings)
    return {"findings": [vars(finding) for finding in findings], "faults": faults}
