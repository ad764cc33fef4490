"""A system of a user's own, named by a study in `systems = ["tiny_system.py"]`: a linear softmax on mean log-Mels."""

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sersearch.run.ledger import Epoch, Result, mean_recall_of
from sersearch.store.reader import Store
from sersearch.study.conditions import Condition
from sersearch.study.configuration import Configuration
from sersearch.study.configuration.base import Module
from sersearch.study.trial import Trial
from sersearch.training.dataset import Dataset, Utterances, open_dataset, open_utterances
from sersearch.training.system import (
    Device,
    Prediction,
    System,
    derive_seed,
    environment,
    processor,
    validation_confusion,
)


class TinyConfiguration(Configuration):
    model: Literal["tiny"]
    features: Literal["log-mels"] = "log-mels"
    rate: float = 0.1
    epochs: int = 4

    system: ClassVar[str] = f"{__name__}:Tiny"

    @property
    def step_limits(self) -> tuple[int, int]:
        return self.epochs, self.epochs

    @property
    def modules(self) -> tuple[Module, ...]:
        return ("raw", "mlp")


class Tiny(System):
    def __init__(self, trial: Trial, data: Dataset, device: Device = "cpu") -> None:
        super().__init__(trial, data, device)
        assert isinstance(trial.configuration, TinyConfiguration)
        self.configuration, self.data = trial.configuration, data
        x_UM = means(data.train)
        self.centre, self.scale = x_UM.mean(0), x_UM.std(0) + 1e-9
        generator = np.random.default_rng(derive_seed(trial.key, "weights"))
        self.weight_ME = 0.01 * generator.standard_normal((x_UM.shape[1], len(data.emotions)))

    @staticmethod
    def open_data(store: Store, trial: Trial) -> Dataset:
        return open_dataset(store, trial.fold)

    @property
    def stopped(self) -> str | None:
        return "epochs" if len(self.epochs) >= self.configuration.epochs else None

    def answer(self, utterances: Utterances) -> NDArray[np.float64]:
        logits_UE = (means(utterances) - self.centre) / self.scale @ self.weight_ME
        odds_UE: NDArray[np.float64] = np.exp(logits_UE - logits_UE.max(1, keepdims=True))
        return odds_UE / odds_UE.sum(1, keepdims=True)

    def step(self) -> Epoch:
        train, validation = self.data.train, self.data.validation
        error_UE = self.answer(train) - np.eye(len(self.data.emotions))[train.emotion]
        self.weight_ME -= (
            self.configuration.rate * ((means(train) - self.centre) / self.scale).T @ error_UE / len(train)
        )
        answer_UE = self.answer(validation)
        self.confusion = validation_confusion(
            validation.emotion,
            answer_UE.argmax(1),
            np.array(validation.speakers)[validation.speaker],
            validation.noisy,
            len(self.data.emotions),
        )
        loss = -float(np.log(answer_UE[np.arange(len(validation)), validation.emotion]).mean())
        epoch = Epoch(
            epoch=len(self.epochs) + 1,
            train_loss=float(np.abs(error_UE).mean()),
            validation_loss=loss,
            ua_noisy=mean_recall_of(self.confusion["noisy"]),
            ua_clean=mean_recall_of(self.confusion["clean"]),
            seconds=0.001,
        )
        self.epochs.append(epoch)
        return epoch

    def checkpoint(self) -> bytes:
        epochs = [epoch.model_dump() for epoch in self.epochs]
        return json.dumps([epochs, self.confusion, self.weight_ME.tolist()]).encode()

    def restore(self, checkpoint: bytes) -> None:
        epochs, self.confusion, weight = json.loads(checkpoint)
        self.epochs, self.weight_ME = [Epoch(**epoch) for epoch in epochs], np.array(weight)

    def result(self, stopped: str | None = None) -> Result:
        return Result(
            trial=self.trial,
            stopped=stopped or "epochs",
            epochs=tuple(self.epochs),
            best=len(self.epochs) - 1,
            seconds=0.001 * len(self.epochs),
            parameters=self.weight_ME.size,
            confusion=self.confusion,
            environment=environment(processor(), "numpy"),
        )

    def weights(self) -> bytes:
        return json.dumps(self.weight_ME.tolist()).encode()

    def load(self, weights: bytes | None) -> None:
        assert weights
        self.weight_ME = np.array(json.loads(weights))

    def predict(self, store: Store, speakers: Sequence[str], condition: Condition) -> Prediction:
        utterances = open_utterances(store, speakers)
        chosen = ~utterances.noisy if condition == "clean" else np.ones(len(utterances), np.bool_)
        answer_UE = self.answer(utterances.select(np.flatnonzero(chosen)))
        return Prediction(answer_UE.argmax(1), answer_UE)

    def represent(
        self, store: Store, speakers: Sequence[str], rows: NDArray[np.int64]
    ) -> Mapping[Module, NDArray[np.float32]]:
        utterances = open_utterances(store, speakers).select(rows)
        return {"raw": means(utterances).astype(np.float32), "mlp": self.answer(utterances).astype(np.float32)}


def means(utterances: Utterances) -> NDArray[np.float64]:
    """Mean log-Mels [U, M]."""
    return np.array([utterances.copy(row).mean(0, dtype=np.float64) for row in range(len(utterances))])
