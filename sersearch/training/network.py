"""Training one model: Adam, early stopping, an epoch's figures, checkpoints (Section 6.2). Without Ray."""

from __future__ import annotations

import hashlib
import io
import math
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from sersearch.models.cldnn import CLDNN, cross_entropy
from sersearch.models.kernels import gpu
from sersearch.models.kernels.loops import one_thread
from sersearch.run.ledger import Attempt, Epoch, Result, best_epoch
from sersearch.statistics.counts import mean_recall
from sersearch.study.configuration import Configuration, parameters
from sersearch.study.study import Trial
from sersearch.training.dataset import Dataset, Minibatch, ResidentView, Utterances, View, by_length, shuffled

# Evaluation has no gradients to hold, so a GPU takes this many training minibatches at a time; a CPU's cache doesn't.
EVALUATED_TOGETHER = 4


def run_trial(
    trial: Trial,
    data: Dataset,
    report: Callable[[Epoch], object] | None = None,
    attempt: Attempt | None = None,
    device: str = "cpu",
) -> Result:
    """Train a model until early stopping or the last epoch.

    On a CPU the same key gives the same bits, interrupted or not; one thread is used, set for the whole process.

    Args:
        trial: what to train.
        data: training and validation.
        report: called with each epoch's figures, after its checkpoint is safe.
        attempt: where checkpoints and the result are kept; without it nothing is written.
        device: where to compute, "cpu" or "cuda".

    Returns:
        The result. With an attempt it is committed, unless another attempt was first.

    Raises:
        FloatingPointError: a loss is not a number.
    """
    training = Training(trial, data, device)
    for epoch in run_epochs(training, attempt):
        if report:
            report(epoch)
    return training.result(attempt)


def run_epochs(training: Training, attempt: Attempt | None = None) -> Iterator[Epoch]:
    """Go on from the newest checkpoint, an epoch at a time; when there are no more, commit the result."""
    if attempt and (checkpoint := attempt.checkpoint()):
        training.restore(checkpoint)
    while not training.finished:
        training.run_epoch()
        if attempt:
            attempt.save(training.checkpoint(), tuple(training.epochs))
        yield training.epochs[-1]
    if attempt:
        attempt.commit(training.result(attempt), training.best_weights())


class Training:
    """A model on its way; its state changes by whole epochs."""

    def __init__(self, trial: Trial, data: Dataset, device: str = "cpu") -> None:
        """Build the model from the trial's key; see `run_trial`."""
        if device == "cpu":
            one_thread()
        configuration = trial.configuration
        assert isinstance(configuration, Configuration), "SVMs are sersearch.training.svm's"
        self.trial = trial
        self.configuration = configuration
        self.data = data
        self.device = device
        self.epochs: list[Epoch] = []
        self.confusion: dict[str, dict[str, list[list[int]]]] = {}
        self.model = CLDNN(configuration, len(data.emotions), _generator(trial.key, "weights")).to(device)
        self._train, self._validation = self.view(data.train), self.view(data.validation)
        self._optimiser = torch.optim.Adam(
            self.model.parameters(), lr=configuration.learning_rate, eps=1e-7, fused=True
        )
        self._best = self._weights()

    def view(self, utterances: Utterances) -> View:
        """Utterances as the model wants them, on a GPU if it is there."""
        if gpu.holds(self.model.blstm.kernel):
            return ResidentView(utterances, self.configuration, self.data.moments, self.device)
        return View(utterances, self.configuration, self.data.moments)

    @property
    def best(self) -> int:
        """Index of the epoch of the lowest validation loss, the first of equals."""
        return best_epoch(self.epochs)

    @property
    def stopped(self) -> str | None:
        """Why training is over; None while it is not."""
        configuration = self.configuration
        if self.epochs and len(self.epochs) - 1 - self.best >= configuration.patience:
            return "early"
        return "epochs" if len(self.epochs) >= configuration.epochs else None

    @property
    def finished(self) -> bool:
        """Whether no epoch is left."""
        return self.stopped is not None

    def run_epoch(self) -> Epoch:
        """Train one more epoch and evaluate it.

        Raises:
            FloatingPointError: a loss is not a number.
        """
        start = time.perf_counter()
        number = len(self.epochs) + 1
        train_loss = self._learn(number)
        validation_loss, confusion = self._evaluate()
        if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
            raise FloatingPointError(
                f"epoch {number}: training loss {train_loss}, validation loss {validation_loss}; "
                "a lower learning_rate may help"
            )
        ua = {c: float(mean_recall(counts.sum(0))) for c, counts in confusion.items()}
        epoch = Epoch(number, train_loss, validation_loss, ua["noisy"], ua["clean"], time.perf_counter() - start)
        self.epochs.append(epoch)
        if self.best == number - 1:
            self._best = self._weights()
            speakers = self.data.validation.speakers
            self.confusion = {
                condition: dict(zip(speakers, counts.tolist(), strict=True)) for condition, counts in confusion.items()
            }
        return epoch

    def _learn(self, epoch: int) -> float:
        configuration = self.configuration
        order = np.random.default_rng(_seed(self.trial.key, f"order {epoch}"))
        dropout = _generator(self.trial.key, f"dropout {epoch}", self.device)
        total = torch.zeros((), device=self.device)
        batches = shuffled(self._train.utterances.length, configuration.minibatch, order)
        with gpu.products(configuration.precision):
            for batch in self._train.minibatches(batches):
                total += self._step(batch, dropout) * len(batch.emotion_B)
        return float(total) / len(self._train.utterances)

    def _step(self, batch: Minibatch, dropout: torch.Generator) -> Tensor:
        """Learn from a minibatch; gives its loss. On a GPU nothing here waits for it."""
        self._optimiser.zero_grad()
        loss = cross_entropy(self.model(batch.x_BTF, batch.lengths_B, dropout), batch.emotion_B)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return loss.detach()

    def _evaluate(self) -> tuple[float, dict[str, Any]]:
        utterances = self._validation.utterances
        logits = predict(self.model, self._validation)
        emotion = torch.from_numpy(utterances.emotion)
        predicted = logits.argmax(1).numpy()
        loss = float(cross_entropy(logits, emotion))
        everything = np.ones(len(utterances), np.bool_)
        confusion = {}
        for condition, chosen in (("noisy", everything), ("clean", ~utterances.noisy)):
            confusion[condition] = speaker_counts(
                utterances.emotion[chosen],
                predicted[chosen],
                utterances.speaker[chosen],
                len(utterances.speakers),
                len(self.data.emotions),
            )
        return loss, confusion

    def checkpoint(self) -> bytes:
        """All that training needs to go on after this epoch."""
        buffer = io.BytesIO()
        state = {
            "epochs": [vars(epoch) for epoch in self.epochs],
            "confusion": self.confusion,
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "best": self._best,
        }
        torch.save(state, buffer)
        return buffer.getvalue()

    def restore(self, checkpoint: bytes) -> None:
        """Go back to where a checkpoint was taken."""
        # On the CPU: Adam's counts of steps belong there, or each step would wait for them.
        state = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.confusion = state["confusion"]
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._best = state["best"]

    def best_weights(self) -> bytes:
        """The best epoch's weights in the safetensors format."""
        content: bytes = safetensors.torch.save(self._best)
        return content

    def result(self, attempt: Attempt | None = None, stopped: str | None = None) -> Result:
        """The result of training that is finished, or that was stopped from outside for a reason."""
        stopped = stopped or self.stopped
        assert stopped
        counted = parameters(self.configuration, len(self.data.emotions))
        return Result(
            trial=self.trial,
            epochs=tuple(self.epochs),
            best=self.best,
            stopped=stopped,
            parameters=counted.total,
            confusion=self.confusion,
            weights=f"{attempt.folder.name}/best.safetensors" if attempt else "",
            environment=environment(self.device),
        )

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}


def predict(model: CLDNN, view: View) -> Tensor:
    """Logits [utterances, N] of a view's utterances in their order, on the CPU."""
    lengths = view.utterances.length
    logits = torch.empty(len(lengths), model.emotions)
    together = EVALUATED_TOGETHER if gpu.holds(model.blstm.kernel) else 1
    order = list(by_length(lengths, model.configuration.minibatch * together))
    with torch.inference_mode(), gpu.products(model.configuration.precision):
        found = [model(batch.x_BTF, batch.lengths_B) for batch in view.minibatches(order)]
        logits[torch.from_numpy(np.concatenate(order))] = torch.cat(found).cpu()
    return logits


def speaker_counts(
    emotion: np.ndarray, predicted: np.ndarray, speaker: np.ndarray, speakers: int, emotions: int
) -> np.ndarray:
    """Confusion counts [speakers, emotion, predicted emotion]."""
    counts = np.zeros((speakers, emotions, emotions), np.int64)
    np.add.at(counts, (speaker, emotion, predicted), 1)
    return counts


def environment(device: str) -> dict[str, str]:
    """Versions, commit and device, for the record."""
    where = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "sersearch": version("sersearch"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device} ({where})",
    }


@lru_cache
def _commit() -> str:
    """The checkout's commit, marked where files differ from it; empty where this is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _seed(key: str, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{key} {purpose}".encode()).digest()[:8]) >> 1


def _generator(key: str, purpose: str, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(_seed(key, purpose))
