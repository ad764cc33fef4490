"""The statistics of the leaderboard: how certain a UA is, and whether two models really differ.

The utterances of one speaker are correlated, and so are the 61 copies of an utterance in the noisy condition
(Sec. 5.2). The independent unit is therefore the speaker, and everything here is computed from one confusion matrix
per speaker. These counts are sufficient for every interval, test and correction, however many utterances there are.

Accuracies are in per cent, differences and losses in percentage points, intervals are two-sided at 95 %.
docs/statistics.md shows the simulations that each method was compared in.

A board of several folds is tested over folds: the speakers of a fold share a network, and each fold trains anew, so
only folds show the luck of training. The counts of a fold are the sum over its speakers and seeds.

Modules: `counts` (confusion counts, recalls, UA), `intervals`, `tests` (one pair), `families` (all pairs), `contrast`
(the order that a study names), `corrections` (multiple tests, selection of the best), `letters` (letters and rank
intervals), `power` (what a design can show), `seeds` (spread over training seeds), `curves` (smoothing).
"""
