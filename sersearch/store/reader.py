"""Reading a store: tables and frames are mapped into memory, and so shared by all processes of a machine.

Every file is checked when it is first read: a Parquet file by the hash in `store.json`, its copy as an Arrow file by
the hash in the copy's own name. To hash an Arrow file takes less than a second per GB and brings it into memory, where
its reader needs it.
"""

import errno
import math
import warnings
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from sersearch.digests import sha256_of
from sersearch.durable import beside, private_folder, sync
from sersearch.errors import InputError, refuse_uri
from sersearch.speech.features import Moments
from sersearch.store.manifest import LOCK, MANIFEST, Manifest, Recipe, SpeakerInfo

Frames = npt.NDArray[np.float32] | npt.NDArray[np.float16]
"""Log-Mels [T, M]."""

ARROW = "arrow"
"""Folder of a store's Arrow files."""

ARROW_LOCK = ".lock"

WRITTEN_WITHIN_S = 600.0
"""How long a process waits for another one to write an Arrow file before it writes one itself."""

_DIGITS = 16


def open_store(path: Path) -> "Store":
    """Open a complete store, without reading any of its rows.

    Raises:
        InputError: the folder holds no store, the store is incomplete, or a file is missing or has the wrong size.
    """
    store = open_manifest(path)
    wrong = [info.file for info in store.speakers if _size(path / info.file) != info.bytes]
    if wrong:
        others = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise InputError(
            f"{path / wrong[0]}{others}: is missing, or has another size than when it was written; delete what is left "
            "of it and run the same `sersearch features` command again"
        )
    return store


def open_manifest(path: Path) -> "Store":
    """Open a store to check it: by its manifest alone, whatever became of its other files.

    Raises:
        InputError: the folder holds no store, or the store is incomplete.
    """
    refuse_uri(path)
    manifest = Manifest.read(path)
    if manifest.missing:
        raise InputError(
            f"{path}: is incomplete, {len(manifest.missing)} of {len(manifest.planned)} speakers are "
            "missing; run the same `sersearch features` command again to resume the build"
        )
    return Store(path, manifest)


class Store:
    """A complete store that is open for reading.

    Attributes:
        path: folder of the store.
        manifest: content of `store.json`.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Create a reader without any check; `open_store` checks that the store is complete."""
        self.path = path
        self.manifest = manifest
        self._checked: set[Path] = set()
        self._noises: dict[str, Counter[str]] = {}
        self._longest: dict[str, int] = {}

    @property
    def recipe(self) -> Recipe:
        """The recipe that the store was built by."""
        return self.manifest.recipe

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the recipe."""
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
        """Map the rows of one speaker into memory, each column in one chunk; files of other speakers are not opened.

        Raises:
            InputError: the store has no such speaker, or the file of the speaker is damaged.
        """
        info = self.info(speaker)
        arrow_file = self._arrow_file(info)
        if arrow_file is None:
            return self._read_parquet(info)
        if arrow_file not in self._checked:
            _check_arrow(arrow_file)
            self._checked.add(arrow_file)
        return _read_arrow(arrow_file)

    def without_arrow(self, speakers: Iterable[str]) -> list[str]:
        """Those of some speakers whose rows have no Arrow file yet, so that a reader has to write it first."""
        infos = [self.info(speaker) for speaker in speakers]
        folders = [folder for folder in (self.path / ARROW, private_folder()) if folder]
        return [info.speaker for info in infos if not any(_arrow_files(folder, info) for folder in folders)]

    def write_arrow(self, speakers: Iterable[str]) -> None:
        """Write the Arrow files of some speakers that have none yet; see `table`."""
        for speaker in speakers:
            self._arrow_file(self.info(speaker))

    def emotions_of(self, speaker: str) -> frozenset[str]:
        """The emotions of one speaker's utterances, read from the labels alone.

        Raises:
            InputError: the store has no such speaker, or the file of the speaker is damaged.
        """
        return frozenset(row["emotion"] or "" for row in self._read_labels(speaker, ["emotion"]))

    def labels_of(self, speaker: str) -> list[dict[str, str | None]]:
        """The labels of one speaker's utterances, one entry per utterance; `extra` is JSON, where the store has it.

        Raises:
            InputError: the store has no such speaker, or the file of the speaker is damaged.
        """
        names = ["utterance", "corpus", "speaker", "gender", "emotion", "extra", "condition"]
        rows = self._read_labels(speaker, names)
        return [row for row in rows if row.pop("condition") == "clean"]

    def noises_of(self, speaker: str) -> Counter[str]:
        """How many of one speaker's copies hold each noise, by its name.

        Raises:
            InputError: the store has no such speaker, or the file of the speaker is damaged.
        """
        if speaker not in self._noises:
            noises = [row["noise"] for row in self._read_labels(speaker, ["noise"])]
            self._noises[speaker] = Counter(noise for noise in noises if noise is not None)
        return self._noises[speaker]

    def snrs_and_durations_of(self, speaker: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """SNR in dB, NaN for a clean one, and duration in seconds of each copy of one speaker: [U] each.

        Raises:
            InputError: the store has no such speaker, or the file of the speaker is damaged.
        """
        table = self._read_columns(speaker, ["snr_db", "duration_s"])
        snr_db_U, duration_s_U = (np.array(table[name].to_pylist(), np.float64) for name in table.column_names)
        return snr_db_U, duration_s_U

    def _read_labels(self, speaker: str, columns: list[str]) -> list[dict[str, str | None]]:
        """Some columns of one speaker's rows, without the frames."""
        return cast(list[dict[str, str | None]], self._read_columns(speaker, columns).to_pylist())

    def _read_columns(self, speaker: str, columns: list[str]) -> pa.Table:
        file = self.path / self.info(speaker).file
        try:
            present = set(pq.read_schema(file).names)
            return pq.read_table(file, columns=[name for name in columns if name in present])
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{file}: is damaged ({reason}); delete it and run the same `sersearch features` again"
            ) from None

    def frames(self, speaker: str) -> Frames:
        """Map the log-Mels of all rows of one speaker into memory, one row after the other, as one matrix [T, M]."""
        (chunk,) = self.table(speaker).column("log_mel").chunks
        return cast(Frames, np.from_dlpack(chunk.values).reshape(-1, self.recipe.bands))

    def longest(self, speakers: Iterable[str]) -> int:
        """Frames of the longest copy of some speakers' utterances, read from the lengths alone.

        Raises:
            InputError: the store has no such speaker, or the file of a speaker is damaged.
        """
        return max(map(self._longest_of, speakers))

    def _longest_of(self, speaker: str) -> int:
        if speaker not in self._longest:
            self._longest[speaker] = max(self._read_columns(speaker, ["frames"])["frames"].to_pylist())
        return self._longest[speaker]

    def frame_bytes(self, speakers: Iterable[str]) -> int:
        """Bytes of the log-Mels of all copies of some speakers' utterances, as they are stored.

        Raises:
            InputError: the store has no such speaker.
        """
        frames = sum(self.info(speaker).frames for speaker in speakers)
        return frames * self.recipe.bands * np.dtype(self.recipe.dtype).itemsize

    def moments(self, speaker: str) -> Moments:
        """Return the moments of all frames of one speaker, as the build computed them."""
        metadata = self.table(speaker).schema.metadata
        return unpack_moments({name: metadata[name.encode()].decode() for name in ("count", "moments")})

    def faults(self) -> dict[str, str]:
        """Read every byte of the store's own files: `store.json`, the Parquet files and the Arrow files.

        Returns:
            What is wrong with each file, by its path in the store; "" for a file that is intact.
        """
        faults = {MANIFEST: "", LOCK: "", f"{ARROW}/{ARROW_LOCK}": ""}
        for info in self.speakers:
            faults[info.file] = self._parquet_fault(info) or self._counts_fault(info)
            for path in _arrow_files(self.path / ARROW, info):
                faults[f"{ARROW}/{path.name}"] = self._arrow_fault(path, info)
        return faults

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

    def _parquet_fault(self, info: SpeakerInfo) -> str:
        return file_fault(self.path / info.file, info.sha256)

    def _counts_fault(self, info: SpeakerInfo) -> str:
        """Whether an intact file holds what the manifest says of the speaker."""
        with pq.ParquetFile(self.path / info.file) as file:
            labels = file.read(columns=["utterance", "speaker", "frames"])
            in_moments = int(file.metadata.metadata[b"count"])
        found = {
            "speakers": labels["speaker"].unique().to_pylist(),
            "utterances": len(labels["utterance"].unique()),
            "rows": len(labels),
            "frames": sum(labels["frames"].to_pylist()),
            "frames in its moments": in_moments,
        }
        stated = {
            "speakers": [info.speaker],
            "utterances": info.utterances,
            "rows": info.rows,
            "frames": info.frames,
            "frames in its moments": info.frames,
        }
        wrong = [f"{name} are {found[name]}, not {stated[name]}" for name in found if found[name] != stated[name]]
        if info.rows != self.manifest.planned.get(info.speaker):
            wrong.append(f"{self.manifest.planned.get(info.speaker)} rows were planned")
        return f"not what {MANIFEST} says: {'; '.join(wrong)}" if wrong else ""

    def _arrow_fault(self, path: Path, info: SpeakerInfo) -> str:
        if self._parquet_fault(info):
            return ""
        try:
            _check_arrow(path)
            is_same = _read_arrow(path).equals(self._read_parquet(info))
        except InputError:
            is_same = False
        return (
            "" if is_same else "damaged (not the rows of the Parquet file); delete it, the next reader writes it again"
        )

    def _read_parquet(self, info: SpeakerInfo) -> pa.Table:
        """Read the Parquet file of one speaker into memory."""
        fault = self._parquet_fault(info)
        if fault:
            raise InputError(
                f"{self.path / info.file}: {fault}; delete it and run the same `sersearch features` command again"
            )
        with pq.ParquetFile(self.path / info.file) as file:
            metadata = {key: file.metadata.metadata[key] for key in (b"sersearch", b"count", b"moments")}
            return file.read().combine_chunks().replace_schema_metadata(metadata)

    def _arrow_file(self, info: SpeakerInfo) -> Path | None:
        """Find the Arrow file of one speaker, or write it; return None if no folder can be written.

        The name of an Arrow file holds the hash of the Parquet file, so it is never out of date, and its own.
        """
        folders = [folder for folder in (self.path / ARROW, private_folder()) if folder]
        # Look everywhere before writing anywhere: the file may lie in the second folder because the first had no room.
        for folder in folders:
            with suppress(OSError):
                for path in _arrow_files(folder, info):
                    return path
        for folder in folders:
            with suppress(OSError):
                folder.mkdir(exist_ok=True)
                with _writing(folder):
                    for path in _arrow_files(folder, info):  # another process may have written it
                        return path
                    return _write_arrow(folder, info, self._read_parquet(info))
        warnings.warn(
            f"can't write to {' or '.join(map(str, folders))}: each process holds its own copy of the frames",
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
        raise InputError(f"{path}: is damaged ({reason}); delete it, and the next reader writes it again") from None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Let one process at a time write Arrow files, so that the others find them.

    On a file system without locks, or if the other one takes too long, several may write the same file.
    """
    lock = FileLock(folder / ARROW_LOCK, timeout=WRITTEN_WITHIN_S, fallback_to_soft=False)
    try:
        lock.acquire()
    except (Timeout, NotImplementedError):
        pass
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP):
            raise
    try:
        yield
    finally:
        lock.release()


def _write_arrow(folder: Path, info: SpeakerInfo, table: pa.Table) -> Path:
    """Write the Arrow file of one speaker in one step; return its path."""
    prefix = _arrow_prefix(info)
    with beside(folder / prefix) as part:
        with pa.OSFile(str(part), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        sync(part)
        path = folder / f"{prefix}{sha256_of(part)[:_DIGITS]}.arrow"
        part.replace(path)
    sync(folder)
    return path


def _check_arrow(path: Path) -> None:
    """Check that an Arrow file has the hash that is in its name."""
    if sha256_of(path)[:_DIGITS] != path.stem.rpartition("-")[2]:
        raise InputError(
            f"{path}: is damaged (not the bytes that were written); delete it, and the next reader writes it again"
        )


def _arrow_files(folder: Path, info: SpeakerInfo) -> list[Path]:
    """The Arrow files of one speaker in a folder; more than one if versions of Arrow wrote other bytes."""
    return sorted(folder.glob(f"{_arrow_prefix(info)}*.arrow"))


def _arrow_prefix(info: SpeakerInfo) -> str:
    return f"{info.file.removesuffix('.parquet')}-{info.sha256[:_DIGITS]}-"


def file_fault(path: Path, sha256: str) -> str:
    """Say what is wrong with a file: it is missing, or its bytes don't have this hash; "" if it is intact."""
    if not path.is_file():
        return "missing"
    return "" if sha256_of(path) == sha256 else "damaged (not the bytes that were written)"


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def pack_moments(moments: Moments) -> dict[str, str]:
    """Encode moments as metadata of a file: their count in decimal, and all other numbers as base64 of float64."""
    packed = np.vstack([moments.total, moments.outer])
    return {"count": str(moments.count), "moments": b64encode(packed.tobytes()).decode()}


def unpack_moments(metadata: Mapping[str, str]) -> Moments:
    """Decode what `pack_moments` encoded."""
    packed = np.frombuffer(b64decode(metadata["moments"]))
    bands = math.isqrt(packed.size)  # there are M + M x M numbers, so the root rounds down to M
    packed = packed.reshape(bands + 1, bands)
    return Moments(int(metadata["count"]), packed[0], packed[1:])
