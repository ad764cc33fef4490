"""The command `sersearch functionals`, and the files that it writes."""

import csv
from collections.abc import Iterable
from pathlib import Path

from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.digests import sha256_of
from sersearch.errors import InputError


def says(*words: object) -> str:
    done = CliRunner().invoke(app, ["functionals", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*words: object) -> str:
    done = CliRunner().invoke(app, ["functionals", *map(str, words)])
    assert isinstance(done.exception, InputError), done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


def sets_of(store: Path) -> dict[str, str]:
    """Every byte below vectors/, hashed."""
    folder = store / "vectors"
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def write_csv(file: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([header, *rows])
    return file
