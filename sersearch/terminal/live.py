"""The progress of a search: a live view on a terminal, one line per finished trial elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from sersearch.planning.forecast import Spent, seconds_left
from sersearch.planning.tasks import tasks
from sersearch.run.ledger import Epoch, Result
from sersearch.study.agenda import Agenda
from sersearch.study.conditions import Condition
from sersearch.study.trial import Trial
from sersearch.terminal.screen import Screen

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
    ) -> None:
        """Begin with what the ledger holds.

        Args:
            agenda: what is planned.
            results: what is done.
            tensorboard: a folder for TensorBoard's files, one run per trial; without it none are written.
            console: where to show it; standard error unless given.
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
        for result in results:
            if result.trial.key in named:
                self._enter(result)
        self._epochs: dict[str, list[Epoch]] = {}
        self._looked_at = -math.inf
        self._seconds_left: float | None = None
        self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        """Show the live view, on a terminal."""
        if self.console.is_terminal:
            self._live.start()
        elif self._done:
            self.console.print(f"{len(self._done)} trials are done already", highlight=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the live view away."""
        if self.console.is_terminal:
            self._live.stop()

    def started(self, trial: Trial) -> None:
        """A trial is handed out."""
        self.running[trial.key] = trial
        self._epochs[trial.key] = []
        self._parallel = max(self._parallel, len(self.running))

    def epoch(self, key: str, epoch: Epoch) -> None:
        """A trial has finished an epoch."""
        self._epochs[key].append(epoch)
        if self._tensorboard:
            # It brings torch along, which a plan has no need of.
            from tensorboardX import SummaryWriter

            name = self.running[key].configuration.description.replace(" ", "-")
            with SummaryWriter(str(self._tensorboard / f"{name}-{key}")) as writer:
                for figure in ("train_loss", "validation_loss", "ua_noisy", "ua_clean"):
                    writer.add_scalar(figure, getattr(epoch, figure), epoch.epoch)

    def finished(self, key: str, result: Result | None, error: str) -> None:
        """A trial has a result, or failed with an error."""
        name = self.running.pop(key).configuration.description
        if result is None:
            self.failed[key] = error
            self.console.print(
                f"failed {key} {name}: {error}", style="red", highlight=False, markup=False, soft_wrap=True
            )
            return
        self._enter(result)
        best = result.best_epoch
        epoch = f", epoch {best.epoch} of {len(result.epochs)}" if best else ""
        ua = " ".join(f"{result.ua(condition):.2f} {condition}" for condition in result.conditions)
        self.console.print(
            f"{len(self._done)}/{self._agenda.upper_bound()} {key} {name}: validation UA {ua}{epoch}, "
            f"{result.seconds:.1f} s",
            highlight=False,
            soft_wrap=True,
        )

    def _enter(self, result: Result) -> None:
        """Count a finished trial."""
        self._done[result.trial.key] = spent(result)
        for condition in result.conditions:
            self._best[condition] = max(result.ua(condition), self._best.get(condition, 0.0))

    def dropped(self, key: str, reason: str) -> None:
        """A trial stands where its last checkpoint is; without a reason it had not begun."""
        name = self.running.pop(key).configuration.description
        if not reason:
            return
        line = f"put back {key} {name}: {reason}"
        self.console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def note(self, sentence: str) -> None:
        """Print a sentence above the live view."""
        self.console.print(sentence, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def lost(self, reason: str) -> None:
        """The search can't go on."""
        if self.console.is_terminal:
            self._live.stop()
        line = f"sersearch: {reason}; finished work is kept: resume with `sersearch resume RUN`"
        self.console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)

    def left(self) -> int:
        """Trials that are running or still to come, at most."""
        return self._agenda.upper_bound() - len(self._done) - len(self.failed)

    def seconds_left(self) -> float | None:
        """About how long the rest takes, from what its trials took so far; None where nothing tells yet."""
        done = [self._done[key] for key in self._agenda.trials if key in self._done]
        running = {
            key: Spent(trial.configuration, len(self._epochs[key]), sum(epoch.seconds for epoch in self._epochs[key]))
            for key, trial in self.running.items()
        }
        return seconds_left(done, running, tasks(self._agenda), self._parallel)

    def _render(self) -> RenderableType:
        total = self._agenda.upper_bound()
        # It looks at every trial, and the view is drawn twice a second.
        if time.monotonic() >= self._looked_at + LOOK_EVERY_S:
            self._seconds_left, self._looked_at = self.seconds_left(), time.monotonic()
        seconds = self._seconds_left
        left = "" if seconds is None else f", about {clock(seconds)} left"
        counts = f"{len(self._done)} done, {len(self.running)} running, {self.left()} left of {total}{left}"
        if self._best:
            counts += "; best validation UA " + ", ".join(f"{ua:.2f} {name}" for name, ua in self._best.items())
        table = Table("trial", "model", "epoch", "validation loss", "UA noisy", "UA clean", box=None)
        for key, trial in self.running.items():
            newest = self._epochs[key][-1] if self._epochs[key] else None
            table.add_row(key, trial.configuration.description, *_figures(newest))
        return Group(ProgressBar(total=max(total, 1), completed=len(self._done)), counts, table)


def spent(result: Result) -> Spent:
    """What a finished trial took."""
    return Spent(result.trial.configuration, max(len(result.epochs), 1), result.seconds)


def clock(seconds: float) -> str:
    """A duration as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))


def _figures(epoch: Epoch | None) -> tuple[str, ...]:
    if epoch is None:
        return ("starting", "", "", "")
    return str(epoch.epoch), f"{epoch.validation_loss:.3f}", f"{epoch.ua_noisy:.2f}", f"{epoch.ua_clean:.2f}"
