"""Changes to a study's settings on the command line: `--set training.epochs=5`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sersearch.errors import InputError, unknown
from sersearch.study.reference import setting_paths
from sersearch.study.study import Study, load_study, parse_study, read_study

IN_THE_FILE = ("spaces", "store", "systems")
"""Keys that are not changed: paths in them are relative to the study's file, and a store has an option of its own."""


def load_changed_study(path: Path, changes: Sequence[str]) -> Study:
    """Read a study and change some of its settings.

    Args:
        path: a file, or the name of a study that comes with the package.
        changes: each PATH=VALUE, as in `training.epochs=5`. A value is TOML; what is not TOML is text, so that
            `search.sampler=tpe` needs no quotes.

    Raises:
        InputError: the study is wrong, a path is unknown or given twice, or a value is not as it should be.
    """
    study = load_study(path)
    if not changes:
        return study
    table = read_study(path)
    # The study is loaded by now, and with it the systems whose settings may be changed.
    valid = [name for name in setting_paths() if name not in IN_THE_FILE]
    changed: set[str] = set()
    for change in changes:
        name, separator, text = (part.strip() for part in change.partition("="))
        if not (name and separator and text):
            raise InputError(f"--set {change}: write PATH=VALUE, as in --set training.epochs=5")
        if name in IN_THE_FILE:
            option = " or give --store" if name == "store" else ""
            raise InputError(f"--set {change}: {name} can't be changed here; write it in the study's file{option}")
        if name not in valid:
            raise InputError(f"--set {change}: {unknown(name, valid)}")
        if name in changed:
            raise InputError(f"--set {change}: {name} was given twice; keep one of them")
        changed.add(name)
        _change(table, name, parse_value(text))
    given = " ".join(f"--set {change}" for change in changes)
    try:
        return parse_study(table, given)
    except InputError as error:
        # What is wrong with a space is said without its source.
        raise InputError(f"{given}: {str(error).removeprefix(f'{given}: ')}") from None


def parse_value(text: str) -> Any:
    """Read a value as TOML, and as text where it is none.

    Example:
        >>> parse_value("5"), parse_value("[64, 32]"), parse_value("tpe"), parse_value('"tpe"')
        (5, [64, 32], 'tpe', 'tpe')
    """
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _change(table: dict[str, Any], path: str, value: Any) -> None:
    *above, name = path.split(".")
    for key in above:
        table = table.setdefault(key, {})
    table[name] = value
