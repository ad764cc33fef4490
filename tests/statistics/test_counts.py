"""Counts, recalls and UA are those of scikit-learn."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from sklearn import metrics

from sersearch.statistics.counts import (
    confusion_matrix,
    macro_f1,
    recalls,
    speaker_confusions,
    unweighted_accuracy,
    weighted_accuracy,
)
from tests.statistics.simulation import EMOTIONS, count, utterances


@given(utterances)
def test_accuracies_are_those_of_scikit_learn(rows: list[tuple[int, int, str]]) -> None:
    y, predicted, _ = zip(*rows, strict=True)
    present = sorted(set(y))
    confusion = confusion_matrix(y, predicted, EMOTIONS)
    assert np.array_equal(confusion, metrics.confusion_matrix(y, predicted, labels=range(EMOTIONS)))
    recall = metrics.recall_score(y, predicted, labels=present, average=None, zero_division=0)
    assert recalls(confusion)[present] == pytest.approx(100 * recall)
    assert np.isnan(np.delete(recalls(confusion), present)).all()
    assert unweighted_accuracy(y, predicted, EMOTIONS) == pytest.approx(100 * np.mean(recall))
    assert weighted_accuracy(confusion) == pytest.approx(100 * metrics.accuracy_score(y, predicted))
    f1 = metrics.f1_score(y, predicted, labels=present, average="macro", zero_division=0)
    assert macro_f1(confusion) == pytest.approx(100 * f1)


@given(utterances)
def test_speakers_counts_add_up_in_any_order_of_utterances(rows: list[tuple[int, int, str]]) -> None:
    counts = count(rows)
    y, predicted, speakers = zip(*rows, strict=True)
    assert np.array_equal(counts, count(rows[::-1]))
    assert np.array_equal(counts.sum(axis=0), confusion_matrix(y, predicted, EMOTIONS))
    first = [row for row in rows if row[2] == min(speakers)]
    assert np.array_equal(counts[0], count(first)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unweighted_accuracy([], [], 2), r"y has shape \(0,\).*one or more labels"),
        (lambda: unweighted_accuracy([0, 1], [0, 2], 2), r"predicted contains 2.*0 \.\. 1"),
        (lambda: unweighted_accuracy([0.5], [0], 2), r"y contains 0\.5"),
        (lambda: unweighted_accuracy([0, 1], [0], 2), r"\(2, 1, 2\)"),
        (lambda: speaker_confusions([0, 1], [0, 1], ["a"], 2), r"\(2, 2, 1\)"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
