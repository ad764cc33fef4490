"""The record of what samplers have drawn: one object per configuration, RUN/suggestions/SEARCH/NUMBER.json.

Who writes: the driver of a search alone, before it hands a configuration out. It draws anew from the seed whenever it
starts and writes only what the record lacks. Who reads: whoever must know a study's trials without Optuna. SEARCH is a
hash of the search that drew them (space, seeds, sampler, objective; not the number of trials), so a study that changed
has a record of its own. A configuration that differs from the one on record (after a change of Optuna) takes its place
and that of all later ones.
"""

from __future__ import annotations

import json

from pydantic import ValidationError

from sersearch.digests import short_digest
from sersearch.errors import InputError
from sersearch.run.storage import Storage
from sersearch.study.configuration import Configuration, parse_configuration
from sersearch.study.space import Space
from sersearch.study.study import Study

FOLDER = "suggestions"


class Suggestions:
    """The configurations drawn from each space by the study's search, in order.

    Attributes:
        drawn: by name of the space.
    """

    def __init__(self, storage: Storage, study: Study) -> None:
        """Read the record; nothing is written.

        Raises:
            InputError: an object is damaged or one is missing.
        """
        self._storage = storage
        self._folders = {space.name: f"{FOLDER}/{_search(space, study)}/" for space in study.spaces}
        self.drawn = {name: self._read(folder) for name, folder in self._folders.items()}

    def add(self, space: str, number: int, configuration: Configuration) -> None:
        """Record the configuration that was drawn from a space after `number` others; on disk when this returns.

        Raises:
            InputError: another search has recorded another configuration at this place.
        """
        drawn = self.drawn[space]
        if drawn[number : number + 1] == [configuration]:
            return
        # The last first: a crash on the way leaves a record without a gap.
        for outdated in reversed(range(number, len(drawn))):
            self._storage.delete(self._name(self._folders[space], outdated))
        del drawn[number:]
        name = self._name(self._folders[space], number)
        is_first = self._storage.put_once(name, configuration.model_dump_json().encode())
        if not is_first and self._parse(name) != configuration:
            raise InputError(f"{self._storage.locate(name)}: was just written by another search of this run; stop one")
        drawn.append(configuration)

    def _read(self, folder: str) -> list[Configuration]:
        return [self._parse(self._name(folder, number)) for number in range(len(self._storage.list(folder)))]

    def _parse(self, name: str) -> Configuration:
        try:
            content = self._storage.get(name)
            if content is None:
                raise ValueError("it is missing")
            return parse_configuration(json.loads(content))
        except (ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            folder = self._storage.locate(name.rpartition("/")[0])
            raise InputError(
                f"{self._storage.locate(name)} is damaged ({reason}): delete {folder}, and a resumed search writes it "
                "again"
            ) from None

    @staticmethod
    def _name(folder: str, number: int) -> str:
        return f"{folder}{number:06}.json"


def _search(space: Space, study: Study) -> str:
    """A hash of what decides the sequence of configurations, the outcomes aside."""
    search = study.search.model_dump(mode="json", exclude={"trials"})
    return short_digest([space.model_dump(mode="json"), study.settings, study.seeds, search])
