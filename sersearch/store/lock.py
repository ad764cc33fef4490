"""The lock of a store: one process at a time writes to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sersearch.errors import InputError, refuse_uri
from sersearch.store.manifest import LOCK, MANIFEST


@contextmanager
def locked(store_folder: Path) -> Iterator[None]:
    """Create the folder of a store if necessary, and hold its lock.

    The operating system releases the lock when the process ends, even if it is killed.

    Raises:
        InputError: the folder holds something other than a store, or another process holds the lock.
    """
    _check_folder(store_folder)
    store_folder.mkdir(parents=True, exist_ok=True)
    # A lock file without flock behind it would outlive a process that is killed.
    lock = FileLock(store_folder / LOCK, blocking=False, fallback_to_soft=False)
    try:
        held = lock.acquire()
    except Timeout:
        raise InputError(
            f"{store_folder}: another build is running there; wait until it ends, or choose another folder"
        ) from None
    with held:
        yield


def _check_folder(store_folder: Path) -> None:
    refuse_uri(store_folder)
    if store_folder.exists() and not store_folder.is_dir():
        raise InputError(f"{store_folder}: is not a folder; choose another place for the store")
    if not store_folder.is_dir() or (store_folder / MANIFEST).exists():
        return
    foreign = sorted(path.name for path in store_folder.iterdir() if not _is_left_by_a_build(path))
    if foreign:
        raise InputError(
            f"{store_folder}: holds other things ({foreign[0]}); choose an empty or new folder for the store"
        )


def _is_left_by_a_build(path: Path) -> bool:
    """Whether a build that was killed before it wrote `store.json` may have left this file."""
    return path.name == LOCK or (path.name.startswith(".") and path.suffix == ".part")
