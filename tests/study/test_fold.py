import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sersearch.errors import InputError
from sersearch.study.fold import (
    PARTS,
    Dealt,
    Fold,
    Shares,
    deal_folds,
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


GROUPS = ("female", "male", "")


@st.composite
def grouped_speakers(draw: st.DrawFn, groups: int = 3, fewest: int = 8) -> dict[str, str]:
    """Speakers with their groups."""
    names = draw(st.lists(st.text(min_size=1, max_size=3), min_size=fewest, max_size=60, unique=True))
    return {name: draw(st.sampled_from(GROUPS[:groups])) for name in names}


def count_groups(speakers: tuple[str, ...], groups: dict[str, str]) -> list[int]:
    return [sum(groups[name] == group for name in speakers) for group in GROUPS]


@given(grouped_speakers(), st.data())
def test_every_speaker_tests_in_one_fold_and_folds_are_balanced(groups: dict[str, str], data: st.DataObject) -> None:
    count = data.draw(st.integers(3, len(groups)))
    smallest = len(groups) // count
    validation = data.draw(st.integers(1, smallest * (count - 2)))
    dealt = Dealt(folds=count, validation=validation, seed=data.draw(st.integers(0, 9)))
    folds = deal_folds(reversed(list(groups)), dealt, groups)
    assert sorted(name for fold in folds for name in fold.test) == sorted(groups)
    sizes = [len(fold.test) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for of_group in zip(*(count_groups(fold.test, groups) for fold in folds), strict=True):
        assert max(of_group) - min(of_group) <= 1
    for fold in folds:
        assert sorted(name for part in PARTS for name in fold.speakers(part)) == sorted(groups)
        assert validation <= len(fold.validation) <= validation + max(sizes) - 1
        assert fold.train
    assert [fold.name for fold in folds] == [f"{number} of {count}" for number in range(1, count + 1)]
    assert folds == deal_folds(groups, dealt, groups)


@given(grouped_speakers(groups=2), st.integers(0, 9))
def test_a_stratified_partition_has_the_papers_sizes_and_each_genders_share(groups: dict[str, str], seed: int) -> None:
    plain, stratified = (make_partition(groups, Shares(seed=seed, stratify=s), groups) for s in (False, True))
    for part in PARTS:
        size = len(plain.speakers(part))
        assert len(stratified.speakers(part)) == size
        for group, found in zip(GROUPS, count_groups(stratified.speakers(part), groups), strict=True):
            members = sum(name == group for name in groups.values())
            assert abs(found - members * size / len(groups)) < 1
    assert sorted(name for part in PARTS for name in stratified.speakers(part)) == sorted(groups)


def test_each_left_out_speaker_is_validated_by_both_genders() -> None:
    groups = {f"{gender[0]}{number}": gender for gender in ("female", "male") for number in range(6)}
    folds = deal_folds(groups, Dealt(folds=12, validation=4), groups)
    assert [len(fold.test) for fold in folds] == [1] * 12
    assert all(count_groups(fold.validation, groups)[:2] == [2, 2] for fold in folds)


@pytest.mark.parametrize(
    ("folds", "validation", "words"),
    [(7, 1, "folds = 7 was given, but there are 6 speakers"), (3, 3, "leave no training speaker in the fold 1 of 3")],
)
def test_too_many_folds_or_validation_speakers(folds: int, validation: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        deal_folds("abcdef", Dealt(folds=folds, validation=validation))
