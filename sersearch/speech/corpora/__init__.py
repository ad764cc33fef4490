"""Corpora of emotional speech: a folder in, a table of utterances out.

`read_corpus` reads names and labels only; `examine` decodes every file and says what is in it.
A noise library (`read_noises`) is any folder of audio.
"""

from pathlib import Path

from sersearch.speech.corpora.corpus import Corpus, Gender, Refusal, Utterance, utterances_by_speaker
from sersearch.speech.corpora.manifest import read_manifest
from sersearch.speech.corpora.noises import NoiseClip, NoiseLibrary, read_noises
from sersearch.speech.corpora.ravdess import read_ravdess
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
    "examine",
    "read_corpus",
    "read_noises",
    "utterances_by_speaker",
]


def read_corpus(name: str, folder: Path, emotions: tuple[str, ...] | None = None) -> Corpus:
    """Read a corpus: which utterances there are, who speaks them, with which emotion.

    Args:
        name: "ravdess" for that corpus as it is distributed; any other name for a corpus described by a
            manifest.csv with columns path, speaker, emotion and optionally gender, utterance.
        folder: the corpus' folder, or the path of its manifest.
        emotions: the emotions to keep. None: the paper's six for RAVDESS, all of them for a manifest.

    Raises:
        InputError: no such corpus there, a malformed manifest, or an emotion that the corpus doesn't have.
    """
    if name == "ravdess":
        return read_ravdess(folder, emotions)
    return read_manifest(name, folder, emotions)
