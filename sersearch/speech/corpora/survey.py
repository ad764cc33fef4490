"""The survey of a corpus: every file is decoded once, and speakers, emotions and durations are counted."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median

from sersearch.digests import sha256_of
from sersearch.errors import InputError
from sersearch.speech.audio import SAMPLING_RATE, list_audio, power_without_dc
from sersearch.speech.corpora.corpus import SENTENCES, Corpus, Gender, Refusal, Utterance
from sersearch.speech.corpora.segment import read_utterance

# Differences of RMS levels above which a survey mentions them.
_SPEAKER_RANGE_DB = 10.0
_FILE_RANGE_DB = 40.0
_UNUSED = "audio that the corpus leaves out"


@dataclass(frozen=True)
class Recording:
    """The facts about an utterance whose file was decoded.

    Attributes:
        utterance: the utterance.
        samples: number of samples at 16 kHz.
        file_sha256: SHA-256 of the file.
        waveform_sha256: SHA-256 of the decoded samples.
        power: mean power of the samples without their mean (DC), where full scale is 1.
        file_rate: sampling rate of the file in Hz.
        file_channels: number of channels of the file.
    """

    utterance: Utterance
    samples: int
    file_sha256: str
    waveform_sha256: str
    power: float
    file_rate: int
    file_channels: int

    @property
    def duration_s(self) -> float:
        """Duration of the utterance in seconds."""
        return self.samples / SAMPLING_RATE

    @property
    def level_db(self) -> float:
        """RMS level of the utterance in dB relative to full scale."""
        return _in_db(self.power)


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
        ignored: number of files of the corpus' folders that are not read, by their kind.
    """

    name: str
    recordings: tuple[Recording, ...]
    refused: tuple[Refusal, ...]
    identical: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)

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
    def sentences(self) -> tuple[str, dict[str, int]]:
        """The column that says what is spoken ("" if there is none), and how many speakers speak each sentence."""
        for column in SENTENCES:
            spoken = {
                (recording.utterance.extra[column].casefold(), recording.utterance.speaker)
                for recording in self.recordings
                if recording.utterance.extra.get(column)
            }
            if spoken:
                return column, dict(Counter(sentence for sentence, _ in spoken))
        return "", {}

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
    def speaker_levels_db(self) -> dict[str, float]:
        """RMS level of all utterances of each speaker in dB relative to full scale, sorted by the speakers' names."""
        samples: Counter[str] = Counter()
        energies: defaultdict[str, float] = defaultdict(float)
        for recording in self.recordings:
            speaker = recording.utterance.speaker
            samples[speaker] += recording.samples
            energies[speaker] += recording.power * recording.samples
        return {speaker: _in_db(energies[speaker] / samples[speaker]) for speaker in sorted(samples)}

    @property
    def file_rates(self) -> dict[int, int]:
        """Number of utterances per sampling rate of their files in Hz, the lowest rate first."""
        return dict(sorted(Counter(recording.file_rate for recording in self.recordings).items()))

    @property
    def file_channels(self) -> dict[int, int]:
        """Number of utterances per number of channels of their files, the smallest number first."""
        return dict(sorted(Counter(recording.file_channels for recording in self.recordings).items()))

    @property
    def differences(self) -> tuple[str, ...]:
        """Sentences that say in which ways the recordings differ so much that a classifier might learn it."""
        return tuple(_differences(self))


def examine(corpus: Corpus, workers: int | None = None, progress: Callable[[int, int], object] | None = None) -> Survey:
    """Decode every file of a corpus.

    Args:
        corpus: one or several corpora, as `read_corpora` returns them.
        workers: number of threads (decoding releases Python's lock); None for a few more than there are cores.
        progress: called with (files decoded, files in total) after each file.

    Returns:
        The survey; `refused` holds the files that the corpus refused, those that can't be decoded, then those that
        are the same recording under two speakers or emotions.
    """
    # One thread reads all segments of a file, so that the file is decoded once.
    by_file = [tuple(group) for _, group in groupby(sorted(corpus.utterances, key=_path), key=_path)]
    with ThreadPoolExecutor(workers) as pool:
        results = []
        for number, group in enumerate(pool.map(_record_all, by_file), 1):
            results += group
            if progress:
                progress(number, len(by_file))
    results.sort(key=lambda result: result[0].id)
    recordings = tuple(result for _, result in results if isinstance(result, Recording))
    refused = tuple(result for _, result in results if isinstance(result, Refusal))
    recordings, contradictory, identical = _settle_identical(recordings)
    notes = corpus.notes
    for kept, *others in identical:
        notes += (f"{', '.join((kept, *others))} are the same recording; {kept} alone is kept",)
    notes += _note_on_overlaps(recordings)
    accounted = {utterance.path for utterance in corpus.utterances} | {refusal.path for refusal in corpus.refused}
    accounted.update(corpus.tables)
    ignored = _count_ignored(corpus.folders, accounted)
    return Survey(corpus.name, recordings, corpus.refused + refused + contradictory, identical, notes, ignored)


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


def _note_on_overlaps(recordings: tuple[Recording, ...]) -> tuple[str, ...]:
    """Say which segments of one file overlap although they have two speakers: both hear the same sound."""
    by_file: dict[Path, list[Recording]] = defaultdict(list)
    for recording in recordings:
        by_file[recording.utterance.path].append(recording)
    overlaps: list[tuple[float, Recording, Recording]] = []
    for segments in by_file.values():
        in_order = sorted(segments, key=_start_s)
        for number, first in enumerate(in_order):
            for second in in_order[number + 1 :]:
                overlap_s = min(_end_s(first), _end_s(second)) - _start_s(second)
                if overlap_s <= 0:
                    break
                if first.utterance.speaker != second.utterance.speaker:
                    overlaps.append((overlap_s, first, second))
    if not overlaps:
        return ()
    longest_s, first, second = max(overlaps, key=lambda overlap: overlap[0])
    return (
        f"{len(overlaps)} pair(s) of segments of two speakers overlap in one file, by up to {longest_s:.2f} s "
        f"({first.utterance.id} and {second.utterance.id}): the same sound may be trained on and tested",
    )


def _start_s(recording: Recording) -> float:
    return recording.utterance.start_s or 0.0


def _end_s(recording: Recording) -> float:
    return _start_s(recording) + recording.duration_s


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


def _path(utterance: Utterance) -> Path:
    return utterance.path


def _record_all(utterances: tuple[Utterance, ...]) -> list[tuple[Utterance, Recording | Refusal]]:
    return [(utterance, _record(utterance)) for utterance in utterances]


def _record(utterance: Utterance) -> Recording | Refusal:
    try:
        sound = read_utterance(utterance)
        file_sha256 = sha256_of(utterance.path)
    except InputError as error:
        return Refusal(utterance.path, str(error).removeprefix(f"{utterance.path}: "))
    waveform = sound.waveform
    return Recording(
        utterance=utterance,
        samples=waveform.size,
        file_sha256=file_sha256,
        waveform_sha256=hashlib.sha256(waveform.data).hexdigest(),
        power=power_without_dc(waveform),
        file_rate=sound.file_rate,
        file_channels=sound.file_channels,
    )


def _count_ignored(folders: tuple[Path, ...], accounted: set[Path]) -> dict[str, int]:
    """Count the files of the corpora's folders that are neither utterances nor refused, by their kind."""
    ignored: Counter[str] = Counter()
    for folder in folders:
        listing = list_audio(folder, accounted)
        ignored.update(listing.ignored)
        if listing.files:
            ignored[_UNUSED] += len(listing.files)
    return dict(sorted(ignored.items()))


def _differences(survey: Survey) -> Iterator[str]:
    levels_db = survey.speaker_levels_db
    if levels_db:
        quietest = min(levels_db, key=levels_db.__getitem__)
        loudest = max(levels_db, key=levels_db.__getitem__)
        range_db = levels_db[loudest] - levels_db[quietest]
        if range_db > _SPEAKER_RANGE_DB:
            yield (
                f"the levels of the speakers differ by {range_db:.1f} dB ({quietest} is the quietest, {loudest} the "
                "loudest): a model may tell speakers by their level"
            )
        file_levels_db = [recording.level_db for recording in survey.recordings]
        file_range_db = max(file_levels_db) - min(file_levels_db)
        if file_range_db > _FILE_RANGE_DB:
            yield f"the levels of the files differ by {file_range_db:.1f} dB: listen to the quietest and the loudest"
    if len(survey.file_rates) > 1:
        lowest = min(survey.file_rates)
        beyond = "all files are resampled to 16000 Hz"
        if lowest < SAMPLING_RATE:
            beyond += f", and those of {lowest} Hz hold no sound above {lowest / 2:g} Hz"
        yield f"the files have {len(survey.file_rates)} sampling rates: {beyond}"
    if len(survey.file_channels) > 1:
        yield "the files have different numbers of channels: the channels of each file are averaged"


def _in_db(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf
