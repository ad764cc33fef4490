"""The survey of a corpus: every file is decoded once, and speakers, emotions and durations are counted."""

import hashlib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from sersearch.digests import sha256_of
from sersearch.errors import InputError
from sersearch.speech.audio import SAMPLING_RATE
from sersearch.speech.corpora.corpus import Corpus, Gender, Refusal, Utterance
from sersearch.speech.corpora.segment import decode_utterance


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
        identical: groups of the ids of utterances that are the same recording, sample for sample, by the same speaker
            and with the same emotion; the first of each group is kept.
        notes: what a reader of these figures has to know, one sentence each.
    """

    name: str
    recordings: tuple[Recording, ...]
    refused: tuple[Refusal, ...]
    identical: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def corpus(self) -> Corpus:
        """The corpus of the utterances that can be used."""
        return Corpus(self.name, tuple(recording.utterance for recording in self.recordings), self.refused, self.notes)

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


def examine(corpus: Corpus, workers: int | None = None) -> Survey:
    """Decode every file of a corpus.

    Args:
        corpus: corpus as `read_corpus` returns it.
        workers: number of threads (decoding releases Python's lock); None for a few more than there are cores.

    Returns:
        The survey; `refused` holds the files that the corpus refused, those that can't be decoded, then those that
        are the same recording under two speakers or emotions.
    """
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(_record, corpus.utterances))
    recordings = tuple(result for result in results if isinstance(result, Recording))
    refused = tuple(result for result in results if isinstance(result, Refusal))
    recordings, contradictory, identical = _settle_identical(recordings)
    notes = corpus.notes
    for kept, *others in identical:
        notes += (f"{', '.join((kept, *others))} are the same recording; {kept} alone is kept",)
    return Survey(corpus.name, recordings, corpus.refused + refused + contradictory, identical, notes)


def _settle_identical(
    recordings: tuple[Recording, ...],
) -> tuple[tuple[Recording, ...], tuple[Refusal, ...], tuple[tuple[str, ...], ...]]:
    """Keep one of several recordings that are the same, sample for sample.

    If they have the same speaker and emotion, the first is kept. Otherwise all are refused: which labels are right
    can't be decided here, and one recording must not be in the training and in the test partition.

    Returns:
        The recordings that are kept, the files that are refused, and the groups of ids whose first one is kept.
    """
    groups: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        groups[recording.waveform_sha256].append(recording)
    kept: list[Recording] = []
    refused: list[Refusal] = []
    identical: list[tuple[str, ...]] = []
    for group in groups.values():
        labels = {_labels(recording.utterance) for recording in group}
        if len(labels) > 1:
            refused.extend(_contradiction(recording.utterance, group) for recording in group)
            continue
        kept.append(group[0])
        if len(group) > 1:
            identical.append(tuple(recording.utterance.id for recording in group))
    return tuple(kept), tuple(refused), tuple(identical)


def _labels(utterance: Utterance) -> tuple[str, str]:
    return utterance.speaker, utterance.emotion


def _contradiction(utterance: Utterance, group: list[Recording]) -> Refusal:
    """Refuse a file that is the same recording as another file of another speaker or emotion."""
    other = next(recording.utterance for recording in group if _labels(recording.utterance) != _labels(utterance))
    return Refusal(
        utterance.path,
        f"is labelled as speaker {utterance.speaker!r}, emotion {utterance.emotion!r}, but is the same recording as "
        f"{other.path} of speaker {other.speaker!r}, emotion {other.emotion!r}; remove the one whose labels are wrong",
    )


def _record(utterance: Utterance) -> Recording | Refusal:
    try:
        waveform = decode_utterance(utterance)
    except InputError as error:
        return Refusal(utterance.path, str(error).removeprefix(f"{utterance.path}: "))
    waveform_sha256 = hashlib.sha256(waveform.data).hexdigest()
    return Recording(utterance, waveform.size, sha256_of(utterance.path), waveform_sha256)
