"""Search spaces in the notation of Table 2.

A space is a table of ranges over the fields of a `Configuration`. `"3:8"` is inclusive as in the paper, a list
holds choices, `{linear = [a, b]}` and `{log = [a, b]}` are intervals for samplers that can use them, and
`"M"` is the spectral dimensionality. A parameter that a model does not have (w1 where it does not convolve in time)
is no dimension of the space for that model.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from sersearch.errors import InputError
from sersearch.study.configuration import (
    Configuration,
    SVMConfiguration,
    System,
    fields,
    fixed_kernels,
    parse_configuration,
    unused,
)

Value = int | float | str | tuple[int, ...]

_FIELDS = Configuration.model_fields | SVMConfiguration.model_fields
PARAMETERS = tuple(_FIELDS)
KERNELS = ("h1", "w1", "h2", "w2")
WHOLE = (*KERNELS, *(name for name, field in _FIELDS.items() if isinstance(field.default, int)))
REAL = tuple(name for name, field in _FIELDS.items() if isinstance(field.default, float))

SWITCHES = ("model", "features", "kernel")
"""Parameters whose values decide which others there are."""


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
            first, last = (int(end) for end in given.split(":"))
            if last < first:
                raise ValueError(f'the range "{given}" is empty; write "low:high", both inclusive')
            return {"choices": tuple(range(first, last + 1))}
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


def _interval(given: Mapping[str, Any]) -> dict[str, Any]:
    if set(given) not in ({"log"}, {"linear"}):
        raise ValueError(f"{dict(given)} is no range; write {{log = [a, b]}} or {{linear = [a, b]}}")
    ((scale, ends),) = given.items()
    if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(isinstance(e, int | float) for e in ends):
        raise ValueError(f"{scale} = {ends} is no interval; write {scale} = [low, high]")
    low, high = map(float, ends)
    if not low < high or (scale == "log" and low <= 0):
        rule = "0 < low < high" if scale == "log" else "low < high"
        raise ValueError(f"{scale} = {ends} is empty; an interval needs {rule}")
    return {"low": low, "high": high, "log": scale == "log"}


class Top(BaseModel):
    """Combine the k best (h1, h2) of one space with the k best (w1, w2) of another (Section 6.2)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(3, ge=1)
    h: str
    w: str


class Space(BaseModel):
    """A named search space; every key of its table but `name` and `top` is a parameter's range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
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
        for name in ranges:
            if name not in PARAMETERS:
                raise ValueError(unknown(name, ("name", "top", *PARAMETERS)))
        if "model" not in ranges:
            raise ValueError('model is missing; name one, as in model = "FST-CLDNN"')
        return ranges

    @model_validator(mode="after")
    def _applies(self) -> Self:
        for name, found in self.ranges.items():
            if not found.finite and name not in (*WHOLE, *REAL):
                raise ValueError(f"{name} is no number, so no interval: list its values")
            if not found.finite and name in WHOLE and not found.whole():
                raise ValueError(f"{name} is a whole number, and there is none from {found.low} to {found.high}")
        models = [str(model) for model in self.ranges["model"].choices]
        if "SVM" in models and len(models) > 1:
            raise ValueError(f"SVM stands beside {', '.join(set(models) - {'SVM'})}: give it a space of its own")
        if models == ["SVM"] and "features" not in self.ranges:
            raise ValueError('features is missing; an SVM needs sets of functionals, as in features = ["IS09", "IS13"]')
        for name in self.ranges:
            if name not in fields(models[0]):
                raise ValueError(f"{name} is no parameter of {', '.join(models)}: leave it out")
            if name in KERNELS and not any(_applicable(name, self.ranges[name], model) for model in models):
                raise ValueError(f"{name} is no free parameter of {', '.join(models)} (Table 1): leave it out")
        return self

    @property
    def finite(self) -> bool:
        """Whether every range is a list, so that a grid can exhaust the space."""
        return all(found.finite for found in self.ranges.values())

    @property
    def countable(self) -> bool:
        """Whether the space can be enumerated: its ranges are lists, or intervals of whole numbers."""
        return all(found.finite or name in WHOLE for name, found in self.ranges.items())

    def conditions(self, settings: Mapping[str, Value]) -> Iterator[tuple[dict[str, Value], dict[str, Range]]]:
        """For each model, features and kernel: the fixed values, and the ranges that are dimensions there."""
        switches = [name for name in SWITCHES if name in self.ranges]
        for chosen in itertools.product(*(self.ranges[name].choices for name in switches)):
            switched = dict(zip(switches, chosen, strict=True))
            model = switched["model"]
            given = {name: value for name, value in settings.items() if name in fields(model)}
            absent = {*switches}
            if model == "SVM":
                absent |= {*unused(switched.get("kernel", "linear"))}
            else:
                switched.setdefault("features", "log-mels")
                absent |= {name for name in KERNELS if not self._free(name, str(model))}
                absent |= {"cepstra"} if switched["features"] != "mfccs" else set()
            yield {**given, **switched}, {name: found for name, found in self.ranges.items() if name not in absent}

    def _free(self, name: str, model: str) -> bool:
        return name in self.ranges and _applicable(name, self.ranges[name], model)

    def leaves(self, settings: Mapping[str, Value]) -> Iterator[dict[str, Value]]:
        """Every combination of a countable space's values under each of its conditions; the last range varies fastest.

        Args:
            settings: values of the parameters that the space does not name.
        """
        for fixed, free in self.conditions(settings):
            values = (found.choices or found.whole() for found in free.values())
            for chosen in itertools.product(*values):
                yield {**fixed, **dict(zip(free, chosen, strict=True))}

    def enumerate(self, settings: Mapping[str, Value]) -> Iterator[System]:
        """Every configuration of a finite space exactly once, feasible or not; the last range varies fastest.

        Args:
            settings: values of the parameters that the space does not name.

        Raises:
            InputError: a value that its parameter can't take.
        """
        assert self.finite
        seen = set()
        for leaf in self.leaves(settings):
            made = configure(self.name, leaf)
            if made not in seen:
                seen.add(made)
                yield made


def configure(space: str, values: Mapping[str, Value]) -> System:
    """Build a configuration from a space's values, `"M"` replaced by the spectral dimensionality.

    Raises:
        InputError: naming the space, the parameter and the rule.
    """
    given = dict(values)
    defaults = {name: Configuration.model_fields[name].default for name in ("bands", "cepstra")}
    rows = (defaults | given)["cepstra" if given.get("features") == "mfccs" else "bands"]
    for name in ("h1", "h2"):
        if given.get(name) == "M":
            given[name] = rows
    try:
        return parse_configuration(given)
    except ValidationError as error:
        raise InputError(f"space {space}: {explain(error)}") from None


def _applicable(name: str, found: Range, model: str) -> bool:
    """Whether a kernel's size is a dimension of a model, or given just as the model fixes it."""
    fixed = fixed_kernels(model, None)
    if name not in fixed:
        return True
    return found.choices == ("M" if (model, name) == ("FST-CLDNN", "h1") else fixed[name],)


def unknown(name: str, valid: Collection[str]) -> str:
    """One line about a key that is not known, with the nearest valid one."""
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"valid keys are {', '.join(sorted(valid))}"
    return f"unknown key {name}; {hint}"


def explain(error: ValidationError) -> str:
    """A validation error as one line: where, what was given, the rule."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(step) for step in first["loc"] if step != "ranges")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] not in ("value_error", "missing", "extra_forbidden"):
        message = f"{first['input']!r} was given: {message[0].lower()}{message[1:]}"
    return f"{where}: {message}" if where else message
