"""Figures of the paper that a run can be held against: Tables 2 and 4."""

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


def in_table_2(configuration: Configuration) -> bool:
    """Whether a configuration lies in the ranges of Table 2 (the LDNN has none)."""
    c = configuration
    spectral, temporal = (c.h1, c.h2), (c.w1, c.w2)
    match c.model:
        case "LDNN":
            return True
        case "S-CLDNN":
            return _within(spectral, H1, H2)
        case "ST-CLDNN":
            return _within(spectral, H1, H2) and _within(temporal, W1, W2)
        case _:
            return _within(temporal, W1, W2)


def _within(kernels: tuple[int | None, int | None], first: range, second: range) -> bool:
    return kernels[0] in first and kernels[1] in second
