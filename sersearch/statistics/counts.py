"""Count utterances by true and predicted emotion, and compute recalls and UA from the counts.

Shapes: N utterance, S speaker, E emotion (true, then predicted).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def confusion_matrix(y: ArrayLike, predicted: ArrayLike, emotions: int) -> Counts:
    """Count utterances by true (row) and predicted (column) emotion.

    Args:
        y: [N] true emotions, integers 0 .. emotions - 1.
        predicted: [N] predicted emotions, integers 0 .. emotions - 1.
        emotions: E, the number of emotions.

    Returns:
        [E, E] counts.

    Raises:
        ValueError: there are no utterances, the lengths differ, or a label is outside 0 .. emotions - 1.

    Example:
        >>> confusion_matrix([0, 1, 1], [0, 1, 0], emotions=2).tolist()
        [[1, 0], [1, 1]]
    """
    one_speaker = np.zeros(np.shape(y), dtype=np.int64)
    counts_EE: Counts = speaker_confusions(y, predicted, one_speaker, emotions)[0]
    return counts_EE


def speaker_confusions(y: ArrayLike, predicted: ArrayLike, speakers: ArrayLike, emotions: int) -> Counts:
    """Count utterances by speaker, true and predicted emotion.

    Args:
        y: [N] true emotions, integers 0 .. emotions - 1.
        predicted: [N] predicted emotions, integers 0 .. emotions - 1.
        speakers: [N] speaker of each utterance; any labels that can be sorted.
        emotions: E, the number of emotions.

    Returns:
        [S, E, E] counts, with speakers in the order of numpy.unique.

    Raises:
        ValueError: there are no utterances, the lengths differ, or a label is outside 0 .. emotions - 1.

    Example:
        >>> speaker_confusions([0, 1, 1], [0, 1, 0], ["b", "b", "a"], emotions=2).tolist()
        [[[0, 0], [1, 0]], [[1, 0], [0, 1]]]
    """
    y_N = _labels("y", y, emotions)
    predicted_N = _labels("predicted", predicted, emotions)
    names_S, speaker_N = np.unique(np.asarray(speakers), return_inverse=True)
    lengths = (y_N.size, predicted_N.size, speaker_N.size)
    if len(set(lengths)) > 1:
        raise ValueError(
            f"y, predicted and speakers have lengths {lengths}, which must be equal: pass one entry per utterance"
        )
    counts_SEE = np.zeros((names_S.size, emotions, emotions), dtype=np.int64)
    np.add.at(counts_SEE, (speaker_N, y_N, predicted_N), 1)
    return counts_SEE


def recalls(confusion: Counts) -> Floats:
    r"""Compute the recall of each emotion in per cent.

    .. math:: R_e = 100 \, C_{ee} / \sum_{\hat e} C_{e \hat e}

    Args:
        confusion: [..., E, E] confusion counts.

    Returns:
        [..., E] recalls in [0, 100]; NaN for an emotion without utterances.

    Example:
        >>> recalls(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])).tolist()
        [75.0, 100.0, nan]
    """
    support = confusion.sum(axis=-1)
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    recall = np.full(support.shape, np.nan)
    np.divide(100.0 * correct, support, out=recall, where=support > 0)
    return recall


def mean_recall(confusion: Counts) -> Floats:
    """Compute the UA of each confusion matrix: the mean recall of the emotions that occur.

    The formula and its source are those of `unweighted_accuracy`.

    Args:
        confusion: [..., E, E] confusion counts.

    Returns:
        [...] UA in [0, 100]; NaN for a matrix without utterances.

    Example:
        >>> float(mean_recall(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])))
        87.5
    """
    present = confusion.sum(axis=-1) > 0
    total = np.where(present, recalls(confusion), 0.0).sum(axis=-1)
    return np.asarray(total / present.sum(axis=-1))


def unweighted_accuracy(y: ArrayLike, predicted: ArrayLike, emotions: int) -> float:
    r"""Compute the unweighted accuracy, UA: the mean of the per-class recalls, in per cent.

    .. math:: UA = \frac{100}{|P|} \sum_{e \in P} \frac{\#\{i: y_i = e, \hat y_i = e\}}{\#\{i: y_i = e\}}

    The sum is over the emotions P that occur in y. This is the measure of the paper (Sec. 6) and of the INTERSPEECH
    challenges (Schuller, Steidl & Batliner 2009, "The INTERSPEECH 2009 Emotion Challenge"). It is also called
    unweighted average recall or balanced accuracy.

    Args:
        y: [N] true emotions, integers 0 .. emotions - 1.
        predicted: [N] predicted emotions, integers 0 .. emotions - 1.
        emotions: E, the number of emotions.

    Returns:
        UA in [0, 100].

    Raises:
        ValueError: there are no utterances, the lengths differ, or a label is outside 0 .. emotions - 1.

    Example:
        >>> unweighted_accuracy([0, 0, 0, 0, 1], [0, 0, 0, 1, 1], emotions=2)
        87.5
    """
    return float(mean_recall(confusion_matrix(y, predicted, emotions)))


def macro_f1(confusion: Counts) -> Floats:
    r"""Compute the mean F1 of the emotions that occur, in per cent.

    .. math:: F_e = 100 \, \frac{2 C_{ee}}{\sum_{\hat e} C_{e \hat e} + \sum_{e'} C_{e' e}}

    Source: Opitz & Burst 2019, "Macro F1 and Macro F1" (the mean of F1s, not the F1 of mean precision and recall).

    Args:
        confusion: [..., E, E] confusion counts.

    Returns:
        [...] macro-F1 in [0, 100]; NaN for a matrix without utterances.

    Example:
        >>> round(float(macro_f1(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))), 2)
        82.86
    """
    support = confusion.sum(axis=-1)
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    # The maximum only avoids 0 / 0 for an emotion that neither occurs nor is predicted, which is left out below.
    f1 = 200.0 * correct / np.maximum(1, support + confusion.sum(axis=-2))
    present = support > 0
    return np.asarray(np.where(present, f1, 0.0).sum(axis=-1) / present.sum(axis=-1))


def weighted_accuracy(confusion: Counts) -> Floats:
    """Compute WA, the share of utterances that are predicted right, in per cent: each emotion weighs what it occurs.

    Source: Schuller, Steidl & Batliner 2009, "The INTERSPEECH 2009 Emotion Challenge", where it stands beside UA.

    Args:
        confusion: [..., E, E] confusion counts.

    Returns:
        [...] WA in [0, 100]; NaN for a matrix without utterances.

    Example:
        >>> round(float(weighted_accuracy(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))), 2)
        83.33
    """
    correct = np.trace(confusion, axis1=-2, axis2=-1)
    return np.asarray(100.0 * correct / confusion.sum(axis=(-2, -1)))


def speaker_shares(counts_SEE: Counts) -> Floats:
    """Split UA into the points that each speaker contributes.

    share_s = 100 / |P| * sum_{e in P} correct[s, e] / utterances[e], where P are the emotions that occur and
    utterances[e] counts those of all speakers.

    Args:
        counts_SEE: [S, E, E] confusion counts per speaker.

    Returns:
        [S] points, each in [0, 100]; they sum to the UA of all speakers.

    Example:
        >>> speaker_shares(np.array([[[1, 0], [0, 2]], [[0, 1], [2, 0]]])).tolist()
        [50.0, 0.0]
    """
    support_E = counts_SEE.sum(axis=(0, 2))
    correct_SE = np.diagonal(counts_SEE, axis1=1, axis2=2)
    # The maximum only avoids 0 / 0 for an emotion without utterances, which nobody gets right.
    recall_shares_SE = correct_SE / np.maximum(support_E, 1)
    shares_S: Floats = 100 * recall_shares_SE.sum(axis=1) / np.count_nonzero(support_E)
    return shares_S


def leave_one_speaker_out(counts: Counts) -> Floats:
    """Compute the UA of all speakers but one, for each speaker.

    Args:
        counts: [..., S, E, E] confusion counts per speaker.

    Returns:
        [..., S] UA without each speaker, in [0, 100]; NaN for a single speaker.

    Example:
        >>> leave_one_speaker_out(np.array([[[1, 0], [0, 2]], [[0, 1], [2, 0]]])).tolist()
        [0.0, 100.0]
    """
    if counts.shape[-3] == 1:
        return np.full(counts.shape[:-2], np.nan)
    total = counts.sum(axis=-3, keepdims=True)
    return mean_recall(total - counts)


def check_counts(counts_SEE: Counts) -> None:
    """Check that counts have the shape [S, E, E] and that each speaker has utterances.

    Raises:
        ValueError: the shape is another, or a speaker has no utterance.
    """
    if counts_SEE.ndim != 3 or counts_SEE.shape[1] != counts_SEE.shape[2] or counts_SEE.shape[0] == 0:
        raise ValueError(f"counts have shape {counts_SEE.shape}: pass [speakers, emotions, emotions]")
    empty_speakers = np.flatnonzero(counts_SEE.sum(axis=(1, 2)) == 0)
    if empty_speakers.size:
        raise ValueError(f"speaker {empty_speakers[0]} has no utterance, but each needs one: leave that speaker out")


def check_same_utterances(a_SEE: Counts, b_SEE: Counts) -> None:
    """Check that two models were counted on the same number of utterances per speaker and emotion.

    Raises:
        ValueError: the counts fail `check_counts`, or the numbers of utterances differ.
    """
    check_counts(a_SEE)
    if a_SEE.shape != b_SEE.shape or not np.array_equal(a_SEE.sum(axis=-1), b_SEE.sum(axis=-1)):
        raise ValueError(
            "two models have different utterances per speaker and emotion, but a paired test needs the same: "
            "evaluate both on one test partition"
        )


def _labels(name: str, labels: ArrayLike, emotions: int) -> NDArray[np.int64]:
    """Check and convert [N] labels."""
    labels_N = np.asarray(labels)
    if labels_N.ndim != 1 or labels_N.size == 0:
        raise ValueError(f"{name} has shape {labels_N.shape}: pass a list of one or more labels, one per utterance")
    invalid = labels_N[~np.isin(labels_N, np.arange(emotions))]
    if invalid.size:
        raise ValueError(
            f"{name} contains {invalid[0]}, but labels are integers 0 .. {emotions - 1}: map names to integers first"
        )
    return labels_N.astype(np.int64)
