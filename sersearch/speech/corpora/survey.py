"""The survey of a corpus: every file is decoded once, and speakers, emotions and durations are counted."""

import hashlib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from sersearch.digests import sha256_of
from sersearch.errors import InputError
from sersearch.speech.audio import SAMPLING_RATE, decode
from sersearch.speech.corpora.corpus import Corpus, Gender, Refusal, Utterance


@dataclass(frozen=True)
class Recording:
    """The facts about an utterance whose file was decoded.

    Attributes:
        utterance: the utterance.
        samples: number of samples at 16 kHz.
        file_sha256: SHA-256 of the file.
        waveform_sha256: SHA-256 of the decoded samples.
    """

    utterance: Utterance
    samples: int
    file_sha256: str
    waveform_sha256: str

    @property
    def duration_s(self) -> float:
        """Duration of the utterance in seconds."""
        return self.samples / SAMPLING_RATE


@dataclass(frozen=True)
class Survey:
    """The facts about a corpus whose files were decoded.

    Attributes:
        name: name of the corpus.
        recordings: one entry per usable utterance, sorted by id.
        refused: files that can't be used.
    """

    name: str
    recordings: tuple[Recording, ...]
    refused: tuple[Refusal, ...]

    @property
    def corpus(self) -> Corpus:
        """The corpus of the utterances that can be used."""
        return Corpus(self.name, tuple(recording.utterance for recording in self.recordings), self.refused)

    @property
    def counts(self) -> dict[tuple[str, Gender | None], int]:
        """Number of utterances per (emotion, gender)."""
        return dict(Counter((r.utterance.emotion, r.utterance.gender) for r in self.recordings))

    @property
    def speakers(self) -> dict[str, int]:
        """Number of utterances per speaker, sorted by the names of the speakers."""
        return dict(sorted(Counter(r.utterance.speaker for r in self.recordings).items()))

    @property
    def total_s(self) -> float:
        """Duration of all utterances together in seconds."""
        return sum(recording.duration_s for recording in self.recordings)

    @property
    def durations_s(self) -> tuple[float, float, float]:
        """Shortest, median and longest duration of an utterance in seconds; zeros if there is no utterance."""
        durations = [recording.duration_s for recording in self.recordings]
        if not durations:
            return (0.0, 0.0, 0.0)
        return (min(durations), median(durations), max(durations))

    @property
    def identical(self) -> tuple[tuple[str, ...], ...]:
        """Groups of the ids of utterances that are the same recording, sample for sample."""
        groups: dict[str, list[str]] = defaultdict(list)
        for recording in self.recordings:
            groups[recording.waveform_sha256].append(recording.utterance.id)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def examine(corpus: Corpus, workers: int | None = None) -> Survey:
    """Decode every file of a corpus.

    Args:
        corpus: corpus as `read_corpus` returns it.
        workers: number of threads (decoding releases Python's lock); None for a few more than there are cores.

    Returns:
        The survey; `refused` holds the files that the corpus refused, then those that can't be decoded.
    """
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(_record, corpus.utterances))
    recordings = tuple(result for result in results if isinstance(result, Recording))
    refused = tuple(result for result in results if isinstance(result, Refusal))
    return Survey(corpus.name, recordings, corpus.refused + refused)


def _record(utterance: Utterance) -> Recording | Refusal:
    try:
        waveform = decode(utterance.path)
    except InputError as error:
        return Refusal(utterance.path, str(error).removeprefix(f"{utterance.path}: "))
    waveform_sha256 = hashlib.sha256(waveform.data).hexdigest()
    return Recording(utterance, waveform.size, sha256_of(utterance.path), waveform_sha256)
