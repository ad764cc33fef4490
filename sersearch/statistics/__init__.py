"""The statistics of the leaderboard: how certain a UA is, and whether two models really differ.

The utterances of one speaker are correlated, and so are the 61 copies of an utterance in the noisy condition
(Sec. 5.2). The independent unit is therefore the speaker, and everything here is computed from one confusion matrix
per speaker. These counts are sufficient for every interval, test and correction, however many utterances there are.

Accuracies are in per cent, differences and losses in percentage points, intervals are two-sided at 95 %.
docs/statistics.md shows the simulations that each method was compared in.

Modules: `counts` (confusion counts, recalls, UA), `intervals`, `tests`, `corrections` (multiple tests, selection of
the best), `seeds` (spread over training seeds), `curves` (smoothing).
"""
