"""Rows against each other: which differences are real, and what noise costs each model.

Shapes: S speaker, U unit (fold, or speaker), K model, E emotion (true, then predicted).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from sersearch.report.evidence import Predictions, reaches_chance
from sersearch.report.paper import BY_NOISE_LOSS
from sersearch.report.units import Units
from sersearch.statistics.contrast import Contrast, level_weights, logit_ua, ordered_contrast
from sersearch.statistics.corrections import holm
from sersearch.statistics.counts import Counts, Floats, mean_recall
from sersearch.statistics.families import LEVEL, Pair, all_pairs, apart_matrix, spread_of_values
from sersearch.statistics.intervals import Estimate, Interval, SpeakerStatistic, noise_loss
from sersearch.statistics.letters import compact_letters, rank_intervals
from sersearch.statistics.power import smallest_difference
from sersearch.study.hypothesis import PAPERS_CLAIM, Hypothesis, Measure


@dataclass(frozen=True)
class Ranking:
    """Rows tested on the same utterances, best test UA first.

    Attributes:
        order: numbers of the rows.
        pairs: each row against each other one, one family of tests.
        units: what is flipped whole.
        smallest_p: no comparison of so many units can go below it, before or after correction.
        speakers: how many were tested on.
        smallest_difference: the difference that this family finds in four of five such studies, in points; None if it
            can find none.
    """

    order: tuple[int, ...]
    pairs: tuple[Pair, ...]
    units: Units
    smallest_p: float
    speakers: int
    smallest_difference: float | None

    @cached_property
    def neighbours(self) -> tuple[Pair, ...]:
        """Each row against the next."""
        by_rows = {(pair.first, pair.second): pair for pair in self.pairs}
        return tuple(by_rows[rows] for rows in pairwise(self.order))

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """Letters of each row in order; two rows share one if and only if their pair is not significant."""
        return compact_letters(apart_matrix(self.order, self.pairs))

    @cached_property
    def ranks(self) -> tuple[tuple[int, int], ...]:
        """The best and the worst place that each row in order can have, for all rows jointly at 95 %."""
        return rank_intervals(apart_matrix(self.order, self.pairs))

    @property
    def decidable(self) -> bool:
        """Whether any two rows could be told apart, however they differ."""
        return self.smallest_p <= LEVEL


def rank(rows: Mapping[int, Counts], units: Units, generator: np.random.Generator) -> Ranking:
    """Order models by test UA, and test each against each other one.

    Args:
        rows: one or more models' counts [S, E, E] on the same utterances, by number of the row.
        units: of the board.
        generator: of the tests' random flips.
    """
    order = sorted(rows, key=lambda row: -float(mean_recall(rows[row].sum(0))))
    models = {row: SpeakerStatistic.of_ua(units.add_up(rows[row])) for row in order}
    pairs = all_pairs(models, 100, generator, units.bound)
    spread = spread_of_values(models)
    count = len(units.members)
    return Ranking(
        order=tuple(order),
        pairs=pairs,
        units=units,
        smallest_p=min((pair.comparison.smallest_p for pair in pairs), default=1.0),
        speakers=len(rows[order[0]]),
        smallest_difference=smallest_difference(spread, count, len(order)) if spread else None,
    )


@dataclass(frozen=True)
class Loss:
    """What noise costs one model, in points of test UA.

    Attributes:
        space: that the model is the best of, under the noisy condition.
        model: its type.
        clean_ua: on the clean copies.
        noisy_ua: on all copies, which is the noisy condition.
        alone_ua: on the noisy copies alone.
        loss: clean less noisy condition, with its interval over speakers; of n noisy copies per utterance it is
            n / (n + 1) of the loss to the noisy copies alone.
        alone: clean less noisy copies alone, with its interval over speakers.
        again: interval of the loss to the noisy copies alone over folds, for networks that are trained again; None of
            one partition.
        at_chance: whether the noisy copies are not recognised better than by chance, so that little could be lost.
    """

    space: str
    model: str
    clean_ua: float
    noisy_ua: float
    alone_ua: float
    loss: Estimate
    alone: Estimate
    again: Interval | None
    at_chance: bool


@dataclass(frozen=True)
class Claim:
    """The test of an order of models on one measure.

    Attributes:
        measure: noisy UA, which is claimed to rise along the order, or the loss to noise, which is claimed to fall.
        contrast: the test, on the logit scale; the logit of a loss is that of clean UA less that of noisy UA.
        points: by how many points of UA the measure moves as claimed, per level.
        adjusted_p: after Holm's correction for the measures.
    """

    measure: Measure
    contrast: Contrast
    points: float
    adjusted_p: float

    @property
    def shown(self) -> bool:
        """Whether the claim is significant at 5 %."""
        return self.adjusted_p <= LEVEL


@dataclass(frozen=True)
class Robustness:
    """What noise costs the models of one kind of features, and whether it costs them what the claim says.

    Attributes:
        features: of all the models.
        losses: of each model, in the claim's order, what it does not name last.
        pairs: differences between losses to the noisy copies alone of the models that the claim names, one family.
        order: the claim's levels, as far as they are trained here.
        named: whether the study names the claim; else it is the paper's, and the test is exploratory.
        missing: models that the study's claim names and that have no tested row here, so that it is not tested.
        claims: the test on each measure; none where fewer than two levels are trained.
        units: what is permuted within.
    """

    features: str
    losses: tuple[Loss, ...]
    pairs: tuple[Pair, ...]
    order: tuple[tuple[str, ...], ...]
    named: bool
    missing: tuple[str, ...]
    claims: tuple[Claim, ...]
    units: Units

    @property
    def verdict(self) -> str:
        """The claim and what the data say of it, in sentences; nothing where they can't say anything."""
        if self.missing:
            return (
                f"The study's hypothesis is not tested on {self.features}, which has no tested row of "
                f"{', '.join(self.missing)}."
            )
        if not self.claims:
            return ""
        whose = "The study's hypothesis" if self.named else "Exploratory, as the study names no hypothesis: the paper's"
        order = " > ".join(_level(level) for level in self.order)
        sentences = [f"{whose} is that noise harms {order}."]
        for claim in self.claims:
            sentences.append(_sentence(claim))
        if len(self.claims) > 1:
            sentences.append(f"These p values are Holm-corrected for {len(self.claims)} measures.")
        smallest = self.claims[0].contrast.smallest_p
        if smallest * len(self.claims) > LEVEL:
            sentences.append(
                f"No p value of {self.units.counted()} can be below {format_p(smallest)} for each of "
                f"{len(self.claims)} measures, so the order can't be shown here."
            )
        return " ".join(sentences)


def _level(models: Sequence[str]) -> str:
    names = ", ".join(model.removesuffix("-CLDNN") for model in models)
    return f"{{{names}}}" if len(models) > 1 else names


def _sentence(claim: Claim) -> str:
    what = {"ua": "That noisy UA rises along it", "loss": "That the loss to noise falls along it"}[claim.measure]
    shown = "is shown" if claim.shown else "is not shown"
    return f"{what} {shown}: {claim.points:+.2f} points per level, one-sided p: {format_p(claim.adjusted_p)}."


def robustness(
    features: str,
    models: Sequence[tuple[str, str, Predictions]],
    units: Units,
    hypothesis: Hypothesis | None,
    generator: np.random.Generator,
) -> Robustness:
    """Hold what noise costs each model against the study's claim, or the paper's.

    Args:
        features: of all the models.
        models: space, type and noisy test predictions of each; these cover the clean copies, so both conditions are
            the same model's. At most one of each type that the claim names.
        units: of the board.
        hypothesis: the study's, with names as in its spaces; None where it has none.
        generator: of the tests' random draws.
    """
    claimed = hypothesis or PAPERS_CLAIM
    levels = claimed.levels
    order = [*levels, *sorted({model for _, model, _ in models} - set(levels))]
    ranked = sorted(models, key=lambda entry: (order.index(entry[1]), entry[0]))
    clean = [predictions.counts(predictions.clean_N) for _, _, predictions in ranked]
    alone = [predictions.counts(~predictions.clean_N) for _, _, predictions in ranked]
    losses = tuple(
        _loss(space, model, clean_SEE, alone_SEE, units)
        for (space, model, _), clean_SEE, alone_SEE in zip(ranked, clean, alone, strict=True)
    )
    named = [number for number, loss in enumerate(losses) if loss.model in levels]
    clean_U = {number: units.add_up(clean[number]) for number in named}
    alone_U = {number: units.add_up(alone[number]) for number in named}
    statistics = {number: SpeakerStatistic.of_noise_loss(clean_U[number], alone_U[number]) for number in named}
    present = {losses[number].model for number in named}
    trained = tuple(tuple(model for model in level if model in present) for level in claimed.order)
    missing = () if hypothesis is None else tuple(model for model in levels if model not in present)
    claims: tuple[Claim, ...] = ()
    if not missing and sum(bool(level) for level in trained) > 1:
        rows = [levels[losses[number].model] for number in named]
        claims = _claims(claimed, rows, list(clean_U.values()), list(alone_U.values()), generator)
    return Robustness(
        features=features,
        losses=losses,
        pairs=all_pairs(statistics, 200, generator, units.bound),
        order=tuple(level for level in trained if level),
        named=hypothesis is not None,
        missing=missing,
        claims=claims,
        units=units,
    )


def _loss(space: str, model: str, clean_SEE: Counts, alone_SEE: Counts, units: Units) -> Loss:
    both_SEE = clean_SEE + alone_SEE
    by_unit = SpeakerStatistic.of_noise_loss(units.add_up(clean_SEE), units.add_up(alone_SEE))
    return Loss(
        space=space,
        model=model,
        clean_ua=float(mean_recall(clean_SEE.sum(0))),
        noisy_ua=float(mean_recall(both_SEE.sum(0))),
        alone_ua=float(mean_recall(alone_SEE.sum(0))),
        loss=noise_loss(clean_SEE, both_SEE),
        alone=noise_loss(clean_SEE, alone_SEE),
        again=by_unit.interval(limit=100) if units.kind == "fold" else None,
        at_chance=reaches_chance(alone_SEE),
    )


def _claims(
    claimed: Hypothesis,
    levels: Sequence[int],
    clean: Sequence[Counts],
    alone: Sequence[Counts],
    generator: np.random.Generator,
) -> tuple[Claim, ...]:
    """Test the claim on each of its measures, which all rise along the order once a loss changes its sign."""
    measured: dict[Measure, tuple[Floats, Floats]] = {
        "ua": (_columns(alone, logit_ua), _columns(alone, mean_recall)),
        "loss": (
            _columns(alone, logit_ua) - _columns(clean, logit_ua),
            _columns(alone, mean_recall) - _columns(clean, mean_recall),
        ),
    }
    found = {measure: ordered_contrast(measured[measure][0], levels, generator) for measure in claimed.on}
    adjusted = holm([contrast.p_value for contrast in found.values()]).tolist()
    weights_K = level_weights(levels)
    return tuple(
        Claim(measure, contrast, float(measured[measure][1].mean(axis=0) @ weights_K), p)
        for (measure, contrast), p in zip(found.items(), adjusted, strict=True)
    )


def _columns(counts: Sequence[Counts], measure: Callable[[Counts], Floats]) -> Floats:
    """The measure of each model [K] in each unit, [U, K]."""
    return np.stack([measure(counts_UEE) for counts_UEE in counts], axis=1)


def papers_losses_in_order(losses: Mapping[str, float]) -> bool:
    """Whether losses fall from S over T and ST to FST, as the paper reads its own Table 4.

    Args:
        losses: in points, of each of the four models.
    """
    return all(losses[a] >= losses[b] for a, b in pairwise(BY_NOISE_LOSS))


def format_p(p_value: float) -> str:
    """A p value to two digits, and no more exact than 0.0001."""
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.2g}" if p_value < 0.1 else f"{p_value:.2f}"
