"""Where a run is kept: named objects, put whole.

Names are paths with "/" below the run's folder. Every implementation promises:

- an object is read whole or not at all: a crash leaves the object before, the object after, or none;
- `put_once` has one winner, whoever else puts at the same time;
- when `put` or `put_once` returns, the object outlives a loss of power.

`tests/run/test_storage.py` is the contract of every implementation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from sersearch import durable


class Storage(Protocol):
    """Named objects, put whole."""

    def put(self, name: str, content: bytes) -> None:
        """Put an object in the place of whatever has its name."""

    def put_once(self, name: str, content: bytes) -> bool:
        """Put an object unless its name is taken; returns whether this call's content is the object."""

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Give a local file to write a large object to; it is put when the context ends without an error."""

    def get(self, name: str) -> bytes | None:
        """The content of an object; None where there is none."""

    def open(self, name: str) -> BinaryIO:
        """An object as a seekable file, for content that is read in parts.

        Raises:
            FileNotFoundError: there is none.
        """

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""

    def list(self, prefix: str = "") -> list[str]:
        """Sorted names directly below a prefix such as "trials/", without it; those of prefixes end with "/"."""

    def delete(self, name: str) -> None:
        """Remove an object, or nothing where there is none."""

    def locate(self, name: str) -> str:
        """The object's place as a person finds it, for messages."""


class Folder:
    """Objects as files below a folder of one file system, local or shared."""

    def __init__(self, path: Path) -> None:
        """Keep objects below a folder, which is made by the first put."""
        self.path = path

    def put(self, name: str, content: bytes) -> None:
        """Write beside, fsync, rename."""
        durable.write(self._file(name), content)

    def put_once(self, name: str, content: bytes) -> bool:
        """Write beside, fsync, link."""
        return durable.write_once(self._file(name), content)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a file beside the object's place, which is fsynced and renamed at the end."""
        with durable.replacing(self._file(name)) as part:
            yield part

    def get(self, name: str) -> bytes | None:
        """Read the file."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, name: str) -> BinaryIO:
        """Open the file."""
        return (self.path / name).open("rb")

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return (self.path / name).is_file()

    def list(self, prefix: str = "") -> list[str]:
        """Names in the folder of the prefix; files that a crash left half written are no objects."""
        folder = self.path / prefix
        if not folder.is_dir():
            return []
        return sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir() if _whole(path))

    def delete(self, name: str) -> None:
        """Unlink the file."""
        (self.path / name).unlink(missing_ok=True)

    def locate(self, name: str) -> str:
        """The file's path."""
        return str(self.path / name)

    def _file(self, name: str) -> Path:
        """The file of an object, its folders made and their names on disk."""
        file = self.path / name
        missing = [folder for folder in (file.parent, *file.parent.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            durable.sync(folder.parent)
        return file


def _whole(path: Path) -> bool:
    return not (path.name.startswith(".") and path.suffix == ".part")
