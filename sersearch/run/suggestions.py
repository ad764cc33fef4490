"""The record of what samplers have drawn: RUN/suggestions.jsonl, one line a configuration.

Who writes: the driver of a search alone, before it hands a configuration out. It draws anew from the seed whenever it
starts and writes only what the record lacks. Who reads: whoever must know a study's trials without Optuna. A line
counts for the search that it was drawn by (space, seeds, sampler, objective; not the number of trials), and takes the
place of those from its number on: after a change of the study, or of Optuna, what is drawn now is what counts. What a
reader may find half done: a torn last line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sersearch import durable
from sersearch.digests import short_digest
from sersearch.errors import InputError
from sersearch.study.configuration import System, parse_configuration
from sersearch.study.space import Space
from sersearch.study.study import Study


class Suggestions:
    """The configurations drawn of each space by the study's search, in order.

    Attributes:
        drawn: by name of the space.
    """

    def __init__(self, file: Path, study: Study) -> None:
        """Read the record, if there is one; nothing is written.

        Raises:
            InputError: a line that a crash can't have torn is damaged.
        """
        self._file = file
        self._searches = {space.name: _identity(space, study) for space in study.spaces}
        self.drawn: dict[str, list[System]] = {space.name: [] for space in study.spaces}
        self._whole = 0
        content = file.read_bytes() if file.exists() else b""
        for line in content.splitlines(keepends=True):
            if line.endswith(b"\n"):
                self._whole += len(line)
                self._read(line)

    def add(self, space: str, number: int, configuration: System) -> None:
        """Record the configuration that was drawn of a space after `number` others; lasting when this returns."""
        if self.drawn[space][number : number + 1] == [configuration]:
            return
        entry = {
            "space": space,
            "search": self._searches[space],
            "number": number,
            "configuration": configuration.canonical(),
        }
        self._append(json.dumps(entry).encode() + b"\n")
        self._enter(entry)

    def _append(self, line: bytes) -> None:
        created = not self._file.exists()
        with self._file.open("r+b" if not created else "xb") as file:
            file.truncate(self._whole)
            file.seek(self._whole)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._whole += len(line)
        if created:
            durable.sync(self._file.parent)

    def _read(self, line: bytes) -> None:
        try:
            self._enter(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self._file} is damaged ({type(error).__name__}): delete it, and a resumed search writes it again"
            ) from None

    def _enter(self, entry: Mapping[str, Any]) -> None:
        if self._searches.get(entry["space"]) == entry["search"]:
            drawn = self.drawn[entry["space"]]
            del drawn[entry["number"] :]
            drawn.append(parse_configuration(entry["configuration"]))


def _identity(space: Space, study: Study) -> str:
    """What decides the sequence of configurations, the outcomes aside."""
    search = study.search.model_dump(mode="json", exclude={"trials"})
    return short_digest([space.model_dump(mode="json"), study.settings, study.seeds, search])
