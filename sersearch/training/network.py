"""Training the LDNN and the CLDNNs: Adam, early stopping, an epoch's figures, checkpoints (Section 6.2).

Shapes: B utterances of a minibatch, T frames, F coefficients per frame, U utterances (copies), D numbers of a
representation, E emotions.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from sersearch.models.cldnn import CLDNN, cross_entropy
from sersearch.models.kernels import gpu, units
from sersearch.models.kernels.loops import one_thread
from sersearch.run.ledger import Confusion, Epoch, Result, mean_recall_of
from sersearch.store.reader import Store, pack_moments
from sersearch.study.conditions import Condition
from sersearch.study.configuration import Configuration, NetworkConfiguration
from sersearch.study.configuration.base import Module
from sersearch.study.fold import Fold
from sersearch.study.trial import Trial
from sersearch.training.dataset import (
    Dataset,
    Minibatch,
    ResidentView,
    Utterances,
    View,
    by_length,
    open_dataset,
    open_utterances,
    shuffled,
)
from sersearch.training.generated import generate_dataset
from sersearch.training.optimiser import Adam
from sersearch.training.representations import represent
from sersearch.training.system import (
    Device,
    Prediction,
    System,
    derive_seed,
    environment,
    processor,
    validation_confusion,
)

# Evaluation has no gradients to hold, so a GPU takes this many training minibatches at a time; a CPU's cache doesn't.
EVALUATED_TOGETHER = 4

METADATA = "sersearch"
"""The entry of the weights' metadata that says what belongs to them."""

# Seconds of training by which a machine's pace is measured, and the fewest epochs of generated data.
MEASURED_S = 2.0
MEASURED_EPOCHS = 1


@dataclass
class Progress:
    """How far training is in an epoch: every training minibatch is learnt, then every validation minibatch evaluated.

    Attributes:
        dropout: generator of the dropout masks.
        loss: sum of the losses of the utterances that were learnt.
        learnt: number of training minibatches that were learnt.
        logits: logits [B, E] of each validation minibatch that was evaluated.
        seconds: wall time of the epoch so far.
    """

    dropout: torch.Generator
    loss: Tensor
    learnt: int = 0
    logits: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as torch saves it."""
        return vars(self) | {"dropout": self.dropout.get_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Return to where a state was taken."""
        device = self.loss.device
        self.dropout.set_state(state["dropout"])
        self.loss = state["loss"].to(device)
        self.learnt = state["learnt"]
        self.logits = [logits_BE.to(device) for logits_BE in state["logits"]]
        self.seconds = state["seconds"]


class NetworkSystem(System):
    """A network of the paper; a step learns from one minibatch or evaluates one."""

    def __init__(self, trial: Trial, data: Dataset, device: Device = "cpu") -> None:
        """Build the model and draw its weights from the trial's key.

        On a CPU one thread is used, set for the whole process, so that the bits don't depend on the machine's load.
        """
        super().__init__(trial, data, device)
        if device == "cpu":
            one_thread()
        configuration = trial.configuration
        assert isinstance(configuration, NetworkConfiguration)
        self.configuration = configuration
        self.data = data
        self.confusion: Confusion = {}
        self.model = CLDNN(configuration, len(data.emotions), _generator(trial.key, "weights"), device)
        self._train, self._validation = self.view(data.train), self.view(data.validation)
        self._optimiser = Adam(
            self.model.parameters(), lr=configuration.learning_rate, eps=configuration.epsilon, fused=True
        )
        utterances = len(data.train)
        self._limit = configuration.in_epochs(configuration.epochs, utterances)
        self._patience = configuration.in_epochs(configuration.patience, utterances)
        self._weight_E = class_weights(data).to(device) if configuration.class_weights else None
        self._best_weights = self._copy_weights()
        self._validation_order = self._evaluation_order(self._validation)
        self._progress: Progress | None = None
        self._unlearnt: Iterator[Minibatch] = iter(())
        self._unevaluated: Iterator[Minibatch] = iter(())
        self._opened: tuple[tuple[str, ...], View] | None = None

    @staticmethod
    def open_data(store: Store, trial: Trial) -> Dataset:
        """Map the frames of the fold's training and validation speakers."""
        configuration = trial.configuration
        assert isinstance(configuration, NetworkConfiguration)
        return open_dataset(store, trial.fold, configuration.trim)

    def view(self, utterances: Utterances) -> View:
        """Utterances as the model wants them, on the device that it computes on."""
        if self.model.backend == "gpu":
            return ResidentView(utterances, self.configuration, self.data.moments, self.device)
        return View(utterances, self.configuration, self.data.moments)

    @property
    def best(self) -> int:
        """Index of the epoch whose model is kept."""
        return len(self.epochs) - 1 if self.configuration.keep == "last" else self._monitored

    @property
    def _monitored(self) -> int:
        """Index of the epoch of the lowest validation loss or, to keep that, the highest UA; the first one on a tie."""
        if self.configuration.keep == "ua":
            uas = [epoch.ua_noisy for epoch in self.epochs]
            return uas.index(max(uas))
        losses = [epoch.validation_loss for epoch in self.epochs]
        return losses.index(min(losses))

    @property
    def stopped(self) -> str | None:
        """Why training is over; None while it is not."""
        if self.epochs and len(self.epochs) - 1 - self._monitored >= self._patience:
            return "early"
        return "epochs" if len(self.epochs) >= self._limit else None

    def step(self) -> Epoch | None:
        """Learn from one more minibatch or, where all of the epoch are learnt, evaluate one.

        Raises:
            FloatingPointError: the epoch ends, and a loss is not a number.
        """
        start = time.perf_counter()
        progress = self._progress or self._begin_epoch()
        with gpu.product_precision(self.configuration.precision):
            batch = next(self._unlearnt, None)
            if batch is not None:
                progress.loss += self._update(batch, progress.dropout) * len(batch.emotion_B)
                progress.learnt += 1
            else:
                progress.logits.append(self._classify(next(self._unevaluated)))
        epoch = None
        if len(progress.logits) == len(self._validation_order):
            epoch = self._end_epoch(progress, start)
        progress.seconds += time.perf_counter() - start
        return epoch

    def train_epoch(self) -> Epoch:
        """Train to the end of the epoch."""
        while True:
            epoch = self.step()
            if epoch is not None:
                return epoch

    def _begin_epoch(self, state: Mapping[str, Any] | None = None) -> Progress:
        """Begin an epoch, or return to where a state of its progress was taken."""
        number = len(self.epochs) + 1
        order = np.random.default_rng(derive_seed(self.trial.key, f"order {number}"))
        dropout = _generator(self.trial.key, f"dropout {number}", self.device)
        progress = Progress(dropout, torch.zeros((), device=self.device))
        if state is not None:
            progress.restore(state)
        batches = shuffled(self._train.utterances.length, self.configuration.minibatch, order)
        self._unlearnt = self._train.minibatches(batches[progress.learnt :])
        self._unevaluated = self._validation.minibatches(self._validation_order[len(progress.logits) :])
        self._progress = progress
        return progress

    def _end_epoch(self, progress: Progress, start: float) -> Epoch:
        """The figures of an epoch that is over; `start` is when its last step began, by `time.perf_counter`."""
        number = len(self.epochs) + 1
        train_loss = float(progress.loss) / len(self._train.utterances)
        validation_loss, confusion = self._validate(progress.logits)
        if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
            raise FloatingPointError(
                f"epoch {number}: training loss {train_loss}, validation loss {validation_loss}; "
                "a lower learning_rate may help"
            )
        epoch = Epoch(
            epoch=number,
            train_loss=train_loss,
            validation_loss=validation_loss,
            ua_noisy=mean_recall_of(confusion["noisy"]),
            ua_clean=mean_recall_of(confusion["clean"]),
            seconds=progress.seconds + time.perf_counter() - start,
        )
        self.epochs.append(epoch)
        self._progress = None
        if self.best == number - 1:
            self._best_weights = self._copy_weights()
            self.confusion = confusion
        return epoch

    def _update(self, batch: Minibatch, dropout: torch.Generator) -> Tensor:
        """Take one step of Adam; returns the minibatch's loss. On a GPU nothing here waits for it."""
        self._optimiser.zero_grad()
        loss = cross_entropy(self.model(batch.x_BTF, batch.lengths_B, dropout), batch.emotion_B, self._weight_E)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return loss.detach()

    def _validate(self, parts: Sequence[Tensor]) -> tuple[float, Confusion]:
        """Validation loss, and counts by condition and speaker, from the logits [B, E] of each minibatch."""
        utterances = self._validation.utterances
        logits = _in_order(parts, self._validation_order)
        loss = float(cross_entropy(logits, torch.from_numpy(utterances.emotion)))
        confusion = validation_confusion(
            utterances.emotion,
            logits.argmax(1).numpy(),
            np.array(utterances.speakers)[utterances.speaker],
            utterances.noisy,
            len(self.data.emotions),
        )
        return loss, confusion

    def logits(self, view: View) -> Tensor:
        """Logits [U, E] of a view's utterances in their order, on the CPU."""
        order = self._evaluation_order(view)
        with gpu.product_precision(self.configuration.precision):
            parts = [self._classify(batch) for batch in view.minibatches(order)]
        return _in_order(parts, order)

    def _evaluation_order(self, view: View) -> list[NDArray[np.int64]]:
        """A view's utterances in the minibatches in which they are evaluated."""
        together = EVALUATED_TOGETHER if self.model.backend == "gpu" else 1
        return list(by_length(view.utterances.length, self.configuration.minibatch * together))

    @torch.inference_mode()
    def _classify(self, batch: Minibatch) -> Tensor:
        logits_BE: Tensor = self.model(batch.x_BTF, batch.lengths_B)
        return logits_BE

    def checkpoint(self) -> bytes:
        """All that training needs to resume after this step."""
        buffer = io.BytesIO()
        state = {
            "epochs": [epoch.model_dump() for epoch in self.epochs],
            "confusion": self.confusion,
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "best": self._best_weights,
            "progress": self._progress.state() if self._progress else None,
        }
        torch.save(state, buffer)
        return buffer.getvalue()

    def restore(self, checkpoint: bytes) -> None:
        """Return to where a checkpoint was taken."""
        # On the CPU: Adam's counts of steps belong there, or each step would wait for them.
        state = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.confusion = state["confusion"]
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._best_weights = state["best"]
        # A checkpoint without it was written after an epoch, by an earlier version.
        progress = state.get("progress")
        self._progress = None
        if progress is not None:
            self._begin_epoch(progress)

    def result(self, stopped: str | None = None) -> Result:
        """The result of training that is over, or that was stopped from outside for a reason."""
        stopped = stopped or self.stopped
        assert stopped, "training is not over"
        device = f"cuda ({torch.cuda.get_device_name()})" if self.device == "cuda" else processor()
        return Result(
            trial=self.trial,
            stopped=stopped,
            epochs=tuple(self.epochs),
            best=self.best,
            seconds=sum(epoch.seconds for epoch in self.epochs),
            parameters=self.configuration.parameters(len(self.data.emotions)).total,
            confusion=self.confusion,
            environment=environment(device, "torch") | self._products(),
        )

    def _products(self) -> dict[str, str]:
        """How a CPU computed the products of a trial in bfloat16, which depends on its units; for the record."""
        if self.configuration.precision != "bf16" or self.model.backend == "gpu":
            return {}
        products = f"bf16 ({units.bf16_unit()})" if self.model.in_bf16 else "float32 (no units for bf16)"
        return {"products": products}

    def weights(self) -> bytes:
        """The best epoch's weights in the safetensors format, with `describe` as their metadata."""
        return self._pack(self._best_weights)

    def portable(self, store: Store) -> bytes:
        """The model's weights, as `weights` gives them."""
        return self._pack(self._copy_weights())

    def _pack(self, weights: Mapping[str, Tensor]) -> bytes:
        # One entry, because safetensors writes several in any order, and the same weights are to be the same bytes.
        content: bytes = safetensors.torch.save(dict(weights), {METADATA: self.describe()})
        return content

    def describe(self) -> str:
        """What belongs to the weights, as JSON: configuration, emotions, and the moments of the training frames."""
        description = {
            "configuration": self.configuration.record(),
            "emotions": list(self.data.emotions),
            "moments": pack_moments(self.data.moments),
        }
        return json.dumps(description, sort_keys=True)

    @classmethod
    def measure(
        cls, configuration: Configuration, emotions: int, lengths: NDArray[np.int64], device: Device
    ) -> tuple[float, float]:
        """Train a few epochs on generated frames; the first one is not counted, because it compiles and allocates."""
        assert isinstance(configuration, NetworkConfiguration)
        size = configuration.minibatch
        evaluated = max(EVALUATED_TOGETHER * size, 2 * emotions)
        data = generate_dataset(lengths, configuration.bands, size, evaluated, emotions)
        fold = Fold(train=("noise",), validation=("more noise",))
        system = cls(Trial(configuration=configuration, fold=fold, data="calibration"), data, device)
        system.train_epoch()
        start = time.perf_counter()
        system.logits(system.view(data.validation))
        evaluation_s = time.perf_counter() - start
        epochs_s: list[float] = []
        while len(epochs_s) < MEASURED_EPOCHS or sum(epochs_s) < MEASURED_S:
            epochs_s.append(system.train_epoch().seconds)
        # What else starts on the machine meanwhile lengthens some epochs.
        epoch_s = float(np.median(epochs_s))
        train_frames, validation_frames = int(data.train.length.sum()), int(data.validation.length.sum())
        learning_s = max(epoch_s - evaluation_s, evaluation_s / validation_frames * train_frames)
        return learning_s / train_frames, evaluation_s / validation_frames

    def load(self, weights: bytes | None) -> None:
        """Take trained weights in the safetensors format."""
        assert weights is not None, "a network is not trained again to predict"
        self.model.load_state_dict(safetensors.torch.load(weights))

    def predict(self, store: Store, speakers: Sequence[str], condition: Condition) -> Prediction:
        """The posterior probabilities of each copy, and the class of the largest one.

        On a CPU each copy is computed alone, so that its bits do not depend on the others and a model that was exported
        gives them again (docs/decisions.md#one-at-a-time).
        """
        utterances = open_utterances(store, speakers, self.configuration.trim)
        if condition == "clean":
            utterances = utterances.select(np.flatnonzero(~utterances.noisy))
        view = self.view(utterances)
        if self.model.backend == "gpu":
            return predict_classes(self.logits(view).softmax(1))
        probabilities = [posteriors(self.model, view.minibatch([index])) for index in range(len(utterances))]
        return predict_classes(torch.cat(probabilities))

    def represent(
        self, store: Store, speakers: Sequence[str], rows: NDArray[np.int64]
    ) -> Mapping[Module, NDArray[np.float32]]:
        """What each module makes of some copies, a minibatch at a time; see `represent`."""
        view = self._open(store, tuple(speakers))
        size = self.configuration.minibatch
        parts: dict[Module, list[NDArray[np.float32]]] = {module: [] for module in self.configuration.modules}
        with torch.inference_mode():
            for start in range(0, len(rows), size):
                batch = view.minibatch(rows[start : start + size])
                for module, x_BD in represent(self.model, batch.x_BTF, batch.lengths_B).items():
                    parts[module].append(x_BD.cpu().numpy())
        return {module: np.concatenate(x_BD) for module, x_BD in parts.items()}

    def _open(self, store: Store, speakers: tuple[str, ...]) -> View:
        """The frames of some speakers, kept from call to call."""
        if self._opened is None or self._opened[0] != speakers:
            self._opened = speakers, self.view(open_utterances(store, speakers, self.configuration.trim))
        return self._opened[1]

    def _copy_weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}


def posteriors(model: CLDNN, batch: Minibatch) -> Tensor:
    """The posterior probabilities [B, E] of a minibatch, without dropout."""
    with torch.inference_mode():
        logits_BE: Tensor = model(batch.x_BTF, batch.lengths_B)
        return logits_BE.softmax(1)


def predict_classes(probability_UE: Tensor) -> Prediction:
    """The most probable class of each copy; on a tie, the first one."""
    return Prediction(probability_UE.argmax(1).numpy(), probability_UE.numpy())


def class_weights(data: Dataset) -> Tensor:
    """Weights [E] of the classes: inverse frequencies over the training copies, with mean 1 over these."""
    counts_E = np.bincount(data.train.emotion, minlength=len(data.emotions))
    return torch.tensor(len(data.train) / (len(data.emotions) * counts_E), dtype=torch.float32)


def _in_order(parts: Sequence[Tensor], order: Sequence[NDArray[np.int64]]) -> Tensor:
    """Put the logits [B, E] of minibatches into the order of the utterances: [U, E], on the CPU."""
    together_UE = torch.cat(list(parts)).cpu()
    logits_UE = torch.empty_like(together_UE)
    logits_UE[torch.from_numpy(np.concatenate(order))] = together_UE
    return logits_UE


def _generator(key: str, purpose: str, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(derive_seed(key, purpose))
