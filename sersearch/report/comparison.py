"""Rows against each other: which differences are real, and what noise costs each type of convolution.

Shapes: S speaker, E emotion (true, then predicted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from sersearch.report.evidence import Predictions
from sersearch.report.paper import BY_NOISE_LOSS
from sersearch.statistics.corrections import holm
from sersearch.statistics.counts import Counts, mean_recall
from sersearch.statistics.intervals import Estimate, noise_loss
from sersearch.statistics.tests import Comparison, Trend, loss_difference, loss_trend, paired_difference

LEVEL = 0.05


@dataclass(frozen=True)
class Pair:
    """One model against another.

    Attributes:
        first: number of the one, the better where they are ranked.
        second: number of the other.
        comparison: first minus second.
        adjusted_p: the p value after Holm's correction for its family.
    """

    first: int
    second: int
    comparison: Comparison
    adjusted_p: float

    @property
    def apart(self) -> bool:
        """Whether the difference is significant at 5 %."""
        return self.adjusted_p <= LEVEL


@dataclass(frozen=True)
class Ranking:
    """Rows tested on the same utterances, best test UA first.

    Attributes:
        order: numbers of the rows.
        neighbours: each row against the next, one family of tests.
        pairs: each against each, another.
        smallest_p: no comparison of so many speakers can go below it, before correction.
        speakers: how many were tested on.
    """

    order: tuple[int, ...]
    neighbours: tuple[Pair, ...]
    pairs: tuple[Pair, ...]
    smallest_p: float
    speakers: int

    @property
    def ties(self) -> tuple[str, ...]:
        """A letter for each row in order, the same as long as a row can't be distinguished from the next one."""
        steps = np.cumsum([0, *(pair.apart for pair in self.neighbours)])
        return tuple(chr(ord("a") + step) if step < 26 else f"a{step}" for step in steps.tolist())

    @property
    def decidable(self) -> bool:
        """Whether Holm's correction could tell any two neighbours apart, however they differ."""
        return len(self.neighbours) * self.smallest_p <= LEVEL


def rank(rows: Mapping[int, Counts], generator: np.random.Generator) -> Ranking:
    """Order models by test UA, and test their differences.

    Neighbours are chosen by looking at the UA; they are the pairs that differ least, so their tests err on the safe
    side.

    Args:
        rows: one or more models' counts [S, E, E] on the same utterances, by number of the row.
        generator: of the tests' random flips, drawn from beyond 20 speakers.
    """
    order = sorted(rows, key=lambda row: -float(mean_recall(rows[row].sum(0))))
    found = {pair: paired_difference(rows[pair[0]], rows[pair[1]], generator) for pair in combinations(order, 2)}
    neighbours = {pair: found[pair] for pair in pairwise(order)}
    speakers = len(rows[order[0]])
    smallest = min((comparison.smallest_p for comparison in found.values()), default=1.0)
    return Ranking(tuple(order), _corrected(neighbours), _corrected(found), smallest, speakers)


@dataclass(frozen=True)
class Loss:
    """What noise costs one model, in points of test UA.

    Attributes:
        space: that the model is the best of, under the noisy condition.
        model: its type.
        clean_ua: on the clean copies.
        noisy_ua: on all copies, which is the noisy condition.
        loss: the difference, with its interval over speakers.
    """

    space: str
    model: str
    clean_ua: float
    noisy_ua: float
    loss: Estimate


@dataclass(frozen=True)
class Robustness:
    """The paper's main claim on this data: S loses most to noise, then T, then ST, and FST least.

    Attributes:
        features: of all the models.
        losses: of each model, in the claim's order, what it does not name last.
        pairs: differences between losses of the types that the claim names, one family of tests.
        trend: test of the claimed order; None for fewer than two of its types.
    """

    features: str
    losses: tuple[Loss, ...]
    pairs: tuple[Pair, ...]
    trend: Trend | None

    @property
    def verdict(self) -> str:
        """The claim and what the data say of it, in a sentence; nothing where they can't say anything."""
        if self.trend is None:
            return ""
        named = [loss for loss in self.losses if loss.model in BY_NOISE_LOSS]
        order = " > ".join(loss.model.removesuffix("-CLDNN") for loss in named)
        falls = all(a > b for a, b in pairwise(loss.loss.value for loss in named))
        shown = "is shown" if self.trend.p_value <= LEVEL else "is not shown"
        return (
            f"The paper's claim is that noise costs {order}. The losses here {'' if falls else 'do not '}stand in this "
            f"order. That they fall along it {shown}: {self.trend.fall_per_step:.2f} points per step, "
            f"one-sided p: {format_p(self.trend.p_value)}."
        )


def robustness(
    features: str, models: Sequence[tuple[str, str, Predictions]], generator: np.random.Generator
) -> Robustness:
    """Hold what noise costs each model against the paper's claim.

    Args:
        features: of all the models.
        models: space, type and noisy test predictions of each; these cover the clean copies, so both conditions are
            the same model's. At most one of each type that the claim names.
        generator: of the tests' shuffles.
    """
    order = [*BY_NOISE_LOSS, *sorted({model for _, model, _ in models} - set(BY_NOISE_LOSS))]
    ranked = sorted(models, key=lambda entry: (order.index(entry[1]), entry[0]))
    counts = [(predictions.counts(predictions.clean_N), predictions.counts()) for _, _, predictions in ranked]
    losses = tuple(
        Loss(
            space,
            model,
            float(mean_recall(clean.sum(0))),
            float(mean_recall(noisy.sum(0))),
            noise_loss(clean, noisy),
        )
        for (space, model, _), (clean, noisy) in zip(ranked, counts, strict=True)
    )
    named = [number for number, loss in enumerate(losses) if loss.model in BY_NOISE_LOSS]
    found = {(a, b): loss_difference(counts[a], counts[b], generator) for a, b in combinations(named, 2)}
    trend = loss_trend([counts[number] for number in named], generator) if len(named) > 1 else None
    return Robustness(features, losses, _corrected(found), trend)


def _corrected(found: dict[tuple[int, int], Comparison]) -> tuple[Pair, ...]:
    adjusted = holm([comparison.p_value for comparison in found.values()]).tolist()
    return tuple(Pair(*pair, found[pair], p) for pair, p in zip(found, adjusted, strict=True))


def format_p(p_value: float) -> str:
    """A p value to two digits, and no more exact than 0.0001."""
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.2g}" if p_value < 0.1 else f"{p_value:.2f}"
