"""Writing that a crash can't tear: beside, fsynced, then renamed or linked into place."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    """A folder of this user's on this machine, for what can be made again; None where there can be none."""
    folder = Path(tempfile.gettempdir()) / f"sersearch-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK) else None
    except OSError:
        return None


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
