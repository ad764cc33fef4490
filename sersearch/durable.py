"""Writing files that a crash can't leave half written: beside their place, fsynced, then renamed or linked into it."""

import errno
import os
import secrets
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from platformdirs import user_cache_path, user_data_path

from sersearch.errors import InputError

_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


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

    Raises:
        InputError: the file system has no hard links.
    """
    with beside(path) as part:
        part.write_bytes(content)
        sync(part)
        try:
            path.hardlink_to(part)
        except FileExistsError:
            # NFS may send a request again whose answer was lost, and then finds the link that it has made.
            if not _are_same(path, part):
                return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            raise InputError(
                f"{path.parent}: its file system{_file_system(path)} has no hard links, which make sure that of two "
                "processes one alone writes a result; choose a folder on another file system"
            ) from None
    sync(path.parent)
    return True


def _are_same(path: Path, part: Path) -> bool:
    try:
        return path.samefile(part)
    except FileNotFoundError:
        return False


def _file_system(path: Path) -> str:
    """The type of the file system that a file is on, in parentheses; empty if it can't be told."""
    place = path.resolve()
    mounted = [part for part in psutil.disk_partitions(all=True) if place.is_relative_to(part.mountpoint)]
    return f" ({max(mounted, key=lambda part: len(part.mountpoint)).fstype})" if mounted else ""


def private_folder() -> Path | None:
    """Return this user's cache folder, and create it if necessary.

    It holds what can be made again: Arrow copies of stores whose own folder can't be written, and numba's compiled
    loops. Compiled loops are executed, so nobody else may put files there.

    Returns:
        The folder; None, with a warning that says why, if it can't be created or written, is a symbolic link, belongs
        to another user, gives any permission to others, or lies in a folder in which others may replace it.
    """
    return _private(user_cache_path("sersearch"), "cache")


def private_data_folder() -> Path | None:
    """Return this user's data folder, and create it if necessary.

    It holds what can't be made again: the index of test openings over all runs.

    Returns:
        The folder; None, with a warning, in the cases of `private_folder`.
    """
    return _private(user_data_path("sersearch"), "data")


def _private(folder: Path, kind: str) -> Path | None:
    fault = _fault(folder, f"XDG_{kind.upper()}_HOME")
    if fault:
        warning = f"the {kind} folder {folder} is not used, because {fault}"
        # Without a source file, Python prints it as one line, and with a registry only once per process.
        warnings.warn_explicit(warning, RuntimeWarning, "sersearch", 0, registry=_GIVEN_WARNINGS)
        return None
    return folder


_GIVEN_WARNINGS: dict[Any, Any] = {}


def _fault(folder: Path, variable: str) -> str:
    """Say why a folder can't be used, and what to do; "" if it is private. It is created if it is missing.

    Args:
        folder: of this user.
        variable: of the environment, which names the folder in which it lies.
    """
    if not folder.is_absolute():
        return f"you have no home folder: set {variable} to a folder of yours"
    try:
        _create(folder)
        status = folder.lstat()
        around = {path: path.lstat() for path in (*folder.parents, *folder.resolve().parents)}
    except OSError as error:
        return f"it can't be created ({error.strerror}): set {variable} to a folder of yours"
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a folder: remove it"
    if status.st_uid != os.geteuid():
        return f"it belongs to another user: have it removed, or set {variable} to a folder of yours"
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"its mode is {stat.S_IMODE(status.st_mode):o}, so others may have put code there: remove it"
    for path, status_around in around.items():
        if _others_may_replace(status_around):
            return f"others may write to {path}: correct that, or set {variable} to a folder of yours"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "it can't be written: correct its permissions"
    return ""


def _create(folder: Path) -> None:
    """Create a folder and those it lies in, for this user alone."""
    if not folder.parent.exists():
        _create(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def _others_may_replace(status: os.stat_result) -> bool:
    """Whether others may replace what lies in a folder, or may replace the link that this is."""
    if status.st_uid not in (0, os.geteuid()):
        return True
    if stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return False
    # Where each user has a group of the same number, that group is no others.
    own_group = status.st_gid == os.getegid() == os.geteuid()
    writers = stat.S_IWOTH if own_group else stat.S_IWOTH | stat.S_IWGRP
    return bool(status.st_mode & writers)


def sync(path: Path) -> None:
    """Wait until the bytes of a file, or the names in a folder, are on the disk and survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path, part: Path) -> Iterator[None]:
    """Name a file in errors of the block that name none, as on a full disk, or only the part that becomes the file."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename in (None, str(part)):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a new path in the folder of a file, and remove what is left there at the end of the block."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with naming(path, part):
            yield part
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
