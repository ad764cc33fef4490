"""The statistics behind the leaderboard: how sure a number is, and whether one is really above another.

Utterances of one speaker move together, and so do the 61 copies of an utterance in the noisy condition
(Sec. 5.2). The independent unit is the speaker, so everything here works on one confusion matrix per speaker:
those counts are all that an interval, a test or a correction needs, however many utterances there are.
Accuracies, differences and losses are in per cent (points); intervals are two-sided 95 %. docs/statistics.md
shows what each choice was held against, by simulation.
"""

from sersearch.statistics.comparison import (
    Comparison,
    Estimate,
    Interval,
    Trend,
    holm,
    loss_difference,
    loss_trend,
    noise_loss,
    paired_difference,
    speaker_interval,
)
from sersearch.statistics.confusion import (
    Counts,
    confusion_matrix,
    mean_recall,
    recalls,
    speaker_confusions,
    unweighted_accuracy,
)
from sersearch.statistics.selection import (
    SeedSpread,
    Selection,
    expected_maximum,
    median_filter,
    seed_spread,
    select_best,
)

__all__ = [
    "Comparison",
    "Counts",
    "Estimate",
    "Interval",
    "SeedSpread",
    "Selection",
    "Trend",
    "confusion_matrix",
    "expected_maximum",
    "holm",
    "loss_difference",
    "loss_trend",
    "mean_recall",
    "median_filter",
    "noise_loss",
    "paired_difference",
    "recalls",
    "seed_spread",
    "select_best",
    "speaker_confusions",
    "speaker_interval",
    "unweighted_accuracy",
]
