"""Whose turn it is, on a cluster that is as unfair as Ray's may be: it places what waits in any order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.search.turns import Slots, Turns, pending_trials

BOTH = (True, False)


class Cluster:
    """Cores and GPU slots, and two queues; a worker that ends a trial may go on with a waiting one of its kind."""

    def __init__(self, slots: Slots, left: dict[bool, int], generator: random.Random, first: bool) -> None:
        self.slots, self.left, self.random = slots, dict(left), generator
        self.turns = Turns(frozenset(kind for kind in BOTH if left[kind]), slots)
        self.waiting: dict[bool, list[str]] = {True: [], False: []}
        self.running: dict[bool, list[str]] = {True: [], False: []}
        self.first = first
        # For how many turns in a row none of a kind's trials has run.
        self.without = {True: 0, False: 0}
        self.ids = iter(range(10**9))

    @property
    def free(self) -> int:
        return self.slots.on_cores - len(self.running[True]) - len(self.running[False])

    def hand_out(self) -> None:
        while sum(map(len, self.waiting.values())) < self.turns.pending:
            kinds = [kind for kind in self.turns.next(self.left) if self.left[kind]]
            if not kinds:
                return
            id = str(next(self.ids))
            self.left[kinds[0]] -= 1
            self.waiting[kinds[0]].append(id)
            self.turns.hand_out(id, kinds[0])

    def place(self) -> None:
        """Start what waits; trials of the kind that the cluster likes come first."""
        for kind in (self.first, not self.first):
            while self.waiting[kind] and self.free and (not kind or len(self.running[True]) < self.slots.on_gpus):
                self.start(kind)

    def start(self, kind: bool) -> None:
        id = self.waiting[kind].pop(0)
        self.running[kind].append(id)
        self.turns.start(id)

    def end(self, reuse: float) -> None:
        kind, id = self.random.choice([(kind, id) for kind in BOTH for id in self.running[kind]])
        self.running[kind].remove(id)
        self.turns.end(id)
        if self.waiting[kind] and self.random.random() < reuse:
            self.start(kind)

    def step(self, reuse: float) -> None:
        self.hand_out()
        self.place()
        assert self.running[True] or self.running[False], "a search that trains nothing never ends"
        self.without = {
            kind: self.without[kind] + 1 if self.is_left(kind) and not self.running[kind] else 0 for kind in BOTH
        }
        self.end(reuse)

    def is_left(self, kind: bool) -> bool:
        """Whether trials of a kind could run that don't."""
        return bool(self.left[kind] or self.waiting[kind])

    @property
    def is_done(self) -> bool:
        return not any(self.is_left(kind) or self.running[kind] for kind in BOTH)


@given(
    on_gpus=st.integers(1, 12),
    others=st.integers(0, 12),
    trials=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    first=st.booleans(),
    reuse=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_neither_kind_starves(
    on_gpus: int, others: int, trials: tuple[int, int], first: bool, reuse: float, seed: int
) -> None:
    """Each kind has a trial that runs, soon and again and again, whichever kind the cluster places first."""
    cluster = Cluster(
        Slots(on_gpus, on_gpus + others), dict(zip(BOTH, trials, strict=True)), random.Random(seed), first
    )
    # When a core of one kind is freed, all that runs and all that waits of the other kind may come first.
    most = 2 * (on_gpus + others)
    while not cluster.is_done:
        cluster.step(reuse)
        if on_gpus + others > 1:  # one core is for one trial, of either kind
            assert max(cluster.without.values()) <= most
    assert cluster.left == {True: 0, False: 0}


@given(on_gpus=st.integers(1, 12), others=st.integers(1, 12), first=st.booleans(), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_all_gpus_are_busy_and_the_other_cores_too(on_gpus: int, others: int, first: bool, seed: int) -> None:
    """As long as enough trials of both kinds are left."""
    cluster = Cluster(Slots(on_gpus, on_gpus + others), {True: 100, False: 100}, random.Random(seed), first)
    cluster.hand_out()
    cluster.place()
    cluster.hand_out()
    while min(cluster.left.values()) > 0:
        cluster.end(reuse=1.0)
        cluster.hand_out()
        cluster.place()
        assert {kind: len(running) for kind, running in cluster.running.items()} == {True: on_gpus, False: others}


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9), st.integers(0, 9))
def test_shared_slots_fit_on_the_cores(on_gpus: int, others: int, gpu_trials: int, other_trials: int) -> None:
    slots = Slots(on_gpus, on_gpus + others)
    shared = slots.shared({True: gpu_trials, False: other_trials})
    assert shared[True] <= min(on_gpus, gpu_trials)
    assert bool(shared[True]) == bool(on_gpus and gpu_trials)
    assert bool(shared[False]) == bool(other_trials)
    assert sum(shared.values()) <= max(slots.on_cores, 2 if on_gpus else 1), "one core is for either kind"


def test_when_one_kind_is_done_the_other_has_all_cores() -> None:
    cluster = Cluster(Slots(2, 6), {True: 3, False: 200}, random.Random(0), first=True)
    while cluster.left[True] or cluster.waiting[True] or cluster.running[True]:
        cluster.step(reuse=1.0)
    for _ in range(40):
        cluster.step(reuse=1.0)
    cluster.hand_out()
    cluster.place()
    assert len(cluster.running[False]) == 6


@pytest.mark.parametrize("kind", BOTH)
def test_with_one_kind_it_is_always_its_turn(kind: bool) -> None:
    turns = Turns([kind], Slots(2, 4))
    for number in range(1000):
        assert turns.next({True: 0, False: 0}) == [kind]
        turns.hand_out(str(number), kind)
    assert turns.pending == pending_trials(2 if kind else 4)
