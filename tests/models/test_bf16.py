"""Products in bfloat16 on a CPU: exact on numbers that bfloat16 has, and near float64 on others.

torch multiplies bfloat16 on any processor, if slowly, so these tests need no units for it.
"""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sersearch.models.cldnn import CLDNN, cross_entropy
from sersearch.models.kernels import units
from sersearch.models.kernels.convolution import Convolutions
from sersearch.models.kernels.filtering import correlate
from sersearch.study.configuration import NetworkConfiguration
from tests.models.test_models import BF16, SMALL, beyond_the_paper, ends_of_table_2, named


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply in bfloat16 on any processor."""
    monkeypatch.setattr(units, "bf16_unit", lambda: "avx512_bf16")


def relative_error(found: Tensor, exact: Tensor) -> float:
    return float(((found - exact).norm() / exact.norm()).detach())


def plain_sum(x_QRV: Tensor, kernel_GVJ: Tensor, dilation: int) -> Tensor:
    taps = kernel_GVJ.shape[2]
    frames = len(x_QRV) - (taps - 1) * dilation
    return torch.stack([x_QRV[j * dilation :][:frames] @ kernel_GVJ[:, :, j].T for j in range(taps)]).sum(0)


@given(
    taps=st.sampled_from((1, 2, 3, 4, 5, 16, 33)),
    dilation=st.integers(1, 4),
    frames=st.integers(30, 130),
    rows=st.integers(1, 3),
    inputs=st.sampled_from((3, 70, 150)),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_correlation_is_the_plain_sum_to_bf16s_accuracy(
    taps: int, dilation: int, frames: int, rows: int, inputs: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(frames + (taps - 1) * dilation, rows, inputs, generator=generator).bfloat16().requires_grad_()
    kernel = torch.randn(4, inputs, taps, generator=generator).requires_grad_()
    exact_inputs = x.detach().double().requires_grad_(), kernel.detach().double().requires_grad_()
    exact = plain_sum(*exact_inputs, dilation)
    weight = torch.randn(exact.shape, generator=generator, dtype=torch.float64)
    found = correlate(x, kernel, dilation)
    gradients = torch.autograd.grad(found, (x, kernel), weight.float())
    assert [each.dtype for each in (found, *gradients)] == [torch.float32, torch.bfloat16, torch.float32]
    # A factor is rounded by 0.3 % at most. Transforms round it twice, and spread the errors of a tile over its outputs.
    allowed = 0.01 if taps < 4 else 0.03
    for ours, theirs in zip(
        (found, *gradients), (exact, *torch.autograd.grad(exact, exact_inputs, weight)), strict=True
    ):
        assert relative_error(ours, theirs) < allowed


@pytest.mark.parametrize(
    ("taps", "inputs", "is_narrow"), [(1, 128, True), (2, 64, True), (1, 129, False), (2, 65, False)]
)
def test_narrow_windows_are_multiplied_in_float32(taps: int, inputs: int, is_narrow: bool) -> None:
    """The numbers that come in and go out are bfloat16's and float32's, whatever is in between."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, inputs, generator=generator).bfloat16()
    kernel = torch.randn(8, inputs, taps, generator=generator)
    exact = plain_sum(x.double(), kernel.double(), 3)
    assert (relative_error(correlate(x, kernel, 3), exact) < 1e-5) == is_narrow


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 40), st.sampled_from((3, 70, 150)), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_correlation_with_few_taps_is_exact_on_small_whole_numbers(
    taps: int, dilation: int, frames: int, inputs: int, seed: int
) -> None:
    # bfloat16 has all whole numbers up to 256, so nothing is rounded.
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-1, 2, (frames + (taps - 1) * dilation, 2, inputs), generator=generator)
    kernel = torch.randint(-1, 2, (5, inputs, taps), generator=generator)
    whole = x.double().requires_grad_(), kernel.double().requires_grad_()
    exact = plain_sum(*whole, dilation)
    weight = torch.randint(-1, 2, exact.shape, generator=generator).double()
    half = x.bfloat16().requires_grad_(), kernel.float().requires_grad_()
    found = correlate(*half, dilation)
    assert torch.equal(found.double(), exact)
    gradients = torch.autograd.grad(found, half, weight.float()), torch.autograd.grad(exact, whole, weight)
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.equal(ours.double(), theirs)


@pytest.mark.parametrize(
    ("taps", "inputs", "allowed"), [(1, 1280, 0.004), (2, 1280, 0.004), (16, 224, 0.009), (16, 40, 0.009)]
)
def test_sums_of_correlation_are_in_float32(taps: int, inputs: int, allowed: float) -> None:
    # A sum of hundreds of positive numbers in bfloat16 would be off by several per cent.
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(200, 2, inputs, generator=generator).bfloat16()
    kernel = torch.rand(64, inputs, taps, generator=generator)
    exact = correlate(x.double(), kernel.double())
    assert relative_error(correlate(x, kernel), exact) < allowed


def few_ones(shape: torch.Size, count: int, generator: torch.Generator) -> Tensor:
    """Zeros, but for some ones and minus ones."""
    flat = torch.zeros(shape.numel())
    chosen = torch.randperm(len(flat), generator=generator)[:count]
    flat[chosen] = torch.randint(0, 2, (len(chosen),), generator=generator).float() * 2 - 1
    return flat.view(shape)


@pytest.mark.parametrize("configuration", [c for c in ends_of_table_2() + beyond_the_paper() if c.kernels], ids=named)
def test_convolutions_are_exact_on_small_whole_numbers(configuration: NetworkConfiguration) -> None:
    # bfloat16 has all whole numbers up to 256, so nothing is rounded, and every value and gradient is that of float32.
    generator = torch.Generator().manual_seed(0)
    convolutions = Convolutions(configuration)
    with torch.no_grad():
        for kernel, bias in zip(convolutions.kernels, convolutions.biases, strict=True):
            kernel.copy_(torch.stack([few_ones(map_kernel.shape, 3, generator) for map_kernel in kernel]))
            bias.copy_(torch.randint(-1, 2, bias.shape, generator=generator))
    frames = torch.randint(-2, 3, (60, 2, configuration.channels, configuration.rows), generator=generator).float()
    single = convolutions(frames)
    half = convolutions(frames.bfloat16())
    assert half.dtype == torch.bfloat16
    assert single.any()
    assert torch.equal(half.float(), single)
    weight = few_ones(single.shape, 40, generator)
    parameters = list(convolutions.parameters())
    exact = torch.autograd.grad(single, parameters, weight)
    found = torch.autograd.grad(half, parameters, weight.bfloat16())
    assert any(gradient.any() for gradient in exact)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize("settings", BF16, ids=lambda settings: settings["model"])
def test_a_network_in_bf16_is_float64_to_its_accuracy(settings: dict[str, object]) -> None:
    configuration = NetworkConfiguration.model_validate(settings | {"maps": 8, "cells": 16, "dense": (16,)})
    x = torch.randn(3, 200, 40, generator=torch.Generator().manual_seed(2))
    lengths, emotion = torch.tensor([200, 199, 7]), torch.tensor([0, 4, 2])

    def found(model: CLDNN, frames: Tensor) -> list[Tensor]:
        logits = model(frames, lengths)
        return [logits.detach(), *torch.autograd.grad(cross_entropy(logits, emotion), list(model.parameters()))]

    exact = found(CLDNN(configuration, 6, torch.Generator().manual_seed(1)).double(), x.double())
    half = found(CLDNN(configuration.model_copy(update={"precision": "bf16"}), 6, torch.Generator().manual_seed(1)), x)
    assert {tensor.dtype for tensor in half} == {torch.float32}
    for ours, theirs in zip(half, exact, strict=True):
        # Rounding changes which value of a window is the largest, as on a GPU.
        assert 1e-5 < relative_error(ours, theirs) < 0.12


@pytest.mark.usefixtures("bf16")
def test_padding_does_not_change_the_logits_in_bf16() -> None:
    configuration = NetworkConfiguration(model="ST-CLDNN", h1=5, h2=3, w1=4, w2=2, precision="bf16", **SMALL)
    model = CLDNN(configuration, 6, torch.Generator().manual_seed(1))
    x = torch.randn(3, 21, 40, generator=torch.Generator().manual_seed(5))
    lengths = torch.tensor([3, 21, 1])
    other = x.clone()
    other[0, 3:], other[2, 1:] = -1e6, 7.0
    assert torch.equal(model(x, lengths), model(other, lengths))


@pytest.mark.parametrize(
    ("capabilities", "unit"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, None),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, "avx512_bf16"),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": True}, "amx_bf16"),
        ({"architecture": "aarch64"}, None),
    ],
)
def test_the_processor_is_asked_for_its_units(
    capabilities: dict[str, object], unit: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert units.bf16_unit() == unit


def test_torch_names_the_units() -> None:
    capabilities = torch.cpu.get_capabilities()
    if capabilities["architecture"] == "x86_64":
        assert set(units.UNITS) <= capabilities.keys()


def test_without_units_it_is_float32_which_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    units.warn_of_float32.cache_clear()
    half = NetworkConfiguration(model="T-CLDNN", w1=3, w2=2, precision="bf16", **SMALL)
    x, lengths = torch.randn(2, 30, 40, generator=torch.Generator().manual_seed(2)), torch.tensor([30, 9])
    with warnings.catch_warnings(record=True) as given_warnings:
        warnings.simplefilter("always")
        models = [CLDNN(half, 6, torch.Generator().manual_seed(1)) for _ in range(2)]
    message = "is computed as float32, because this processor has no units for bfloat16"
    assert [message in str(warning.message) for warning in given_warnings].count(True) == 1
    single = CLDNN(half.model_copy(update={"precision": "float32"}), 6, torch.Generator().manual_seed(1))
    assert not models[0].in_bf16
    assert torch.equal(models[0](x, lengths), single(x, lengths))
    # A GPU multiplies bfloat16 whatever the processor has.
    assert CLDNN(half, 6, torch.Generator().manual_seed(1), backend="gpu").in_bf16
