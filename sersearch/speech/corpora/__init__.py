"""Corpora of emotional speech and noise libraries: from a folder to a table of utterances or noises.

`read_corpora` reads names and labels only; `examine` decodes every file and counts what is in it. A noise library
(`read_noises`) is any folder of audio.
"""

from sersearch.speech.corpora.corpus import SENTENCES, Corpus, Gender, Refusal, Utterance, utterances_by_speaker
from sersearch.speech.corpora.known import KnownCorpus, known_corpora
from sersearch.speech.corpora.noises import NoiseClip, NoiseLibrary, read_noises
from sersearch.speech.corpora.reading import read_corpora, read_corpus
from sersearch.speech.corpora.segment import decode_segment, decode_utterance
from sersearch.speech.corpora.survey import Recording, Survey, examine

__all__ = [
    "SENTENCES",
    "Corpus",
    "Gender",
    "KnownCorpus",
    "NoiseClip",
    "NoiseLibrary",
    "Recording",
    "Refusal",
    "Survey",
    "Utterance",
    "decode_segment",
    "decode_utterance",
    "examine",
    "known_corpora",
    "read_corpora",
    "read_corpus",
    "read_noises",
    "utterances_by_speaker",
]
