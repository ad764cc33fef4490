"""The manifest of a vector set: what the set holds, where its numbers come from, and the hashes of its files."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sersearch import durable
from sersearch.digests import short_digest

FOLDER = "vectors"
MANIFEST = "vectors.json"


class VectorSetManifest(BaseModel):
    """The content of `vectors.json`.

    Attributes:
        format: version of this file's format.
        name: name of the set.
        content: hash of the store's utterances, as in the store's recipe.
        source: origin of the numbers: the version of openSMILE and the hash of its configuration, or the hash of the
            user's table.
        names: names of the D numbers of a vector.
        utterances: number of utterances.
        not_finite: number of NaN per utterance; utterances without NaN are left out.
        files: SHA-256 per file name, one file per speaker.
        digest: first 16 hexadecimal digits of the hash of all other fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    content: str
    source: dict[str, str]
    names: tuple[str, ...]
    utterances: int
    not_finite: dict[str, int]
    files: dict[str, str]
    digest: str = ""

    @property
    def dimensions(self) -> int:
        """Number D of numbers in a vector."""
        return len(self.names)

    def sealed(self) -> "VectorSetManifest":
        """Return a copy whose `digest` is the one of the other fields."""
        return self.model_copy(update={"digest": self._digest_of_fields()})

    @property
    def is_intact(self) -> bool:
        """Whether `digest` is the one of the other fields; if not, somebody edited the file."""
        return self.digest == self._digest_of_fields()

    def write(self, folder: Path) -> None:
        """Replace the manifest in the folder of the set in one step."""
        durable.write(folder / MANIFEST, f"{self.model_dump_json(indent=1)}\n".encode())

    def _digest_of_fields(self) -> str:
        return short_digest(self.model_dump(mode="json", exclude={"digest"}))


def read_manifest(folder: Path) -> VectorSetManifest | None:
    """Read the manifest in the folder of a set; None if the file is missing, can't be parsed, or was edited."""
    try:
        manifest = VectorSetManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return manifest if manifest.is_intact else None


def complete_sets(store_folder: Path) -> list[str]:
    """List the names of the sets that have a manifest, sorted."""
    return sorted(path.parent.name for path in (store_folder / FOLDER).glob(f"*/{MANIFEST}"))
