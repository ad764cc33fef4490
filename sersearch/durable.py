"""Writing files that a crash can't leave half written: beside their place, fsynced, then renamed or linked into it."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path


def write(path: Path, content: bytes) -> None:
    """Write a file in one step: a reader sees either the previous content or all of the new content."""
    with replacing(path) as part:
        part.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file in one step: yield a path beside it to write to, and rename that file at the end of the block."""
    with beside(path) as part:
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)


def write_once(path: Path, content: bytes) -> bool:
    """Write a file in one step, unless it exists. Of several writers, exactly one succeeds.

    Returns:
        Whether the file now holds the content of this call.
    """
    with beside(path) as part:
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
    """Wait until the bytes of a file, or the names in a folder, are on the disk and survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a new path in the folder of a file, and remove what is left there at the end of the block."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
