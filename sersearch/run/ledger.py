"""The record of a run: what is done, what is left.

    RUN/run.json                        the study as launched, the store, the speakers
    RUN/trials/KEY/trial.json           which trial this is, without its test speakers
    RUN/trials/KEY/attempt-NNN/         one attempt at it: attempt.json, checkpoint, epochs.jsonl, weights,
                                        failure.json (forgiven.json once the trial was asked for again)
    RUN/trials/KEY/result.json          once, the result

Who writes: a worker writes only in the attempt that it opened, so a worker that was cut off and continues to train
can't touch another's checkpoint. `result.json` is put once: the first commit wins and later ones are told so. What a
reader may find half done: an attempt without a checkpoint. A trial is done when its result.json is there, and only
then.
"""

from __future__ import annotations

import json
import platform
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import safetensors
from pydantic import BaseModel, ConfigDict, ValidationError

from sersearch.errors import InputError
from sersearch.run.storage import Storage
from sersearch.statistics.counts import mean_recall
from sersearch.study.conditions import CONDITIONS, Condition
from sersearch.study.trial import Trial

ATTEMPT = "attempt.json"
CHECKPOINT = "checkpoint"
WEIGHTS = "best.safetensors"
EPOCHS = "epochs.jsonl"
FAILURE = "failure.json"
FORGIVEN = "forgiven.json"
RESULT = "result.json"
TRIAL = "trial.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Epoch(_Record):
    """Figures of one epoch of training; losses are mean cross-entropies in nats, UA in per cent.

    Attributes:
        epoch: from 1.
        train_loss: over the minibatches while they were learnt.
        validation_loss: over the validation speakers, noisy and clean copies.
        ua_noisy: validation UA under the noisy condition (noisy and clean copies).
        ua_clean: validation UA under the clean condition.
        seconds: wall time, evaluation included.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    ua_noisy: float
    ua_clean: float
    seconds: float

    def ua(self, condition: Condition) -> float:
        """Validation UA under a condition, in per cent."""
        return self.ua_noisy if condition == "noisy" else self.ua_clean


Confusion = dict[Condition, dict[str, list[list[int]]]]
"""By condition and validation speaker: counts [emotion, predicted emotion]."""


class Result(_Record):
    """A finished trial.

    Attributes:
        trial: which one, without its test speakers.
        stopped: why training ended: "early" by early stopping, "epochs" by the limit, "pruned" because the trial lagged
            behind others, "fitted" where training is one fit.
        epochs: figures of all epochs, in order; empty where training is one fit.
        best: index of the epoch of the lowest validation loss, whose weights are kept; None without epochs.
        seconds: wall time of training.
        parameters: trained parameters of the model; the numbers that an SVM keeps.
        confusion: validation counts of the trained model.
        finished: when it was committed, in UTC.
        weights: the object of the weights, relative to the trial's; empty where the model is fitted again to the same
            bits in less time than it takes to read.
        environment: versions and device that the trial was trained with.
    """

    trial: Trial
    stopped: str
    epochs: tuple[Epoch, ...] = ()
    best: int | None = None
    seconds: float
    parameters: int
    confusion: Confusion
    finished: str = ""
    weights: str = ""
    environment: dict[str, str]

    def ua(self, condition: Condition) -> float:
        """Validation UA of the trained model under a condition, in per cent, from its counts."""
        return mean_recall_of(self.confusion[condition])

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that the model was validated under."""
        return tuple(condition for condition in CONDITIONS if condition in self.confusion)

    @property
    def best_epoch(self) -> Epoch | None:
        """Figures of the epoch whose weights are kept; None where training is one fit."""
        return None if self.best is None else self.epochs[self.best]


def mean_recall_of(counts: dict[str, list[list[int]]]) -> float:
    """UA in per cent of counts [emotion, predicted emotion] by speaker."""
    return float(mean_recall(np.sum(list(counts.values()), axis=0)))


@dataclass(frozen=True)
class Attempt:
    """One attempt at a trial, whose objects have names of their own."""

    trial: Trial
    number: int
    storage: Storage

    @property
    def name(self) -> str:
        """Of the attempt, below the trial."""
        return f"attempt-{self.number:03}"

    def checkpoint(self) -> bytes | None:
        """The newest checkpoint of this attempt or those before it; None where there is none."""
        for number in range(self.number, 0, -1):
            content = self.storage.get(_object(self.trial.key, number, CHECKPOINT))
            if content is not None:
                return content
        return None

    def save(self, checkpoint: bytes, epochs: Sequence[Epoch]) -> None:
        """Keep a checkpoint; `epochs` are the figures up to it."""
        self.storage.put(self._object(CHECKPOINT), checkpoint)
        lines = "".join(epoch.model_dump_json() + "\n" for epoch in epochs)
        self.storage.put(self._object(EPOCHS), lines.encode())

    def commit(self, result: Result, weights: bytes | None) -> bool:
        """Make the result the trial's, unless it has one; then drop what no reader needs any more.

        Args:
            result: of the trial.
            weights: weights of the trained model; None if the model has none to keep.

        Returns:
            Whether it was this attempt's result that was committed.
        """
        finished = datetime.now(UTC).isoformat(timespec="milliseconds")
        result = result.model_copy(update={"trial": result.trial.sealed, "finished": finished})
        if weights is not None:
            self.storage.put(self._object(WEIGHTS), weights)
            result = result.model_copy(update={"weights": f"{self.name}/{WEIGHTS}"})
        content = result.model_dump_json(indent=1).encode()
        won = self.storage.put_once(f"trials/{self.trial.key}/{RESULT}", content)
        for number in range(1, self.number + 1):
            self.storage.delete(_object(self.trial.key, number, CHECKPOINT))
        if not won:
            self.storage.delete(self._object(WEIGHTS))
        return won

    def fail(self, error: BaseException) -> None:
        """Record why the attempt ended without a result."""
        trace = "".join(traceback.format_exception(error))
        _put_failure(self.storage, self._object(FAILURE), f"{type(error).__name__}: {error}", trace)

    def _object(self, name: str) -> str:
        return _object(self.trial.key, self.number, name)


def _object(key: str, number: int, name: str) -> str:
    return f"trials/{key}/attempt-{number:03}/{name}"


def _put_failure(storage: Storage, name: str, error: str, trace: str) -> None:
    storage.put(name, json.dumps({"error": error, "traceback": trace}, indent=1).encode())


class Ledger:
    """The trials of a run."""

    def __init__(self, storage: Storage) -> None:
        """Look at a run; nothing is written."""
        self.storage = storage

    def begin(self, trial: Trial) -> Attempt:
        """Open a new attempt; of several callers each gets a number of its own."""
        sealed = trial.sealed
        self.storage.put_once(f"trials/{trial.key}/{TRIAL}", sealed.model_dump_json(indent=1).encode())
        number = 1 + max(self._attempts(trial.key), default=0)
        begun = json.dumps({"host": platform.node()}).encode()
        while not self.storage.put_once(_object(trial.key, number, ATTEMPT), begun):
            number += 1
        return Attempt(sealed, number, self.storage)

    def fail(self, trial: Trial, reason: str) -> str:
        """Record for a trial that could not do so itself that its last attempt failed; returns the reason."""
        attempts = self._attempts(trial.key)
        number = attempts[-1] if attempts else self.begin(trial).number
        _put_failure(self.storage, _object(trial.key, number, FAILURE), reason, "")
        return reason

    def result(self, key: str) -> Result | None:
        """A trial's result; None while it has none.

        Raises:
            InputError: the record is damaged.
        """
        name = f"trials/{key}/{RESULT}"
        content = self.storage.get(name)
        if content is None:
            return None
        try:
            return Result.model_validate_json(content)
        except ValidationError as error:
            raise InputError(
                f"{self.storage.locate(name)} is damaged ({error.errors()[0]['msg']}): restore it, or delete it to "
                "train the trial again"
            ) from None

    def results(self) -> dict[str, Result]:
        """All committed results by key.

        Raises:
            InputError: one of them is damaged.
        """
        results = ((key, self.result(key)) for key in self.keys())
        return {key: result for key, result in results if result is not None}

    def whole_results(self) -> dict[str, Result]:
        """Those of `results` that are not damaged."""
        whole = {}
        for key in self.keys():
            with suppress(InputError):
                if result := self.result(key):
                    whole[key] = result
        return whole

    def keys(self) -> Iterator[str]:
        """Keys of all trials that were ever begun, sorted."""
        yield from (name.removesuffix("/") for name in self.storage.list("trials/") if name.endswith("/"))

    def weights(self, result: Result) -> bytes | None:
        """The weights of a result's model; None where none are kept.

        Raises:
            InputError: they are missing.
        """
        if not result.weights:
            return None
        content = self.storage.get(self._weights(result))
        if content is None:
            raise InputError(
                f"{self.storage.locate(self._weights(result))} is missing: restore it, or delete "
                f"{self.locate(result.trial.key)} to train the trial again"
            )
        return content

    def locate(self, key: str) -> str:
        """Where a trial is kept, for messages."""
        return self.storage.locate(f"trials/{key}")

    def failures(self, key: str) -> list[str]:
        """Why attempts at an unfinished trial failed, in order; empty if the last one is under way or was cut off."""
        errors = {}
        for number in self._attempts(key):
            content = self.storage.get(_object(key, number, FAILURE))
            if content is not None:
                errors[number] = str(json.loads(content)["error"])
        last = max(self._attempts(key), default=0)
        return list(errors.values()) if last in errors else []

    def failure(self, key: str) -> str | None:
        """Why the last attempt at an unfinished trial failed; None where it did not."""
        errors = self.failures(key)
        return errors[-1] if errors else None

    def forgive(self, key: str) -> None:
        """Keep a trial's failures on record, but count them no more."""
        for number in self._attempts(key):
            content = self.storage.get(_object(key, number, FAILURE))
            if content is not None:
                self.storage.put(_object(key, number, FORGIVEN), content)
                self.storage.delete(_object(key, number, FAILURE))

    def attempts(self, key: str) -> int:
        """How many attempts there were at a trial."""
        return len(self._attempts(key))

    def _attempts(self, key: str) -> list[int]:
        """Numbers of a trial's attempts, ascending."""
        names = [name.removesuffix("/") for name in self.storage.list(f"trials/{key}/")]
        return sorted(int(name.removeprefix("attempt-")) for name in names if name.startswith("attempt-"))

    def _weights(self, result: Result) -> str:
        return f"trials/{result.trial.key}/{result.weights}"

    def fault(self, key: str, result: Result) -> str:
        """What is wrong with a readable result: another trial's, or damaged weights; empty where all is well."""
        if result.trial.key != key:
            return f"its result is of trial {result.trial.key}"
        if not result.weights:
            return ""
        place = self.storage.locate(self._weights(result))
        content = self.storage.get(self._weights(result))
        if content is None:
            return f"{place} is missing"
        try:
            safetensors.deserialize(content)  # type: ignore[no-untyped-call]
        except safetensors.SafetensorError as error:
            return f"{place} is damaged or cut short ({error})"
        return ""


@dataclass(frozen=True)
class Finding:
    """Something that the ledger and the plan don't agree on.

    Attributes:
        kind: "missing" (planned, no result), "damaged" (a file that can't be what was written), "extra" (a result that
            the study does not name), or "repeated" (more than one attempt: a worker, node or search was lost).
        key: the trial's.
        text: what is wrong.
    """

    kind: str
    key: str
    text: str


NEVER_BEGUN = "never begun"


def verify(ledger: Ledger, planned: Collection[str]) -> list[Finding]:
    """Check every trial of a run against the plan, reading every byte.

    Only what is missing or damaged is a fault; an extra result is kept but not ranked, and repeated attempts are how a
    run outlives losses.
    """
    begun = list(ledger.keys())
    findings = [Finding("missing", key, NEVER_BEGUN) for key in planned if key not in begun]
    for key in begun:
        findings += _check(ledger, key, key in planned)
    return findings


def _check(ledger: Ledger, key: str, is_planned: bool) -> Iterator[Finding]:
    try:
        result = ledger.result(key)
    except InputError as error:
        yield Finding("damaged", key, str(error))
        return
    if result is None:
        if is_planned:
            yield Finding("missing", key, ledger.failure(key) or "begun, not finished")
    elif fault := ledger.fault(key, result):
        yield Finding("damaged", key, fault)
    elif not is_planned:
        yield Finding("extra", key, "not in the study as it stands: kept, not ranked")
    attempts = ledger.attempts(key)
    if attempts > 1:
        yield Finding("repeated", key, f"{attempts} attempts, one result" if result else f"{attempts} attempts")
