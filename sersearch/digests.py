"""Hashes of files and of plain data: SHA-256, as hexadecimal digits."""

import hashlib
import json
from pathlib import Path
from typing import Any

_SHORT = 16


def sha256_of(path: Path) -> str:
    """Hash the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: Any) -> str:
    """Hash what JSON can hold, by its canonical form: sorted keys, no white space, ASCII only.

    Raises:
        TypeError: JSON can't hold the content.
        ValueError: the content holds NaN or infinity.
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def short_digest(content: Any) -> str:
    """Return the first 16 digits of `digest`: 64 bits, enough to tell apart what one person makes."""
    return digest(content)[:_SHORT]
