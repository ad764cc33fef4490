"""Keys: a hash of what a record depends on, stable under settings that are added later.

Only a field whose value differs from its default is hashed, so a new setting whose default computes what was computed
before leaves every existing key alone. A field for which that rule is wrong declares another one beside itself:

    test: Annotated[tuple[str, ...], KeyRule.NEVER] = ()
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sersearch.digests import short_digest

KEY_SCHEME = 2
"""Version of the rules on this page; it is part of every key."""


class KeyRule(Enum):
    """When a field's value becomes part of the key."""

    WHERE_IT_DIFFERS = "where it differs from the default; the rule of every field that declares none"
    NEVER = "never: no number of a trial depends on the field"


def key_of(record: BaseModel) -> str:
    """Hash a record: the first 16 hexadecimal digits of a SHA-256."""
    return short_digest({"scheme": KEY_SCHEME, **key_content(record)})


def key_content(record: BaseModel) -> dict[str, Any]:
    """The part of a record that its key depends on, as plain JSON; nested records follow their own rules."""
    plain = record.model_dump(mode="json")
    content: dict[str, Any] = {}
    for name, field in type(record).model_fields.items():
        if _rule(field) is KeyRule.NEVER:
            continue
        value = getattr(record, name)
        if isinstance(value, BaseModel):
            content[name] = key_content(value)
        elif field.is_required() or value != field.get_default(call_default_factory=True):
            content[name] = plain[name]
    return content


def _rule(field: FieldInfo) -> KeyRule:
    declared = [item for item in field.metadata if isinstance(item, KeyRule)]
    return declared[0] if declared else KeyRule.WHERE_IT_DIFFERS
