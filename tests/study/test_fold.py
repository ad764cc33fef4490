import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sersearch.errors import InputError
from sersearch.study.fold import (
    PARTS,
    Fold,
    Shares,
    largest_remainder,
    leave_one_out,
    make_partition,
    missing_emotion,
)


@pytest.mark.parametrize(("speakers", "counts"), [(42, (30, 4, 8)), (24, (17, 2, 5)), (10, (7, 1, 2)), (3, (1, 1, 1))])
def test_counts_of_the_paper(speakers: int, counts: tuple[int, int, int]) -> None:
    partition = make_partition([f"s{i}" for i in range(speakers)])
    assert tuple(len(partition.speakers(part)) for part in PARTS) == counts


@given(st.sets(st.text(min_size=1), min_size=3, max_size=60), st.integers(0, 99), st.tuples(*[st.integers(1, 100)] * 3))
def test_every_speaker_is_in_exactly_one_part(names: set[str], seed: int, shares: tuple[int, int, int]) -> None:
    partition = make_partition(
        sorted(names, reverse=True), Shares(train=shares[0], validation=shares[1], test=shares[2], seed=seed)
    )
    together = [speaker for part in PARTS for speaker in partition.speakers(part)]
    assert sorted(together) == sorted(names)
    assert all(partition.speakers(part) for part in PARTS)


@given(st.integers(3, 10_000), st.lists(st.integers(1, 100), min_size=3, max_size=3))
def test_largest_remainder_is_within_one_of_the_share(total: int, shares: list[int]) -> None:
    counts = largest_remainder(total, shares)
    assert sum(counts) == total
    exact = [total * share / sum(shares) for share in shares]
    if all(share >= 1 for share in exact):
        assert all(abs(count - share) < 1 for count, share in zip(counts, exact, strict=True))


def test_order_of_speakers_does_not_matter_and_the_seed_does() -> None:
    names = [f"s{i}" for i in range(42)]
    assert make_partition(names) == make_partition(reversed(names * 2))
    assert make_partition(names) != make_partition(names, Shares(seed=1))


def test_fewer_than_three_speakers() -> None:
    with pytest.raises(InputError, match=r"2 speakers .* need at least one each"):
        make_partition(["a", "b"])


def test_a_speaker_in_two_parts_is_refused() -> None:
    with pytest.raises(ValidationError, match="speaker b is in two parts"):
        Fold(train=("a", "b"), validation=("b",), test=("c",))


EMOTIONS = ("anger", "joy", "sadness")


def test_every_part_of_every_fold_needs_every_emotion() -> None:
    whole = {name: set(EMOTIONS) for name in "abcd"}
    fold = Fold(train=("a", "b"), validation=("c",), test=("d",))
    assert missing_emotion([fold], EMOTIONS, whole) is None
    for speaker, words in {
        "c": "the validation part (speaker c) has no utterance of joy",
        "d": "the test part (speaker d) has no utterance of joy",
    }.items():
        assert missing_emotion([fold], EMOTIONS, whole | {speaker: {"anger", "sadness"}}) == words
    assert missing_emotion([fold], EMOTIONS, whole | {"a": {"anger"}}) is None, "b shows the others"
    both = whole | {"a": {"anger"}, "b": {"sadness"}}
    assert missing_emotion([fold], EMOTIONS, both) == "the train part (2 speakers) has no utterance of joy"


def test_left_out_speakers_need_every_emotion_together() -> None:
    shown = {"a": {"anger", "joy"}, "b": set(EMOTIONS), "c": set(EMOTIONS), "d": set(EMOTIONS)}
    folds = leave_one_out(shown, Shares(), validation=False)
    assert missing_emotion(folds, EMOTIONS, shown) is None
    alone = {"a": set(EMOTIONS), "b": {"anger"}, "c": {"anger"}, "d": {"anger"}}
    assert missing_emotion(folds, EMOTIONS, alone) == (
        "the train part of the fold without a (3 speakers) has no utterance of joy, sadness"
    )
