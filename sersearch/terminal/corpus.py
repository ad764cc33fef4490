"""A corpus after every file was decoded, and the progress of what is built from it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sersearch.speech.corpora import Survey
from sersearch.terminal.live import clock


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
