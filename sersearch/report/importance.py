"""How much of the differences between a space's configurations one setting explains alone.

The importance of a setting is its main effect: the variance of the mean validation UA per value of the setting, as a
share of the variance of validation UA over all configurations (eta squared of a one-way analysis of variance). On a
full grid it is the main effect of a functional ANOVA (Hutter, Hoos & Leyton-Brown 2014), which Optuna estimates by a
random forest. What is missing to 100 % are interactions and the luck of training.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sersearch.evaluation.leaderboard import Candidates
from sersearch.report.facts import varying
from sersearch.study.conditions import Condition

FEWEST_CONFIGURATIONS = 4
"""Fewer configurations say nothing about the settings' importance."""

MOST_VALUES = 6
"""Numbers with more distinct values are put into as many bins, equally full."""


def main_effects(candidates: Candidates, condition: Condition) -> dict[str, float] | None:
    """The share in per cent of the variance of validation UA that each setting that varies explains alone.

    Returns:
        Per setting, the largest share first; None if only one setting varies, for fewer than four configurations, or
        if all have the same UA.
    """
    configurations, names = list(candidates.results), varying(candidates)
    if len(configurations) < FEWEST_CONFIGURATIONS or len(names) < 2:
        return None
    ua_C = np.array([candidates.ua(configuration, condition) for configuration in configurations])
    if np.ptp(ua_C) == 0:
        return None
    records = [configuration.record() for configuration in configurations]
    shares = {name: 100 * explained_share(ua_C, [record[name] for record in records]) for name in names}
    return {name: round(share, 1) for name, share in sorted(shares.items(), key=lambda item: -item[1])}


def explained_share(value_N: NDArray[np.float64], setting_N: Sequence[Any]) -> float:
    """Variance of the group means over the variance of all values; values that differ must not all be equal.

    Example:
        >>> explained_share(np.array([1.0, 1.0, 5.0, 5.0]), ["a", "a", "b", "b"])
        1.0
        >>> explained_share(np.array([1.0, 5.0, 1.0, 5.0]), ["a", "a", "b", "b"])
        0.0
    """
    groups: dict[Hashable, list[float]] = {}
    for group, value in zip(_groups(setting_N), value_N.tolist(), strict=True):
        groups.setdefault(group, []).append(value)
    mean = float(value_N.mean())
    between = sum(len(values) * (float(np.mean(values)) - mean) ** 2 for values in groups.values())
    return float(between / ((value_N - mean) ** 2).sum())


def _groups(setting_N: Sequence[Any]) -> list[Hashable]:
    """The group of each value: the value itself, or the bin of a number that has many."""
    numbers = all(isinstance(value, int | float) for value in setting_N)
    if not numbers or len(set(setting_N)) <= MOST_VALUES:
        return [repr(value) for value in setting_N]
    number_N = np.array(setting_N, np.float64)
    edges = np.quantile(number_N, np.arange(1, MOST_VALUES) / MOST_VALUES)
    return list(np.searchsorted(edges, number_N, side="right").tolist())
