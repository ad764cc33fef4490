"""What models do otherwise on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sersearch.study.configuration import Precision

_CUDNN: Any = torch.backends.cudnn
_PRODUCTS = (torch.backends.cuda.matmul, _CUDNN.conv, _CUDNN.rnn)


def holds(tensor: Tensor) -> bool:
    """Whether a tensor lies on a GPU, where each launch costs more than the cache saves."""
    return tensor.is_cuda


@contextmanager
def products(precision: Precision) -> Iterator[None]:
    """Have float32 products, convolutions and recurrences rounded to TF32 or not; as before afterwards.

    torch's own default is mixed: matrix products in float32, convolutions and recurrences in TF32.
    """
    before = [each.fp32_precision for each in _PRODUCTS]
    try:
        for each in _PRODUCTS:
            each.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        yield
    finally:
        for each, value in zip(_PRODUCTS, before, strict=True):
            each.fp32_precision = value
