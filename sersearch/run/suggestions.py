"""The record of what samplers have drawn: one object per configuration, RUN/suggestions/SEARCH/NUMBER.json.

Who writes: the driver of a search alone, before it hands a configuration out. It draws anew from the seed whenever it
starts and writes only what the record lacks. Who reads: whoever must know a study's trials without Optuna. SEARCH is a
hash of the search that drew them (space, seeds, sampler, objective; not the number of trials), so a study that changed
has a record of its own. A configuration that differs from the one on record (after a change of Optuna) takes its place
and that of all later ones.

Suggestion n is drawn from the outcomes of suggestions 0 to n - k and of no later one; k is the window of its space.
Where the study does not set it, it follows from the slots at the first launch, which RUN/slots.json keeps, so that a
search that is resumed on another cluster draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

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
SLOTS = "slots.json"

WINDOW_PER_SLOT = 2
"""Trials per slot that may be without an outcome: so many that slots rarely wait for a slow trial (see
docs/performance.md)."""

SLOTS_REMEDY = "delete it, and the next launch writes it again for spaces of which nothing was drawn"


class Slots(Record):
    """How many trials at a time fit on the cluster when a run was first launched.

    Attributes:
        slots: so many.
        on_gpus: how many of those that take GPUs, where the study has others beside them; None where it has one kind.
    """

    slots: int = Field(ge=1)
    on_gpus: int | None = Field(None, ge=1)


class Suggestion(Record):
    """A configuration that a sampler has drawn.

    Attributes:
        space: name of the space that it was drawn from.
        number: how many were drawn from the space before it.
        window: how many of the space's configurations may be without an outcome at once.
        known: how many outcomes it was drawn from: those of the first so many suggestions.
        configuration: what was drawn.
    """

    space: str
    number: int = Field(ge=0)
    window: int = Field(ge=1)
    known: int
    configuration: AnyConfiguration

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.known != max(0, self.number - self.window + 1):
            raise ValueError(
                f"suggestion {self.number} of a window of {self.window} does not know {self.known} outcomes"
            )
        return self


def default_window(space: Space, study: Study, slots: int) -> int:
    """The window by which a space alone keeps so many slots busy, in configurations."""
    return math.ceil(WINDOW_PER_SLOT * slots / study.repetitions(space))


class Suggestions:
    """The configurations drawn from each space by the study's search, in order.

    Attributes:
        drawn: by name of the space; of several folds, by `source_name` of each.
        windows: by name of the space; without those that follow from slots of a launch that is still to come.
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
        self._storage, self._study = storage, study
        self._spaces: dict[str, Space] = {}
        self._folders: dict[str, str] = {}
        for space in study.spaces:
            if study.samples(space):
                self._add_sources(space, (folds or {}).get(space.name, 1))
        self.windows: dict[str, int] = {}
        if study.search.window is not None:
            self.windows |= {space.name: study.search.window for space in self._spaces.values()}
        self.drawn = {source: self._read(source) for source in self._folders}
        self._follow_slots()

    def _add_sources(self, space: Space, folds: int) -> None:
        folder = f"{FOLDER}/{_search(space, self._study)}"
        for fold in range(folds):
            source = source_name(space.name, fold, folds)
            self._spaces[source] = space
            self._folders[source] = f"{folder}-{fold + 1}/" if folds > 1 else f"{folder}/"

    def launch(self, slots: int, on_gpus: int | None = None) -> None:
        """Settle the windows that the study leaves open; those of an earlier launch stay.

        Args:
            slots: how many trials at a time fit on the cluster.
            on_gpus: see `Slots`.
        """
        if self._open:
            self._storage.put_once(SLOTS, seal(Slots(slots=slots, on_gpus=on_gpus)))
            self._follow_slots()

    def add(self, source: str, number: int, configuration: Configuration, known: int) -> None:
        """Record the configuration that a source drew after `number` others; on disk when this returns.

        Args:
            source: what drew it.
            number: how many it had drawn.
            configuration: what it drew.
            known: of how many it knew the outcomes.

        Raises:
            InputError: another search has recorded another configuration at this place.
        """
        drawn = self.drawn[source]
        if drawn[number : number + 1] == [configuration]:
            return
        # The last first: a crash on the way leaves a record without a gap.
        for outdated in reversed(range(number, len(drawn))):
            self._storage.delete(self._name(source, outdated))
        del drawn[number:]
        name, window = self._name(source, number), self.windows[self._spaces[source].name]
        suggestion = Suggestion(space=source, number=number, window=window, known=known, configuration=configuration)
        is_first = self._storage.put_once(name, seal(suggestion))
        if not is_first and self._suggestion(source, number).configuration != configuration:
            raise InputError(f"{self._storage.locate(name)}: was just written by another search of this run; stop one")
        drawn.append(configuration)

    def _follow_slots(self) -> None:
        """Give each space without a window the one that follows from the slots on record, if they are."""
        if not self._open:
            return
        recorded = read_record(self._storage, SLOTS, Slots, SLOTS_REMEDY)
        if recorded:
            for space in self._open:
                on_gpus = recorded.on_gpus if self._study.on_gpu(space.kind) else None
                slots = recorded.slots if on_gpus is None else on_gpus
                self.windows[space.name] = default_window(space, self._study, slots)

    @property
    def _open(self) -> list[Space]:
        """The spaces without a window: the study does not set it, and nothing was drawn."""
        return [space for space in self._spaces.values() if space.name not in self.windows]

    def _read(self, source: str) -> list[Configuration]:
        numbers = range(len(self._storage.list(self._folders[source])))
        return [self._suggestion(source, number).configuration for number in numbers]

    def _suggestion(self, source: str, number: int) -> Suggestion:
        """Read a suggestion, whose window is that of the space's first one on record."""
        folder, name = self._storage.locate(self._folders[source]), self._name(source, number)
        remedy = f"delete the folder {folder}, and a resumed search writes it again"
        suggestion = read_record(self._storage, name, Suggestion, remedy)
        if suggestion is None:
            raise InputError(f"{self._storage.locate(name)} is missing: {remedy}")
        window = self.windows.setdefault(self._spaces[source].name, suggestion.window)
        if (suggestion.space, suggestion.number, suggestion.window) != (source, number, window):
            raise InputError(f"{self._storage.locate(name)} is another suggestion: {remedy}")
        return suggestion

    def _name(self, source: str, number: int) -> str:
        return f"{self._folders[source]}{number:06}.json"


def _search(space: Space, study: Study) -> str:
    """A hash of what decides the sequence of configurations, the outcomes and a window by slots aside."""
    search = study.search.model_dump(mode="json", exclude={"trials"})
    return short_digest([space.model_dump(mode="json"), study.settings, study.seeds, search])
