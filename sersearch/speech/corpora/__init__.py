"""Corpora of emotional speech and noise libraries: from a folder to a table of utterances or noises.

`read_corpus` reads names and labels only; `examine` decodes every file and counts what is in it. A noise library
(`read_noises`) is any folder of audio.
"""

from collections.abc import Mapping
from pathlib import Path

from sersearch.speech.corpora.corpus import Corpus, Gender, Refusal, Utterance, utterances_by_speaker
from sersearch.speech.corpora.manifest import read_manifest
from sersearch.speech.corpora.noises import NoiseClip, NoiseLibrary, read_noises
from sersearch.speech.corpora.ravdess import read_ravdess
from sersearch.speech.corpora.segment import decode_segment, decode_utterance
from sersearch.speech.corpora.survey import Recording, Survey, examine

__all__ = [
    "Corpus",
    "Gender",
    "NoiseClip",
    "NoiseLibrary",
    "Recording",
    "Refusal",
    "Survey",
    "Utterance",
    "decode_segment",
    "decode_utterance",
    "examine",
    "read_corpus",
    "read_noises",
    "utterances_by_speaker",
]


def read_corpus(
    name: str,
    folder: Path,
    emotions: tuple[str, ...] | None = None,
    *,
    by_hand: Mapping[str, str] | None = None,
    distinct_speakers: bool = False,
) -> Corpus:
    """Read the utterances of a corpus, with their speakers and emotions.

    Args:
        name: "ravdess" for RAVDESS as it is distributed; any other name for a corpus that is described by a
            manifest.csv with the columns path, speaker, emotion and optionally gender, utterance and others.
        folder: folder of the corpus, or path of its manifest.
        emotions: emotions to keep; None for the paper's six in RAVDESS, and for all in any other corpus.
        by_hand: label or emotion of the corpus -> emotion that it is to become; the usual synonyms (angry, neu) are
            mapped without.
        distinct_speakers: whether names of speakers that look alike (01 and 1) belong to several people. Without it,
            they are refused.

    Raises:
        InputError: the folder holds no such corpus, its manifest is malformed, two speakers' names look alike, or the
            corpus lacks an emotion.
    """
    if name == "ravdess":
        return read_ravdess(folder, emotions, by_hand)
    return read_manifest(name, folder, emotions, by_hand, distinct_speakers)
