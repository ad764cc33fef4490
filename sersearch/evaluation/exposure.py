"""How often test speakers were looked at: over runs, folders and studies, and whether a study was changed after that.

    RUN/designs/DIGEST.json                          what the study tried when test speakers were opened, put before
    DATA/openings/FINGERPRINT/KEY-CONDITION-BY.json  each opening by this user, by the fingerprint of the store

DATA is the user's own data folder; without one, a run's own openings are all that is known.

Whoever narrows a study and opens the test speakers once more looks for the best of several test results. These records
make that visible; they prevent nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sersearch.digests import short_digest
from sersearch.durable import private_data_folder
from sersearch.run.run import Run
from sersearch.run.storage import Folder
from sersearch.study.conditions import Condition
from sersearch.study.study import Study

DESIGNS = "designs/"
OPENINGS = "openings/"


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
    design = {"study": design_of(run.study), "opened": opened}
    run.storage.put_once(f"{DESIGNS}{short_digest(design['study'])}.json", json.dumps(design, indent=1).encode())
    folder = private_data_folder()
    if folder is not None:
        opening = {"key": key, "condition": condition, "by": by, "opened": opened}
        content = {**opening, "speakers": sorted(speakers), "run": str(run.path.resolve())}
        name = f"{OPENINGS}{run.identity.fingerprint}/{key}-{condition}-{by}.json"
        Folder(folder).put_once(name, json.dumps(content).encode())


def read_exposure(run: Run, speakers: Collection[str]) -> Exposure:
    """Count what was seen of some test speakers.

    Args:
        run: whose they are.
        speakers: all who test in the run.
    """
    elsewhere = [opening for opening in _index(run) if not set(opening["speakers"]).isdisjoint(speakers)]
    # A moved or copied run opened nothing anew, so its openings are told by their keys alone.
    here = {name.split("-")[0] for name in run.storage.list(OPENINGS)}
    known = {opening["key"] for opening in elsewhere}
    runs = len({opening["run"] for opening in elsewhere}) + bool(here - known)
    return Exposure(len(here | known), runs, _changed(run))


def design_of(study: Study) -> dict[str, Any]:
    """What a study tries and tests, without what moves no figure: names, places, resources, assumptions of the plan."""
    unmoving = {"name": True, "store": True, "systems": True, "resources": True}
    assumed = {"hypothesis": {"difference", "luck", "ua"}} if study.hypothesis else {}
    return study.model_dump(mode="json", exclude_defaults=True, exclude={**unmoving, **assumed})


def _changed(run: Run) -> str | None:
    now = f"{short_digest(design_of(run.study))}.json"
    others = [run.storage.get(f"{DESIGNS}{name}") for name in run.storage.list(DESIGNS) if name != now]
    return min((str(json.loads(content)["opened"]) for content in others if content), default=None)


def _index(run: Run) -> Iterator[dict[str, Any]]:
    """This user's openings of the run's store."""
    folder = private_data_folder()
    if folder is None:
        return
    index = Folder(folder)
    prefix = f"{OPENINGS}{run.identity.fingerprint}/"
    for name in index.list(prefix):
        if content := index.get(prefix + name):
            yield json.loads(content)
