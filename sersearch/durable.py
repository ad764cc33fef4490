"""Writing that a crash can't tear: beside, fsynced, then renamed or linked into place."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path


def write(path: Path, content: bytes) -> None:
    """Put a file in place as a whole; a reader sees what was there before or all of what is there now."""
    with replacing(path) as part:
        part.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to, then put what was written in the place of `path` as a whole."""
    with _beside(path) as part:
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)


def write_once(path: Path, content: bytes) -> bool:
    """Put a file in place unless there is one already: of several writers the first wins, and the others are told.

    Returns:
        Whether this call's content is now in place.
    """
    with _beside(path) as part:
        part.write_bytes(content)
        sync(part)
        try:
            path.hardlink_to(part)
        except FileExistsError:
            return False
    sync(path.parent)
    return True


def private_folder() -> Path | None:
    """Return this user's cache folder, and create it if necessary.

    It holds what can be made again: Arrow copies of stores whose own folder can't be written, and numba's compiled
    loops. Compiled loops are executed, so nobody else may put files there.

    Returns:
        The folder; None if it can't be created or written, is a symbolic link, belongs to another user, or gives any
        permission to others.
    """
    folder = user_cache_path("sersearch")
    if not folder.is_absolute():  # the user has no home folder
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    is_own_folder = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    others_permissions = status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    if not is_own_folder or others_permissions or not os.access(folder, os.W_OK | os.X_OK):
        return None
    return folder


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, would survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
