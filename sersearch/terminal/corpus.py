"""A corpus after every file was decoded, and the progress of what is built from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sersearch.speech.audio import describe_ignored
from sersearch.speech.corpora import Survey, known_corpora
from sersearch.terminal.live import clock


def print_catalogue(console: Console) -> None:
    """Print the corpora whose layout is known, with their sizes, licences and sources."""
    widest = max(map(len, known_corpora()))
    for name, corpus in known_corpora().items():
        facts = [
            f"{corpus.speakers} speakers" if corpus.speakers else "",
            f"{corpus.utterances:,} utterances" if corpus.utterances else "",
            corpus.licence,
        ]
        lines = [corpus.title, "; ".join(fact for fact in facts if fact), corpus.source]
        lines += [f"can't be used: {corpus.unusable}"] if corpus.unusable else []
        lines += [f"leaves out {corpus.left_out}"] if corpus.left_out else []
        grid = Table.grid(padding=(0, 2))
        grid.add_column(width=widest, no_wrap=True, style="bold")
        grid.add_column(overflow="fold")
        grid.add_row(name, Text("\n".join(lines)))
        console.print(grid)
    console.print("Any other corpus needs a manifest.csv with the columns path, speaker and emotion.", highlight=False)


def _print_origin(survey: Survey, console: Console) -> None:
    """Print what the catalogue says of a corpus, and whether it is complete."""
    known = known_corpora().get(survey.name)
    if known is None:
        return
    console.print(f"{known.title}: {known.reference}", highlight=False, soft_wrap=True)
    console.print(f"licence {known.licence}; from {known.source}", highlight=False, soft_wrap=True)
    if known.speakers and known.speakers != len(survey.speakers):
        console.print(
            f"note: {len(survey.speakers)} of its {known.speakers} speakers are here", highlight=False, soft_wrap=True
        )


def print_survey(survey: Survey, console: Console) -> None:
    """Print what a survey found: counts by emotion and gender, speakers, durations, levels, rates, and unused files."""
    _print_origin(survey, console)
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
    for line in _describe_sound(survey):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    speakers = ", ".join(f"{speaker} ({count})" for speaker, count in survey.speakers.items())
    if speakers:
        console.print(f"utterances per speaker: {speakers}", highlight=False, soft_wrap=True, markup=False)
    for note in survey.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
    for refusal in survey.refused:
        console.print(
            f"refused: {_printable(refusal.path)}: {refusal.reason}",
            style="red",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )


def _describe_sound(survey: Survey) -> Iterator[str]:
    """Describe levels, rates and channels, how much they differ, and the files that are not read."""
    levels_db = survey.speaker_levels_db
    if levels_db:
        yield (
            f"RMS level per speaker {min(levels_db.values()):.1f} to {max(levels_db.values()):.1f} dB re full scale; "
            f"{_counts(survey.file_rates, 'Hz')}; {_counts(survey.file_channels, 'channel(s)')}"
        )
    yield from (f"note: {difference}" for difference in survey.differences)
    if survey.ignored:
        yield f"not read: {describe_ignored(survey.ignored)}"


def _counts(files: Mapping[int, int], unit: str) -> str:
    """Write how many files have each value, such as "16000 Hz: 36 files, 48000 Hz: 2 files"."""
    return ", ".join(f"{value} {unit}: {count} file{'s' if count > 1 else ''}" for value, count in files.items())


def _printable(path: Path) -> str:
    """Write a path whose bytes may not be UTF-8, which a terminal refuses, with escapes."""
    return str(path).encode(errors="backslashreplace").decode()


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
