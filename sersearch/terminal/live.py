"""The progress of a search: a live view on a terminal; elsewhere a line per finished trial and one per minute."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stderr
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sersearch.planning.forecast import Spent, seconds_left
from sersearch.planning.tasks import tasks
from sersearch.run.ledger import Epoch, Result
from sersearch.study.agenda import Agenda
from sersearch.study.conditions import Condition
from sersearch.study.fold import PARTS, Fold, Part
from sersearch.study.study import Study
from sersearch.study.trial import Folds, StoreIdentity, Trial
from sersearch.terminal.lines import MINUTE_S, EveryMinute
from sersearch.terminal.screen import Screen

if TYPE_CHECKING:
    from sersearch.search.nodes import Finding

BAR_WIDTH = 60
KEY_WIDTH = 8
MOST_NAMED = 4
"""How many running trials a line of a log names."""
MOST_SPEAKERS = 40
SPARE_LINES = 3
"""Lines of the screen that the live view leaves: the head of the table, the count of what does not fit, the cursor."""
LOOK_EVERY_S = 5.0
"""How often the live view works out the time that is left."""


class SearchProgress:
    """Follows a search; use it as a context around one.

    Attributes:
        running: trials that are handed out.
        failed: errors of the trials that failed in this session, by key.
    """

    def __init__(
        self,
        agenda: Agenda,
        results: Iterable[Result],
        tensorboard: Path | None = None,
        console: Screen | None = None,
        every_s: float = MINUTE_S,
    ) -> None:
        """Begin with what the ledger holds.

        Args:
            agenda: what is planned.
            results: what is done.
            tensorboard: a folder for TensorBoard's files, one run per trial; without it none are written.
            console: where to show it; standard error unless given.
            every_s: seconds between two lines where the console is no terminal.
        """
        self.console = console or Screen(stderr=True)
        self.running: dict[str, Trial] = {}
        self.failed: dict[str, str] = {}
        self._agenda = agenda
        self._tensorboard = tensorboard
        self._parallel = 1
        named = agenda.trials
        self._done: dict[str, Spent] = {}
        self._best: dict[Condition, float] = {}
        self._in_folds = False
        for result in results:
            if result.trial.key in named:
                self._enter(result)
        # Of running trials alone. The view is drawn by another thread, which may miss a trial that has just ended.
        self._epochs: dict[str, list[Epoch]] = {}
        self._seen_epoch = False
        self._looked_at = -math.inf
        self._seconds_left: float | None = None
        self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=2, transient=True)
        self._lines = EveryMinute(self._line, self._say, every_s)

    def __enter__(self) -> Self:
        """Say who trains, chooses and tests; then show the live view, or begin with a line per minute."""
        for line in parts_of(self._agenda.study, self._agenda.identity):
            self._say(line)
        if self.console.is_terminal:
            self._live.start()
            return self
        if self._done:
            self._say(f"{len(self._done)} trials are done already")
        self._lines.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the live view away."""
        if self.console.is_terminal:
            self._live.stop()
        else:
            self._lines.__exit__(kind, error, trace)

    def started(self, trial: Trial) -> None:
        """A trial is handed out."""
        self.running[trial.key] = trial
        self._epochs[trial.key] = []
        self._parallel = max(self._parallel, len(self.running))

    def epoch(self, key: str, epoch: Epoch) -> None:
        """A trial has finished an epoch."""
        self._epochs[key].append(epoch)
        if not self._seen_epoch and not self.console.is_terminal:
            # A log shows at once that training goes on; its next line may be a minute away.
            self._say(f"{trial_name(self.running[key])}: {describe_epoch(epoch)}")
        self._seen_epoch = True
        if self._tensorboard:
            # It brings torch along, which a plan has no need of.
            from tensorboardX import SummaryWriter

            name = self.running[key].configuration.description.replace(" ", "-")
            with SummaryWriter(str(self._tensorboard / f"{name}-{key}")) as writer:
                for figure in ("train_loss", "validation_loss", "ua_noisy", "ua_clean"):
                    writer.add_scalar(figure, getattr(epoch, figure), epoch.epoch)

    def finished(self, key: str, result: Result | None, error: str) -> None:
        """A trial has a result, or failed with an error."""
        name = trial_name(self.running.pop(key))
        self._epochs.pop(key, None)
        if result is None:
            self.failed[key] = error
            self._say(f"failed {key} {name}: {error}", "red")
            return
        self._enter(result)
        best = result.best_epoch
        epoch = f", epoch {best.epoch} of {len(result.epochs)}" if best else ""
        ua = " ".join(f"{result.ua(condition):.2f} {condition}" for condition in result.conditions)
        self._say(
            f"{len(self._done)}/{self._agenda.upper_bound()} {key} {name}: validation UA {ua}{epoch}, "
            f"{result.seconds:.1f} s"
        )

    def _enter(self, result: Result) -> None:
        """Count a finished trial."""
        # The agenda's configuration is kept, for the one that was read with the result takes 3 KiB of its own.
        configuration = self._agenda.trials[result.trial.key].configuration
        self._done[result.trial.key] = spent(result)._replace(configuration=configuration)
        # Of the results and not of the agenda, which is empty before a sampler has drawn.
        self._in_folds = self._in_folds or bool(result.trial.fold.name)
        for condition in result.conditions:
            self._best[condition] = max(result.ua(condition), self._best.get(condition, 0.0))

    def dropped(self, key: str, reason: str) -> None:
        """A trial stands where its last checkpoint is; without a reason it had not begun."""
        name = trial_name(self.running.pop(key))
        self._epochs.pop(key, None)
        if not reason:
            return
        self._say(f"put back {key} {name}: {reason}", "yellow")

    def checked(self, findings: Sequence[Finding]) -> None:
        """Print the check of a cluster's nodes."""
        # The tables of a report bring pyarrow along, which a plan has no need of.
        from sersearch.terminal.cluster import print_check

        print_check(findings, self.console)

    def note(self, sentence: str) -> None:
        """Print a sentence above the live view."""
        self._say(sentence, "yellow")

    def lost(self, reason: str) -> None:
        """The search can't go on."""
        if self.console.is_terminal:
            # Stopping puts the first standard error back, whose words go to Ray's log now.
            with redirect_stderr(sys.stderr):
                self._live.stop()
        self._say(f"sersearch: {reason}", "red")

    def left(self) -> int:
        """Trials that are running or still to come, at most."""
        return self._agenda.upper_bound() - len(self._done) - len(self.failed)

    def seconds_left(self) -> float | None:
        """About how long the rest takes, from what its trials took so far; None where nothing tells yet."""
        done = [self._done[key] for key in self._agenda.trials if key in self._done]
        running = {
            key: Spent(trial.configuration, *_so_far(self._epochs.get(key, ()))) for key, trial in self.running.items()
        }
        return seconds_left(done, running, tasks(self._agenda), self._parallel)

    def _say(self, line: str, style: str | None = None) -> None:
        self.console.say(line, style)

    def _counts(self) -> str:
        """How far the search is; the time left is worked out every few seconds, because it looks at every trial."""
        if time.monotonic() >= self._looked_at + LOOK_EVERY_S:
            self._seconds_left, self._looked_at = self.seconds_left(), time.monotonic()
        left = "" if self._seconds_left is None else f", about {clock(self._seconds_left)} left"
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{len(self._done)} of {self._agenda.upper_bound()} done, {len(self.running)} running{failed}{left}"

    def _best_so_far(self) -> str:
        if not self._best:
            return ""
        # The validation speakers of one fold may be easier than those of another one.
        of_what = " of one fold" if self._in_folds else ""
        return f"best validation UA{of_what}: " + ", ".join(f"{ua:.2f} % {name}" for name, ua in self._best.items())

    def _line(self) -> str:
        """How far the search is, on one line."""
        running = [f"{trial_name(trial)}{_at(self._epochs.get(key, ()))}" for key, trial in self.running.copy().items()]
        few = ", ".join(running[:MOST_NAMED]) + (f" and {len(running) - MOST_NAMED} more" * (len(running) > MOST_NAMED))
        return "; ".join(part for part in (self._counts(), self._best_so_far(), few) if part)

    def _render(self) -> RenderableType:
        total = max(self._agenda.upper_bound(), 1)
        # A bar ends without a newline, so it shares a row with nothing but its own grid.
        bar = Table.grid()
        bar.add_row(ProgressBar(total=total, completed=len(self._done), width=min(self.console.width, BAR_WIDTH)))
        lines: list[RenderableType] = [Text(self._counts()), bar]
        if best := self._best_so_far():
            lines.append(Text(best))
        return Group(*lines, self._running(self.console.height - len(lines) - SPARE_LINES))

    def _running(self, most: int) -> RenderableType:
        """The running trials; those that don't fit on the screen are counted."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("trial", "model"):
            table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=1 if heading == "model" else None)
        for heading in ("epoch", "loss", "noisy %", "clean %"):
            table.add_column(heading, no_wrap=True, justify="right")
        running = list(self.running.copy().items())
        for key, trial in running[: max(most, 1)]:
            in_epochs = trial.configuration.step_limits[1] > 1
            table.add_row(key[:KEY_WIDTH], trial_name(trial), *_figures(self._epochs.get(key, ()), in_epochs))
        if len(running) <= max(most, 1):
            return table
        return Group(table, Text(f"and {len(running) - max(most, 1)} more"))


def trial_name(trial: Trial) -> str:
    """What tells a trial from others: its configuration, and its seed and fold where there are several."""
    seed = f"seed {trial.seed}" if trial.seed else ""
    return ", ".join(part for part in (trial.configuration.description, seed, trial.fold.name) if part)


def parts_of(study: Study, identity: StoreIdentity) -> Iterator[str]:
    """Say which speakers train, choose and test, one line per part; of several folds, their number and sizes."""
    protocols = {
        (protocol, space.kind.validates_within_training) for space in study.spaces for protocol in space.protocols
    }
    dealt = Folds(identity.speakers, study.partition, identity.groups)
    said: dict[str, None] = {}
    for protocol, validates_within_training in sorted(protocols):
        folds = dealt.of_protocol(protocol, validates_within_training)
        parts = [part for part in PARTS if folds[0].speakers(part)]
        if len(folds) == 1:
            said |= dict.fromkeys(_part(part, folds[0].speakers(part)) for part in parts)
            continue
        sizes = ", ".join(f"{_sizes(folds, part)} {part}" for part in parts)
        tested = _few([" and ".join(_few(fold.test)) for fold in folds])
        said[f"{protocol}: {len(folds)} folds of {sizes} speakers; tested in turn: {', '.join(tested)}"] = None
    yield from said


def _sizes(folds: Sequence[Fold], part: Part) -> str:
    """How many speakers a part has, from the smallest fold to the largest."""
    sizes = sorted(len(fold.speakers(part)) for fold in folds)
    return " to ".join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))


def _part(part: Part, speakers: Sequence[str]) -> str:
    return f"{part}: {len(speakers)} speaker{'s' if len(speakers) > 1 else ''}: {', '.join(_few(speakers))}"


def _few(names: Sequence[str]) -> list[str]:
    more = len(names) - MOST_SPEAKERS
    return [*names[:MOST_SPEAKERS], f"and {more} more"] if more > 0 else list(names)


def _at(epochs: Sequence[Epoch]) -> str:
    if not epochs:
        return ""
    newest = epochs[-1]
    return f" (epoch {newest.epoch}, UA {newest.ua_noisy:.2f} noisy {newest.ua_clean:.2f} clean)"


def describe_epoch(epoch: Epoch) -> str:
    """An epoch's figures on one line."""
    return (
        f"epoch {epoch.epoch}: validation loss {epoch.validation_loss:.3f}, "
        f"UA {epoch.ua_noisy:.2f} noisy {epoch.ua_clean:.2f} clean, {epoch.seconds:.1f} s"
    )


def _so_far(epochs: Sequence[Epoch]) -> tuple[int, float]:
    """How many epochs there are, and their seconds."""
    return len(epochs), sum(epoch.seconds for epoch in epochs)


def spent(result: Result) -> Spent:
    """What a finished trial took."""
    return Spent(result.trial.configuration, max(len(result.epochs), 1), result.seconds)


def clock(seconds: float) -> str:
    """A duration as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))


def _figures(epochs: Sequence[Epoch], in_epochs: bool) -> tuple[str, ...]:
    if not epochs:
        return ("starting" if in_epochs else "fitting", "", "", "")
    newest = epochs[-1]
    return str(newest.epoch), f"{newest.validation_loss:.3f}", f"{newest.ua_noisy:.2f}", f"{newest.ua_clean:.2f}"
