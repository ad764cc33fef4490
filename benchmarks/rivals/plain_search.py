"""A plain search of networks: Ray Tune with its defaults, OptunaSearch, and trials that read the Parquet files."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray
import torch
from numpy.typing import NDArray
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from rivals.plain_pytorch import Plain
from sersearch.models.cldnn import CLDNN
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.trial import Trial
from sersearch.training.dataset import shuffled
from sersearch.training.network import _generator
from sersearch.training.system import derive_seed

Speakers = Sequence[Path]


def read(files: Speakers, emotions: Sequence[str]) -> tuple[list[Tensor], Tensor]:
    """Read the frames [T, M] and the emotions of the utterances in some Parquet files."""
    frames, emotion = [], []
    for file in files:
        table = pq.read_table(file, columns=["frames", "emotion", "log_mel"])
        log_mel = table["log_mel"].combine_chunks().values.to_numpy()
        lengths = table["frames"].to_pylist()
        parts = np.split(log_mel.reshape(sum(lengths), -1), np.cumsum(lengths)[:-1])
        frames += [torch.from_numpy(part.astype(np.float32)) for part in parts]
        emotion += [emotions.index(name) for name in table["emotion"].to_pylist()]
    return frames, torch.tensor(emotion)


def padded(frames: Sequence[Tensor], indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Pad the frames of a minibatch: [B, T, M] and the lengths [B]."""
    chosen = [frames[index] for index in indices]
    return pad_sequence(chosen, batch_first=True), torch.tensor([len(x) for x in chosen])


def train(trial: Trial, parts: tuple[Speakers, Speakers], emotions: Sequence[str]) -> None:
    """Train a trial and report each epoch, with the initial weights and the minibatches of this package."""
    configuration = trial.configuration
    assert isinstance(configuration, NetworkConfiguration)
    learnt, emotion = read(parts[0], emotions)
    measured, true = read(parts[1], emotions)
    everything = torch.cat(learnt)
    mean, deviation = everything.mean(0), everything.std(0)
    learnt = [(x - mean) / deviation for x in learnt]
    measured = [(x - mean) / deviation for x in measured]
    model = Plain(CLDNN(configuration, len(emotions), _generator(trial.key, "weights")))
    optimiser = torch.optim.Adam(model.parameters(), lr=configuration.learning_rate, eps=1e-7)
    lengths = np.array([len(x) for x in learnt])
    for epoch in range(1, int(configuration.epochs) + 1):
        order = np.random.default_rng(derive_seed(trial.key, f"order {epoch}"))
        for indices in shuffled(lengths, configuration.minibatch, order):
            optimiser.zero_grad()
            loss = cross_entropy(model(*padded(learnt, indices)), emotion[indices])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            tens = np.split(np.arange(len(measured)), range(10, len(measured), 10))
            logits = torch.cat([model(*padded(measured, indices)) for indices in tens])
        right = (logits.argmax(1) == true).float()
        ua = 100 * float(np.mean([right[true == each].mean() for each in range(len(emotions))]))
        tune.report({"ua": ua, "loss": float(cross_entropy(logits, true))})


def search(
    points: list[dict[str, Any]],
    make_trial: Callable[[dict[str, Any]], Trial],
    parts: tuple[Speakers, Speakers],
    emotions: Sequence[str],
    folder: Path,
    begun: Callable[[], None],
    ended: Callable[[], None],
) -> list[tuple[dict[str, Any], float, float]]:
    """Train each point of a grid once, with one trial per core.

    Args:
        points: the grid; Optuna is given all points in advance, so that it draws none.
        make_trial: makes the trial of a point.
        parts: Parquet files of the training and the validation speakers.
        emotions: the classes.
        folder: where Ray keeps the results.
        begun: called in the driver when a trial is suggested.
        ended: called in the driver when a trial has ended.

    Returns:
        Each point with its last validation loss and UA.
    """

    class Noted(OptunaSearch):
        def suggest(self, trial_id: str) -> dict[str, Any] | None:
            begun()
            point: dict[str, Any] | None = super().suggest(trial_id)
            return point

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            super().on_trial_complete(trial_id, result, error)
            ended()

    def trainable(point: dict[str, Any]) -> None:
        train(make_trial(point), parts, emotions)

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    results = tune.Tuner(
        trainable,
        param_space={name: tune.choice(sorted({point[name] for point in points})) for name in points[0]},
        tune_config=tune.TuneConfig(
            search_alg=Noted(points_to_evaluate=points, seed=0), metric="ua", mode="max", num_samples=len(points)
        ),
        run_config=tune.RunConfig(storage_path=str(folder)),
    ).fit()
    ray.shutdown()
    found = [(result.config, result.metrics["loss"], result.metrics["ua"]) for result in results]
    assert all(math.isfinite(loss) for _, loss, _ in found)
    return found
