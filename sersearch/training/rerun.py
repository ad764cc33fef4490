"""Training a trial of a run again, to see whether the numbers come out the same. Without Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sersearch.errors import InputError
from sersearch.run.ledger import Epoch, Result
from sersearch.run.run import Run
from sersearch.study.configuration import SVMConfiguration
from sersearch.training.dataset import open_dataset
from sersearch.training.network import run_trial
from sersearch.training.svm import open_vectors, run_svm


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
        """Whether every figure of every epoch and every count of the best one is the same, to the last bit."""
        return _figures(self.before) == _figures(self.now)

    @property
    def first_difference(self) -> int | None:
        """The first epoch whose figures differ, from 1; None where none does."""
        if self.same:
            return None
        pairs = zip(self.before.epochs, self.now.epochs, strict=False)
        differing = (a.epoch for a, b in pairs if _epoch(a) != _epoch(b))
        return next(differing, min(len(self.before.epochs), len(self.now.epochs)) + 1)

    @property
    def verdict(self) -> str:
        """All of it in a line or two."""
        key, epochs = self.before.trial.key, len(self.before.epochs)
        if self.same:
            return f"{key}: the same, to the last bit, in {'all ' * (epochs > 1)}{epochs} epoch{'s' * (epochs > 1)}"
        old, new = (result.epochs[result.best] for result in (self.before, self.now))
        changed = "; ".join(f"{name} was {was} and is {now}" for name, (was, now) in self.changed.items())
        return (
            f"{key}: not the same from epoch {self.first_difference}; "
            f"on record validation UA {_ua(old)}; now {_ua(new)}\n"
            f"{changed or 'Its environment is the same as far as it is on record: was it another version of the code?'}"
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
        key: the trial's, or the beginning of it.
        report: called with each epoch's figures.

    Raises:
        InputError: the run has no such trial, several, or one of other data.
    """
    before = _find(run, key)
    on_gpu = before.environment.get("device", "cpu").startswith("cuda") and torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    if isinstance(configuration := before.trial.configuration, SVMConfiguration):
        partition, left_out = run.partition, before.trial.held_out
        everybody = (*partition.train, *partition.validation, *partition.test)
        seen = set(everybody) - {left_out} if left_out else {*partition.train, *partition.validation}
        vectors = open_vectors(run, configuration.features, seen)
        return Rerun(before, run_svm(before.trial, vectors, partition.train, partition.validation))
    return Rerun(before, run_trial(before.trial, open_dataset(run.store, run.partition), report, device=device))


def _find(run: Run, key: str) -> Result:
    matching = [known for known in run.ledger.keys() if known.startswith(key)]  # noqa: SIM118
    if len(matching) != 1:
        found = f"{len(matching)} trials begin so" if matching else "there is no such trial"
        raise InputError(
            f"{key}: {found} in {run.path}; take a key from leaderboard.csv or trials.parquet in its report"
        )
    result = run.ledger.result(matching[0])
    if result is None:
        raise InputError(f"{matching[0]}: has no result in {run.path}; `sersearch resume {run.path}` trains it")
    if result.trial.data != run.material.trials(result.trial.configuration, 1)[0].data:
        raise InputError(f"{matching[0]}: was trained on other data than {run.path} names now; rerun it in its own run")
    if result.stopped == "pruned":
        raise InputError(
            f"{matching[0]}: was stopped after {len(result.epochs)} epochs because others were ahead, which only a "
            "search knows; rerun one that was trained to the end"
        )
    return result


def _ua(epoch: Epoch) -> str:
    noisy = "" if epoch.ua_noisy is None else f"{epoch.ua_noisy:.2f} noisy, "
    return f"{noisy}{epoch.ua_clean:.2f} clean"


def _figures(result: Result) -> list[object]:
    return [*map(_epoch, result.epochs), result.best, result.confusion]


def _epoch(epoch: Epoch) -> dict[str, float]:
    """An epoch's figures but for how long it took."""
    return {name: value for name, value in vars(epoch).items() if name != "seconds"}
