"""Whose turn it is: trials on GPUs and trials that take none share a cluster's cores, and neither kind starves.

Ray places what waits wherever cores are free, and a worker that finds a waiting trial of its kind goes on with it. So
the cores stay with the kind that got them first, and a kind that queues without bounds keeps the other one out. Here
each kind has slots of its own. It may queue trials beyond them, which keeps its workers, only while the other kind has
its own slots. Pure logic, without Ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

FEWEST_PENDING = 16
"""Ray ends a worker when no trial is waiting for it, and starting another takes 2 s."""

SLOTS_PER_PENDING = 16
"""A trial is pending until its worker runs. One per 16 slots fills any cluster in 16 starts of a worker, one minute."""


def pending_trials(slots: int) -> int:
    """How many trials may wait for a worker, of a cluster that trains so many at a time.

    More would fill a cluster faster, but Ray Tune's loop takes time in proportion to the square of this number.
    """
    return max(FEWEST_PENDING, slots // SLOTS_PER_PENDING)


class Slots(NamedTuple):
    """How many trials of each kind a cluster trains at a time, if all of them are of that kind.

    Attributes:
        on_gpus: that take GPUs.
        on_cores: that take none; those on GPUs take as many cores each.
    """

    on_gpus: int
    on_cores: int

    def shared(self, left: Mapping[bool, int]) -> dict[bool, int]:
        """The slots of each kind while both share the cores: those on GPUs come first, but never take the last core.

        Args:
            left: how many trials of each kind are not done, as far as they are known.

        Example:
            >>> Slots(on_gpus=8, on_cores=12).shared({True: 100, False: 100})
            {True: 8, False: 4}
            >>> Slots(on_gpus=8, on_cores=12).shared({True: 2, False: 100})
            {True: 2, False: 10}
            >>> Slots(on_gpus=8, on_cores=8).shared({True: 100, False: 100})
            {True: 7, False: 1}
        """
        on_gpus = min(self.on_gpus, left[True])
        on_cores = max(1, self.on_cores - on_gpus) if left[False] else 0
        return {True: min(on_gpus, max(1, self.on_cores - on_cores)), False: on_cores}


@dataclass
class Turns:
    """The trials that are handed out, counted by kind.

    Attributes:
        devices: the kinds that the study has, by `Study.on_gpu`; with one kind, it is always its turn.
        slots: of the nodes that are usable at present.
        left: how many trials of each kind were not done when it was last asked whose turn it is, as far as known.
    """

    devices: Collection[bool]
    slots: Slots
    left: Mapping[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    _handed_out: dict[str, tuple[bool, int]] = field(default_factory=dict)
    _waiting: Counter[bool] = field(default_factory=Counter)
    _running: Counter[bool] = field(default_factory=Counter)

    def hand_out(self, id: str, on_gpu: bool, weight: int = 1) -> None:
        """Enter that a trial is handed out and waits for a worker; it counts as so many trials."""
        self._handed_out[id] = on_gpu, weight
        self._waiting[on_gpu] += weight

    def start(self, id: str) -> None:
        """Enter that a worker has taken the trial on."""
        on_gpu, weight = self._handed_out[id]
        self._waiting[on_gpu] -= weight
        self._running[on_gpu] += weight

    def end(self, id: str) -> None:
        """Enter that a trial that was running has ended, however."""
        on_gpu, weight = self._handed_out.pop(id)
        self._running[on_gpu] -= weight

    @property
    def pending(self) -> int:
        """How many trials of all kinds may wait for a worker."""
        if len(self.devices) > 1:
            return pending_trials(self.slots.on_gpus) + pending_trials(self.slots.on_cores)
        return pending_trials(self.slots.on_gpus if True in self.devices else self.slots.on_cores)

    def next(self, queued: Mapping[bool, int]) -> list[bool]:
        """The kinds of which a trial may be handed out now, those on GPUs first.

        Args:
            queued: how many trials of each kind could be handed out.
        """
        if len(self.devices) < 2:
            return list(self.devices)
        self.left = {kind: self._waiting[kind] + self._running[kind] + queued[kind] for kind in (True, False)}
        slots = self.slots.shared(self.left)
        return [kind for kind in (True, False) if queued[kind] and self._may(kind, slots)]

    @property
    def wanted(self) -> list[bool]:
        """The kinds that have trials left, those on GPUs first."""
        kinds = sorted(self.devices, reverse=True)
        return kinds if len(kinds) < 2 else [kind for kind in kinds if self.left[kind]]

    @property
    def gpus_are_wanted(self) -> bool:
        """Whether there are trials on GPUs for all slots."""
        return self.left[True] >= self.slots.on_gpus > 0

    def _may(self, on_gpu: bool, slots: Mapping[bool, int]) -> bool:
        """Whether a kind may hand out one more trial."""
        waiting, other = self._waiting[on_gpu], not on_gpu
        # As many may take cores that the other kind's workers leave; without a node, some wait for one to join.
        most = min(pending_trials(slots[on_gpu]), slots[on_gpu]) or FEWEST_PENDING
        if waiting >= most:
            return False
        other_has_its_own = self._running[other] >= min(slots[other], self.left[other])
        return other_has_its_own or waiting + self._running[on_gpu] < slots[on_gpu]
