"""Reading a store: tables and frames mapped into memory, shared by all processes of a machine."""

import json
import math
import warnings
from base64 import b64decode, b64encode
from collections.abc import Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.durable import private_folder, replacing
from sersearch.errors import InputError
from sersearch.speech.corpora import sha256_of
from sersearch.speech.features import Moments
from sersearch.store.manifest import LOCK, MANIFEST, Manifest, Recipe, SpeakerInfo, digest

Frames = npt.NDArray[np.float32] | npt.NDArray[np.float16]
"""Log-Mels [T, M]."""


def open_store(path: Path) -> "Store":
    """Open a complete store, without reading any of its rows.

    Raises:
        InputError: it is no store or incomplete, or a file is missing or of the wrong size.
    """
    manifest = Manifest.read(path)
    if manifest.missing:
        raise InputError(
            f"{path}: is incomplete, {len(manifest.missing)} of {len(manifest.planned)} speakers are "
            "missing; run the same `sersearch features` again to go on"
        )
    store = Store(path, manifest)
    wrong = [info.file for info in store.speakers if _size(path / info.file) != info.bytes]
    if wrong:
        others = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise InputError(
            f"{path / wrong[0]}{others}: missing, or not as long as written; delete what is left of it and "
            "run the same `sersearch features` again"
        )
    return store


class Store:
    """A complete store, open for reading."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Read the store at `path` as its manifest says; `open_store` checks that it's whole."""
        self.path = path
        self.manifest = manifest

    @property
    def recipe(self) -> Recipe:
        """What the store was made from."""
        return self.manifest.recipe

    @property
    def fingerprint(self) -> str:
        """The recipe's fingerprint."""
        return self.manifest.fingerprint

    @property
    def emotions(self) -> tuple[str, ...]:
        """Names of the emotions, sorted."""
        return self.recipe.emotions

    @cached_property
    def speakers(self) -> tuple[SpeakerInfo, ...]:
        """The speakers, sorted by name."""
        return tuple(sorted(self.manifest.speakers, key=lambda info: info.speaker))

    def table(self, speaker: str) -> pa.Table:
        """Map the rows of one speaker into memory, a column a chunk; no other speaker's file is touched.

        Raises:
            InputError: the store has no such speaker, or the speaker's file is damaged.
        """
        info = self.info(speaker)
        mappable = self._mappable(info)
        return _read_arrow(mappable) if mappable else self._read(info)

    def frames(self, speaker: str) -> Frames:
        """Map the log-Mels [T, M] of all rows of one speaker, one row after the other, without a copy."""
        (chunk,) = self.table(speaker).column("log_mel").chunks
        return cast(Frames, np.from_dlpack(chunk.values).reshape(-1, self.recipe.bands))

    def moments(self, speaker: str) -> Moments:
        """Give the moments of a speaker's frames as the build counted them."""
        return _unpack_moments(self.table(speaker).schema.metadata)

    def verify(self) -> list[str]:
        """Read every byte; give a line for each damaged, missing or foreign file, none if all is well."""
        known = {MANIFEST: "", LOCK: ""}
        for info in self.speakers:
            known[info.file] = self._fault(info)
            known[f"arrow/{_arrow_name(info)}"] = self._arrow_fault(info)
        for folder in self.path.glob("functionals/*/"):
            known |= self._functionals_faults(folder)
        here = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if not path.is_dir()}
        faults = {name: fault for name, fault in known.items() if fault}
        faults.update(dict.fromkeys(here - set(known), "foreign (not written by this store; remove it)"))
        return sorted(f"{name}: {fault}" for name, fault in faults.items())

    def info(self, speaker: str) -> SpeakerInfo:
        """What the manifest says of one speaker.

        Raises:
            InputError: the store has no such speaker.
        """
        for info in self.speakers:
            if info.speaker == speaker:
                return info
        names = ", ".join(info.speaker for info in self.speakers)
        raise InputError(f"{self.path}: has no speaker {speaker!r}; choose from {names}")

    def _fault(self, info: SpeakerInfo) -> str:
        return _fault_of(self.path / info.file, info.sha256)

    def _arrow_fault(self, info: SpeakerInfo) -> str:
        path = self.path / "arrow" / _arrow_name(info)
        if not path.is_file() or self._fault(info):
            return ""
        try:
            same = _read_arrow(path).equals(self._read(info))
        except InputError:
            same = False
        return "" if same else "damaged (not the rows of the Parquet file)"

    def _functionals_faults(self, folder: Path) -> dict[str, str]:
        """The faults, by file, of a set of functionals: its manifest hashes the files, and itself."""
        name = folder.relative_to(self.path).as_posix()
        try:
            facts = json.loads((folder / "functionals.json").read_bytes())
            rest = {key: fact for key, fact in facts.items() if key != "digest"}
            whole = digest(rest)[:16] == facts["digest"]
        except (OSError, ValueError, KeyError, AttributeError):
            whole = False
        if not whole:
            fault = "unfinished or damaged (run the same `sersearch functionals` again, or remove it)"
            return {f"{name}/{path.name}": fault for path in folder.iterdir()}
        files = {f"{name}/{file}": _fault_of(folder / file, sha256) for file, sha256 in facts["files"].items()}
        return files | {f"{name}/functionals.json": ""}

    def _read(self, info: SpeakerInfo) -> pa.Table:
        """Read a Parquet file into memory."""
        fault = self._fault(info)
        if fault:
            raise InputError(f"{self.path / info.file}: {fault}; delete it and run the same `sersearch features` again")
        with pq.ParquetFile(self.path / info.file) as file:
            kept = {key: file.metadata.metadata[key] for key in (b"sersearch", b"count", b"moments")}
            return file.read().combine_chunks().replace_schema_metadata(kept)

    def _mappable(self, info: SpeakerInfo) -> Path | None:
        """Find or make a speaker's Arrow file; its name has the Parquet file's hash, so it can't be stale."""
        folders = [folder for folder in (self.path / "arrow", private_folder()) if folder]
        # Look in both before making it in either: a folder without room may come before the one where the file is.
        for make, folder in product((False, True), folders):
            path = folder / _arrow_name(info)
            try:
                if make:
                    folder.mkdir(exist_ok=True)
                if make and not path.is_file():
                    _write_arrow(path, self._read(info))
                if path.is_file():
                    return path
            except OSError:
                continue
        warnings.warn(
            f"none of {', '.join(map(str, folders))} can be written: each process holds its own frames",
            RuntimeWarning,
            stacklevel=3,
        )
        return None


def _read_arrow(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as file:
            return pa.ipc.open_file(file).read_all()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: is damaged ({reason}); delete it, it will be made again") from None


def _write_arrow(path: Path, table: pa.Table) -> None:
    with (
        replacing(path) as part,
        pa.OSFile(str(part), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table)


def _arrow_name(info: SpeakerInfo) -> str:
    return f"{info.file.removesuffix('.parquet')}-{info.sha256[:16]}.arrow"


def _fault_of(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "missing"
    return "" if sha256_of(path) == sha256 else "damaged (not the bytes that were written)"


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def pack_moments(moments: Moments) -> dict[str, str]:
    """Give the metadata of a Parquet file that keeps the moments of its frames."""
    packed = np.vstack([moments.total, moments.outer])
    return {"count": str(moments.count), "moments": b64encode(packed.tobytes()).decode()}


def _unpack_moments(metadata: Mapping[bytes, bytes]) -> Moments:
    packed = np.frombuffer(b64decode(metadata[b"moments"]))
    bands = math.isqrt(packed.size)  # M + M x M numbers
    packed = packed.reshape(bands + 1, bands)
    return Moments(int(metadata[b"count"]), packed[0], packed[1:])
