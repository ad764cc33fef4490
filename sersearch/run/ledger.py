"""The record of a run: what is done, what is left.

    RUN/run.json                        the study as resolved, the partition, the store
    RUN/trials/KEY/trial.json           which trial this is
    RUN/trials/KEY/attempt-NNN/         one go at it: checkpoint.pt, epochs.jsonl, best.safetensors, failure.json
                                        (forgiven.json once it was asked for again)
    RUN/trials/KEY/result.json          once, the result

Who writes: a worker writes only in the attempt that it opened, so one that was cut off and goes on training can't touch
another's checkpoint. `result.json` is linked into place whole, once: the first commit wins and later ones are told so.
What a reader may find half done: an attempt without a checkpoint, a torn last line of epochs.jsonl, files named
`.*.part` that a crash left. A trial is done when its result.json is there, and only then.
"""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sersearch import durable
from sersearch.errors import InputError
from sersearch.study.study import CONDITIONS, Condition, Trial

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "best.safetensors"
EPOCHS = "epochs.jsonl"
FAILURE = "failure.json"
FORGIVEN = "forgiven.json"
RESULT = "result.json"


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch; losses are mean cross-entropies in nats, UA in per cent.

    The fit of an SVM counts as one: it has no losses, and no noisy figures, being trained on clean speech.

    Attributes:
        epoch: from 1.
        train_loss: over the minibatches while they were learnt.
        validation_loss: over the validation part, noisy and clean.
        ua_noisy: validation UA under the noisy condition (noisy and clean copies).
        ua_clean: validation UA under the clean condition.
        seconds: wall time, evaluation included.
    """

    epoch: int
    train_loss: float | None
    validation_loss: float | None
    ua_noisy: float | None
    ua_clean: float
    seconds: float


def best_epoch(epochs: Sequence[Epoch]) -> int:
    """Index of the epoch of the lowest validation loss, the first of equals."""
    losses = [math.inf if epoch.validation_loss is None else epoch.validation_loss for epoch in epochs]
    return losses.index(min(losses))


@dataclass(frozen=True)
class Result:
    """A finished trial.

    Attributes:
        trial: which one.
        epochs: all epochs, in order.
        best: index of the epoch of the lowest validation loss, whose weights are kept.
        stopped: "early", "epochs" where the limit came first, "pruned" where it lagged behind other trials, "fitted"
            of an SVM.
        parameters: trained parameters of the model; of an SVM the numbers that it keeps.
        confusion: of the best epoch, by condition and validation speaker: counts [emotion, predicted emotion].
        weights: file of the best epoch's weights, relative to the trial's folder; empty of an SVM, which is fitted
            again to the same bits in less time than it takes to read.
        environment: versions and device that it was trained with.
    """

    trial: Trial
    epochs: tuple[Epoch, ...]
    best: int
    stopped: str
    parameters: int
    confusion: dict[str, dict[str, list[list[int]]]]
    weights: str
    environment: dict[str, str]

    def ua(self, condition: Condition) -> float:
        """Validation UA of the best epoch under a condition, in per cent."""
        epoch = self.epochs[self.best]
        ua = epoch.ua_noisy if condition == "noisy" else epoch.ua_clean
        assert ua is not None, "an SVM has no noisy condition"
        return ua

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Those that it has figures of."""
        return tuple(condition for condition in CONDITIONS if condition in self.confusion)

    def record(self) -> dict[str, Any]:
        """The result as plain JSON."""
        return asdict(self) | {
            "trial": self.trial.record(),
            "epochs": [asdict(epoch) for epoch in self.epochs],
        }

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Result:
        """The inverse of `record`."""
        return Result(
            **{
                **record,
                "trial": Trial.from_record(record["trial"]),
                "epochs": tuple(Epoch(**epoch) for epoch in record["epochs"]),
            }
        )


@dataclass(frozen=True)
class Attempt:
    """One go at a trial, in a folder of its own."""

    trial: Trial
    folder: Path

    @property
    def number(self) -> int:
        """Counted from 1."""
        return int(self.folder.name.removeprefix("attempt-"))

    def checkpoint(self) -> bytes | None:
        """The newest checkpoint of this attempt or those before it; None where there is none."""
        for folder in sorted(self.folder.parent.glob("attempt-*"), reverse=True):
            if folder.name <= self.folder.name and (folder / CHECKPOINT).exists():
                return (folder / CHECKPOINT).read_bytes()
        return None

    def save(self, checkpoint: bytes, epochs: tuple[Epoch, ...]) -> None:
        """Keep a checkpoint; `epochs` are the figures up to it."""
        durable.write(self.folder / CHECKPOINT, checkpoint)
        lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs)
        (self.folder / EPOCHS).write_text(lines, encoding="utf-8")

    def commit(self, result: Result, weights: bytes | None) -> bool:
        """Make the result the trial's, unless it has one; then drop what no reader needs any more.

        Args:
            result: of the trial.
            weights: of its best epoch; None of an SVM.

        Returns:
            Whether it was this attempt's result that was committed.
        """
        if weights is not None:
            durable.write(self.folder / WEIGHTS, weights)
        content = json.dumps(result.record(), indent=1).encode()
        won = durable.write_once(self.folder.parent / RESULT, content)
        for folder in self.folder.parent.glob("attempt-*"):
            (folder / CHECKPOINT).unlink(missing_ok=True)
        if not won:
            (self.folder / WEIGHTS).unlink(missing_ok=True)
        return won

    def fail(self, error: BaseException) -> None:
        """Record why the attempt ended without a result."""
        record = {
            "error": f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error)),
        }
        durable.write(self.folder / FAILURE, json.dumps(record, indent=1).encode())


class Ledger:
    """The trials of a run's folder."""

    def __init__(self, run: Path) -> None:
        """Look at a run; nothing is written or made."""
        self.run = run

    def folder(self, key: str) -> Path:
        """Where a trial is kept."""
        return self.run / "trials" / key

    def begin(self, trial: Trial) -> Attempt:
        """Open a new attempt; of several callers each gets a number of its own."""
        folder = self.folder(trial.key)
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            durable.sync(folder.parent)
            durable.sync(self.run)
        durable.write_once(folder / "trial.json", json.dumps(trial.record(), indent=1).encode())
        number = 1 + max((_number(path) for path in folder.glob("attempt-*")), default=0)
        while True:
            attempt = folder / f"attempt-{number:03}"
            try:
                attempt.mkdir()
            except FileExistsError:
                number += 1
            else:
                durable.sync(folder)
                return Attempt(trial, attempt)

    def fail(self, trial: Trial, reason: str) -> str:
        """Record for a trial that could not do so itself that its last attempt failed; returns the reason."""
        attempts = sorted(self.folder(trial.key).glob("attempt-*"))
        folder = attempts[-1] if attempts else self.begin(trial).folder
        durable.write(folder / FAILURE, json.dumps({"error": reason, "traceback": ""}, indent=1).encode())
        return reason

    def result(self, key: str) -> Result | None:
        """A trial's result; None while it has none.

        Raises:
            InputError: the file is damaged.
        """
        path = self.folder(key) / RESULT
        try:
            return Result.from_record(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is damaged ({type(error).__name__}): restore it, or delete it to train the trial again"
            ) from None

    def results(self) -> dict[str, Result]:
        """All committed results by key."""
        found = ((key, self.result(key)) for key in self.keys())
        return {key: result for key, result in found if result is not None}

    def whole_results(self) -> dict[str, Result]:
        """Those of `results` that are not damaged."""
        found = {}
        for key in self.keys():
            with suppress(InputError):
                if result := self.result(key):
                    found[key] = result
        return found

    def keys(self) -> Iterator[str]:
        """Keys of all trials that were ever begun, sorted."""
        trials = self.run / "trials"
        if trials.is_dir():
            yield from sorted(path.name for path in trials.iterdir() if path.is_dir())

    def weights(self, result: Result) -> Path:
        """The file of a result's best weights."""
        return self.folder(result.trial.key) / result.weights

    def failures(self, key: str) -> list[str]:
        """Why attempts at an unfinished trial failed, in order; empty if the last one is under way or was cut off."""
        attempts = sorted(self.folder(key).glob("attempt-*"))
        if not attempts or not (attempts[-1] / FAILURE).exists():
            return []
        found = [attempt / FAILURE for attempt in attempts if (attempt / FAILURE).exists()]
        return [json.loads(path.read_bytes())["error"] for path in found]

    def failure(self, key: str) -> str | None:
        """Why the last attempt at an unfinished trial failed; None where it did not."""
        errors = self.failures(key)
        return errors[-1] if errors else None

    def forgive(self, key: str) -> None:
        """Keep a trial's failures on record, but count them no more."""
        for attempt in self.folder(key).glob("attempt-*"):
            if (attempt / FAILURE).exists():
                (attempt / FAILURE).rename(attempt / FORGIVEN)


@dataclass(frozen=True)
class Finding:
    """Something that the ledger and the plan don't agree on.

    Attributes:
        kind: "missing" (planned, no result), "damaged" (a file that can't be what was written), "extra" (a result that
            the study does not name), or "repeated" (more than one attempt: a worker, node or search was lost).
        key: the trial's.
        text: what was found.
    """

    kind: str
    key: str
    text: str


def verify(ledger: Ledger, planned: Collection[str]) -> list[Finding]:
    """Check every trial of a run against the plan, reading every byte.

    Only what is missing or damaged is a fault; an extra result is kept but not ranked, and repeated attempts are how a
    run outlives losses.
    """
    there = list(ledger.keys())
    findings = [Finding("missing", key, "never begun") for key in planned if key not in there]
    for key in there:
        folder = ledger.folder(key)
        count = len(list(folder.glob("attempt-*")))
        try:
            result = ledger.result(key)
        except InputError as error:
            findings.append(Finding("damaged", key, str(error)))
            continue
        if result is None:
            if key in planned:
                findings.append(Finding("missing", key, ledger.failure(key) or "begun, not finished"))
        elif fault := _fault(ledger, key, result):
            findings.append(Finding("damaged", key, fault))
        elif key not in planned:
            findings.append(Finding("extra", key, "not in the study as it stands: kept, not ranked"))
        if count > 1:
            findings.append(
                Finding("repeated", key, f"{count} attempts, one result" if result else f"{count} attempts")
            )
    return findings


def _fault(ledger: Ledger, key: str, result: Result) -> str:
    if result.trial.key != key:
        return f"its result is of trial {result.trial.key}"
    if not result.weights:
        return ""
    weights = ledger.weights(result)
    if not weights.is_file():
        return f"{weights} is missing"
    content = weights.read_bytes()
    header = int.from_bytes(content[:8], "little")
    try:
        tensors = json.loads(content[8 : 8 + header])
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError):
        return f"{weights} is no safetensors file"
    return "" if 8 + header + max(ends, default=0) == len(content) else f"{weights} is cut short"


def _number(attempt: Path) -> int:
    return int(attempt.name.removeprefix("attempt-"))
