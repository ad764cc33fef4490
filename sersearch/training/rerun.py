"""Training a trial of a run again, to see whether the numbers come out the same. Without Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sersearch.errors import InputError
from sersearch.run.ledger import Epoch, Result
from sersearch.run.run import Run
from sersearch.training.system import Device, run_trial, system_class


@dataclass(frozen=True)
class Rerun:
    """A trial trained twice.

    Attributes:
        before: the result on record.
        now: the one just made, which is not kept.
    """

    before: Result
    now: Result

    @property
    def same(self) -> bool:
        """Whether every figure of every epoch and every count of the trained model is the same, to the last bit."""
        return _figures(self.before) == _figures(self.now)

    @property
    def first_difference(self) -> int | None:
        """The first epoch whose figures differ, from 1; None where none does or there are no epochs."""
        before, now = self.before.epochs, self.now.epochs
        for old, new in zip(before, now, strict=False):
            if _epoch(old) != _epoch(new):
                return old.epoch
        return None if len(before) == len(now) else min(len(before), len(now)) + 1

    @property
    def verdict(self) -> str:
        """The comparison in one or two lines."""
        key = self.before.trial.key
        epochs = len(self.before.epochs)
        if self.same:
            extent = f" in {epochs} epoch{'s' if epochs > 1 else ''}" if epochs else ""
            return f"{key}: the same to the last bit{extent}"
        since = f" from epoch {self.first_difference}" if self.first_difference else ""
        changed = "; ".join(f"{name} was {was} and is {now}" for name, (was, now) in self.changed.items())
        same_environment = "The recorded environment is the same; check whether the code changed without a new commit."
        return (
            f"{key}: not the same{since}; validation UA on record {_ua(self.before)}; now {_ua(self.now)}\n"
            f"{changed or same_environment}"
        )

    @property
    def changed(self) -> dict[str, tuple[str, str]]:
        """What of the environment was not the same: before and now, by name."""
        before, now = self.before.environment, self.now.environment
        names = sorted(before.keys() | now.keys())
        return {n: (before.get(n, "–"), now.get(n, "–")) for n in names if before.get(n) != now.get(n)}


def rerun(run: Run, key: str, report: Callable[[Epoch], object] | None = None) -> Rerun:
    """Train a trial again from its recorded configuration, on a GPU if it was and there is one.

    Args:
        run: that has it; it is left as it is.
        key: the trial's, or its first characters.
        report: called with each epoch's figures.

    Raises:
        InputError: the run has no such trial, several, or one of other data.
    """
    before = find_result(run, key)
    if before.stopped == "pruned":
        raise InputError(
            f"{before.trial.key}: was stopped after {len(before.epochs)} epochs because others were ahead, which only "
            "a search can repeat; rerun a trial that was trained to the end"
        )
    was_on_gpu = before.environment.get("device", "cpu").startswith("cuda")
    device: Device = "cuda" if was_on_gpu and torch.cuda.is_available() else "cpu"
    data = system_class(before.trial.configuration).open_data(run.store, before.trial)
    return Rerun(before, run_trial(before.trial, data, report, device=device))


def find_result(run: Run, key: str) -> Result:
    """The result of a trial.

    Args:
        run: that has it.
        key: the trial's, or its first characters.

    Raises:
        InputError: the run has no such trial, several, one without a result, or one of other data.
    """
    matching = [known for known in run.ledger.keys() if known.startswith(key)]  # noqa: SIM118
    where = "take a key from leaderboard.csv or trials.parquet in its report"
    if not matching:
        raise InputError(f"{key}: {run.path} has no trial with this key; {where}")
    if len(matching) > 1:
        raise InputError(f"{key}: the prefix matches {len(matching)} trials in {run.path}; give more characters")
    result = run.ledger.result(matching[0])
    if result is None:
        raise InputError(f"{matching[0]}: has no result in {run.path}; `sersearch resume {run.path}` trains it")
    if result.trial.data != run.identity.data(result.trial.configuration):
        raise InputError(f"{matching[0]}: was trained on other data than {run.path} names now; use its own run")
    return result


def _ua(result: Result) -> str:
    return ", ".join(f"{result.ua(condition):.2f} {condition}" for condition in result.conditions)


def _figures(result: Result) -> list[object]:
    return [*map(_epoch, result.epochs), result.best, result.confusion]


def _epoch(epoch: Epoch) -> dict[str, float]:
    """An epoch's figures but for how long it took."""
    return epoch.model_dump(exclude={"seconds"})
