"""A space's ranges as Optuna's distributions; what a model, its features or its kernel don't have is no dimension."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sersearch.study.configuration import Configuration, Value
from sersearch.study.space import Range, Space


def draw(trial: optuna.Trial, space: Space, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Have a trial choose model, features and kernel, and then a value of each range that is a dimension for them.

    Args:
        trial: asked for, not told.
        space: any.
        settings: values of the parameters that the space does not name.

    Returns:
        The values of one leaf of the space, settings included.
    """
    chosen = {name: _draw(trial, name, space) for name in space.switches}
    fixed, free = next(each for each in space.conditions(settings) if chosen.items() <= each[0].items())
    return {**fixed, **{name: _draw(trial, name, space) for name in free}}


def parameters(configuration: Configuration, space: Space) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """A configuration of a space as Optuna's parameters, and their distributions."""
    chosen = {name: getattr(configuration, name) for name in space.switches}
    _, free = next(each for each in space.conditions({}) if chosen.items() <= each[0].items())
    given = {name: space.ranges[name] for name in chosen} | free
    dimensions = {name: found for name, found in given.items() if len(found.choices) != 1}
    distributions = {name: distribution(found, space.is_whole(name)) for name, found in dimensions.items()}
    values = {name: label(_written(name, found, configuration)) for name, found in dimensions.items()}
    return values, distributions


def distribution(found: Range, whole: bool) -> BaseDistribution:
    """An interval as such, evenly spaced whole numbers as an interval with a step, other choices as categories."""
    if not found.finite:
        if whole:
            return IntDistribution(found.whole()[0], found.whole()[-1], log=found.log)
        return FloatDistribution(found.low, found.high, log=found.log)
    numbers = [choice for choice in found.choices if isinstance(choice, int)]
    steps = {after - before for before, after in pairwise(numbers)}
    if len(numbers) == len(found.choices) and len(steps) == 1 and min(steps) > 0:
        return IntDistribution(numbers[0], numbers[-1], step=steps.pop())
    return CategoricalDistribution(list(dict.fromkeys(map(label, found.choices))))


def label(value: Value) -> int | float | str:
    """A value as Optuna can store it: widths of dense layers as "128-32-32"."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else value


def _draw(trial: optuna.Trial, name: str, space: Space) -> Value:
    found = space.ranges[name]
    if len(found.choices) == 1:
        return found.choices[0]
    match distribution(found, space.is_whole(name)):
        case IntDistribution() as whole:
            return trial.suggest_int(name, whole.low, whole.high, step=whole.step, log=whole.log)
        case FloatDistribution() as real:
            return trial.suggest_float(name, real.low, real.high, log=real.log)
        case CategoricalDistribution() as categories:
            chosen = trial.suggest_categorical(name, categories.choices)
            return next(choice for choice in found.choices if label(choice) == chosen)
    raise AssertionError(name)


def _written(name: str, found: Range, configuration: Configuration) -> Value:
    """A configuration's value as the space writes it, for "M" stands for the number of rows."""
    value: Value = getattr(configuration, name)
    if value not in found.choices and "M" in found.choices:
        return "M"
    return value
