"""The paper's figures, for a run to be held against: Tables 3 to 5, Figure 2, and the claim of Section 8."""

from sersearch.study.conditions import Condition
from sersearch.study.configuration.base import Protocol
from sersearch.study.configuration.svm import FAMILY

TABLE_3: dict[str, tuple[str, dict[Protocol, float]]] = {
    "IS09": ("EC", {"loso": 66.61, "partition": 70.83}),
    "IS10": ("PC", {"loso": 73.87, "partition": 71.66}),
    "IS11": ("SSC", {"loso": 79.19, "partition": 77.92}),
    "IS12": ("STC", {"loso": 81.18, "partition": 80.00}),
    "IS13": ("ComParE", {"loso": 80.45, "partition": 80.83}),
}
"""Test UA in per cent of SVMs on sets of functionals, and the challenges that the paper calls these by."""

TABLE_4: dict[tuple[str, str], dict[Condition, float]] = {
    ("SVM", FAMILY): {"clean": 80.83},
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

TABLE_5: dict[tuple[str, str], tuple[float, float, float, float]] = {
    ("T-CLDNN", "mfccs"): (23.75, 52.50, 88.75, 88.75),
    ("FST-CLDNN", "mfccs"): (23.75, 56.25, 88.75, 92.50),
    ("T-CLDNN", "log-mels"): (27.92, 59.17, 93.33, 93.33),
    ("S-CLDNN", "log-mels"): (27.92, 45.83, 88.33, 91.67),
    ("ST-CLDNN", "log-mels"): (27.92, 55.83, 89.17, 93.75),
    ("FST-CLDNN", "log-mels"): (27.92, 54.17, 89.17, 94.58),
}
"""UA in per cent of a support vector machine on the raw features and on the output of CNN, BLSTM and MLP, clean."""

CONTRIBUTIONS = {"cnn": (27.43, 5.18), "blstm": (35.63, 3.61), "mlp": (2.85, 2.32)}
"""What each module adds to that in points (Section 7.5): mean and sample standard deviation over the six models."""

PEAK_H1 = 22
PEAK_TEST_UA: dict[Condition, float] = {"noisy": 85.87, "clean": 95.42}
"""Figure 2 and Section 7.4: the S-CLDNN (log-mels) with h2 = 3, best with h1 = 22 under both conditions."""

BY_NOISE_LOSS: tuple[str, ...] = ("S-CLDNN", "T-CLDNN", "ST-CLDNN", "FST-CLDNN")
"""The paper's main claim (Sections 7.3, 8): who loses most to noise, to who loses least."""
