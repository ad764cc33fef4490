"""Random utterances, and simulated speakers and models whose true UA is known."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

from sersearch.statistics.counts import Counts, speaker_confusions

EMOTIONS = 4
labels = st.integers(0, EMOTIONS - 1)
utterances = st.lists(st.tuples(labels, labels, st.sampled_from("abcdef")), min_size=1, max_size=60)
"""True and predicted emotion and speaker of each utterance."""


def count(rows: list[tuple[int, int, str]]) -> Counts:
    y, predicted, speakers = zip(*rows, strict=True)
    return speaker_confusions(y, predicted, speakers, EMOTIONS)


def as_counts(correct: NDArray[Any], support: NDArray[Any]) -> Counts:
    """Put [..., E] correct answers on the diagonal, and the other utterances beside it, as [..., E, E] counts."""
    emotion = np.arange(support.shape[-1])
    counts = np.zeros((*support.shape, support.shape[-1]), dtype=np.int64)
    counts[..., emotion, emotion] = correct
    counts[..., emotion, (emotion + 1) % support.shape[-1]] = support - correct
    return counts


def draw_speakers(speakers: int, generator: np.random.Generator, logit: float = 0.4, sd: float = 0.8) -> Counts:
    """Draw counts [S, E, E] of speakers who differ, with five utterances per speaker and emotion."""
    logits = logit + generator.normal(0, sd, (speakers, 1)) + generator.normal(0, sd / 2, (speakers, 6))
    correct = generator.binomial(5, special.expit(logits))
    return as_counts(correct, np.full(correct.shape, 5))


def population_ua(logit: float, sd: float) -> float:
    """Compute the UA over the population of the speakers of `draw_speakers`, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return float(100 * special.expit(logit + sd * np.sqrt(1.25) * nodes) @ weights / weights.sum())


def draw_models(logits: list[float], speakers: int, generator: np.random.Generator) -> list[Counts]:
    """Draw counts [S, E, E] of one model per logit, on speakers who differ little."""
    return [draw_speakers(speakers, generator, logit, sd=0.3) for logit in logits]


def draw_configurations(
    spread: float, configurations: int, speakers: int, generator: np.random.Generator
) -> tuple[Counts, NDArray[np.float64]]:
    """Draw counts [C, S, E, E] of configurations that share speakers; also return the true UA of each."""
    logits = 0.4 + generator.normal(0, spread, configurations)
    shared = generator.normal(0, 0.6, (speakers, 6))
    own = generator.normal(0, 0.4, (configurations, speakers, 6))
    correct = generator.binomial(5, special.expit(logits[:, None, None] + shared + own))
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    chance = special.expit(logits[:, None] + np.sqrt(0.6**2 + 0.4**2) * nodes)
    return as_counts(correct, np.full(correct.shape, 5)), 100 * chance @ weights / weights.sum()


def shares(a: Counts, b: Counts) -> NDArray[np.float64]:
    """Compute each speaker's share of UA_a - UA_b in its most literal form, [S]."""
    difference = np.diagonal(a - b, axis1=1, axis2=2) / a.sum(axis=(0, 2))
    return np.asarray(100 * difference.mean(axis=1))
