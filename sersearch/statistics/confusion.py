"""Counts of true and predicted emotions, and the accuracies read off them.

Shapes: N utterance, S speaker, E emotion (true, then predicted).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sersearch.errors import InputError

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def confusion_matrix(y: ArrayLike, predicted: ArrayLike, emotions: int) -> Counts:
    """Count utterances by true (row) and predicted (column) emotion.

    Args:
        y: [N] true emotions, 0 .. emotions - 1.
        predicted: [N] predicted emotions, likewise.
        emotions: E, the number of emotions.

    Returns:
        [E, E] counts.

    Raises:
        InputError: no utterances, unequal lengths, or a label outside 0 .. emotions - 1.
    """
    counts: Counts = speaker_confusions(y, predicted, np.zeros(np.shape(y), dtype=np.int64), emotions)[0]
    return counts


def speaker_confusions(y: ArrayLike, predicted: ArrayLike, speakers: ArrayLike, emotions: int) -> Counts:
    """Count utterances by speaker, true and predicted emotion.

    Args:
        y: [N] true emotions, 0 .. emotions - 1.
        predicted: [N] predicted emotions, likewise.
        speakers: [N] speaker of each utterance, any sortable label.
        emotions: E, the number of emotions.

    Returns:
        [S, E, E] counts, speakers in the order of numpy.unique.

    Raises:
        InputError: no utterances, unequal lengths, or a label outside 0 .. emotions - 1.

    Example:
        >>> speaker_confusions([0, 1, 1], [0, 1, 0], ["b", "b", "a"], emotions=2).tolist()
        [[[0, 0], [1, 0]], [[1, 0], [0, 1]]]
    """
    y_N, predicted_N = _labels("y", y, emotions), _labels("predicted", predicted, emotions)
    names_S, speaker_N = np.unique(np.asarray(speakers), return_inverse=True)
    lengths = (y_N.size, predicted_N.size, speaker_N.size)
    if len(set(lengths)) > 1:
        raise InputError(f"y, predicted and speakers have {lengths} entries: pass one of each per utterance")
    counts_SEE = np.zeros((names_S.size, emotions, emotions), dtype=np.int64)
    np.add.at(counts_SEE, (speaker_N, y_N, predicted_N), 1)
    return counts_SEE


def recalls(confusion: Counts) -> Floats:
    """Recall of each emotion in per cent, [..., E, E] -> [..., E]; NaN for an emotion without utterances."""
    support = confusion.sum(axis=-1)
    recall = np.full(support.shape, np.nan)
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    np.divide(100.0 * correct, support, out=recall, where=support > 0)
    return recall


def mean_recall(confusion: Counts) -> Floats:
    """UA of each confusion matrix, [..., E, E] -> [...]: mean recall in per cent of the emotions present."""
    present = confusion.sum(axis=-1) > 0
    total = np.where(present, recalls(confusion), 0.0).sum(axis=-1)
    return np.asarray(total / present.sum(axis=-1))


def unweighted_accuracy(y: ArrayLike, predicted: ArrayLike, emotions: int) -> float:
    r"""Unweighted accuracy, UA: the mean of the per-class recalls, in per cent.

    .. math:: UA = \frac{100}{|P|} \sum_{e \in P} \frac{\#\{i: y_i = e, \hat y_i = e\}}{\#\{i: y_i = e\}}

    over the emotions P present in y. The measure of the paper (Sec. 6) and of the INTERSPEECH challenges
    (Schuller, Steidl & Batliner 2009, "The INTERSPEECH 2009 Emotion Challenge"), elsewhere called unweighted
    average recall or balanced accuracy.

    Args:
        y: [N] true emotions, 0 .. emotions - 1.
        predicted: [N] predicted emotions, likewise.
        emotions: E, the number of emotions.

    Returns:
        UA in [0, 100].

    Raises:
        InputError: no utterances, unequal lengths, or a label outside 0 .. emotions - 1.

    Example:
        >>> unweighted_accuracy([0, 0, 0, 0, 1], [0, 0, 0, 1, 1], emotions=2)
        87.5
    """
    return float(mean_recall(confusion_matrix(y, predicted, emotions)))


def speaker_shares(counts_SEE: Counts) -> Floats:
    """Each speaker's share of UA in points, [S, E, E] -> [S]; they add up to UA."""
    support_E = counts_SEE.sum(axis=(0, 2))
    correct_SE = np.diagonal(counts_SEE, axis1=1, axis2=2)
    shares_S: Floats = 100 * (correct_SE / np.maximum(support_E, 1)).sum(axis=1) / np.count_nonzero(support_E)
    return shares_S


def without_each_speaker(counts: Counts) -> Floats:
    """UA of all speakers but one, for each left out, [..., S, E, E] -> [..., S]; NaN if there is but one."""
    if counts.shape[-3] == 1:
        return np.full(counts.shape[:-2], np.nan)
    return mean_recall(counts.sum(axis=-3, keepdims=True) - counts)


def check_counts(counts_SEE: Counts) -> None:
    """Raise InputError unless counts are [S, E, E] with one or more utterances of each speaker."""
    if counts_SEE.ndim != 3 or counts_SEE.shape[1] != counts_SEE.shape[2] or counts_SEE.shape[0] == 0:
        raise InputError(f"counts have shape {counts_SEE.shape}: pass [speakers, emotions, emotions]")
    silent = np.flatnonzero(counts_SEE.sum(axis=(1, 2)) == 0)
    if silent.size:
        raise InputError(f"speaker {silent[0]} has no utterance: each needs one or more; leave that speaker out")


def check_same_utterances(a_SEE: Counts, b_SEE: Counts) -> None:
    """Raise InputError unless two models were counted on as many utterances of each speaker and emotion."""
    check_counts(a_SEE)
    if a_SEE.shape != b_SEE.shape or not np.array_equal(a_SEE.sum(axis=-1), b_SEE.sum(axis=-1)):
        raise InputError(
            "two models have different utterances per speaker and emotion: a paired test needs the same; "
            "evaluate both on one test partition"
        )


def _labels(name: str, labels: ArrayLike, emotions: int) -> NDArray[np.int64]:
    given = np.asarray(labels)
    if given.ndim != 1 or given.size == 0:
        raise InputError(f"{name} has shape {given.shape}: pass a list of one or more labels, one per utterance")
    outside = given[~np.isin(given, np.arange(emotions))]
    if outside.size:
        raise InputError(f"{name} holds {outside[0]}: labels are whole numbers 0 .. {emotions - 1}; map names first")
    return given.astype(np.int64)
