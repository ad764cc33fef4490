"""What the paper found, for a run to be held against: Tables 2 and 4, Figure 2, and the claim of Section 8."""

from collections.abc import Collection
from itertools import product

from sersearch.architecture import Configuration, Features, Model
from sersearch.study import Condition

H1, H2 = range(4, 10), range(3, 5)
W1, W2 = range(3, 9), range(2, 4)

TABLE_4: dict[tuple[Model, Features], dict[Condition, float]] = {
    ("LDNN", "mfccs"): {"noisy": 75.51, "clean": 88.33},
    ("LDNN", "log-mels"): {"noisy": 78.87, "clean": 90.42},
    ("T-CLDNN", "mfccs"): {"noisy": 83.44, "clean": 87.92},
    ("FST-CLDNN", "mfccs"): {"noisy": 84.45, "clean": 92.92},
    ("T-CLDNN", "log-mels"): {"noisy": 84.23, "clean": 92.92},
    ("S-CLDNN", "log-mels"): {"noisy": 82.73, "clean": 91.67},
    ("ST-CLDNN", "log-mels"): {"noisy": 84.26, "clean": 93.75},
    ("FST-CLDNN", "log-mels"): {"noisy": 86.21, "clean": 94.58},
}
"""Test UA in per cent on eNTERFACE'05, in the paper's order of rows."""

SWEEP = range(4, 31)
PEAK_H1 = 22
PEAK_TEST_UA: dict[Condition, float] = {"noisy": 85.87, "clean": 95.42}
"""Figure 2 and Section 7.4: the S-CLDNN (log-mels) with h2 = 3, best with h1 = 22 under both conditions."""

BY_NOISE_LOSS: tuple[Model, ...] = ("S-CLDNN", "T-CLDNN", "ST-CLDNN", "FST-CLDNN")
"""The paper's main claim (Sections 7.3, 8): who loses most to noise, to who loses least."""


def table_2(model: Model, features: Features) -> set[tuple[tuple[int, int], ...]]:
    """The kernels ((h1, w1), (h2, w2)) that the paper tries for a model; of the ST's it trains some alone."""
    rows = 40 if features == "log-mels" else 13
    heights = {"S-CLDNN": (H1, H2), "ST-CLDNN": (H1, H2), "FST-CLDNN": ((rows,), (1,))}.get(model, ((1,), (1,)))
    widths = ((1,), (1,)) if model == "S-CLDNN" else (W1, W2)
    if model == "LDNN":
        return {()}
    return {((h1, w1), (h2, w2)) for h1, w1, h2, w2 in product(heights[0], widths[0], heights[1], widths[1])}


def is_papers_space(model: Model, features: Features, candidates: Collection[Configuration]) -> bool:
    """Whether candidates are those of Table 2, all of them, or for the ST some, and differ in their kernels alone."""
    kernels = {candidate.kernels for candidate in candidates}
    papers = table_2(model, features)
    found = kernels <= papers if model == "ST-CLDNN" else kernels == papers
    return found and len(kernels) == len(candidates)
