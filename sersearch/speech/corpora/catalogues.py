"""Catalogues of what is distributed in a known layout: a folder of TOML files, each with a pattern for paths."""

import re
from functools import cache
from importlib.resources import files
from tomllib import loads
from typing import TypeVar

from pydantic import BaseModel

Entry = TypeVar("Entry", bound=BaseModel)


def read_catalogue(folder: str, kind: type[Entry]) -> dict[str, Entry]:
    """Read the entries of a catalogue, sorted by name.

    Args:
        folder: name of the folder beside this module.
        kind: model of an entry.
    """
    entries: dict[str, Entry] = {}
    for file in sorted(files(__package__).joinpath(folder).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            entries[file.name.removesuffix(".toml")] = kind.model_validate(loads(file.read_text(encoding="utf-8")))
    return entries


def match_end(pattern: str, path: str) -> re.Match[str] | None:
    """Match the end of a path without suffix, from the beginning of a name; the group `id_` is what was matched."""
    return _compiled(pattern).fullmatch(path)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:.*/)?(?P<id_>{pattern})")
