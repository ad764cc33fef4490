"""One search at a time works on a run."""

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sersearch.errors import InputError
from sersearch.run.session import SessionRecord, list_notices, working_on
from sersearch.run.storage import Folder

HOLD = """
import sys, time
from pathlib import Path
from sersearch.run.session import working_on
from sersearch.run.storage import Folder

with working_on(Folder(Path(sys.argv[1]))) as session:
    session.stop()
    session.drain("a1b2")
    print(session.record.id, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "run")


def hold(storage: Folder) -> subprocess.Popen[str]:
    """Start a process that holds the session, and stops it."""
    words = [sys.executable, "-c", HOLD, str(storage.path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert list_notices(storage, process.stdout.readline().strip()) == {"stopping", "draining-a1b2"}
    return process


def put(storage: Folder, changes: dict[str, object]) -> str:
    """Put the record of a session; returns the name of its file."""
    record = SessionRecord.of_this_process().model_copy(update=changes)
    storage.put(f"sessions/{record.id}.json", record.model_dump_json().encode())
    return f"{record.id}.json"


def test_a_session_leaves_nothing_behind(storage: Folder) -> None:
    with working_on(storage) as session:
        assert session.is_held
        assert list_notices(storage, session.record.id) == set()
        session.stop()
        assert list_notices(storage, session.record.id) == {"stopping"}
        session.drain("a1b2")
        assert list_notices(storage, session.record.id) == {"stopping", "draining-a1b2"}
        assert list_notices(storage, "of another session") == set()
    assert storage.list("sessions/") == []


def test_the_second_is_refused_and_the_first_may_be_killed(storage: Folder) -> None:
    first = hold(storage)
    with pytest.raises(InputError) as refused, working_on(storage):
        pass
    message = str(refused.value)
    assert f"another search works on this run (host {platform.node()}, process {first.pid}, since 20" in message
    assert message.endswith("wait until it ends, or add --take-over if it is dead or can't be reached")
    os.kill(first.pid, signal.SIGSTOP)
    with pytest.raises(InputError, match="another search works"), working_on(storage):
        pass
    first.kill()
    # It is a zombie now, which `Popen` has not waited for.
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    with working_on(storage) as session:
        assert len(session.replaced) == 1
        assert f"process {first.pid}" in session.replaced[0]
        own = [f"{session.record.id}.json"]
        assert storage.list("sessions/") == own, "what the killed session left is gone, its end included"
    first.communicate()
    assert storage.list("sessions/") == []


@pytest.mark.parametrize(
    ("changes", "died"),
    [
        ({}, False),
        ({"process_start": "1"}, True),
        ({"pid": 2**22 + 1}, True),
        ({"boot": "before the power failed", "pid": 1}, True),
        ({"host": "elsewhere", "pid": 2**22 + 1}, False),
        ({"namespace": "pid:[1]", "pid": 2**22 + 1}, False),
    ],
)
def test_what_is_certainly_dead(storage: Folder, changes: dict[str, object], died: bool) -> None:
    """Of another host or container nothing is certain."""
    name = put(storage, changes)
    if died:
        with working_on(storage) as session:
            assert session.is_held
    else:
        with pytest.raises(InputError, match="another search works"), working_on(storage):
            pass
        assert storage.list("sessions/") == [name]
        with working_on(storage, take_over=True) as session:
            assert session.is_held
    assert storage.list("sessions/") == []


def test_a_session_that_was_taken_over_knows_and_leaves_the_other_alone(storage: Folder) -> None:
    with working_on(storage) as first, working_on(storage, take_over=True) as second:
        assert not first.is_held
        assert second.is_held
        first.end()
        assert second.is_held
        second.stop()
        assert list_notices(storage, first.record.id) == set()


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": 1}', b"\xff\x00", b"[" * 100_000])
def test_a_damaged_record_is_refused_in_one_line(storage: Folder, content: bytes) -> None:
    storage.put("sessions/000001.json", content)
    with pytest.raises(InputError, match="is damaged, so another search may work on this run") as refused:
        working_on(storage).__enter__()
    assert "\n" not in str(refused.value)
    with working_on(storage, take_over=True) as session:
        assert session.is_held


def test_of_many_that_begin_at_once_at_most_one_holds(storage: Folder) -> None:
    """Some sessions on record are of killed processes."""
    holding: list[int] = []
    most: list[int] = []
    refusals: list[str] = []

    def begin(number: int) -> None:
        for turn in range(30):
            if number == 0 and turn % 3 == 0:
                put(storage, {"process_start": "1"})
            try:
                with working_on(storage):
                    holding.append(number)
                    most.append(len(holding))
                    time.sleep(0.001)
                    holding.remove(number)
            except InputError as error:
                refusals.append(str(error))

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert refusals
