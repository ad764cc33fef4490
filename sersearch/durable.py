"""Writing that a crash can't tear: beside, fsynced, then renamed or linked into place."""

import os
import secrets
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Put a file in place as a whole; a reader sees what was there before or all of what is there now."""
    beside = _beside(path, content)
    try:
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync(path.parent)


def write_once(path: Path, content: bytes) -> bool:
    """Put a file in place unless there is one already: of several writers the first wins, and the others are told.

    Returns:
        Whether this call's content is now in place.
    """
    beside = _beside(path, content)
    try:
        path.hardlink_to(beside)
    except FileExistsError:
        return False
    finally:
        beside.unlink(missing_ok=True)
    sync(path.parent)
    return True


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, would survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path, content: bytes) -> Path:
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return beside
