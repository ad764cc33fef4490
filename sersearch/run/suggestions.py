"""The record of what samplers have drawn: one object per configuration, RUN/suggestions/SEARCH/NUMBER.json.

Who writes: the driver of a search alone, before it hands a configuration out. It draws anew from the seed whenever it
starts and writes only what the record lacks. Who reads: whoever must know a study's trials without Optuna. SEARCH is a
hash of the search that drew them (space, seeds, sampler, objective; not the number of trials), so a study that changed
has a record of its own. A configuration that differs from the one on record (after a change of Optuna) takes its place
and that of all later ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from sersearch.digests import short_digest
from sersearch.errors import InputError
from sersearch.run.records import Record, read_record, seal
from sersearch.run.storage import Storage
from sersearch.study.agenda import source_name
from sersearch.study.configuration import Configuration
from sersearch.study.space import Space
from sersearch.study.study import Study
from sersearch.study.trial import AnyConfiguration

FOLDER = "suggestions"


class Suggestion(Record):
    """A configuration that a sampler has drawn.

    Attributes:
        space: name of the space that it was drawn from.
        number: how many were drawn from the space before it.
        configuration: what was drawn.
    """

    space: str
    number: int
    configuration: AnyConfiguration


class Suggestions:
    """The configurations drawn from each space by the study's search, in order.

    Attributes:
        drawn: by name of the space; of several folds, by `source_name` of each.
    """

    def __init__(self, storage: Storage, study: Study, folds: Mapping[str, int] | None = None) -> None:
        """Read the record; nothing is written.

        Args:
            storage: of the run.
            study: the run's.
            folds: in how many folds each space is searched, by name of the space; in one unless given.

        Raises:
            InputError: an object is damaged or one is missing.
        """
        self._storage = storage
        self._folders: dict[str, str] = {}
        for space in study.spaces:
            folder, count = f"{FOLDER}/{_search(space, study)}", (folds or {}).get(space.name, 1)
            for fold in range(count):
                own = f"{folder}-{fold + 1}/" if count > 1 else f"{folder}/"
                self._folders[source_name(space.name, fold, count)] = own
        self.drawn = {name: self._read(name, folder) for name, folder in self._folders.items()}

    def add(self, source: str, number: int, configuration: Configuration) -> None:
        """Record the configuration that a source drew after `number` others; on disk when this returns.

        Raises:
            InputError: another search has recorded another configuration at this place.
        """
        drawn = self.drawn[source]
        if drawn[number : number + 1] == [configuration]:
            return
        # The last first: a crash on the way leaves a record without a gap.
        for outdated in reversed(range(number, len(drawn))):
            self._storage.delete(self._name(self._folders[source], outdated))
        del drawn[number:]
        name = self._name(self._folders[source], number)
        suggestion = Suggestion(space=source, number=number, configuration=configuration)
        is_first = self._storage.put_once(name, seal(suggestion))
        if not is_first and self._drawn(source, self._folders[source], number) != configuration:
            raise InputError(f"{self._storage.locate(name)}: was just written by another search of this run; stop one")
        drawn.append(configuration)

    def _read(self, space: str, folder: str) -> list[Configuration]:
        return [self._drawn(space, folder, number) for number in range(len(self._storage.list(folder)))]

    def _drawn(self, space: str, folder: str, number: int) -> Configuration:
        name = self._name(folder, number)
        remedy = f"delete the folder {self._storage.locate(folder)}, and a resumed search writes it again"
        suggestion = read_record(self._storage, name, Suggestion, remedy)
        if suggestion is None:
            raise InputError(f"{self._storage.locate(name)} is missing: {remedy}")
        if (suggestion.space, suggestion.number) != (space, number):
            raise InputError(f"{self._storage.locate(name)} is another suggestion: {remedy}")
        return suggestion.configuration

    @staticmethod
    def _name(folder: str, number: int) -> str:
        return f"{folder}{number:06}.json"


def _search(space: Space, study: Study) -> str:
    """A hash of what decides the sequence of configurations, the outcomes aside."""
    search = study.search.model_dump(mode="json", exclude={"trials"})
    return short_digest([space.model_dump(mode="json"), study.settings, study.seeds, search])
