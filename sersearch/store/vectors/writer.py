"""Writing a vector set: one file per speaker, then the manifest.

Shapes: U utterances, D numbers per vector.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sersearch import durable
from sersearch.digests import sha256_of, short_digest
from sersearch.errors import InputError
from sersearch.speech.corpora import Utterance
from sersearch.store.lock import locked
from sersearch.store.manifest import parquet_name
from sersearch.store.reader import Store
from sersearch.store.vectors.manifest import FOLDER, VectorSetManifest, read_manifest
from sersearch.store.vectors.reader import read_speaker_file, vectors_of


@contextmanager
def writing_vectors(store: Store) -> Iterator[None]:
    """Hold the store's lock, and remove the partial files of a writer that was killed.

    Raises:
        InputError: another process holds the lock.
    """
    with locked(store.path):
        for part in (store.path / FOLDER).glob("*/.*.part"):
            part.unlink()
        yield


@dataclass(frozen=True)
class VectorSetWriter:
    """Writes the files of one vector set.

    Attributes:
        folder: folder of the set.
        name: name of the set.
        content: hash of the store's utterances, as in the store's recipe.
        source: origin of the numbers, as in the set's manifest.
        names: names of the D numbers of a vector.
    """

    folder: Path
    name: str
    content: str
    source: dict[str, str]
    names: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the numbers depend on; the metadata of each speaker's file holds it."""
        return short_digest([self.name, self.content, self.source, self.names])

    def path(self, speaker: str) -> Path:
        """Return the path of a speaker's file."""
        return self.folder / parquet_name(speaker)

    def has_written(self, speaker: str) -> bool:
        """Tell whether the file of a speaker is in place.

        Raises:
            InputError: the file is damaged, or its numbers come from another source.
        """
        path = self.path(speaker)
        if not path.is_file():
            return False
        metadata = read_speaker_file(path).schema.metadata or {}
        if metadata.get(b"sersearch") != self.fingerprint.encode():
            raise InputError(
                f"{self.folder}: holds {self.name} from another source (version of openSMILE, corpus or table); "
                "delete that folder, or choose another name or store"
            )
        return True

    def write(self, utterances: Sequence[Utterance], x_UD: NDArray[np.floating]) -> None:
        """Write the file of one speaker in one step.

        Args:
            utterances: utterances of the speaker [U].
            x_UD: vectors of the utterances [U, D]; what float32 can't hold becomes NaN.
        """
        with np.errstate(over="ignore"):
            numbers_UD = x_UD.astype(np.float32)
        numbers_UD[~np.isfinite(numbers_UD)] = np.nan
        columns = {
            "utterance": pa.array([utterance.id for utterance in utterances], pa.string()),
            "speaker": pa.array([utterance.speaker for utterance in utterances], pa.string()),
            "gender": pa.array([utterance.gender for utterance in utterances], pa.string()),
            "emotion": pa.array([utterance.emotion for utterance in utterances], pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(numbers_UD.ravel(), numbers_UD.shape[1]),
        }
        table = pa.table(columns).replace_schema_metadata({"sersearch": self.fingerprint})
        self.folder.mkdir(parents=True, exist_ok=True)
        with durable.replacing(self.path(utterances[0].speaker)) as part:
            pq.write_table(table, part, compression="zstd", write_page_checksum=True)

    def finish(self, speakers: Iterable[str]) -> VectorSetManifest:
        """Write the manifest, once the files of all speakers are in place.

        Raises:
            InputError: a file is damaged: it can't be read, or an earlier manifest of the same source has another hash.
        """
        earlier = read_manifest(self.folder)
        expected: dict[str, str] = {}
        if earlier and (earlier.content, earlier.source) == (self.content, self.source):
            expected = earlier.files
        files: dict[str, str] = {}
        not_finite: dict[str, int] = {}
        utterances = 0
        for path in map(self.path, speakers):
            files[path.name] = sha256_of(path)
            if expected.get(path.name, files[path.name]) != files[path.name]:
                raise InputError(f"{path}: is damaged; delete it and run the same command again")
            table = read_speaker_file(path)
            utterances += len(table)
            not_finite |= _count_nan(table)
        manifest = VectorSetManifest(
            name=self.name,
            content=self.content,
            source=self.source,
            names=self.names,
            utterances=utterances,
            not_finite=not_finite,
            files=files,
        ).sealed()
        if manifest != earlier:
            manifest.write(self.folder)
        return manifest


def _count_nan(table: pa.Table) -> dict[str, int]:
    """Count the NaN of each utterance of a table; utterances without NaN are left out."""
    count_U = np.isnan(vectors_of(table)).sum(axis=1)
    counts = zip(table["utterance"].to_pylist(), count_U.tolist(), strict=True)
    return {utterance: count for utterance, count in counts if count}
