"""How often test speakers were looked at: over runs, folders and studies, and whether a study was changed after that.

    RUN/designs/DIGEST.json                          what the study tried when test speakers were opened, put before
    DATA/openings/FINGERPRINT/KEY-CONDITION-BY.json  each opening by this user, by the fingerprint of the store

DATA is the user's own data folder; without one, a run's own openings are all that is known.

Whoever narrows a study and opens the test speakers once more looks for the best of several test results. These records
make that visible; they prevent nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sersearch.digests import short_digest
from sersearch.durable import private_data_folder
from sersearch.errors import InputError
from sersearch.run.records import Record, read_record, seal
from sersearch.run.run import Run
from sersearch.run.storage import Folder
from sersearch.study.conditions import Condition
from sersearch.study.study import Study

DESIGNS = "designs/"
OPENINGS = "openings/"


class Design(Record):
    """What a study tried when test speakers were opened.

    Attributes:
        study: as `design_of` gives it.
        opened: when, in UTC.
    """

    study: dict[str, Any]
    opened: str


class IndexedOpening(Record):
    """One opening in the user's index.

    Attributes:
        key: of the trained system that was tested.
        speakers: who was opened.
        run: path of the run's folder then.
        opened: when, in UTC.
    """

    key: str
    speakers: tuple[str, ...]
    run: str
    opened: str


@dataclass(frozen=True)
class Exposure:
    """What was seen of a run's test speakers.

    Attributes:
        systems: trained systems that were tested on some of them, in this run and in all others on record.
        runs: run folders that tested them.
        changed: when they were first opened for a study that tried something else than the run's study does now, in
            UTC; None if there was no such opening.
    """

    systems: int
    runs: int
    changed: str | None

    @property
    def exploratory(self) -> str | None:
        """What every page of a run says whose study was changed after an opening; None if it was not."""
        if self.changed is None:
            return None
        return f"Exploratory: the study was changed after its test speakers were opened ({self.changed})."

    @property
    def note(self) -> str:
        """How often the test speakers were looked at, in a sentence."""
        systems = f"{self.systems} trained system{'' if self.systems == 1 else 's'}"
        runs = f"{self.runs} run folder{'' if self.runs == 1 else 's'}"
        return f"On record, these test speakers were opened for {systems} from {runs}, each seed and fold counted."


def record_exposure(run: Run, key: str, condition: Condition, speakers: Collection[str], by: str) -> None:
    """Put on record what a study tries, and that it opens test speakers, before it does.

    Args:
        run: whose test speakers.
        key: of the winner.
        condition: under which it won.
        speakers: who is opened.
        by: the command that opens them.
    """
    opened = datetime.now(UTC).isoformat(timespec="seconds")
    design = Design(study=design_of(run.study), opened=opened)
    run.storage.put_once(_name_of(design), seal(design))
    folder = private_data_folder()
    if folder is not None:
        place = str(run.path.resolve())
        opening = IndexedOpening(key=key, speakers=tuple(sorted(speakers)), run=place, opened=opened)
        name = f"{OPENINGS}{run.identity.fingerprint}/{key}-{condition}-{by}.json"
        Folder(folder).put_once(name, seal(opening))


def read_exposure(run: Run, speakers: Collection[str]) -> Exposure:
    """Count what was seen of some test speakers.

    Args:
        run: whose they are.
        speakers: all who test in the run.

    Raises:
        InputError: a record is damaged.
    """
    elsewhere = [opening for opening in _index(run) if not set(opening.speakers).isdisjoint(speakers)]
    # A moved or copied run opened nothing anew, so its openings are told by their keys alone.
    here = {name.split("-")[0] for name in run.storage.list(OPENINGS)}
    known = {opening.key for opening in elsewhere}
    runs = len({opening.run for opening in elsewhere}) + bool(here - known)
    return Exposure(len(here | known), runs, _changed(run))


def design_of(study: Study) -> dict[str, Any]:
    """What a study tries and tests, without what moves no figure: names, places, resources, assumptions of the plan."""
    unmoving = {"name": True, "store": True, "systems": True, "resources": True}
    assumed = {"hypothesis": {"difference", "luck", "ua"}} if study.hypothesis else {}
    return study.model_dump(mode="json", exclude_defaults=True, exclude={**unmoving, **assumed})


def read_design(run: Run, name: str) -> Design:
    """What an object in RUN/designs keeps.

    Raises:
        InputError: it is damaged.
    """
    place = f"{DESIGNS}{name}"
    remedy = (
        "restore it from a copy, or delete it: no figure needs it, but it tells whether the study was changed since"
    )
    design = read_record(run.storage, place, Design, remedy)
    if design is None or _name_of(design) != place:
        raise InputError(f"{run.storage.locate(place)} is another's: {remedy}")
    return design


def _name_of(design: Design) -> str:
    return f"{DESIGNS}{short_digest(design.study)}.json"


def _changed(run: Run) -> str | None:
    now = f"{short_digest(design_of(run.study))}.json"
    others = [read_design(run, name) for name in run.storage.list(DESIGNS) if name != now]
    return min((design.opened for design in others), default=None)


def _index(run: Run) -> Iterator[IndexedOpening]:
    """This user's openings of the run's store."""
    folder = private_data_folder()
    if folder is None:
        return
    index = Folder(folder)
    prefix = f"{OPENINGS}{run.identity.fingerprint}/"
    for name in index.list(prefix):
        opening = read_record(index, prefix + name, IndexedOpening, "delete it, and one opening less is counted")
        if opening is not None:
            yield opening
