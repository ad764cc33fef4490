import math
from typing import Any

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sersearch.models.cldnn import CLDNN, cross_entropy
from sersearch.models.kernels import convolution, filtering, gpu, loops, recurrence
from sersearch.models.kernels.blstm import BLSTM
from sersearch.models.kernels.filtering import correlate
from sersearch.models.kernels.gpu import Backend
from sersearch.models.reference import ReferenceCLDNN, blstm, convolve, max_pool
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.configuration.network import Precision

LENGTHS = (3, 21, 1)
SMALL = {"maps": 5, "cells": 6, "dense": (7, 4)}


def table_2() -> list[NetworkConfiguration]:
    h = [(h1, h2) for h1 in range(4, 10) for h2 in (3, 4)]
    w = [(w1, w2) for w1 in range(3, 9) for w2 in (2, 3)]
    made: list[NetworkConfiguration] = [
        NetworkConfiguration(model="LDNN", features=f, **SMALL) for f in ("log-mels", "mfccs")
    ]
    for f in ("log-mels", "mfccs"):
        made += [NetworkConfiguration(model="T-CLDNN", features=f, w1=a, w2=b, **SMALL) for a, b in w]
        made += [NetworkConfiguration(model="FST-CLDNN", features=f, w1=a, w2=b, **SMALL) for a, b in w]
    made += [NetworkConfiguration(model="S-CLDNN", h1=a, h2=b, **SMALL) for a, b in h]
    made += [NetworkConfiguration(model="S-CLDNN", h1=a, h2=3, **SMALL) for a in range(10, 31)]
    made += [NetworkConfiguration(model="ST-CLDNN", h1=a, h2=b, w1=c, w2=d, **SMALL) for a, b in h for c, d in w]
    return made


def beyond_the_paper() -> list[NetworkConfiguration]:
    return [
        NetworkConfiguration(model="ST-CLDNN", h1=4, h2=3, w1=3, w2=2, deltas=2, **SMALL),
        NetworkConfiguration(model="LDNN", deltas=1, left=0, right=0, **SMALL),
        NetworkConfiguration(model="T-CLDNN", w1=2, w2=1, left=20, right=9, bands=7, cepstra=3, **SMALL),
        NetworkConfiguration(model="FST-CLDNN", w1=9, w2=3, bands=23, cepstra=20, features="mfccs", **SMALL),
        NetworkConfiguration(model="S-CLDNN", h1=1, h2=2, left=2, right=0, bands=12, cepstra=3, **SMALL),
        NetworkConfiguration(model="FST-CLDNN", w1=3, w2=2, **SMALL | {"dense": ()}),
    ]


def named(configuration: NetworkConfiguration) -> str:
    c = configuration
    return f"{c.model}-{c.features}-{c.h1}x{c.w1}-{c.h2}x{c.w2}"


def batch(configuration: NetworkConfiguration, garbage: float = 9.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    size = configuration.rows * configuration.channels
    x = torch.randn(len(LENGTHS), max(LENGTHS), size, generator=generator, dtype=torch.float64)
    for row, length in enumerate(LENGTHS):
        x[row, length:] = garbage
    return x, torch.tensor(LENGTHS)


def build(configuration: NetworkConfiguration, backend: Backend = "cpu") -> CLDNN:
    model = CLDNN(configuration, 6, torch.Generator().manual_seed(1), backend=backend).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
            )
    return model


def reference_of(model: CLDNN) -> ReferenceCLDNN:
    """The paper's form of a model with the same weights, in float64."""
    reference = ReferenceCLDNN(model.configuration, model.emotions).double()
    reference.load_state_dict(model.state_dict())
    return reference


def padded_blstm(x_TBV: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor, lengths: list[int]) -> Tensor:
    """The paper's BLSTM over each utterance alone: [T, B, V] to [T, B, 2 * H], zero behind an utterance's end."""
    outputs = []
    for b, length in enumerate(lengths):
        output_TH = blstm(x_TBV[:length, b], kernel, recurrent, bias)
        outputs.append(F.pad(output_TH, (0, 0, 0, len(x_TBV) - length)))
    return torch.stack(outputs, dim=1)


def assert_equals_the_reference(model: CLDNN) -> None:
    """Logits and gradients of a minibatch are those of the paper's form of the model."""
    reference = reference_of(model)
    x, lengths = batch(model.configuration)
    weight = torch.randn(len(LENGTHS), 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    fast = model(x, lengths)
    fast_gradients = torch.autograd.grad((fast * weight).sum(), list(model.parameters()))
    slow = torch.stack([reference(x[row, :length]) for row, length in enumerate(LENGTHS)])
    slow_gradients = torch.autograd.grad((slow * weight).sum(), list(reference.parameters()))

    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def ends_of_table_2() -> list[NetworkConfiguration]:
    ends = ("4x1-3x1", "30x1-3x1", "1x3-1x2", "1x8-1x3", "4x3-3x2", "9x8-4x3", "40x3-1x2", "13x8-1x3")
    return [c for c in table_2() if c.model == "LDNN" or named(c).endswith(ends)]


@pytest.mark.parametrize("configuration", ends_of_table_2() + beyond_the_paper(), ids=named)
def test_the_gpus_kernels_give_the_same_numbers_and_gradients(configuration: NetworkConfiguration) -> None:
    assert_equals_the_reference(build(configuration, backend="gpu"))


@pytest.mark.parametrize("configuration", table_2() + beyond_the_paper(), ids=named)
def test_same_numbers_and_gradients_as_the_reference(configuration: NetworkConfiguration) -> None:
    assert_equals_the_reference(build(configuration))


def test_a_network_is_built_for_its_device() -> None:
    configuration = NetworkConfiguration(model="S-CLDNN", h1=4, h2=3, **SMALL)
    assert CLDNN(configuration, 6).backend == "cpu"
    for name, backend in (("cpu", "cpu"), ("cuda", "gpu"), ("cuda:1", "gpu")):
        assert gpu.backend_for(name) == backend
    model = CLDNN(configuration, 6, backend="gpu")
    assert model.backend == model.convolutions.backend == model.blstm.backend == "gpu"


def test_the_references_convolution_is_equation_1() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 7, 6, generator=generator, dtype=torch.float64)
    kernel = torch.randn(4, 3, 3, 2, generator=generator, dtype=torch.float64)
    bias = torch.randn(4, generator=generator, dtype=torch.float64)
    found = convolve(x, kernel, bias)
    assert found.shape == (2, 4, 5, 5)
    for t, k, i, j in np.ndindex(*found.shape):
        expected = bias[k].item()
        for c, mu, nu in np.ndindex(3, 3, 2):
            expected += x[t, c, i + mu, j + nu].item() * kernel[k, c, mu, nu].item()
        assert found[t, k, i, j].item() == pytest.approx(expected, abs=1e-12)


def test_the_references_pooling_is_equation_2_and_floors() -> None:
    y = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = max_pool(y, (3, 3), (2, 2))
    assert found.shape == (2, 4, 3, 2)
    for t, k, i, j in np.ndindex(*found.shape):
        assert found[t, k, i, j] == y[t, k, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max()


@pytest.mark.parametrize(
    "configuration", [c for c in table_2() if named(c).endswith(("3x1", "1x3", "None"))], ids=named
)
def test_parameters_are_those_of_the_arithmetic(configuration: NetworkConfiguration) -> None:
    model = CLDNN(configuration, 6)
    counted = configuration.parameters(6)
    assert sum(p.numel() for p in model.convolutions.parameters()) == counted.cnn
    assert sum(p.numel() for p in model.blstm.parameters()) == counted.blstm
    assert sum(p.numel() for p in model.dense.parameters()) == counted.mlp


def test_padding_does_not_change_the_logits() -> None:
    configuration = NetworkConfiguration(model="ST-CLDNN", h1=5, h2=3, w1=4, w2=2, **SMALL)
    model = build(configuration)
    x, lengths = batch(configuration, garbage=1.0)
    other, _ = batch(configuration, garbage=-1e6)
    torch.testing.assert_close(model(x, lengths), model(other, lengths), rtol=0, atol=0)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_blstm_equals_torch_packed(lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ours = BLSTM(4, 3).double()
    theirs = torch.nn.LSTM(4, 3, bidirectional=True, batch_first=True).double()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        for direction, suffix in enumerate(("", "_reverse")):
            getattr(theirs, f"weight_ih_l0{suffix}").copy_(ours.kernel[direction])
            getattr(theirs, f"weight_hh_l0{suffix}").copy_(ours.recurrent[direction])
            getattr(theirs, f"bias_ih_l0{suffix}").copy_(ours.bias[direction])
            getattr(theirs, f"bias_hh_l0{suffix}").zero_()
    x = torch.randn(len(lengths), max(lengths), 4, generator=generator, dtype=torch.float64)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), True, enforce_sorted=False)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    found = ours(x, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        torch.testing.assert_close(found[row, :length], expected[row, :length], rtol=1e-12, atol=1e-12)


def test_initialisation_is_keras() -> None:
    model = CLDNN(NetworkConfiguration(model="ST-CLDNN", h1=4, h2=3, w1=3, w2=2), 6, torch.Generator().manual_seed(0))
    fans = [(4 * 3, 32 * 4 * 3), (32 * 3 * 2, 32 * 3 * 2)]
    for kernel, (fan_in, fan_out) in zip(model.convolutions.kernels, fans, strict=True):
        limit = math.sqrt(6 / (fan_in + fan_out))
        assert 0.95 * limit < kernel.abs().max() <= limit
        assert abs(kernel.mean()) < 0.1 * limit
    vector = model.configuration.shapes.vector
    limit = math.sqrt(6 / (vector + 512))
    for direction in (0, 1):
        assert 0.99 * limit < model.blstm.kernel[direction].abs().max() <= limit
        recurrent = model.blstm.recurrent[direction]
        torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(128), rtol=0, atol=1e-5)
    assert model.blstm.bias.unflatten(1, (4, 128)).mean(2).tolist() == [[0, 1, 0, 0]] * 2
    for layer in model.dense:
        assert isinstance(layer, torch.nn.Linear)
        assert layer.weight.abs().max() <= math.sqrt(6 / sum(layer.weight.shape))
        assert not layer.bias.any()


def test_same_generator_same_weights_and_no_global_randomness() -> None:
    configuration = NetworkConfiguration(model="T-CLDNN", w1=3, w2=2, **SMALL)
    before = torch.get_rng_state()
    first = CLDNN(configuration, 6, torch.Generator().manual_seed(7))
    second = CLDNN(configuration, 6, torch.Generator().manual_seed(7))
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_keeps_the_mean_and_the_rate() -> None:
    configuration = NetworkConfiguration(model="LDNN", **SMALL, dropout=0.2)
    model = build(configuration)
    ones = torch.ones(400, 500, dtype=torch.float64)
    dropped = model._drop(ones, torch.Generator().manual_seed(0))
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(model._drop(ones, None), ones)


@given(
    taps=st.sampled_from((1, 2, 3, 4, 5, 16, 33)),
    dilation=st.integers(1, 4),
    frames=st.integers(1, 130),
    rows=st.integers(1, 3),
    inputs=st.sampled_from((3, 70)),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60)
def test_correlation_is_the_plain_sum(taps: int, dilation: int, frames: int, rows: int, inputs: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    span = (taps - 1) * dilation
    x = torch.randn(frames + span, rows, inputs, generator=generator, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(4, inputs, taps, generator=generator, dtype=torch.float64, requires_grad=True)
    plain = sum(x[j * dilation :][:frames] @ kernel[:, :, j].T for j in range(taps))
    assert isinstance(plain, Tensor)
    weight = torch.randn(plain.shape, generator=generator, dtype=torch.float64)
    found = correlate(x, kernel, dilation)
    torch.testing.assert_close(found, plain, rtol=1e-11, atol=1e-11)
    for ours, theirs in zip(
        torch.autograd.grad(found, (x, kernel), weight), torch.autograd.grad(plain, (x, kernel), weight), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("taps", "inputs"), [(2, 1280), (16, 224), (16, 40)])
def test_correlation_in_float32_is_as_exact_as_float32(taps: int, inputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 2, inputs, generator=generator).relu()
    kernel = 0.05 * torch.randn(64, inputs, taps, generator=generator)
    exact = correlate(x.double(), kernel.double())
    assert (correlate(x, kernel) - exact).norm() / exact.norm() < 1e-6


def test_blocks_of_outputs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(70, 2, 30, generator=generator, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(7, 30, 16, generator=generator, dtype=torch.float64, requires_grad=True)
    whole = correlate(x, kernel)
    whole_gradients = torch.autograd.grad(whole.square().sum(), (x, kernel))
    monkeypatch.setattr(filtering, "BLOCK_NUMBERS", 95 * 30 * 2)
    parts = correlate(x, kernel)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(torch.autograd.grad(parts.square().sum(), (x, kernel)), whole_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@given(st.lists(st.integers(1, 2 * loops.KEEP_EVERY + 1), min_size=1, max_size=4), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_recurrence_and_gradients_are_the_papers_equations(lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(lengths)

    def made(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    inputs = made(max(lengths), len(lengths), 24), made(2, 12, 3), made(2, 12)
    real = (torch.arange(max(lengths)).unsqueeze(1) < counts).unsqueeze(2)
    weight = torch.randn(*real.shape[:2], 6, generator=generator, dtype=torch.float64) * real
    gates, recurrent, bias = inputs
    stepped = recurrence.blstm_from_gates(gates.clone(), recurrent, bias, counts)
    kernel = torch.eye(24, dtype=torch.float64).reshape(2, 12, 24)
    expected = padded_blstm(gates, kernel, recurrent, bias, lengths)
    torch.testing.assert_close(stepped, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(stepped, inputs, weight), torch.autograd.grad(expected, inputs, weight), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize(
    "kernels",
    [
        {"model": "S-CLDNN", "h1": 4, "h2": 3},
        {"model": "T-CLDNN", "w1": 8, "w2": 3},
        {"model": "ST-CLDNN", "h1": 9, "w1": 3, "h2": 4, "w2": 2},
        {"model": "FST-CLDNN", "w1": 3, "w2": 3},
    ],
)
def test_utterances_convolved_together_or_apart_are_the_same(
    monkeypatch: pytest.MonkeyPatch, kernels: dict[str, object], together: int
) -> None:
    configuration = NetworkConfiguration.model_validate(kernels | SMALL)
    model = build(configuration)
    x, lengths = batch(configuration)

    def found() -> list[Tensor]:
        maps = model.maps(x, lengths)
        return [maps, *torch.autograd.grad(maps.square().sum(), list(model.convolutions.parameters()))]

    whole = found()
    rows = configuration.left + max(LENGTHS) + configuration.right
    numbers = rows * model.convolutions.geometry[0].convolved[0] * configuration.maps
    monkeypatch.setattr(convolution, "GROUP_NUMBERS", together * numbers)
    for ours, theirs in zip(found(), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.sampled_from((1.0, 1e3)), st.integers(0, 2**31))
@settings(max_examples=20)
def test_both_directions_in_one_call_are_the_papers_equations(lengths: list[int], scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(lengths)

    def made(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    inputs = made(max(lengths), len(lengths), 5), made(2, 12, 5), made(2, 12, 3), made(2, 12)
    real = (torch.arange(max(lengths)).unsqueeze(1) < counts).unsqueeze(2)
    weight = torch.randn(*real.shape[:2], 6, generator=generator, dtype=torch.float64) * real
    together = recurrence.blstm_from_inputs(inputs[0] * scale, *inputs[1:], counts)
    apart = padded_blstm(inputs[0] * scale, *inputs[1:], lengths)
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(together, inputs, weight), torch.autograd.grad(apart, inputs, weight), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11 * scale)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.sampled_from((0.1, 1.0, 4.0)), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_recurrence_in_float32_is_as_exact_as_float32(lengths: list[int], scale: float, seed: int) -> None:
    counts = torch.tensor(lengths)

    def found(dtype: torch.dtype) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        shapes = (max(lengths), len(lengths), 2 * 4 * 16), (2, 4 * 16, 16), (2, 4 * 16)
        made = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
        gates, recurrent, bias = (
            x.mul_(factor).requires_grad_() for x, factor in zip(made, (scale, 0.1, 0.1), strict=True)
        )
        y = recurrence.blstm_from_gates(gates.clone(), recurrent, bias, counts)
        weight = torch.randn(y.shape, generator=generator).to(dtype)
        return [y, *torch.autograd.grad(y, (gates, recurrent, bias), weight)]

    for ours, exact in zip(found(torch.float32), found(torch.float64), strict=True):
        assert (ours - exact).norm() <= 2e-6 * exact.norm()


def test_tanh_is_tanh() -> None:
    def each(x: Any) -> Any:
        y = np.empty_like(x)
        for k in range(len(x)):
            y[k] = loops.tanh(x[k])
        return y

    x = np.concatenate((np.linspace(-20, 20, 100_001), np.logspace(-30, 1, 10_001), [0, np.inf, -np.inf]))
    compiled = numba.njit(each)
    np.testing.assert_allclose(compiled(x.astype(np.float32)), np.tanh(x.astype(np.float32).astype(float)), rtol=5e-7)
    np.testing.assert_allclose(compiled(x), np.tanh(x), rtol=1e-15)
    assert np.isnan(compiled(np.full(3, np.nan, np.float32))).all()


def test_a_gate_that_is_nan_makes_the_output_nan() -> None:
    gates = torch.zeros(4, 1, 24)
    gates[1, 0, 2] = torch.nan
    y = recurrence.blstm_from_gates(gates, torch.zeros(2, 12, 3), torch.zeros(2, 12), torch.tensor([4]))
    assert y.isnan().any()


@pytest.mark.parametrize("frame", [0, 10, 39])
@pytest.mark.parametrize("model", [{"model": "S-CLDNN", "h1": 4, "h2": 3}, {"model": "T-CLDNN", "w1": 3, "w2": 2}])
def test_a_frame_that_is_nan_is_not_lost_in_pooling(model: dict[str, object], frame: int) -> None:
    configuration = NetworkConfiguration.model_validate(model | SMALL)
    x = torch.randn(1, 40, 40, generator=torch.Generator().manual_seed(0))
    x[0, frame] = torch.nan
    maps = CLDNN(configuration, 6, torch.Generator().manual_seed(0)).maps(x, torch.tensor([40]))
    assert maps.isnan().any()


def test_a_recurrence_overwrites_its_input_and_autograd_notices() -> None:
    recurrent, bias = torch.zeros(2, 12, 3, requires_grad=True), torch.zeros(2, 12)
    x = torch.ones(4, 1, 24, requires_grad=True)
    gates = x * 2
    squares = gates.square()
    y = recurrence.blstm_from_gates(gates, recurrent, bias, torch.tensor([4]))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (squares.sum() + y.sum()).backward()
    y = recurrence.blstm_from_gates(x * 2, recurrent, bias, torch.tensor([4])).sum()
    y.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        y.backward()


BF16 = [
    {"model": "LDNN"},
    {"model": "S-CLDNN", "h1": 5, "h2": 3},
    {"model": "T-CLDNN", "w1": 3, "w2": 2},
    {"model": "ST-CLDNN", "h1": 5, "h2": 3, "w1": 3, "w2": 2},
    {"model": "FST-CLDNN", "w1": 3, "w2": 2},
]


@pytest.mark.parametrize("settings", BF16, ids=lambda settings: settings["model"])
def test_bf16_on_a_gpu_is_float32_to_its_accuracy(settings: dict[str, object]) -> None:
    configuration = NetworkConfiguration.model_validate(settings | {"maps": 8, "cells": 16, "dense": (16,)})
    x = torch.randn(3, 200, 40, generator=torch.Generator().manual_seed(2))
    lengths, emotion = torch.tensor([200, 199, 7]), torch.tensor([0, 4, 2])

    def found(precision: Precision, backend: Backend) -> list[Tensor]:
        chosen = configuration.model_copy(update={"precision": precision})
        model = CLDNN(chosen, 6, torch.Generator().manual_seed(1), backend=backend)
        logits = model(x, lengths)
        gradients = torch.autograd.grad(cross_entropy(logits, emotion), list(model.parameters()))
        assert {t.dtype for t in (logits, *gradients, *model.parameters())} == {torch.float32}
        return [logits.detach(), *gradients]

    exact = found("float32", "cpu")
    assert all(map(torch.equal, found("tf32", "cpu"), exact)), "a CPU has no TF32"
    single, half = found("float32", "gpu"), found("bf16", "gpu")
    assert all(map(torch.equal, found("tf32", "gpu"), single))
    for a, b, c in zip(exact, single, half, strict=True):
        assert (a - b).norm() <= 1e-4 * a.norm()
        # Rounding changes which value of a window is the largest: plain PyTorch under autocast is off by up to 0.28.
        assert 1e-5 * a.norm() < (a - c).norm() <= 0.12 * a.norm()


@pytest.mark.parametrize(("precision", "flag"), [("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_a_trials_precision_ends_with_it(precision: Precision, flag: str) -> None:
    backends = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    before = [part.fp32_precision for part in parts]
    with gpu.product_precision(precision):
        assert [part.fp32_precision for part in parts] == [flag] * 3
    assert [part.fp32_precision for part in parts] == before
    with pytest.raises(FloatingPointError), gpu.product_precision(precision):
        raise FloatingPointError
    assert [part.fp32_precision for part in parts] == before


def test_float32_gradients_are_as_exact_as_float32() -> None:
    configuration = NetworkConfiguration(model="S-CLDNN", h1=4, h2=3)
    model = CLDNN(configuration, 6, torch.Generator().manual_seed(1))
    x = torch.randn(3, 120, 40, generator=torch.Generator().manual_seed(2))
    lengths, emotion = torch.tensor([120, 119, 80]), torch.tensor([0, 4, 2])
    single = torch.autograd.grad(cross_entropy(model(x, lengths), emotion), list(model.parameters()))
    model.double()
    double = torch.autograd.grad(cross_entropy(model(x.double(), lengths), emotion), list(model.parameters()))
    for ours, exact in zip(single, double, strict=True):
        assert (ours - exact).norm() <= 1e-5 * exact.norm()
