import itertools
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from sersearch.models.cldnn import CLDNN, cross_entropy
from sersearch.models.kernels import gpu, units
from sersearch.run.ledger import Epoch, Ledger, Result
from sersearch.run.storage import Folder
from sersearch.store.reader import Store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.fold import Fold
from sersearch.study.trial import Trial
from sersearch.training.dataset import Dataset, ResidentView, View, open_dataset
from sersearch.training.network import NetworkSystem, class_weights
from sersearch.training.system import run_steps, run_trial
from tests.models.test_models import BF16, SMALL
from tests.trials import make_trial

CONFIGURATION = NetworkConfiguration(model="FST-CLDNN", w1=3, w2=2, epochs=4, **SMALL)


@pytest.fixture(scope="module")
def data(tiny_store: Store) -> Dataset:
    return open_dataset(tiny_store, Fold(train=("s0", "s1", "s2"), validation=("s3", "s4"), test=("s5",)))


def figures(result: Result) -> list[Epoch]:
    return [epoch.model_copy(update={"seconds": 0.0}) for epoch in result.epochs]


def test_the_same_key_gives_the_same_bits(data: Dataset, tmp_path: Path) -> None:
    trial = make_trial(CONFIGURATION, 0, "d")
    weights: list[tuple[list[Epoch], bytes]] = []
    for name in ("a", "b"):
        torch.manual_seed(len(weights))
        attempt = Ledger(Folder(tmp_path / name)).begin(trial)
        result = run_trial(trial, data, attempt=attempt)
        kept = attempt.storage.get(f"trials/{trial.key}/attempt-001/best.safetensors")
        assert kept
        weights.append((figures(result), kept))
    assert weights[0] == weights[1]
    other = run_trial(make_trial(CONFIGURATION, 1, "d"), data)
    assert figures(other) != weights[0][0]


@pytest.mark.parametrize("stops", [(1,), (2, 3), (1, 2, 3)])
def test_interrupted_or_not_the_same_bits(data: Dataset, tmp_path: Path, stops: tuple[int, ...]) -> None:
    assert_same_bits_though_interrupted(CONFIGURATION, data, tmp_path, stops)


def assert_same_bits_though_interrupted(
    configuration: NetworkConfiguration, data: Dataset, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    trial = make_trial(configuration, 0, "d")
    plain_attempt = Ledger(Folder(tmp_path / "plain")).begin(trial)
    plain = run_trial(trial, data, attempt=plain_attempt)

    ledger = Ledger(Folder(tmp_path / "broken"))
    trained = 0
    for stop in stops:
        training = NetworkSystem(trial, data)
        steps = run_steps(training, ledger.begin(trial), after_epochs=True)
        for epoch in itertools.islice(steps, stop - trained):
            trained = epoch.epoch
    last = ledger.begin(trial)
    seen: list[int] = []
    resumed = run_trial(trial, data, lambda epoch: seen.append(epoch.epoch), last)
    assert seen == list(range(stops[-1] + 1, 5))
    assert figures(resumed) == figures(plain)
    assert resumed.confusion == plain.confusion
    committed, undisturbed = (Ledger(Folder(tmp_path / name)).result(trial.key) for name in ("broken", "plain"))
    assert committed
    assert undisturbed
    assert ledger.weights(committed) == Ledger(Folder(tmp_path / "plain")).weights(undisturbed)


@pytest.fixture
def gpus_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What training does on a GPU, done on a CPU."""
    monkeypatch.setattr(gpu, "backend_for", lambda device: "gpu")


@pytest.mark.usefixtures("gpus_way")
def test_interrupted_or_not_the_same_bits_a_gpus_way(data: Dataset, tmp_path: Path) -> None:
    assert isinstance(NetworkSystem(make_trial(CONFIGURATION, 0, "d"), data).view(data.validation), ResidentView)
    assert_same_bits_though_interrupted(CONFIGURATION, data, tmp_path, (1, 2))


@pytest.fixture(scope="module")
def few(data: Dataset) -> Dataset:
    """Data of which an epoch has nine steps with `minibatch = 5`."""
    train, validation = (part.select(np.arange(0, len(part), 2)) for part in (data.train, data.validation))
    return replace(data, train=train.select(np.arange(27)), validation=validation.select(np.arange(11)))


@pytest.fixture(scope="module", params=BF16, ids=lambda settings: settings["model"])
def undisturbed(request: pytest.FixtureRequest, few: Dataset) -> tuple[Trial, Result, bytes]:
    """A trial of two epochs, its result and its weights."""
    given = request.param | SMALL | {"epochs": 2, "learning_rate": 0.01, "minibatch": 5}
    trial = make_trial(NetworkConfiguration.model_validate(given), 0, "d")
    return train_in_parts(trial, few, [10_000])


def train_in_parts(trial: Trial, data: Dataset, parts: list[int]) -> tuple[Trial, Result, bytes]:
    """Train so many steps at a time, each time in a system of its own that begins from the checkpoint of the last."""
    checkpoint = None
    for steps in itertools.cycle(parts):
        training = NetworkSystem(trial, data)
        if checkpoint:
            training.restore(checkpoint)
        for _ in range(steps):
            training.step()
            if training.stopped:
                return trial, training.result(), training.weights()
        checkpoint = training.checkpoint()
    raise AssertionError("unreachable")


@settings(max_examples=4, deadline=None)
@given(parts=st.lists(st.integers(1, 12), min_size=1, max_size=4))
@example(parts=[1])
@example(parts=[6, 2])
def test_interrupted_anywhere_in_an_epoch_the_same_bits(
    parts: list[int], undisturbed: tuple[Trial, Result, bytes], few: Dataset
) -> None:
    trial, expected, weights = undisturbed
    _, result, resumed_weights = train_in_parts(trial, few, parts)
    assert figures(result) == figures(expected)
    assert result.figures_digest == expected.figures_digest
    assert resumed_weights == weights


@pytest.mark.usefixtures("gpus_way")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_interrupted_anywhere_in_an_epoch_the_same_bits_a_gpus_way(few: Dataset, precision: str) -> None:
    changes = {"epochs": 2, "minibatch": 5, "precision": precision, "normalisation": "speaker", "keep": "ua"}
    trial = make_trial(CONFIGURATION.model_copy(update=changes | {"class_weights": True}), 0, "d")
    _, expected, weights = train_in_parts(trial, few, [10_000])
    for parts in ([1], [3, 5]):
        _, result, resumed_weights = train_in_parts(trial, few, parts)
        assert figures(result) == figures(expected)
        assert resumed_weights == weights


def test_what_an_interruption_costs_is_no_part_of_an_epochs_seconds(data: Dataset) -> None:
    training = NetworkSystem(make_trial(CONFIGURATION, 0, "d"), data)
    training.step()
    assert training._progress
    training._progress.seconds = 1000.0
    checkpoint = training.checkpoint()
    time.sleep(0.01)
    training = NetworkSystem(training.trial, data)
    training.restore(checkpoint)
    assert 1000 < training.train_epoch().seconds < 1000 + 60


@pytest.mark.parametrize("kind", BF16, ids=lambda kind: kind["model"])
def test_a_gpus_way_trains_alike_in_every_precision(
    kind: dict[str, object], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(precision: str) -> list[float | None]:
        given = kind | SMALL | {"epochs": 3, "precision": precision}
        trial = make_trial(NetworkConfiguration.model_validate(given), 0, "d")
        # The same weights, order and dropout whatever the precision.
        trial.__dict__["key"] = "k"
        return [loss for e in run_trial(trial, data).epochs for loss in (e.train_loss, e.validation_loss)]

    exact = losses("float32")
    assert losses("tf32") == exact, "a CPU has no TF32"
    monkeypatch.setattr(gpu, "backend_for", lambda device: "gpu")
    assert losses("float32") == losses("tf32") == pytest.approx(exact, rel=1e-4)
    half = losses("bf16")
    assert half != pytest.approx(exact, rel=1e-7)
    assert half == pytest.approx(exact, rel=0.02)


def test_bf16_interrupted_or_not_the_same_bits(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "bf16_unit", lambda: "avx512_bf16")
    configuration = CONFIGURATION.model_copy(update={"precision": "bf16"})
    assert NetworkSystem(make_trial(configuration, 0, "d"), data).model.in_bf16
    assert_same_bits_though_interrupted(configuration, data, tmp_path, (1, 2))


@pytest.mark.parametrize("settings", BF16, ids=lambda settings: settings["model"])
def test_a_cpu_trains_and_tests_in_bf16(
    settings: dict[str, object], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(precision: str) -> Result:
        given = settings | SMALL | {"epochs": 3, "precision": precision}
        trial = make_trial(NetworkConfiguration.model_validate(given), 0, "d")
        # The same weights, order and dropout whatever the precision.
        trial.__dict__["key"] = "k"
        return run_trial(trial, data)

    def losses(result: Result) -> list[float | None]:
        return [loss for epoch in result.epochs for loss in (epoch.train_loss, epoch.validation_loss)]

    exact = trained("float32")
    assert "products" not in exact.environment
    monkeypatch.setattr(units, "bf16_unit", lambda: "avx512_bf16")
    half = trained("bf16")
    assert losses(half) != pytest.approx(losses(exact), rel=1e-7)
    assert losses(half) == pytest.approx(losses(exact), rel=0.02)
    assert half.environment["products"] == "bf16 (avx512_bf16)"

    monkeypatch.setattr(units, "bf16_unit", lambda: None)
    units.warn_of_float32.cache_clear()
    with pytest.warns(RuntimeWarning, match='precision = "bf16" is computed as float32'):
        single = trained("bf16")
    assert losses(single) == losses(exact)
    assert single.environment["products"] == "float32 (no units for bf16)"


def test_the_result_is_that_of_the_kept_weights(data: Dataset, tmp_path: Path) -> None:
    trial = make_trial(CONFIGURATION, 0, "d")
    ledger = Ledger(Folder(tmp_path))
    result = run_trial(trial, data, attempt=ledger.begin(trial))
    model = CLDNN(CONFIGURATION, len(data.emotions))
    committed = ledger.result(trial.key)
    assert committed
    weights = ledger.weights(committed)
    assert weights
    model.load_state_dict(safetensors.torch.load(weights))
    view = View(data.validation, CONFIGURATION, data.moments)
    batch = view.minibatch(range(len(data.validation)))
    with torch.inference_mode():
        logits = model(batch.x_BTF, batch.lengths_B)
    emotion = torch.from_numpy(data.validation.emotion)
    loss = torch.nn.functional.cross_entropy(logits, emotion).item()
    best = result.best_epoch
    assert best
    assert loss == pytest.approx(best.validation_loss, rel=1e-5)
    assert best.validation_loss == min(epoch.validation_loss for epoch in result.epochs)
    recalls = [(logits.argmax(1)[emotion == e] == e).double().mean().item() for e in range(len(data.emotions))]
    assert result.ua("noisy") == pytest.approx(100 * sum(recalls) / len(recalls))
    counts = torch.tensor(list(result.confusion["clean"].values()))
    assert int(counts.sum()) == int((~data.validation.noisy).sum())
    assert result.parameters == CONFIGURATION.parameters(len(data.emotions)).total
    assert committed.model_copy(
        update={"weights": "", "weights_sha256": "", "finished": "", "host": ""}
    ) == result.model_copy(update={"trial": result.trial.sealed})


def test_early_stopping_waits_for_its_patience(data: Dataset) -> None:
    configuration = CONFIGURATION.model_copy(update={"epochs": 60, "learning_rate": 0.05, "patience": 2})
    result = run_trial(make_trial(configuration, 0, "d"), data)
    assert result.stopped == "early"
    assert result.best is not None
    assert len(result.epochs) == result.best + 1 + 2


def test_the_best_epoch_may_be_that_of_the_highest_ua(data: Dataset, tmp_path: Path) -> None:
    changes = {"epochs": 12, "learning_rate": 0.02, "patience": 4, "keep": "ua"}
    trial = make_trial(CONFIGURATION.model_copy(update=changes), 0, "d")
    ledger = Ledger(Folder(tmp_path))
    result = run_trial(trial, data, attempt=ledger.begin(trial))
    uas = [epoch.ua_noisy for epoch in result.epochs]
    losses = [epoch.validation_loss for epoch in result.epochs]
    assert result.best == uas.index(max(uas)) != losses.index(min(losses))
    assert result.ua("noisy") == max(uas)
    stopped_early = len(uas) == result.best + 1 + 4
    assert result.stopped == ("early" if stopped_early else "epochs")
    loaded = NetworkSystem(trial, data)
    committed = ledger.result(trial.key)
    assert committed
    loaded.load(ledger.weights(committed))
    predicted = loaded.logits(loaded.view(data.validation)).argmax(1)
    emotion = torch.from_numpy(data.validation.emotion)
    recalls = [(predicted[emotion == e] == e).double().mean().item() for e in range(len(data.emotions))]
    assert result.ua("noisy") == pytest.approx(100 * sum(recalls) / len(recalls))


def test_training_is_counted_in_epochs_steps_or_copies(data: Dataset) -> None:
    copies = len(data.train)
    steps = math.ceil(copies / CONFIGURATION.minibatch)

    def trained(**amounts: object) -> list[Epoch]:
        trial = make_trial(CONFIGURATION.model_copy(update={"learning_rate": 0.05, **amounts}), 0, "d")
        # The same weights, order and dropout whatever the amounts.
        trial.__dict__["key"] = "k"
        return figures(run_trial(trial, data))

    expected = trained(epochs=60, patience=2)
    assert 3 < len(expected) < 60
    assert trained(epochs=f"{60 * steps} steps", patience=f"{2 * steps} steps") == expected
    assert trained(epochs=f"{60 * copies} copies", patience=f"{2 * copies - 1} copies") == expected
    assert trained(epochs=f"{2 * steps + 1} steps", patience=9) == expected[:3]
    assert trained(epochs="1 steps", patience=9) == expected[:1]


def test_the_last_epoch_may_be_kept_and_patience_goes_by_the_loss(data: Dataset) -> None:
    def trained(**changes: object) -> Result:
        trial = make_trial(CONFIGURATION.model_copy(update={"learning_rate": 0.05, "epochs": 60, **changes}), 0, "d")
        trial.__dict__["key"] = "k"
        return run_trial(trial, data)

    best, last = trained(patience=2), trained(patience=2, keep="last")
    assert figures(best) == figures(last)
    assert best.best is not None
    assert last.best == len(last.epochs) - 1 == best.best + 2
    assert last.ua("noisy") == last.epochs[-1].ua_noisy
    assert figures(trained(patience=2, epsilon=0.1)) != figures(best)


def test_class_weights_are_inverse_frequencies(data: Dataset) -> None:
    few = np.flatnonzero(data.train.emotion == 0)[:2]
    others = np.flatnonzero(data.train.emotion != 0)
    unbalanced = replace(data, train=data.train.select(np.concatenate([few, others])))
    literal = compute_class_weight("balanced", classes=np.arange(3), y=unbalanced.train.emotion)
    weight_E = class_weights(unbalanced)
    np.testing.assert_allclose(weight_E.numpy(), literal, rtol=1e-6)
    assert weight_E[torch.from_numpy(unbalanced.train.emotion)].mean().item() == pytest.approx(1)
    logits_BN, emotion_B = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 0])
    each_B = torch.nn.functional.cross_entropy(logits_BN, emotion_B, reduction="none")
    weighted = cross_entropy(logits_BN, emotion_B, weight_E)
    assert weighted.item() == pytest.approx((each_B * weight_E[emotion_B]).mean().item())


def test_it_learns(data: Dataset) -> None:
    wider = {"epochs": 25, "learning_rate": 0.005, "patience": 8, "maps": 16, "cells": 32, "dense": (32,)}
    result = run_trial(make_trial(CONFIGURATION.model_copy(update=wider), 0, "d"), data)
    assert result.ua("clean") > 70


def test_a_loss_that_is_no_number_is_an_error(data: Dataset) -> None:
    configuration = CONFIGURATION.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(FloatingPointError, match="epoch 1: training loss"):
        run_trial(make_trial(configuration, 0, "d"), data)


def epochs_of(checkpoint: bytes | None, trial: Trial, data: Dataset) -> int:
    assert checkpoint
    training = NetworkSystem(trial, data)
    training.restore(checkpoint)
    return len(training.epochs)


def test_a_pruner_finds_the_checkpoint_of_each_epoch(data: Dataset, tmp_path: Path) -> None:
    trial = make_trial(CONFIGURATION, 0, "d")
    attempt = Ledger(Folder(tmp_path)).begin(trial)
    for epoch in run_steps(NetworkSystem(trial, data), attempt, after_epochs=True):
        assert all(math.isfinite(value) for value in epoch.model_dump().values())
        if epoch.epoch < 4:
            assert epochs_of(attempt.checkpoint(), trial, data) == epoch.epoch
