"""What a store is made from and what it holds: the recipe, the speakers, and `store.json`."""

from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from sersearch import durable
from sersearch.digests import digest, short_digest
from sersearch.errors import InputError
from sersearch.speech.audio import SAMPLING_RATE, WINDOW_MS
from sersearch.speech.corpora import Gender, Survey
from sersearch.speech.features import BANDS, SHIFT_MS

MANIFEST = "store.json"
LOCK = ".lock"


class Recipe(BaseModel):
    """All that a store's numbers depend on; no path is part of it.

    `content` digests the utterances' ids, labels and files, `noise_content` the noises' names and files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: str
    emotions: tuple[str, ...]
    content: str
    noise_content: str | None = None
    noises: int = 20
    snrs: int = 3
    snr_range: tuple[float, float] = (-10.0, 15.0)
    seed: int = 0
    dtype: Literal["float32", "float16"] = "float32"
    sampling_rate: int = SAMPLING_RATE
    window_ms: float = WINDOW_MS
    shift_ms: float = SHIFT_MS
    bands: int = BANDS

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of SHA-256 of the recipe's canonical JSON."""
        return short_digest(self.model_dump(mode="json"))

    @property
    def copies(self) -> int:
        """Rows of each utterance: the clean one and the noisy ones."""
        return 1 + self.noises * self.snrs


class SpeakerInfo(BaseModel):
    """One speaker of a store and the file that holds the rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    speaker: str
    gender: Gender | None
    utterances: int
    rows: int
    frames: int
    file: str
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What `store.json` says; `planned` counts the rows that each speaker has once the store is complete."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    fingerprint: str
    recipe: Recipe
    versions: dict[str, str]
    planned: dict[str, int]
    speakers: tuple[SpeakerInfo, ...] = ()

    @property
    def missing(self) -> list[str]:
        """Speakers that are planned and not built yet."""
        built = {info.speaker for info in self.speakers}
        return [speaker for speaker in self.planned if speaker not in built]

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read `store.json` of a store.

        Raises:
            InputError: there is none, or it can't be understood.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise InputError(f"{folder}: is no store (no {MANIFEST} there); build one with `sersearch features`")
        try:
            manifest = cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        else:
            if manifest.fingerprint == manifest.recipe.fingerprint:
                return manifest
            reason = "its fingerprint is not its recipe's"
        raise InputError(f"{path}: is damaged or of another version ({reason}); build into an empty folder")

    def write(self, folder: Path) -> None:
        """Replace `store.json` in one step."""
        durable.write(folder / MANIFEST, f"{self.model_dump_json(indent=1)}\n".encode())


def content_of(survey: Survey) -> str:
    """Hash what a store takes from a corpus: the ids, the labels and the files of the usable utterances."""
    labels = [(recording.utterance, recording.file_sha256) for recording in survey.recordings]
    return digest(sorted([u.id, u.speaker, u.gender or "", u.emotion, sha256] for u, sha256 in labels))


def parquet_name(speaker: str) -> str:
    """Return the name of a speaker's Parquet file; characters that a file name can't hold are quoted as in URLs."""
    return f"{quote(speaker, safe='')}.parquet"
