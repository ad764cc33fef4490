"""Express the ranges of a search space as Optuna's distributions.

A parameter is a dimension only where it applies: what the chosen model, features or kernel does not have is left out,
so that a sampler does not learn from values without an effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sersearch.study.configuration import Configuration, Value
from sersearch.study.space import Range, Space


def suggest_values(trial: optuna.Trial, space: Space, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Let an Optuna trial suggest a value for each parameter of a space that applies.

    The model, the features and the kernel are suggested first. They decide which other parameters apply.

    Args:
        trial: a trial that was asked for and not yet told.
        space: the space to draw from.
        settings: values of the parameters that the space does not name.

    Returns:
        The values of one configuration by parameter, settings included.
    """
    switches = {name: _suggest(trial, name, space) for name in space.switches}
    fixed, free = _applicable(space, settings, switches)
    suggested = {name: _suggest(trial, name, space) for name in free}
    return {**fixed, **suggested}


def optuna_parameters(configuration: Configuration, space: Space) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Express a configuration of a space as Optuna's parameters.

    Args:
        configuration: a configuration that the space contains.
        space: the space that the configuration was drawn from.

    Returns:
        The parameters' values and their distributions, by name. Parameters with a single choice are left out.
    """
    switches = {name: getattr(configuration, name) for name in space.switches}
    _, free = _applicable(space, {}, switches)
    applicable = {name: space.ranges[name] for name in switches} | free
    dimensions = {name: choices for name, choices in applicable.items() if len(choices.choices) != 1}
    distributions = {name: distribution(choices, space.is_whole(name)) for name, choices in dimensions.items()}
    values = {name: optuna_value(_value_in_space(name, space, configuration)) for name in dimensions}
    return values, distributions


def distribution(choices: Range, is_whole: bool) -> BaseDistribution:
    """Choose the distribution that fits the range of a parameter, whose values may be integers (`is_whole`).

    An interval stays an interval. Evenly spaced integers become an interval with a step, so that samplers can use their
    order. All other choices become categories.
    """
    if not choices.finite:
        if is_whole:
            return IntDistribution(choices.whole()[0], choices.whole()[-1], log=choices.log)
        return FloatDistribution(choices.low, choices.high, log=choices.log)
    integers = [choice for choice in choices.choices if isinstance(choice, int)]
    steps = {after - before for before, after in pairwise(integers)}
    if len(integers) == len(choices.choices) and len(steps) == 1 and min(steps) > 0:
        return IntDistribution(integers[0], integers[-1], step=steps.pop())
    return CategoricalDistribution(list(dict.fromkeys(map(optuna_value, choices.choices))))


def optuna_value(value: Value) -> int | float | str:
    """Convert a value to a type that Optuna can store: widths of dense layers become text such as "128-32-32"."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else value


def _applicable(
    space: Space, settings: Mapping[str, Value], switches: Mapping[str, Value]
) -> tuple[dict[str, Value], dict[str, Range]]:
    """Find the fixed values and the ranges that apply for a model, features and kernel."""
    for fixed, free in space.conditions(settings):
        if switches.items() <= fixed.items():
            return fixed, free
    raise AssertionError(f"{space.name} has no condition {switches}")


def _suggest(trial: optuna.Trial, name: str, space: Space) -> Value:
    choices = space.ranges[name]
    if len(choices.choices) == 1:
        return choices.choices[0]
    match distribution(choices, space.is_whole(name)):
        case IntDistribution() as integers:
            return trial.suggest_int(name, integers.low, integers.high, step=integers.step, log=integers.log)
        case FloatDistribution() as reals:
            return trial.suggest_float(name, reals.low, reals.high, log=reals.log)
        case CategoricalDistribution() as categories:
            suggested = trial.suggest_categorical(name, categories.choices)
            return next(choice for choice in choices.choices if optuna_value(choice) == suggested)
    raise AssertionError(name)


def _value_in_space(name: str, space: Space, configuration: Configuration) -> Value:
    """Look up a configuration's value as the space writes it: a configuration has a number where the space has "M"."""
    choices = space.ranges[name].choices
    value: Value = getattr(configuration, name)
    if value not in choices and "M" in choices:
        return "M"
    return value
