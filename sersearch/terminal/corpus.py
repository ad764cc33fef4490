"""A corpus after every file was decoded, and the progress of what is built from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sersearch.errors import printable
from sersearch.speech.audio import describe_ignored
from sersearch.speech.corpora import Survey, known_corpora
from sersearch.speech.corpora.known_noises import known_noises
from sersearch.terminal.lines import MINUTE_S, EveryMinute
from sersearch.terminal.live import clock
from sersearch.terminal.screen import Screen


def print_catalogue(console: Screen) -> None:
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
        _print_entry(name.ljust(widest), lines, console)
    console.say("Any other corpus needs a manifest.csv with the columns path, speaker and emotion.")
    console.print()
    console.say("Noise libraries, for --noise NAME=DIR; any other folder of audio is read whole:")
    for name, noises in known_noises().items():
        parts = f"; {', '.join(noises.kept)}" if noises.kept else ""
        _print_entry(name.ljust(widest), [f"{noises.title}{parts}", noises.licence, noises.source], console)


def _print_entry(name: str, lines: Sequence[str], console: Screen) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    grid.add_row(name, Text("\n".join(lines)))
    console.print(grid)


def _print_origin(survey: Survey, console: Screen) -> None:
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


def print_survey(survey: Survey, console: Screen) -> None:
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
    console.say(
        f"{len(survey.speakers)} speakers; {clock(survey.total_s)} in all, "
        f"{shortest:.2f} to {longest:.2f} s, median {middle:.2f} s",
    )
    for line in _describe_sound(survey):
        console.say(line)
    speakers = ", ".join(f"{speaker} ({count})" for speaker, count in survey.speakers.items())
    if speakers:
        console.say(f"utterances per speaker: {speakers}")
    if words := _describe_sentences(survey):
        console.say(words)
    for note in survey.notes:
        console.say(f"note: {note}")
    for refusal in survey.refused:
        console.say(f"refused: {refusal.path}: {refusal.reason}", "red")


def _describe_sentences(survey: Survey) -> str:
    """How many sentences there are, and how many of them several speakers share; "" where no column says."""
    column, speakers_of = survey.sentences
    if not speakers_of:
        return ""
    shared = sum(speakers > 1 for speakers in speakers_of.values())
    return f"{len(speakers_of)} sentences (column {column}), {shared} of them spoken by several speakers"


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


class BuildProgress:
    """Progress on standard error: a bar with the time left on a terminal, a line every minute elsewhere."""

    def __init__(self, console: Screen | None = None, every_s: float = MINUTE_S) -> None:
        """Prepare the bar.

        Args:
            console: where to show it; standard error unless given.
            every_s: seconds between two lines where the console is no terminal.
        """
        self._console = console or Screen(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=None, visible=False)
        self._counted = ("", 0)
        self._lines = EveryMinute(self._line, lambda line: self._console.say(line), every_s)

    def __enter__(self) -> Self:
        """Show the bar, or begin with a line every minute."""
        if self._console.is_terminal:
            self._bar.start()
        else:
            self._lines.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands."""
        if self._console.is_terminal:
            self._bar.stop()
        else:
            self._lines.__exit__(kind, error, trace)

    def __call__(self, done: int, total: int, speaker: str) -> None:
        """Rows that are done, rows in all, and the speaker that was finished last."""
        self._show(done, total, "building", f"speaker {speaker}")

    def counting(self, doing: str) -> Callable[[int, int], None]:
        """A function that is called with what is done and what there is in all, while something is done."""
        return lambda done, total: self._show(done, total, doing, doing)

    def _show(self, done: int, total: int, doing: str, description: str) -> None:
        if (doing, total) != self._counted:
            # What is counted is something else now, whose pace is yet to be seen.
            self._bar.reset(self._task)
            self._counted = doing, total
        self._bar.update(self._task, completed=done, total=total, description=printable(description), visible=True)

    def _line(self) -> str:
        task = self._bar.tasks[0]
        counted = "" if task.total is None else f": {task.completed:.0f} of {task.total:.0f}"
        left = "" if not task.time_remaining else f", about {clock(task.time_remaining)} left"
        return f"{task.description}{counted}{left}"
