"""The session of a run: one search at a time works on it.

    RUN/sessions/ID.json             who works on the run: host, process, since when
    RUN/sessions/ID.stopping         the session ends: trials stop at a checkpoint, and no other begins
    RUN/sessions/ID.draining-NODE    a node of Ray's will be taken away: so do the trials there

Who writes: the driver of a search, before it changes anything of the run. It removes its objects at the end. What a
reader may find: the record of a driver that was killed. The next driver on the same host sees that the process is gone
and takes the run over; a driver on another host can't see it, so a person decides.

Each driver puts its record under a name of its own, and then looks for others: of two that begin at the same time, at
most one stays. Because no name is used twice, nobody removes the record of a driver that has just begun.
"""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from sersearch.errors import InputError
from sersearch.interruption import cleaning_up
from sersearch.run.storage import Storage

FOLDER = "sessions"
STOPPING = "stopping"
DRAINING = "draining-"


class SessionRecord(BaseModel):
    """The driver of a search.

    Attributes:
        id: random digits.
        host: name of the machine.
        boot: identity of the machine's boot; empty where there is none.
        namespace: identity of the container's processes; empty where there is none.
        pid: number of the process.
        process_start: when the process started, as the machine counts it: other processes may get the same number.
        since: when the session began, in UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    host: str
    boot: str
    namespace: str
    pid: int
    process_start: str
    since: str

    @classmethod
    def of_this_process(cls) -> SessionRecord:
        """Describe this process."""
        return cls(
            id=secrets.token_hex(8),
            host=platform.node(),
            boot=_boot(),
            namespace=_namespace(),
            pid=os.getpid(),
            process_start=_process_start(os.getpid()) or "",
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    @property
    def has_died(self) -> bool:
        """Whether the process is certainly gone: it was on this host, before a restart or as a process that ended."""
        if self.host != platform.node():
            return False
        if self.boot != _boot():
            return True
        return self.namespace == _namespace() and _process_start(self.pid) not in (self.process_start, "")

    @property
    def driver(self) -> str:
        """The driver in words."""
        return f"host {self.host}, process {self.pid}, since {self.since}"


_Sessions = dict[str, SessionRecord | None]
"""Sessions by the name of their record; None for a record that is damaged."""


@dataclass(frozen=True)
class Session:
    """This process' session of a run.

    Attributes:
        storage: storage of the run.
        record: what is on record.
        replaced: sessions that were taken over from, in words.
    """

    storage: Storage
    record: SessionRecord
    replaced: tuple[str, ...] = ()

    @property
    def is_held(self) -> bool:
        """Whether no other search has taken the run over."""
        content = self.storage.get(_name(self.record.id))
        return content is not None and _parse(content) == self.record

    def stop(self) -> None:
        """Have running trials stop at a checkpoint, and no trial begin that was handed out."""
        self.storage.put(f"{FOLDER}/{self.record.id}.{STOPPING}", b"")

    def drain(self, node: str) -> None:
        """Have the trials on a node stop at a checkpoint, and none begin there; `node` is its identity in Ray."""
        self.storage.put(f"{FOLDER}/{self.record.id}.{DRAINING}{node}", b"")

    def end(self) -> None:
        """Remove what the session has put."""
        with suppress(OSError):
            _delete_notices(self.storage, self.record.id)
            if self.is_held:
                self.storage.delete(_name(self.record.id))


@contextmanager
def working_on(storage: Storage, take_over: bool = False) -> Iterator[Session]:
    """Hold the session of a run.

    Args:
        storage: storage of the run.
        take_over: whether to replace a session whose driver may be alive.

    Raises:
        InputError: another search works on the run, or may do so.
    """
    session = _begin(storage, take_over)
    with cleaning_up(session.end):
        yield session


def _begin(storage: Storage, take_over: bool) -> Session:
    before = _sessions(storage)
    if not take_over:
        _refuse_living(storage, before)
    session = Session(
        storage,
        SessionRecord.of_this_process(),
        tuple(other.driver if other else "unknown" for other in before.values()),
    )
    own = _name(session.record.id)
    storage.put_once(own, session.record.model_dump_json(indent=1).encode())
    try:
        others = {name: record for name, record in _sessions(storage).items() if name not in (own, *before)}
        _refuse_living(storage, others)
        # Looked at last: another search may have taken the run over in the meantime.
        if not session.is_held:
            raise InputError(f"{storage.locate('')}: another search has just taken over; wait until it ends")
    except InputError:
        session.end()
        raise
    for name in before:
        storage.delete(name)
        _delete_notices(storage, name.removeprefix(f"{FOLDER}/").removesuffix(".json"))
    return session


def list_notices(storage: Storage, id: str) -> set[str]:
    """What a session tells its workers: `STOPPING`, and `DRAINING` with the identity of each node that is drained.

    The folder is listed because NFS may answer for half a minute that a file is not there, but not once its folder is
    opened again.
    """
    names = storage.list(f"{FOLDER}/")
    return {name.removeprefix(f"{id}.") for name in names if name.startswith(f"{id}.")} - {"json"}


def _delete_notices(storage: Storage, id: str) -> None:
    for notice in list_notices(storage, id):
        storage.delete(f"{FOLDER}/{id}.{notice}")


def _refuse_living(storage: Storage, sessions: _Sessions) -> None:
    for name, record in sessions.items():
        if record is None:
            raise InputError(
                f"{storage.locate(name)}: is damaged, so another search may work on this run; make sure that "
                "none does, and add --take-over"
            )
        if not record.has_died:
            raise InputError(
                f"{storage.locate('')}: another search works on this run ({record.driver}); wait until it ends, or add "
                "--take-over if it is dead or can't be reached"
            )


def _sessions(storage: Storage) -> _Sessions:
    """List the sessions on record; any of them may end while this reads."""
    sessions: _Sessions = {}
    for entry in storage.list(f"{FOLDER}/"):
        name = f"{FOLDER}/{entry}"
        content = storage.get(name) if name.endswith(".json") else None
        if content is not None:
            sessions[name] = _parse(content)
    return sessions


def _parse(content: bytes) -> SessionRecord | None:
    try:
        return SessionRecord.model_validate_json(content)
    except ValidationError:
        return None


def _name(id: str) -> str:
    return f"{FOLDER}/{id}.json"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        return ""


def _process_start(pid: int) -> str | None:
    """When a process started; None if there is no such process, empty if that can't be seen.

    Linux counts from the boot on. The time of day that psutil computes from it moves when the clock is set.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        statistics = Path(f"/proc/{pid}/stat")
        if statistics.exists():
            # The name of the process, in parentheses, may hold spaces.
            return statistics.read_text().rpartition(")")[2].split()[19]
        return str(process.create_time())
    except psutil.NoSuchProcess:
        # Processes of other users may be hidden, but they can't have this number unnoticed.
        return "" if psutil.pid_exists(pid) else None
    except (psutil.AccessDenied, OSError):
        return ""
