"""Search spaces in the notation of Table 2.

A space is a table of ranges over the fields of a configuration. `"3:8"` is inclusive as in the paper, a list
holds choices, `{linear = [a, b]}` and `{log = [a, b]}` are intervals for samplers that can use them, and
`"M"` is the spectral dimensionality. A parameter that a model does not have (w1 where it does not convolve in time)
is no dimension of the space for that model.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from sersearch.errors import InputError, unknown
from sersearch.study.configuration import Configuration, Value, known_models, model_class, parse_configuration
from sersearch.study.configuration.base import Protocol
from sersearch.study.fold import PARTITIONS
from sersearch.study.values import (
    MOST_TRIALS,
    MOST_VALUES,
    Table,
    has_truth_value,
    plain_types,
    shown,
    takes_truth_values,
)


class Range(BaseModel):
    """The values that a parameter may take: a finite list of choices, or an interval."""

    model_config = ConfigDict(frozen=True)

    choices: tuple[Value, ...] = ()
    low: float = math.nan
    high: float = math.nan
    log: bool = False

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, given: Any) -> Any:
        if isinstance(given, Range):
            return given.model_dump()
        if isinstance(given, str) and re.fullmatch(r"\s*-?\d+\s*:\s*-?\d+\s*", given):
            return {"choices": tuple(_whole_numbers(given))}
        if isinstance(given, Mapping):
            return _interval(given)
        choices = tuple(given) if isinstance(given, list | tuple) else (given,)
        if not choices:
            raise ValueError("the list is empty; name at least one value")
        return {"choices": tuple(tuple(c) if isinstance(c, list) else c for c in choices)}

    @model_serializer
    def _as_written(self) -> Any:
        if self.finite:
            return [list(c) if isinstance(c, tuple) else c for c in self.choices]
        return {"log" if self.log else "linear": [self.low, self.high]}

    @property
    def finite(self) -> bool:
        """Whether the range is a list of choices."""
        return bool(self.choices)

    def whole(self) -> range:
        """The whole numbers of an interval."""
        return range(math.ceil(self.low), math.floor(self.high) + 1)


def _whole_numbers(given: str) -> range:
    """The numbers of a range such as "3:8"."""
    # Of longer numbers than these no range is short.
    if max(len(end.strip()) for end in given.split(":")) > len(str(-(2**63))):
        raise ValueError(f"the range {shown(given)} has numbers of more than 64 bits; write smaller ones")
    first, last = (int(end) for end in given.split(":"))
    if last < first:
        raise ValueError(f'the range "{given}" is empty; write "low:high", both inclusive')
    if last - first >= MOST_VALUES:
        raise ValueError(
            f'the range "{given}" has {last - first + 1:,} values, and a range may have {MOST_VALUES:,}: narrow it, '
            "or write {linear = [low, high]} for a sampler"
        )
    return range(first, last + 1)


def _interval(given: Mapping[str, Any]) -> dict[str, Any]:
    if set(given) not in ({"log"}, {"linear"}):
        raise ValueError(f"{dict(given)} is not a range; write {{log = [a, b]}} or {{linear = [a, b]}}")
    ((scale, ends),) = given.items()
    if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(type(e) in (int, float) for e in ends):
        raise ValueError(f"{scale} = {ends} is not an interval; write {scale} = [low, high]")
    low, high = map(float, ends)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{scale} = {ends} has no end; an interval needs two finite numbers")
    if not low < high or (scale == "log" and low <= 0):
        rule = "0 < low < high" if scale == "log" else "low < high"
        raise ValueError(f"{scale} = {ends} is empty; an interval needs {rule}")
    return {"low": low, "high": high, "log": scale == "log"}


class Top(Table):
    """Combine the k best (h1, h2) of one space with the k best (w1, w2) of another (Section 6.2).

    Attributes:
        k: how many of each. Paper: silent (decisions#top-k).
        h: name of the space whose best (h1, h2) are taken.
        w: name of the space whose best (w1, w2) are taken.
    """

    k: int = Field(3, ge=1)
    h: str
    w: str


class Space(BaseModel):
    """A named search space; every key of its table but `name` and `top` is a parameter's range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    top: Top | None = None
    ranges: dict[str, Range]

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "ranges" in given:
            return given
        own = {key: given[key] for key in ("name", "top") if key in given}
        ranges = {key: value for key, value in given.items() if key not in own}
        if isinstance(dense := ranges.get("dense"), list) and not any(isinstance(d, list) for d in dense):
            ranges["dense"] = [dense]
        return own | {"ranges": ranges}

    @field_validator("ranges", mode="before")
    @classmethod
    def _known(cls, ranges: Any) -> Any:
        parameters = {name for kind in known_models().values() for name in kind.model_fields}
        for name, values in ranges.items():
            if name not in parameters:
                raise ValueError(unknown(name, ("name", "top", *parameters)))
            kinds = [kind for kind in known_models().values() if name in kind.model_fields]
            if has_truth_value(values) and not any(takes_truth_values(kind, name) for kind in kinds):
                raise ValueError(
                    f"{name} = {shown(values)} was given, but {name} is neither true nor false: list its values"
                )
        if "model" not in ranges:
            raise ValueError('model is missing; name one, as in model = "FST-CLDNN"')
        return ranges

    @model_validator(mode="after")
    def _applies(self) -> Self:
        models = [str(model) for model in self.ranges["model"].choices]
        if not models:
            raise ValueError("model is not a number, so it has no interval: list its values")
        kinds = {model: model_class(model) for model in models}
        strangers = [model for model in models if kinds[model] is not kinds[models[0]]]
        if strangers:
            raise ValueError(
                f"{models[0]} and {strangers[0]} have different parameters: give {strangers[0]} a space of its own"
            )
        kind = kinds[models[0]]
        for name, found in self.ranges.items():
            if name not in kind.model_fields:
                raise ValueError(f"{name} is not a parameter of {', '.join(models)}: leave it out")
            if not found.finite and number_type(kind, name) is None:
                raise ValueError(f"{name} is not a number, so it has no interval: list its values")
            if not found.finite and self.is_whole(name) and max(abs(found.low), abs(found.high)) >= 2**53:
                raise ValueError(f"{name} is a whole number, and its interval goes beyond 2^53: narrow it")
            if not found.finite and self.is_whole(name) and not found.whole():
                raise ValueError(f"{name} is a whole number, and there is none from {found.low} to {found.high}")
        kind.check_ranges(models, self.ranges)
        return self

    @property
    def kind(self) -> type[Configuration]:
        """The class that configures the space's models."""
        return model_class(self.ranges["model"].choices[0])

    @property
    def switches(self) -> tuple[str, ...]:
        """The parameters whose values decide which other parameters are dimensions of the space."""
        return tuple(name for name in self.kind.switches if name in self.ranges)

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """The protocols of folds that the space's configurations are trained under."""
        if "protocol" in self.ranges:
            return cast(tuple[Protocol, ...], self.ranges["protocol"].choices)
        return ("partition",)

    def is_whole(self, name: str) -> bool:
        """Whether a parameter is a whole number."""
        return number_type(self.kind, name) is int

    @property
    def finite(self) -> bool:
        """Whether every range is a list, so that a grid can exhaust the space."""
        return all(found.finite for found in self.ranges.values())

    def combinations(self, settings: Mapping[str, Value]) -> int:
        """How many leaves a countable space has; several may be the same configuration."""
        return sum(
            math.prod(len(found.choices or found.whole()) for found in free.values())
            for _, free in self.conditions(settings)
        )

    @property
    def countable(self) -> bool:
        """Whether the space can be enumerated: its ranges are lists, or intervals of whole numbers."""
        return all(found.finite or self.is_whole(name) for name, found in self.ranges.items())

    def conditions(self, settings: Mapping[str, Value]) -> Iterator[tuple[dict[str, Value], dict[str, Range]]]:
        """For each combination of the switches: the fixed values, and the ranges that are dimensions there."""
        kind, switches = self.kind, self.switches
        given = {name: value for name, value in settings.items() if name in kind.model_fields}
        for chosen in itertools.product(*(self.ranges[name].choices for name in switches)):
            switched = kind.defaults_of_switches() | dict(zip(switches, chosen, strict=True))
            no_dimension = {*switches, *kind.absent(switched, self.ranges)}
            dimensions = {name: found for name, found in self.ranges.items() if name not in no_dimension}
            yield {**given, **switched}, dimensions

    def leaves(self, settings: Mapping[str, Value]) -> Iterator[dict[str, Value]]:
        """Every combination of a countable space's values under each of its conditions; the last range varies fastest.

        Args:
            settings: values of the parameters that the space does not name.
        """
        for fixed, free in self.conditions(settings):
            values = (found.choices or found.whole() for found in free.values())
            for chosen in itertools.product(*values):
                yield {**fixed, **dict(zip(free, chosen, strict=True))}

    def enumerate(self, settings: Mapping[str, Value]) -> Iterator[Configuration]:
        """Every configuration of a finite space exactly once, feasible or not; the last range varies fastest.

        Args:
            settings: values of the parameters that the space does not name.

        Raises:
            InputError: a value that its parameter can't take, or more combinations than can be enumerated.
        """
        assert self.finite
        combinations = self.combinations(settings)
        if combinations > MOST_TRIALS:
            raise InputError(
                f"space {self.name}: its ranges have {combinations:,} combinations, and a grid may have "
                f'{MOST_TRIALS:,}: narrow them, or let a sampler draw: [search] sampler = "tpe", trials = 100'
            )
        seen = set()
        for leaf in self.leaves(settings):
            made = configure(self.name, leaf)
            if made not in seen:
                seen.add(made)
                yield made


def configure(space: str, values: Mapping[str, Value]) -> Configuration:
    """Build a configuration from a space's values, symbols such as "M" replaced by numbers.

    Raises:
        InputError: naming the space, the parameter and the rule.
    """
    try:
        return parse_configuration(model_class(values["model"]).resolve(values))
    except ValidationError as error:
        raise InputError(f"space {space}: {explain(error)}") from None


def number_type(kind: type[Configuration], name: str) -> type[int] | type[float] | None:
    """Int or float where a field of a configuration is a number, None where it is anything else."""
    types = set(plain_types(kind.model_fields[name].annotation))
    for number in (float, int):
        if number in types:
            return number
    return None


def explain(error: ValidationError) -> str:
    """A validation error as one line: where, what was given, the rule."""
    first = error.errors(include_url=False)[0]
    # The model's name, which tells the members of the union apart, is no place in what a person wrote.
    unwritten = ("ranges", *known_models(), *(kind.__name__ for kind in PARTITIONS))
    where = ".".join(str(step) for step in first["loc"] if step not in unwritten)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] not in ("value_error", "missing", "extra_forbidden"):
        message = f"{shown(first['input'])} was given: {message[0].lower()}{message[1:]}"
    return f"{where}: {message}" if where else message
