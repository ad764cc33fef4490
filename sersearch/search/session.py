"""The private folder of one search, and a Ray on this machine that nobody else can reach.

Whoever can talk to a Ray can run code as the user who started it. The Ray of a search on one machine therefore listens
on the loopback address alone and answers only those who have its token, and its folder is the user's own. A Ray cluster
(`--address`) is set up by whoever starts it.
"""

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined] # compiled, without a stub

PREFIX = "sersearch-"

LONGEST_BASE = 18
"""Ray's sockets lie 88 bytes deeper than the folder of temporary files, and a socket's path has at most 107 bytes."""

RAY_AUTH_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@contextmanager
def session_folder() -> Iterator[Path]:
    """Create a private folder for one search, and remove it at the end of the block.

    This process holds a lock on the folder as long as it lives. Folders of this user that nobody holds were left by
    searches that were killed; they are removed first.
    """
    base = _base()
    remove_dead_sessions(base)
    folder, lock = _create(base)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_dead_sessions(base: Path) -> None:
    """Remove the folders that killed searches of this user left in a folder of temporary files."""
    for folder in base.glob(f"{PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            lock = _lock(folder)
            try:
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _base() -> Path:
    """Choose the folder of temporary files: Ray's or the system's, unless Ray's sockets would lie too deep in it."""
    for name in (os.environ.get("RAY_TMPDIR"), tempfile.gettempdir()):
        if name and len(os.fsencode(name)) <= LONGEST_BASE:
            return Path(name)
    return Path("/tmp")


def _create(base: Path) -> tuple[Path, int | None]:
    """Create a folder that only this user can enter, and lock it; without locks, nobody removes it but its owner."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        try:
            lock = _lock(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # Another search took the new folder for a dead one, and removes it.
        except OSError:
            return folder, None
        if folder.is_dir():
            return folder, lock
        os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder until the descriptor is closed or the process ends.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the file system has no locks.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def start_local_ray(folder: Path, **settings: object) -> None:
    """Start a Ray that listens on the loopback address alone, and that demands a token which only this user can read.

    Args:
        folder: the private folder of the search; Ray gives everybody access to all that it creates in there.
        settings: further arguments of `ray.init`.
    """
    token = folder / "token"
    descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    # Without these variables Ray demands a token. A token of the user's is that of a cluster, and not of this Ray.
    for name in RAY_AUTH_VARIABLES:
        os.environ.pop(name, None)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    AuthenticationTokenLoader.instance().reset_cache()
    with _on_loopback():
        ray.init(address="local", include_dashboard=False, _temp_dir=str(folder / "ray"), **settings)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let Ray take the loopback address for the address of this machine.

    Ray 2.60 does that only where it supports no clusters; anywhere else it replaces a loopback address that it is given
    by the address of the network, and listens on all. It reads the variable RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER when it
    is imported, so it is too late to set that.
    """
    enabled = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
