"""The paper's own spaces: Table 2, the sweep of Figure 2, and the sets of functionals of Table 3."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import product

from sersearch.study.configuration import Configuration
from sersearch.study.configuration.svm import FAMILY

Kernels = tuple[tuple[int, int], ...]

H1, H2 = range(4, 10), range(3, 5)
W1, W2 = range(3, 9), range(2, 4)

SWEEP = range(4, 31)
"""h1 in Figure 2 (Section 7.4), with h2 = 3."""

SETS = ("IS09", "IS10", "IS11", "IS12", "IS13")
"""The sets of functionals of Table 3."""

PAPERS_CORPUS = "enterface"
PAPERS_EMOTIONS = frozenset({"anger", "disgust", "fear", "happiness", "sadness", "surprise"})
"""The emotions of eNTERFACE'05 (Section 5.1)."""

COPIES = 61
"""Copies of each utterance, one of them clean (Section 5.2)."""

MODELS: tuple[tuple[str, str], ...] = (
    ("SVM", FAMILY),
    ("LDNN", "mfccs"),
    ("LDNN", "log-mels"),
    ("T-CLDNN", "mfccs"),
    ("FST-CLDNN", "mfccs"),
    ("T-CLDNN", "log-mels"),
    ("S-CLDNN", "log-mels"),
    ("ST-CLDNN", "log-mels"),
    ("FST-CLDNN", "log-mels"),
)
"""Model and features of Table 4, in the paper's order of rows."""


@dataclass(frozen=True)
class PapersSpace:
    """What the paper tries for one model and features.

    Attributes:
        tried: features and kernels of each configuration.
        whole: whether all of them are trained; of the ST-CLDNN some alone are.
        nothing_else_varies: whether configurations differ in features and kernels alone; the paper names no ranges for
            the numbers of its SVMs.
    """

    tried: frozenset[tuple[str, Kernels]]
    whole: bool = True
    nothing_else_varies: bool = True


def is_papers_corpus(corpus: str, emotions: Iterable[str]) -> bool:
    """Whether a corpus and its emotions are the paper's, so that its figures may stand beside others."""
    return corpus == PAPERS_CORPUS and frozenset(emotions) == PAPERS_EMOTIONS


def papers_space(model: str, family: str) -> PapersSpace | None:
    """What the paper tries for a model and features; None where it does not train them."""
    if (model, family) not in MODELS:
        return None
    if family == FAMILY:
        return PapersSpace(frozenset((name, ()) for name in SETS), nothing_else_varies=False)
    kernels = table_2(model, family)
    return PapersSpace(frozenset((family, sizes) for sizes in kernels), whole=model != "ST-CLDNN")


def table_2(model: str, features: str) -> set[Kernels]:
    """The kernels ((h1, w1), (h2, w2)) that the paper tries for a network."""
    rows = 40 if features == "log-mels" else 13
    heights = {"S-CLDNN": (H1, H2), "ST-CLDNN": (H1, H2), "FST-CLDNN": ((rows,), (1,))}.get(model, ((1,), (1,)))
    widths = ((1,), (1,)) if model == "S-CLDNN" else (W1, W2)
    if model == "LDNN":
        return {()}
    return {((h1, w1), (h2, w2)) for h1, w1, h2, w2 in product(heights[0], widths[0], heights[1], widths[1])}


def is_papers_space(model: str, family: str, candidates: Collection[Configuration]) -> bool:
    """Whether candidates are the paper's: those that it tries, and where it says so nothing else varies."""
    papers = papers_space(model, family)
    if papers is None:
        return False
    tried = {(candidate.features, candidate.kernels) for candidate in candidates}
    if papers.nothing_else_varies and len(tried) != len(candidates):
        return False
    return tried == papers.tried if papers.whole else tried <= papers.tried
