"""Where the networks are computed differently on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sersearch.study.configuration import Precision

_CUDNN: Any = torch.backends.cudnn
_BACKENDS = (torch.backends.cuda.matmul, _CUDNN.conv, _CUDNN.rnn)


def holds(tensor: Tensor) -> bool:
    """Whether a tensor lies on a GPU, where each launch costs more than the cache saves."""
    return tensor.is_cuda


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
