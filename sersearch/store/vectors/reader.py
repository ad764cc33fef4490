"""Reading vector sets: the vectors of all speakers or of some, the digests of the sets, and what is damaged.

Shapes: U utterances, D numbers per vector.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sersearch.digests import sha256_of
from sersearch.errors import InputError
from sersearch.store.manifest import parquet_name
from sersearch.store.reader import Store, file_fault
from sersearch.store.vectors.manifest import FOLDER, MANIFEST, VectorSetManifest, complete_sets, read_manifest


@dataclass(frozen=True)
class VectorSet:
    """The vectors of a store's utterances, sorted by speaker and utterance.

    Attributes:
        name: name of the set.
        names: names of the numbers [D].
        x_UD: vectors [U, D], NaN where a number is missing.
        utterance: ids of the utterances [U].
        speaker: names of the speakers [U].
        gender: genders of the speakers [U], "" if unknown.
        emotion: indices into the store's emotions [U].
        digest: 16 hexadecimal digits that change with any number of the set.
    """

    name: str
    names: tuple[str, ...]
    x_UD: NDArray[np.float64]
    utterance: tuple[str, ...]
    speaker: NDArray[np.str_]
    gender: NDArray[np.str_]
    emotion: NDArray[np.int64]
    digest: str


def open_vector_set(store: Store, name: str, speakers: Collection[str] | None = None) -> VectorSet:
    """Read one vector set of a store.

    Args:
        store: the store that holds the set.
        name: name of the set.
        speakers: names of the speakers to read; None for all. Files of other speakers are not opened.

    Raises:
        InputError: the store has no such set, or the set is unfinished, damaged, or of other utterances.
    """
    manifest = _checked_manifest(store, name)
    files = set(manifest.files) if speakers is None else {parquet_name(speaker) for speaker in speakers}
    tables = [
        _checked_table(store.path / FOLDER / name / file, sha256)
        for file, sha256 in manifest.files.items()
        if file in files
    ]
    table = pa.concat_tables(tables).sort_by([("speaker", "ascending"), ("utterance", "ascending")])
    genders = [gender or "" for gender in table["gender"].to_pylist()]
    emotions = [store.emotions.index(emotion) for emotion in table["emotion"].to_pylist()]
    return VectorSet(
        name=name,
        names=manifest.names,
        x_UD=vectors_of(table).astype(np.float64),
        utterance=tuple(table["utterance"].to_pylist()),
        speaker=np.array(table["speaker"].to_pylist(), dtype=np.str_),
        gender=np.array(genders, dtype=np.str_),
        emotion=np.array(emotions, dtype=np.int64),
        digest=manifest.digest,
    )


def vector_digests(store: Store) -> dict[str, str]:
    """Return the digest of each complete vector set of a store by name; only the manifests are read.

    Raises:
        InputError: a manifest is damaged, or belongs to a store of other utterances.
    """
    return {name: _checked_manifest(store, name).digest for name in complete_sets(store.path)}


def vector_faults(store: Store) -> dict[str, str]:
    """Read every byte of a store's vector sets.

    Returns:
        What is wrong with each file, by its path in the store; "" for a file that is intact.
    """
    faults: dict[str, str] = {}
    for folder in sorted((store.path / FOLDER).glob("*/")):
        place = folder.relative_to(store.path).as_posix()
        manifest = read_manifest(folder)
        if manifest is None:
            fault = "unfinished or damaged (run the same `sersearch functionals` command again, or remove it)"
            faults.update({f"{place}/{path.name}": fault for path in folder.iterdir()})
            continue
        faults[f"{place}/{MANIFEST}"] = ""
        for file, sha256 in manifest.files.items():
            faults[f"{place}/{file}"] = file_fault(folder / file, sha256)
    return faults


def read_speaker_file(path: Path) -> pa.Table:
    """Read the Parquet file of one speaker and check its pages.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: is damaged ({reason}); delete it and run the same command again") from None


def vectors_of(table: pa.Table) -> NDArray[np.float32]:
    """Return the vectors [U, D] of a table as `read_speaker_file` gives it."""
    column = table["vector"].combine_chunks()
    numbers = column.flatten().to_numpy(zero_copy_only=False)
    x_UD: NDArray[np.float32] = numbers.reshape(len(table), -1)
    return x_UD


def _checked_table(path: Path, sha256: str) -> pa.Table:
    if not path.is_file() or sha256_of(path) != sha256:
        raise InputError(
            f"{path}: is missing or damaged; delete it and run the same `sersearch functionals` command again"
        )
    return read_speaker_file(path)


def _checked_manifest(store: Store, name: str) -> VectorSetManifest:
    folder = store.path / FOLDER / name
    if not (name and folder.is_dir()):
        available = ", ".join(complete_sets(store.path)) or "none"
        raise InputError(
            f"{store.path}: has no vector set {name!r} (available: {available}); add it with `sersearch functionals`"
        )
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder}: is unfinished or damaged; run the same `sersearch functionals` command again")
    if manifest.content != store.recipe.content:
        raise InputError(
            f"{folder}: belongs to a store of other utterances; delete the folder and run `sersearch functionals`"
        )
    return manifest
