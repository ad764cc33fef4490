"""The manifest of a store, `store.json`: the recipe that the store is built by, and its speakers."""

import json
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

NoiseUnit = Literal["recording", "folder"]


class Recipe(BaseModel):
    """Everything that the numbers of a store depend on; paths are no part of it.

    Attributes:
        corpus: name of the corpus; of several, their names joined by "+".
        emotions: names of the emotions, sorted.
        content: hash of the utterances' ids, labels and files.
        noise_content: hash of the noises' names and files; None if the store holds clean utterances only.
        noises: number of noises drawn per utterance.
        snrs: number of SNRs drawn per utterance.
        snr_range: lowest and highest SNR in dB.
        seed: seed of all draws.
        dtype: type of the log-Mels.
        sampling_rate: sampling rate of the waveforms in Hz.
        window_ms: length of the window of a frame in ms.
        shift_ms: shift from one frame to the next in ms.
        bands: number of Mel bands M.
        noise_groups: number of groups of speakers with noises of their own; 0 if all speakers share all noises.
        noise_unit: what is dealt to these groups: recordings, or the library's folders with all that is in them.
        noise_library: name of the noise library in the catalogue; None for any folder of audio.
        impulse_content: hash of the impulse responses' names and files; None if copies are not reverberated.
        codecs: names of the codecs, one of which each noisy copy passed through; empty for none.
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
    noise_groups: int = 0
    noise_unit: NoiseUnit = "recording"
    noise_library: str | None = None
    impulse_content: str | None = None
    codecs: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hash of the recipe, 16 hexadecimal digits."""
        # A setting that is not used is left out, so that stores keep the fingerprints that they had before it.
        unused = set() if self.noise_groups else {"noise_groups", "noise_unit"}
        unused |= {name for name in ("noise_library", "impulse_content", "codecs") if not getattr(self, name)}
        return short_digest(self.model_dump(mode="json", exclude=unused))

    @property
    def copies(self) -> int:
        """Number of rows per utterance: the clean one and the noisy ones."""
        return 1 + self.noises * self.snrs


class SpeakerInfo(BaseModel):
    """One speaker of a store.

    Attributes:
        speaker: name of the speaker.
        corpus: name of the corpus that the speaker is from.
        gender: gender of the speaker, None if unknown.
        utterances: number of utterances.
        rows: number of rows.
        frames: number of frames of all rows together.
        file: name of the Parquet file that holds the rows.
        bytes: size of the file.
        sha256: SHA-256 of the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    speaker: str
    corpus: str
    gender: Gender | None
    utterances: int
    rows: int
    frames: int
    file: str
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """The content of `store.json`.

    Attributes:
        format: version of the store; 2 since power is measured without DC, 3 since there is a digest.
        fingerprint: fingerprint of the recipe.
        recipe: recipe that the store is built by.
        versions: versions of Python and of the packages that built the store.
        planned: number of rows that each speaker has in the complete store.
        speakers: speakers whose files are in place.
        digest: SHA-256 of all other fields, by which a reader knows that nobody edited the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[3] = 3
    fingerprint: str
    recipe: Recipe
    versions: dict[str, str]
    planned: dict[str, int]
    speakers: tuple[SpeakerInfo, ...] = ()
    digest: str = ""

    @property
    def missing(self) -> list[str]:
        """Names of the speakers whose files are not in place yet."""
        built = {info.speaker for info in self.speakers}
        return [speaker for speaker in self.planned if speaker not in built]

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read `store.json` in the folder of a store.

        Raises:
            InputError: there is no `store.json`, or it is damaged or of another version.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise InputError(f"{folder}: is not a store (it has no {MANIFEST}); build one with `sersearch features`")
        content = path.read_bytes()
        try:
            manifest = cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        else:
            # The digest is of what was written: fields that have been added since have their defaults.
            written = json.loads(content)
            if written.pop("digest", "") != digest(written):
                reason = "its digest is not that of its content"
            elif manifest.fingerprint != manifest.recipe.fingerprint:
                reason = "its fingerprint is not that of its recipe"
            else:
                return manifest
        raise InputError(f"{path}: is damaged or of another version ({reason}); build the store in an empty folder")

    def write(self, folder: Path) -> None:
        """Replace `store.json` in the folder of a store in one step."""
        fields = self.model_dump(mode="json", exclude={"digest"})
        sealed = self.model_copy(update={"digest": digest(fields)})
        durable.write(folder / MANIFEST, f"{sealed.model_dump_json(indent=1)}\n".encode())


def content_of(survey: Survey) -> str:
    """Hash what a store takes from a corpus: the ids, the labels, the files, the segments and the further facts."""
    facts: list[list[str]] = []
    for recording in survey.recordings:
        utterance = recording.utterance
        labels = [utterance.id, utterance.speaker, utterance.gender or "", utterance.emotion]
        # What most corpora lack is left out where it is absent, so that their stores keep their fingerprints.
        is_segment = utterance.start_s is not None or utterance.end_s is not None
        segment = [f"{utterance.start_s} to {utterance.end_s}"] if is_segment else []
        extra = [json.dumps(dict(utterance.extra), sort_keys=True)] if utterance.extra else []
        facts.append([*labels, recording.file_sha256, *segment, *extra])
    return digest(sorted(facts))


def parquet_name(speaker: str) -> str:
    """Return the name of a speaker's Parquet file; characters that a file name can't hold are quoted as in URLs."""
    return f"{quote(speaker, safe='')}.parquet"
