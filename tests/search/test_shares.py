"""Shares of GPUs: each trial where it fits, without Ray and without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.run.run import Run, start_run
from sersearch.search.shares import Memory, Place, doubled, least_share, place_trial, share_of
from sersearch.store.reader import Store
from sersearch.study.configuration.base import CUDA_CONTEXT_BYTES
from sersearch.study.study import parse_study
from tests.models.test_models import SMALL

GB = 10**9
FLOORS = st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.4, 0.5, 0.6, 1.0, 2.0])
BYTES = st.integers(1, 200 * GB)
MEMORIES = st.dictionaries(st.text("abcdef", min_size=1), st.sampled_from([16, 24, 40, 80]).map(lambda gb: gb * GB))


@given(FLOORS, BYTES, MEMORIES.filter(bool), st.dictionaries(st.sampled_from([16 * GB, 80 * GB]), st.floats(0, 9)))
def test_a_trial_gets_what_holds_it(
    floor: float, bytes: int, memories: dict[str, int], loads: dict[int, float]
) -> None:
    place = place_trial(floor, bytes, memories, loads)
    used = [memories[id] for id in place.nodes or memories]
    assert place.share >= floor
    assert used, "some node is left"
    assert place.memory == min(used)
    assert place.holds == (bytes <= max(memories.values()))
    if place.holds:
        assert all(min(place.share, 1.0) * memory >= bytes for memory in used), "none is sent where it does not fit"
    else:
        assert set(used) == {max(memories.values())}
        assert place.share >= 1


@given(FLOORS, BYTES, BYTES, MEMORIES.filter(bool))
def test_more_bytes_are_no_smaller_share(floor: float, bytes: int, more: int, memories: dict[str, int]) -> None:
    less, more = sorted((bytes, more))
    for memory in memories.values():
        shares = [share_of(floor, each, memory) or float("inf") for each in (less, more)]
        assert shares == sorted(shares)


@given(FLOORS, BYTES, st.integers(16, 80))
def test_a_share_is_the_smallest(floor: float, bytes: int, gb: int) -> None:
    share = share_of(floor, bytes, gb * GB)
    halves = floor
    while halves < (share or 1.0):
        assert min(halves, 1.0) * gb * GB < bytes
        halves = doubled(halves)


@pytest.mark.parametrize(("share", "twice"), [(0.1, 0.2), (0.25, 0.5), (0.3, 1), (0.5, 1), (0.6, 1), (1, 1), (2, 2)])
def test_more_than_half_is_a_whole_one(share: float, twice: float) -> None:
    assert doubled(share) == twice


def test_small_trials_go_anywhere_and_large_ones_where_they_fit() -> None:
    memories = {"a": 24 * GB, "b": 80 * GB}
    assert place_trial(0.25, 5 * GB, memories, {}) == Place(0.25, memory=24 * GB)
    assert place_trial(0.25, 30 * GB, memories, {}) == Place(0.5, frozenset("b"), 80 * GB)
    assert place_trial(0.25, 90 * GB, memories, {}) == Place(1.0, frozenset("b"), 80 * GB, holds=False)


def test_the_smaller_gpus_are_not_left_idle() -> None:
    """8 GB are a quarter of a large GPU and half of a small one."""
    memories = {"a": 24 * GB, "b": 80 * GB}
    loads = {24 * GB: 0.0, 80 * GB: 0.0}
    sent = []
    for _ in range(6):
        place = place_trial(0.25, 8 * GB, memories, loads)
        loads[place.memory] += place.share
        sent.append((place.memory // GB, place.share))
    assert sorted(sent) == [(24, 0.5)] * 2 + [(80, 0.25)] * 4


@pytest.mark.parametrize("memories", [{}, {"a": 0}, {"a": 0, "b": 80 * GB}])
def test_where_memory_is_not_known_the_studys_share_counts(memories: dict[str, int]) -> None:
    assert place_trial(0.25, 50 * GB, memories, {})[:2] == (0.25, frozenset())
    assert place_trial(0.25, None, {"a": 24 * GB}, {})[:2] == (0.25, frozenset())


def test_each_failure_for_want_of_memory_doubles_the_least_share() -> None:
    failures = ["OutOfMemoryError: CUDA", "ValueError: x", "AcceleratorError: CUDA error: out of memory\n"]
    assert [least_share(0.25, failures[:n]) for n in range(4)] == [0.25, 0.5, 0.5, 1.0]


@pytest.fixture
def run(tiny_store: Store, tmp_path: Path) -> Run:
    spaces = [
        {"name": "fst", "model": "FST-CLDNN", "w1": [3, 8], "w2": 2},
        {"name": "ldnn", "model": "LDNN"},
    ]
    table = {"name": "x", "spaces": spaces, "partition": {"train": 50, "validation": 25, "test": 25}}
    table |= {"training": SMALL, "resources": {"gpus": 0.25}}
    return start_run(tmp_path / "run", parse_study(table, "x.toml"), tiny_store.path)


def test_an_estimate_has_context_frames_and_the_longest_minibatch(run: Run) -> None:
    trial = run.agenda().left[0]
    learnt = (*trial.fold.train, *trial.fold.validation)
    lengths = [length for speaker in learnt for length in run.store.table(speaker)["frames"].to_pylist()]
    frames = sum(run.store.frames(speaker).nbytes for speaker in learnt)
    minibatch = trial.configuration.minibatch_bytes(len(run.store.emotions), max(lengths))
    assert minibatch
    assert Memory(run).estimate(trial) == CUDA_CONTEXT_BYTES + frames + minibatch
    assert Memory(run, kept=2).estimate(trial) == CUDA_CONTEXT_BYTES + 2 * frames + minibatch


def test_estimates_are_corrected_by_model(run: Run) -> None:
    first, second, other = run.agenda().left
    memory = Memory(run)
    estimate = memory.estimate(first)
    assert estimate
    assert memory.corrected(first) == estimate
    memory.saw(first, 0)
    assert memory.corrected(first) == estimate, "a trial on a CPU says nothing"
    memory.saw(first, estimate / 2)
    assert memory.corrected(first) == round(estimate / 2)
    assert memory.corrected(other) == memory.estimate(other)
    memory.saw(second, 3 * (memory.estimate(second) or 0))
    memory.saw(first, estimate)
    assert memory.corrected(first) == 3 * estimate, "the largest ratio counts"


def test_a_trial_that_ran_out_of_memory_enlarges_the_others_shares(run: Run) -> None:
    first, second, _ = run.agenda().left
    memory, memories = Memory(run), {"a": 24 * GB}
    place = place_trial(0.25, memory.corrected(first), memories, {})
    assert place.share == 0.25
    memory.ran_out(first, place)
    assert place_trial(0.25, memory.corrected(first), memories, {}).share == 0.5
    assert place_trial(0.25, memory.corrected(second), memories, {}).share == 0.5
    memory.ran_out(first, Place(0.25, memory=0))
    assert place_trial(0.25, memory.corrected(first), memories, {}).share == 0.5
