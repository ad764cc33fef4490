"""The one interface of all that is trained: a network, a support vector machine, a system of one's own.

A configuration says what is built (`sersearch.study.configuration`); the class that it names in `system` trains it and
follows `System`. Everything outside (search, rerun, test, probe, plan) uses this interface and never asks which kind
of system it has. `tests/training/test_system.py` is the contract of every system.

Training goes by steps, after each of which it can be stopped and resumed to the same bits: a minibatch of a network,
the whole fit of a support vector machine. Nothing here imports Ray.
"""

from __future__ import annotations

import hashlib
import pkgutil
import platform
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from sersearch.run.ledger import Attempt, Confusion, Epoch, Result
from sersearch.statistics.counts import speaker_confusions
from sersearch.store.reader import Store
from sersearch.study.conditions import CONDITIONS, Condition
from sersearch.study.configuration import Configuration
from sersearch.study.configuration.base import Module
from sersearch.study.study import CHECKPOINT_EVERY_S
from sersearch.study.trial import Trial
from sersearch.training.gpu_memory import begin_peak, peak_bytes

LEAST_PAUSE = 19.0
"""The least pause between two checkpoints, in units of the time that the first of them took to write."""

Device = Literal["cpu", "cuda"]

Score = Literal["probability", "decision"]
"""What a system's scores are: posterior probabilities, or decision values, which have no unit."""


@dataclass(frozen=True)
class Prediction:
    """What a system predicts of some copies of utterances.

    Attributes:
        emotion_U: index of the predicted emotion [U].
        scores_UE: a score of each emotion [U, E], NaN for an emotion that the system can't predict; None where a system
            gives none.
        score: what the scores are.
    """

    emotion_U: NDArray[np.int64]
    scores_UE: NDArray[np.floating] | None = None
    score: Score = "probability"


class System(ABC):
    """One trial's model: trained step by step, or loaded with trained weights to predict.

    A subclass is named by `Configuration.system`. The same trial and data give the same bits on a CPU, interrupted or
    not; all randomness comes from `trial.key`.

    Attributes:
        trial: what is trained.
        epochs: figures of the epochs so far; stays empty where training is one fit.
        device: where it computes; a system without a GPU form computes on the CPU whatever is asked for.
    """

    def __init__(self, trial: Trial, data: Any, device: Device = "cpu") -> None:
        """Build the model.

        Args:
            trial: what to train.
            data: what `open_data` returned.
            device: where to compute.
        """
        self.trial = trial
        self.device: Device = device
        self.epochs: list[Epoch] = []

    @staticmethod
    @abstractmethod
    def open_data(store: Store, trial: Trial) -> Any:
        """Open what a trial may see: the training and validation speakers of its fold, nobody else's files.

        Raises:
            InputError: the store does not hold what the trial was planned on.
        """

    @property
    @abstractmethod
    def stopped(self) -> str | None:
        """Why training is over ("early", "epochs", "fitted"); None while it is not."""

    @abstractmethod
    def step(self) -> Epoch | None:
        """Train one step; returns the figures of the epoch that ends with it, None if none does.

        A search is stopped between two steps only, so a step should not take longer than a few seconds.

        Raises:
            FloatingPointError: a loss is not a number.
        """

    @abstractmethod
    def checkpoint(self) -> bytes | None:
        """All that training needs to resume after this step; None where repeating the step costs less."""

    @abstractmethod
    def restore(self, checkpoint: bytes) -> None:
        """Return to where a checkpoint was taken."""

    @abstractmethod
    def result(self, stopped: str | None = None) -> Result:
        """The result of training that is over.

        Args:
            stopped: why, where it was stopped from outside.
        """

    @abstractmethod
    def weights(self) -> bytes | None:
        """The trained model; None where `load` fits it again to the same bits."""

    @abstractmethod
    def load(self, weights: bytes | None) -> None:
        """Take a trained model, what `weights` returned, to predict with."""

    def portable(self, store: Store) -> bytes | None:
        """The trained model in the safetensors format, with all that predicting needs beside its configuration.

        Args:
            store: that it was trained on; no test speaker's file is read.

        Returns:
            None where the model can't be used without the run; see `Configuration.classifier`.
        """
        return None

    @classmethod
    def measure(
        cls, configuration: Configuration, emotions: int, lengths: NDArray[np.int64], device: Device
    ) -> tuple[float, float]:
        """Train and evaluate a few steps on generated data, to learn this machine's pace.

        It is called where `Configuration.work` is not empty.

        Args:
            configuration: a feasible one.
            emotions: how many classes there are.
            lengths: frames of utterances like those to come.
            device: where to compute.

        Returns:
            Seconds per frame in training and in evaluation.
        """
        raise AssertionError(f"{cls.__name__} says what work a frame is and does not measure it")

    @abstractmethod
    def predict(self, store: Store, speakers: Sequence[str], condition: Condition) -> Prediction:
        """Predict the copies of some speakers' utterances.

        Args:
            store: whose rows are predicted.
            speakers: not seen in training.
            condition: all copies under "noisy", the clean ones alone under "clean".

        Returns:
            One prediction per copy, in the order of the speakers and of their rows in the store.
        """

    def represent(
        self, store: Store, speakers: Sequence[str], rows: NDArray[np.int64]
    ) -> Mapping[Module, NDArray[np.float32]]:
        """What each of `Configuration.modules` makes of some copies, one vector [U, D] per copy.

        Args:
            store: whose rows they are.
            speakers: whose rows are counted.
            rows: the copies, counted over the speakers' rows.
        """
        return {}


def system_class(configuration: Configuration) -> type[System]:
    """The class that trains a configuration."""
    system: type[System] = pkgutil.resolve_name(type(configuration).system)
    return system


def make_system(trial: Trial, data: Any, device: Device = "cpu") -> System:
    """Build the system of a trial; see `System`."""
    return system_class(trial.configuration)(trial, data, device)


def run_trial(
    trial: Trial,
    data: Any,
    report: Callable[[Epoch], object] | None = None,
    attempt: Attempt | None = None,
    device: Device = "cpu",
) -> Result:
    """Train a trial to its end.

    Args:
        trial: what to train.
        data: what `System.open_data` returned for it.
        report: called with each epoch's figures.
        attempt: where checkpoints and the result are kept; without it nothing is written.
        device: where to compute.

    Returns:
        The result. With an attempt it is committed, unless another attempt was first.

    Raises:
        FloatingPointError: a loss is not a number.
    """
    system = make_system(trial, data, device)
    for epoch in run_steps(system, attempt):
        if report:
            report(epoch)
    return system.result()


def run_steps(
    system: System,
    attempt: Attempt | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    after_epochs: bool = False,
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[Epoch]:
    """Train from the newest checkpoint to the end, and commit the result after the last step.

    Args:
        system: what is trained.
        attempt: where checkpoints and the result are kept; without it nothing is written.
        checkpoint_every_s: a checkpoint is written after so many seconds, see `Checkpoints`.
        after_epochs: whether a checkpoint is also written after each epoch but the last, before the epoch is yielded.
        interrupted: asked before each step; if it returns True, a checkpoint is written, and training ends here.

    Yields:
        The figures of each epoch.
    """
    if system.device == "cuda":
        begin_peak()
    if attempt and (checkpoint := attempt.checkpoint()):
        system.restore(checkpoint)
    checkpoints = Checkpoints(system, attempt, checkpoint_every_s)
    while system.stopped is None:
        if interrupted():
            checkpoints.write()
            return
        epoch = system.step()
        checkpoints.has_new = True
        if system.stopped is None and (checkpoints.due or (after_epochs and epoch)):
            checkpoints.write()
        if epoch:
            yield epoch
    if attempt:
        gpu_bytes = peak_bytes() if system.device == "cuda" else 0
        attempt.commit(system.result().model_copy(update={"gpu_bytes": gpu_bytes}), system.weights())


class Checkpoints:
    """Writes checkpoints of a system, neither so seldom that much is lost nor so often that they take long.

    Attributes:
        has_new: whether a step was trained since the last checkpoint.
    """

    def __init__(self, system: System, attempt: Attempt | None, every_s: float) -> None:
        """Write nothing yet.

        Args:
            system: what is trained.
            attempt: where to keep checkpoints; without it none is written.
            every_s: seconds between two checkpoints. They are more if a checkpoint takes long to write: writing takes
                at most a twentieth of the time.
        """
        self.has_new = False
        self._system = system
        self._attempt = attempt
        self._every_s = every_s
        self._due_at = time.monotonic() + every_s

    @property
    def due(self) -> bool:
        """Whether the time has come to write the next checkpoint."""
        return time.monotonic() >= self._due_at

    def write(self) -> None:
        """Write a checkpoint, unless there is nothing that the last one does not have."""
        start = time.monotonic()
        checkpoint = self._system.checkpoint() if self._attempt and self.has_new else None
        if self._attempt and checkpoint is not None:
            self._attempt.save(checkpoint, self._system.epochs)
        end = time.monotonic()
        self.has_new = False
        self._due_at = end + max(self._every_s, LEAST_PAUSE * (end - start))


def validation_confusion(
    emotion_U: NDArray[np.int64],
    predicted_U: NDArray[np.int64],
    speaker_U: NDArray[np.str_],
    noisy_U: NDArray[np.bool_],
    emotions: int,
    conditions: Sequence[Condition] = CONDITIONS,
) -> Confusion:
    """Counts of true and predicted emotions by condition and speaker.

    Args:
        emotion_U: index of each copy's emotion.
        predicted_U: index of the predicted emotion.
        speaker_U: names.
        noisy_U: whether a copy is a noisy one; the noisy condition holds all copies, the clean one the others alone.
        emotions: how many classes there are.
        conditions: under which to count.
    """
    confusion: Confusion = {}
    for condition in conditions:
        chosen = ~noisy_U if condition == "clean" else np.ones_like(noisy_U)
        counts_SEE = speaker_confusions(emotion_U[chosen], predicted_U[chosen], speaker_U[chosen], emotions)
        names = np.unique(speaker_U[chosen]).tolist()
        confusion[condition] = dict(zip(names, counts_SEE.tolist(), strict=True))
    return confusion


def derive_seed(key: str, purpose: str) -> int:
    """A seed of 63 bits for one purpose of a trial: "weights", "order 3", "dropout 3"."""
    return int.from_bytes(hashlib.sha256(f"{key} {purpose}".encode()).digest()[:8]) >> 1


def environment(device: str, *packages: str) -> dict[str, str]:
    """Versions, commit and device, for the record.

    Args:
        device: in words.
        packages: that the numbers depend on.
    """
    return {
        "sersearch": version("sersearch"),
        "commit": _commit(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "openblas": _openblas_kernels(),
        "device": device,
    }


@lru_cache
def _openblas_kernels() -> str:
    """The processor whose kernels NumPy's and SciPy's OpenBLAS use; OPENBLAS_CORETYPE may choose those of another one.

    Other kernels give other bits and another speed.
    """
    loaded = {str(each.get("architecture")) for each in threadpool_info() if each["internal_api"] == "openblas"}
    return ", ".join(sorted(loaded)) or "none"


@lru_cache
def processor() -> str:
    """The device of what computes on a CPU: its model, which Linux gives in /proc/cpuinfo alone."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return f"cpu ({value.strip()})"
    return f"cpu ({platform.processor() or platform.machine()})"


@lru_cache
def _commit() -> str:
    """The checkout's commit, marked where files differ from it; empty where this is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
