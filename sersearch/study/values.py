"""What values a study may hold, whatever their key: TOML allows far more than any search can use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator

MOST_BYTES = 1_000_000
"""How long a file of TOML may be."""

MOST_NESTED = 10
"""How deep lists and tables may be nested in each other."""

MOST_VALUES = 10_000
"""How many values a list, a table or a range may have."""

MOST_TRIALS = 100_000
"""How many trials a study may have, and how many combinations of values a space that is enumerated."""

LONGEST_TEXT = 1_000
"""How many characters a text may have."""

SHOWN = 80
"""How many characters of a value an error shows."""


class Table(BaseModel):
    """A table of a study or of a record: no keys but its own, finite numbers, and no truth value for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_values(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            for name, value in given.items():
                if name in cls.model_fields and has_truth_value(value) and not takes_truth_values(cls, name):
                    raise ValueError(
                        f"{name} = {shown(value)} was given, but {name} is neither true nor false: write its value"
                    )
        return given


def has_truth_value(value: Any) -> bool:
    """Whether a value is true or false, or a list that holds one."""
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(has_truth_value, value)))


def takes_truth_values(table: type[BaseModel], name: str) -> bool:
    """Whether a field of a table may be true or false."""
    types = set(plain_types(table.model_fields[name].annotation))
    return bool in types or Any in types


def plain_types(annotation: Any) -> Iterator[Any]:
    """The types of an annotation: of `Annotated[int, ...] | None`, int and NoneType."""
    if get_origin(annotation) is Annotated:
        yield from plain_types(get_args(annotation)[0])
    elif get_origin(annotation) is not None and get_origin(annotation) is not tuple:
        for part in get_args(annotation):
            yield from plain_types(part)
    else:
        yield annotation


def shown(value: Any) -> str:
    """A value as an error shows it: as Python writes it, and no longer than `SHOWN` characters."""
    # No more than the beginning of a long list is written, because that would take as long as the list.
    text = repr(value[:SHOWN] if isinstance(value, list | tuple | str) else value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def fault(value: Any, nested: int = 0) -> str:
    """Say what no key of a study can take in a value; "" if there is nothing of the kind."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} was given; write a finite number"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number of more than 64 bits was given; write a smaller one"
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"a text of {len(value):,} characters was given; write at most {LONGEST_TEXT:,}"
    if isinstance(value, str) and "\0" in value:
        return f"{shown(value)} has a NUL character; leave it out"
    if not isinstance(value, list | dict):
        return ""
    if nested == MOST_NESTED:
        return f"lists and tables are nested more than {MOST_NESTED} deep; write each value in one list"
    if len(value) > MOST_VALUES:
        return f"a list or table of {len(value):,} values was given; write at most {MOST_VALUES:,}"
    items = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    for name, item in items:
        # Keys are texts, too.
        found = fault(name) or fault(item, nested + 1)
        if found:
            where = name if isinstance(name, str) and not fault(name) else ""
            return f"{where}: {found}" if where else found
    return ""
