"""What is in a corpus: every file decoded once, and counted."""

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
    """A decoded utterance: its samples at 16 kHz, and SHA-256 of the file and of the samples."""

    utterance: Utterance
    samples: int
    file_sha256: str
    waveform_sha256: str

    @property
    def duration_s(self) -> float:
        """How long it lasts."""
        return self.samples / SAMPLING_RATE


@dataclass(frozen=True)
class Survey:
    """A corpus after all of its files have been decoded, in the order of the utterances' ids."""

    name: str
    recordings: tuple[Recording, ...]
    refused: tuple[Refusal, ...]

    @property
    def corpus(self) -> Corpus:
        """The corpus of the utterances that can be used."""
        return Corpus(self.name, tuple(recording.utterance for recording in self.recordings), self.refused)

    @property
    def counts(self) -> dict[tuple[str, Gender | None], int]:
        """Number of utterances by (emotion, gender)."""
        return dict(Counter((r.utterance.emotion, r.utterance.gender) for r in self.recordings))

    @property
    def speakers(self) -> dict[str, int]:
        """Number of utterances by speaker, in the order of the names."""
        return dict(sorted(Counter(r.utterance.speaker for r in self.recordings).items()))

    @property
    def total_s(self) -> float:
        """Duration of all utterances."""
        return sum(recording.duration_s for recording in self.recordings)

    @property
    def durations_s(self) -> tuple[float, float, float]:
        """Shortest, median and longest duration of an utterance."""
        durations = [recording.duration_s for recording in self.recordings]
        return (min(durations), median(durations), max(durations)) if durations else (0.0, 0.0, 0.0)

    @property
    def identical(self) -> tuple[tuple[str, ...], ...]:
        """Groups of utterances that are, sample for sample, one recording: worth a note, not a refusal."""
        groups: dict[str, list[str]] = defaultdict(list)
        for recording in self.recordings:
            groups[recording.waveform_sha256].append(recording.utterance.id)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def examine(corpus: Corpus, workers: int | None = None) -> Survey:
    """Decode every file of a corpus.

    Args:
        corpus: what `read_corpus` found.
        workers: threads (decoding releases Python's lock); None for a few more than cores.

    Returns:
        The survey; `refused` holds the corpus' own refusals and the files that can't be decoded.
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
