"""What can happen to a file, and what a command answers then."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError

Attack = Callable[[Path, Path | None], None]
"""Damages a file; the second path is another file of the same kind, if there is one."""


def empty(path: Path, other: Path | None) -> None:
    """A file whose content was never written."""
    path.write_bytes(b"")


def tear(path: Path, other: Path | None) -> None:
    """A file of which a half was written."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, other: Path | None) -> None:
    """A file with one flipped bit, in a digit if it is a text."""
    content = bytearray(path.read_bytes())
    digits = [at for at, byte in enumerate(content) if chr(byte).isdigit()] if path.suffix.startswith(".json") else []
    at = digits[len(digits) // 2] if digits else len(content) // 2
    content[at] ^= 1
    path.write_bytes(bytes(content))


def swap(path: Path, other: Path | None) -> None:
    """A file in whose place another of its kind lies."""
    assert other is not None
    assert other.read_bytes() != path.read_bytes()
    path.write_bytes(other.read_bytes())


def edit(path: Path, other: Path | None) -> None:
    """A file that somebody edited: its first number that is no key is another one."""
    if path.suffix.startswith(".json"):
        content = path.read_text()
        plain = json.loads(content.splitlines()[0] if path.suffix == ".jsonl" else content)
        value = next(value for name, value in _leaves(plain) if name != "digest")
        before, after = json.dumps(value), json.dumps(f"{value}0" if isinstance(value, str) else value + 1)
        path.write_text(content.replace(before, after, 1))
    else:
        path.write_bytes(path.read_bytes()[:-8] + b"\x00" * 8)


def _leaves(plain: object, name: str = "") -> list[tuple[str, str | int | float]]:
    if isinstance(plain, dict):
        return [leaf for key, value in plain.items() for leaf in _leaves(value, key)]
    if isinstance(plain, list):
        return [leaf for value in plain for leaf in _leaves(value, name)]
    return [(name, plain)] if isinstance(plain, str | int | float) and plain not in ("", True, False) else []


ATTACKS: Mapping[str, Attack] = {"empty": empty, "torn": tear, "flipped": flip, "another's": swap, "edited": edit}


def answer(*words: object, home: Path) -> tuple[str, str]:
    """What a command answers: "done", "failed" (exit code 1) or "refused" (one line, exit code 2), and what it says.

    A traceback is an error of the test. The folder `home` and the seconds of epochs are left out of what is said.
    """
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, InputError):
        return refusal(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    said = re.sub(r"\d+\.\d s\b", "SECONDS", done.output.replace(str(home), "HOME"))
    return {0: "done", 1: "failed"}[done.exit_code], said


def refusal(error: InputError) -> tuple[str, str]:
    """The answer of a command that refuses: one line."""
    said = str(error)
    assert "\n" not in said, said
    return "refused", said
