"""The record of a run: what is done, what is left.

    RUN/run.json                        the study as launched, the store, the speakers
    RUN/trials/KEY/trial.json           which trial this is, without its test speakers
    RUN/trials/KEY/attempt-NNN/         one attempt at it: attempt.json, checkpoint, epochs.jsonl, weights,
                                        failure.json (forgiven.json once the trial was asked for again),
                                        checkpoint-damaged (a checkpoint that could not be used)
    RUN/trials/KEY/result.json          once, the result

Who writes: a worker writes only in the attempt that it opened, so a worker that was cut off and continues to train
can't touch another's checkpoint. `result.json` is put once: the first commit wins and later ones are told so. What a
reader may find half done: an attempt without a checkpoint. A trial is done when its result.json is there, and only
then.

Every file holds its own hash (`sersearch.run.records`), but for the weights, whose hash the result names, and
epochs.jsonl, which is for people. A hash is checked whenever its file is read.
"""

from __future__ import annotations

import hashlib
import platform
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from sersearch.digests import digest
from sersearch.errors import InputError
from sersearch.run.records import Record, read_record, seal, seal_bytes, unseal_bytes
from sersearch.run.storage import Storage
from sersearch.statistics.counts import mean_recall
from sersearch.study.conditions import CONDITIONS, Condition
from sersearch.study.trial import Trial

ATTEMPT = "attempt.json"
CHECKPOINT = "checkpoint"
SET_ASIDE = "checkpoint-damaged"
WEIGHTS = "best.safetensors"
EPOCHS = "epochs.jsonl"
FAILURE = "failure.json"
FORGIVEN = "forgiven.json"
RESULT = "result.json"
TRIAL = "trial.json"


class Begun(Record):
    """That an attempt was begun.

    Attributes:
        host: where.
    """

    host: str


class Failure(Record):
    """Why an attempt ended without a result.

    Attributes:
        error: in one line, the error's type first.
        traceback: empty where the error was not raised in Python.
    """

    error: str
    traceback: str


class Epoch(Record):
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


class Result(Record):
    """A finished trial.

    Attributes:
        trial: which one, without its test speakers.
        stopped: why training ended: "early" by early stopping, "epochs" by the limit, "pruned" because the trial lagged
            behind others, "fitted" where training is one fit.
        epochs: figures of all epochs, in order; empty where training is one fit.
        best: index of the epoch whose weights are kept, that of the lowest validation loss or as the configuration
            says; None without epochs.
        seconds: wall time of training.
        parameters: trained parameters of the model; the numbers that an SVM keeps.
        confusion: validation counts of the trained model.
        finished: when it was committed, in UTC.
        weights: the object of the weights, relative to the trial's; empty where the model is fitted again to the same
            bits in less time than it takes to read.
        weights_sha256: SHA-256 of the weights; empty where none are kept.
        environment: versions and device that the trial was trained with.
        host: name of the machine that finished it.
        gpu_bytes: the most memory of a GPU that the process took for it; 0 where it was trained on a CPU, or pruned.
    """

    trial: Trial
    stopped: str
    epochs: tuple[Epoch, ...] = ()
    best: int | None = None
    seconds: float
    parameters: int
    confusion: Confusion
    finished: str = ""
    weights: str = Field("", pattern=r"^(attempt-[0-9]+/best\.safetensors)?$")
    weights_sha256: str = ""
    environment: dict[str, str]
    host: str = ""
    gpu_bytes: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _holds_figures(self) -> Self:
        matrices = [matrix for counts in self.confusion.values() for matrix in counts.values()]
        if not matrices or not all(self.confusion.values()):
            raise ValueError("it has no counts")
        emotions = len(matrices[0])
        if not emotions or any(len(matrix) != emotions for matrix in matrices):
            raise ValueError("its counts are of different sizes")
        rows = [row for matrix in matrices for row in matrix]
        if any(len(row) != emotions or min(row) < 0 for row in rows):
            raise ValueError("its counts are no confusion matrices")
        if self.best is not None and not 0 <= self.best < len(self.epochs):
            raise ValueError("its best epoch is none of its epochs")
        if self.stopped == "pruned" and not self.epochs:
            raise ValueError("it was pruned before its first epoch")
        return self

    @property
    def figures_digest(self) -> str:
        """A hash of all that training computed; a trial that is trained again to the same bits has the same one.

        Times, the environment, the host and the number of the attempt are no part of it.
        """
        figures = self.model_dump(mode="json", include={"stopped", "best", "parameters", "confusion", "weights_sha256"})
        epochs = [epoch.model_dump(mode="json", exclude={"seconds"}) for epoch in self.epochs]
        return digest({"key": self.trial.key, "epochs": epochs, **figures})

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
        """The newest checkpoint of this attempt or those before it; None where there is none.

        A checkpoint that is not as it was written is set aside, and the one before it is taken.
        """
        for number in range(self.number, 0, -1):
            sealed = self.storage.get(_object(self.trial.key, number, CHECKPOINT))
            if sealed is None:
                continue
            content = unseal_bytes(sealed)
            if content is not None:
                return content
            self.storage.put(_object(self.trial.key, number, SET_ASIDE), sealed)
            self.storage.delete(_object(self.trial.key, number, CHECKPOINT))
        return None

    def save(self, checkpoint: bytes, epochs: Sequence[Epoch]) -> None:
        """Keep a checkpoint; `epochs` are the figures up to it."""
        self.storage.put(self._object(CHECKPOINT), seal_bytes(checkpoint))
        self._write_epochs(epochs)

    def _write_epochs(self, epochs: Sequence[Epoch]) -> None:
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
        host = result.host or platform.node()
        result = result.model_copy(update={"trial": result.trial.sealed, "finished": finished, "host": host})
        if weights is not None:
            self.storage.put(self._object(WEIGHTS), weights)
            sha256 = hashlib.sha256(weights).hexdigest()
            result = result.model_copy(update={"weights": f"{self.name}/{WEIGHTS}", "weights_sha256": sha256})
        if result.epochs:
            self._write_epochs(result.epochs)
        won = self.storage.put_once(result_name(self.trial.key), seal(result))
        for number in range(1, self.number + 1):
            self.storage.delete(_object(self.trial.key, number, CHECKPOINT))
        if not won:
            self.storage.delete(self._object(WEIGHTS))
        return won

    def fail(self, error: BaseException) -> None:
        """Record why the attempt ended without a result."""
        trace = "".join(traceback.format_exception(error))
        failure = Failure(error=_readable(f"{type(error).__name__}: {error}"), traceback=_readable(trace))
        self.storage.put(self._object(FAILURE), seal(failure))

    def _object(self, name: str) -> str:
        return _object(self.trial.key, self.number, name)


def _object(key: str, number: int, name: str) -> str:
    return f"trials/{key}/attempt-{number:03}/{name}"


def _readable(text: str) -> str:
    """A text that can be written: names of files that are no text are spelt out."""
    return text.encode(errors="backslashreplace").decode()


def result_name(key: str) -> str:
    """The object of a trial's result."""
    return f"trials/{key}/{RESULT}"


class Ledger:
    """The trials of a run."""

    def __init__(self, storage: Storage) -> None:
        """Look at a run; nothing is written."""
        self.storage = storage

    def begin(self, trial: Trial) -> Attempt:
        """Open a new attempt; of several callers each gets a number of its own."""
        sealed = trial.sealed
        self.storage.put_once(f"trials/{trial.key}/{TRIAL}", seal(sealed))
        number = 1 + max(self.attempt_numbers(trial.key), default=0)
        begun = seal(Begun(host=platform.node()))
        while not self.storage.put_once(_object(trial.key, number, ATTEMPT), begun):
            number += 1
        return Attempt(sealed, number, self.storage)

    def fail(self, trial: Trial, reason: str) -> str:
        """Record for a trial that could not do so itself that its last attempt failed; returns the reason."""
        attempts = self.attempt_numbers(trial.key)
        number = attempts[-1] if attempts else self.begin(trial).number
        self.storage.put(_object(trial.key, number, FAILURE), seal(Failure(error=_readable(reason), traceback="")))
        return reason

    def result(self, key: str) -> Result | None:
        """A trial's result; None while it has none.

        Raises:
            InputError: the record is damaged, was changed by hand, or is another trial's.
        """
        remedy = "restore it, or delete it to train the trial again"
        result = read_record(self.storage, result_name(key), Result, remedy)
        if result is not None and result.trial.key != key:
            place = self.storage.locate(result_name(key))
            raise InputError(f"{place} is the result of another trial, {result.trial.key}: {remedy}")
        return result

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
            InputError: they are missing or damaged.
        """
        if not result.weights:
            return None
        name = f"trials/{result.trial.key}/{result.weights}"
        content = self.storage.get(name)
        if content is not None and hashlib.sha256(content).hexdigest() == result.weights_sha256:
            return content
        fault = "is missing" if content is None else "is damaged (its hash is not the one that the result names)"
        raise InputError(
            f"{self.storage.locate(name)} {fault}: restore it, or delete the folder {self.locate(result.trial.key)} "
            "and resume the run to train the trial again"
        )

    def locate(self, key: str) -> str:
        """Where a trial is kept, for messages."""
        return self.storage.locate(f"trials/{key}")

    def failures(self, key: str) -> list[str]:
        """Why attempts at an unfinished trial failed, in order; empty if the last one is under way or was cut off."""
        numbers = self.attempt_numbers(key)
        errors = {number: error for number in numbers if (error := self._failure(key, number))}
        return list(errors.values()) if numbers and numbers[-1] in errors else []

    def _failure(self, key: str, number: int) -> str | None:
        """Why an attempt failed; None where it did not. That the record is damaged is a reason as well."""
        try:
            remedy = "delete it, and the trial is tried again"
            failure = read_record(self.storage, _object(key, number, FAILURE), Failure, remedy)
        except InputError as error:
            return str(error)
        return None if failure is None else failure.error

    def failure(self, key: str) -> str | None:
        """Why the last attempt at an unfinished trial failed; None where it did not."""
        errors = self.failures(key)
        return errors[-1] if errors else None

    def forgive(self, key: str) -> None:
        """Keep a trial's failures on record, but count them no more."""
        for number in self.attempt_numbers(key):
            content = self.storage.get(_object(key, number, FAILURE))
            if content is not None:
                self.storage.put(_object(key, number, FORGIVEN), content)
                self.storage.delete(_object(key, number, FAILURE))

    def has_advanced(self, key: str, attempts: int) -> bool:
        """Whether the last attempt at a trial has written a checkpoint, and is not among the first so many attempts."""
        numbers = self.attempt_numbers(key)
        return len(numbers) > attempts and self.storage.exists(_object(key, numbers[-1], CHECKPOINT))

    def host(self, key: str, number: int | None = None) -> str:
        """Where an attempt at a trial was begun, the newest unless its number is given; empty if that can't be read."""
        numbers = self.attempt_numbers(key) if number is None else [number]
        with suppress(InputError):
            begun = numbers and read_record(self.storage, _object(key, numbers[-1], ATTEMPT), Begun, "delete it")
            return begun.host if begun else ""
        return ""

    def attempts(self, key: str) -> int:
        """How many attempts there were at a trial."""
        return len(self.attempt_numbers(key))

    def attempt_numbers(self, key: str) -> list[int]:
        """Numbers of a trial's attempts, ascending."""
        names = [name.removesuffix("/") for name in self.storage.list(f"trials/{key}/")]
        numbers = [name.removeprefix("attempt-") for name in names if name.startswith("attempt-")]
        return sorted(int(number) for number in numbers if number.isdecimal())


def ledger_digest(results: Mapping[str, Result]) -> str:
    """One hash of all results: of what training computed, by key."""
    return digest({key: result.figures_digest for key, result in results.items()})
