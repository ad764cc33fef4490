"""Shares of GPUs: each trial gets a part of a GPU whose memory holds it, on a node whose GPUs are large enough.

How much memory a trial takes is estimated (`Configuration.gpu_bytes`) and corrected by what finished trials of the same
model took. Nothing keeps a trial within its share: Ray counts shares, and a GPU's memory is there for all. Without Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sersearch.run.run import Run
from sersearch.study.trial import Trial

OUT_OF_MEMORY = ("OutOfMemoryError", "AcceleratorError: CUDA error: out of memory")
"""How a failure begins for want of GPU memory; the second is what a process says that can't even begin with the GPU."""

EXCEEDED = 1.01
"""A trial that ran out of memory needs more than its share of it had: this many times as much at least."""


class Place(NamedTuple):
    """What a trial takes of GPUs, and where.

    Attributes:
        share: of a GPU; more than 1 for several GPUs, 0 for none.
        nodes: ids of the nodes with GPUs that it is sent to; empty for all.
        memory: of the smallest GPU that it may get, in bytes; 0 where it is not known.
        holds: whether its share of that memory holds it, as far as both are known.
        avoided: ids of the nodes that it is kept away from.
    """

    share: float
    nodes: frozenset[str] = frozenset()
    memory: int = 0
    holds: bool = True
    avoided: frozenset[str] = frozenset()


def doubled(share: float) -> float:
    """The next larger share: more than half of a GPU is a whole one, and whole GPUs stay as many as they are."""
    if share >= 1:
        return share
    return 2 * share if 2 * share <= 0.5 else 1.0


def share_of(floor: float, bytes: int, memory: int) -> float | None:
    """The smallest share, of `floor`, twice, four times as much and so on, whose part of a GPU's memory holds a trial.

    Args:
        floor: the share that the study gives.
        bytes: that the trial takes.
        memory: of the GPU, in bytes; several GPUs are no more for a trial than one.

    Returns:
        None if a whole GPU does not hold it.

    Example:
        >>> share_of(0.25, 7, 24), share_of(0.25, 13, 24), share_of(0.25, 25, 24)
        (0.5, 1.0, None)
    """
    share = floor
    while min(share, 1.0) * memory < bytes:
        if share >= 1:
            return None
        share = doubled(share)
    return share


def place_trial(floor: float, bytes: int | None, memories: Mapping[str, int], loads: Mapping[int, float]) -> Place:
    """Find a share for a trial, and the nodes whose GPUs are large enough.

    A trial that every node's GPU holds at the same share may go to any node. Where GPUs differ in that, it is sent to
    those of one size, with the share that it needs there: to those of which the least is in use, so that none is idle.

    Args:
        floor: the share that the trial gets at least.
        bytes: that it takes; None if that is not known.
        memories: of the smallest GPU of each node, in bytes, by the node's id; 0 where it is not known.
        loads: by memory, the shares in use by trials that were sent to GPUs of this size, over the number of GPUs.
    """
    if bytes is None or not all(memories.values()) or not memories:
        return Place(floor, memory=min(memories.values(), default=0))
    sizes = sorted(set(memories.values()))
    shares = {size: share for size in sizes if (share := share_of(floor, bytes, size)) is not None}
    if not shares:
        return Place(max(floor, 1.0), _of_size(memories, sizes[-1]), sizes[-1], holds=False)
    if len(shares) == len(sizes) and len(set(shares.values())) == 1:
        return Place(shares[sizes[0]], memory=sizes[0])
    chosen = min(shares, key=lambda size: (loads.get(size, 0.0), shares[size], size))
    return Place(shares[chosen], _of_size(memories, chosen), chosen)


def _of_size(memories: Mapping[str, int], size: int) -> frozenset[str]:
    """The nodes whose GPUs have so much memory; none is named if all have."""
    nodes = frozenset(id for id, memory in memories.items() if memory == size)
    return nodes if len(nodes) < len(memories) else frozenset()


@dataclass
class Memory:
    """How much memory of a GPU trials take: the estimate, corrected by what was seen of the same model.

    Attributes:
        run: whose trials they are.
        kept: how many data sets a worker keeps on its GPU, of as many folds.
        corrections: the largest ratio of what a trial took to its estimate, by model.
    """

    run: Run
    kept: int = 1
    corrections: dict[str, float] = field(default_factory=dict)
    _parts: dict[tuple[str, ...], tuple[int, int]] = field(default_factory=dict)

    def estimate(self, trial: Trial) -> int | None:
        """About how many bytes a trial takes, by its configuration and data; None where these give no estimate."""
        learnt, store = trial.fold.learnt, self.run.store
        if learnt not in self._parts:
            self._parts[learnt] = store.longest(learnt), self.kept * store.frame_bytes(learnt)
        longest, resident_bytes = self._parts[learnt]
        return trial.configuration.gpu_bytes(len(store.emotions), longest, resident_bytes)

    def corrected(self, trial: Trial) -> int | None:
        """About how many bytes it takes, by what was seen of trials of its model so far."""
        estimate = self.estimate(trial)
        if estimate is None:
            return None
        return round(estimate * self.corrections.get(trial.configuration.model, 1.0))

    def saw(self, trial: Trial, bytes: float) -> None:
        """Enter how many bytes a trial took, or 0 if they were not measured."""
        estimate = self.estimate(trial) if bytes else None
        if estimate:
            model = trial.configuration.model
            self.corrections[model] = max(bytes / estimate, self.corrections.get(model, 0.0))

    def ran_out(self, trial: Trial, place: Place) -> None:
        """Enter that a trial ran out of memory where it was placed."""
        self.saw(trial, EXCEEDED * min(place.share, 1.0) * place.memory)


def is_out_of_memory(failure: str) -> bool:
    """Whether a trial failed because it found too little memory on its GPU."""
    return failure.startswith(OUT_OF_MEMORY)


def least_share(floor: float, failures: Iterable[str]) -> float:
    """A trial's least share: what the study gives, doubled each time that the trial found too little memory."""
    for failure in failures:
        if is_out_of_memory(failure):
            floor = doubled(floor)
    return floor
