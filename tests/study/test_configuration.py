import pytest
import torch
from pydantic import ValidationError

from sersearch.models.reference import ReferenceCLDNN
from sersearch.study.configuration import NetworkConfiguration
from tests.models.test_models import beyond_the_paper, named, table_2

WIDE = [c.model_copy(update={"maps": 32, "cells": 128, "dense": (128, 32, 32)}) for c in table_2()]


def closed_form(c: NetworkConfiguration, emotions: int) -> int:
    """Parameters as one would count them by hand, from the sizes of the layers alone."""
    rows, columns = c.rows, c.columns
    spectral, temporal = "S" in c.model.replace("FST", ""), "T-" in c.model
    total, maps = 0, c.channels
    for number, (h, w) in enumerate(c.kernels):
        total += 32 * (maps * h * w + 1)
        rows, columns, maps = rows - h + 1, columns - w + 1, 32
        if spectral:
            rows = (rows - 3) // 2 + 1
        if temporal:
            columns = (columns - (min(3, columns) if number else 3)) // 2 + 1
    vector = maps * rows * columns
    total += 2 * (4 * 128 * (vector + 128) + 4 * 128)
    return total + 256 * 128 + 128 + 128 * 32 + 32 + 32 * 32 + 32 + 32 * emotions + emotions


@pytest.mark.parametrize("configuration", WIDE, ids=named)
def test_parameters_against_counting_by_hand(configuration: NetworkConfiguration) -> None:
    assert configuration.parameters(6).total == closed_form(configuration, 6)


@pytest.mark.parametrize("configuration", table_2() + beyond_the_paper(), ids=named)
def test_shapes_are_those_of_the_reference(configuration: NetworkConfiguration) -> None:
    c = configuration
    image = torch.zeros(1, c.channels, c.rows, c.columns)
    expected = ReferenceCLDNN(configuration, 4).convolutions(image).shape
    found = configuration.shapes
    assert found.vector == expected[1:].numel()
    if found.layers:
        assert found.layers[-1].pooled == tuple(expected[2:])


def test_what_shrinks_in_table_2() -> None:
    for model in ("T-CLDNN", "FST-CLDNN"):
        shrunk = {
            (w1, w2)
            for w1 in range(3, 9)
            for w2 in (2, 3)
            if NetworkConfiguration(model=model, w1=w1, w2=w2).shapes.shrunk
        }
        assert shrunk == {(7, 3), (8, 3)}


def test_the_sweep_ends_at_30() -> None:
    assert all(NetworkConfiguration(model="S-CLDNN", h1=h1, h2=3).shapes.feasible for h1 in range(1, 31))
    found = NetworkConfiguration(model="S-CLDNN", h1=31, h2=3).shapes
    assert not found.feasible
    assert found.reason == "layer 2: h2 = 3 leaves 2 rows, pooling needs 3"


def test_multiply_adds_of_an_fst() -> None:
    # 40 x 3 in 32 maps; 32 x 1 x 2 in 32 maps; vector 64 into 2 x 4 x 128 gates, and 128 states.
    counted = NetworkConfiguration(model="FST-CLDNN", w1=3, w2=2).multiply_adds(6)
    assert (counted.cnn, counted.blstm) == (40 * 3 * 32 + 32 * 2 * 32, 1024 * (64 + 128))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "T-CLDNN", "h1": 2, "w1": 3, "w2": 2}, "T-CLDNN fixes h1 = 1"),
        ({"model": "LDNN", "w1": 3}, "LDNN has no convolution"),
        ({"model": "S-CLDNN", "h1": 4}, "S-CLDNN needs h2"),
        ({"model": "S-CLDNN", "h1": 41, "h2": 3}, "h1 = 41 is larger than the spectrum: M = 40 Mel bands"),
        ({"model": "T-CLDNN", "w1": 17, "w2": 2}, "w1 = 17 is larger than the splice: W = 16 frames"),
        ({"model": "LDNN", "features": "mfccs", "cepstra": 50}, "only 40 Mel bands"),
    ],
)
def test_configurations_that_make_no_sense(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NetworkConfiguration.model_validate(values)


def test_two_ways_of_writing_a_model_are_one_configuration() -> None:
    short = NetworkConfiguration(model="FST-CLDNN", features="mfccs", w1=3, w2=2)
    assert short == NetworkConfiguration(model="FST-CLDNN", features="mfccs", h1=13, w1=3, h2=1, w2=2)
    assert NetworkConfiguration.model_validate(short.record()) == short
