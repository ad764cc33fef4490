"""The two forms of the kernels, and the precision of products on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from sersearch.study.configuration.network import Precision

Form = Literal["loops", "cudnn"]
"""loops: compiled loops and blocks that stay in a CPU's cache. cudnn: few calls on whole tensors, because on a GPU each
launch costs more than a cache saves. Both compute the same numbers but for rounding, on any device."""

_CUDNN: Any = torch.backends.cudnn
_PRODUCTS = (torch.backends.cuda.matmul, _CUDNN.conv, _CUDNN.rnn)


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
