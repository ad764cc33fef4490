"""Records: objects that hold a hash of themselves, so that a reader knows whether they are as they were written.

A JSON record has the member `digest`: the SHA-256 of the canonical form of all its other members (`digests.digest`). A
checkpoint begins with the SHA-256 of its other bytes. Large objects (weights, predictions, representations) have no
hash inside: the record that belongs to them names it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sersearch.digests import digest
from sersearch.errors import InputError
from sersearch.run.storage import Storage

DIGEST = "digest"

_BYTES = hashlib.sha256().digest_size
_READ_AT_ONCE = 1 << 20


class Record(BaseModel):
    """A record's content; nothing is left out, nothing else is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = TypeVar("Kind", bound=BaseModel)


def seal(record: BaseModel) -> bytes:
    """A record as JSON, with its hash.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    content = record.model_dump(mode="json")
    return json.dumps(content | {DIGEST: digest(content)}, indent=1).encode()


def unseal(kind: type[Kind], content: bytes) -> Kind:
    """Read what `seal` wrote.

    Raises:
        ValueError: says in one line why the content is not that.
    """
    try:
        plain = json.loads(content)
        if not isinstance(plain, dict):
            raise ValueError("it is no record")
        stated = plain.pop(DIGEST, None)
        if stated != digest(plain):
            raise ValueError("its digest is not that of its content")
        return kind.model_validate(plain)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
    except (RecursionError, OverflowError):
        reason = "it is no record"
    except ValueError as error:
        reason = str(error)
    raise ValueError(" ".join(reason.split()))


def read_record(storage: Storage, name: str, kind: type[Kind], remedy: str) -> Kind | None:
    """Read a record; None where there is none.

    Args:
        storage: that holds it.
        name: of the object.
        kind: of the record.
        remedy: what to do if it is damaged, as the end of a sentence.

    Raises:
        InputError: it is damaged, or was changed by hand.
    """
    content = storage.get(name)
    if content is None:
        return None
    try:
        return unseal(kind, content)
    except ValueError as error:
        raise InputError(f"{storage.locate(name)} is damaged ({error}): {remedy}") from None


def seal_bytes(content: bytes) -> bytes:
    """Put the hash of some bytes before them."""
    return hashlib.sha256(content).digest() + content


def unseal_bytes(sealed: bytes) -> bytes | None:
    """The bytes that `seal_bytes` was given; None if they are not what was written."""
    content = sealed[_BYTES:]
    return content if hashlib.sha256(content).digest() == sealed[:_BYTES] else None


def sha256_of_object(storage: Storage, name: str) -> str | None:
    """Hash the bytes of an object; None where there is none."""
    try:
        with storage.open(name) as file:
            found = hashlib.sha256()
            while part := file.read(_READ_AT_ONCE):
                found.update(part)
            return found.hexdigest()
    except FileNotFoundError:
        return None
