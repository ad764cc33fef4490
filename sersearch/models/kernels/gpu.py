"""Where the networks are computed differently on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from sersearch.study.configuration.network import Precision

Backend = Literal["cpu", "gpu"]
"""The two forms of the kernels; both compute the same numbers on any device, but each is fast on its own only."""

_CUDNN: Any = torch.backends.cudnn
_BACKENDS = (torch.backends.cuda.matmul, _CUDNN.conv, _CUDNN.rnn)


def backend_for(device: str) -> Backend:
    """The form of the kernels that is fast on a device.

    On a CPU these are loops and filters over blocks that fit the cache. On a GPU starting an operation costs more than
    the cache saves, so these are few operations of torch over the whole minibatch.

    Args:
        device: torch's name of the device, such as "cpu" or "cuda".
    """
    return "gpu" if torch.device(device).type == "cuda" else "cpu"


@contextmanager
def product_precision(precision: Precision) -> Iterator[None]:
    """Choose TF32 or full float32 for products, convolutions and recurrences of float32 in a `with` block.

    Without it, torch computes matrix products in float32, but convolutions and recurrences in TF32. The settings from
    before the block are restored after it.

    Args:
        precision: "tf32" for TF32; "float32" and "bf16" for full float32.
    """
    before = [backend.fp32_precision for backend in _BACKENDS]
    try:
        for backend in _BACKENDS:
            backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        yield
    finally:
        for backend, value in zip(_BACKENDS, before, strict=True):
            backend.fp32_precision = value
