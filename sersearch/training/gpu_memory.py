"""The memory of a machine's GPUs, and how much of it a trial takes at its peak.

Torch is imported when it is asked, so that a check of machines that have no GPU does without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sersearch.study.configuration.base import CUDA_CONTEXT_BYTES
from sersearch.study.trial import Trial

KEPT_OPEN = 2
"""So many data sets stay open in a process from trial to trial, their frames on its GPU; others are opened again."""


def kept_data_sets(trials: Iterable[Trial]) -> int:
    """How many data sets a process holds on its GPU that trains any of some trials: one per fold and way to open it."""
    data_sets = {(trial.fold.name, trial.configuration.data_settings) for trial in trials}
    return max(1, min(KEPT_OPEN, len(data_sets)))


class GPU(NamedTuple):
    """A GPU that torch finds: its name, and its memory in bytes."""

    name: str
    memory: int


def find_gpus() -> list[GPU]:
    """The GPUs that this process can see."""
    import torch

    if not torch.cuda.is_available():
        return []
    every = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [GPU(properties.name, properties.total_memory) for properties in every]


def begin_peak() -> None:
    """Begin to measure how much memory this process takes; what an earlier trial left is given back."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int:
    """The most memory that this process took since the measurement began, with the context of CUDA.

    It is what torch has reserved, which other processes on the GPU can't use, whether a tensor lies there or not. It is
    0 for a system that does without torch's CUDA.
    """
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return 0
    return CUDA_CONTEXT_BYTES + int(torch.cuda.max_memory_reserved())
