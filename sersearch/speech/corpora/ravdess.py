"""Reading the speech part of RAVDESS, whose file names hold the labels.

Livingstone and Russo (2018), "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)",
PLoS ONE 13(5): e0196391. The pattern of a name is MM-VV-EE-II-SS-RR-AA: modality, vocal channel, emotion, intensity,
sentence, repetition, actor. Actors with odd numbers are male.
"""

import re
from pathlib import Path

from sersearch.errors import InputError
from sersearch.speech.audio import audio_files
from sersearch.speech.corpora.corpus import Corpus, Gender, Refusal, Utterance

RAVDESS = "ravdess"

ARCHETYPAL = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")

_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
_NAME = re.compile(r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>0[1-8])-0[12]-0[12]-0[12]-(?P<actor>\d\d)")


def read_ravdess(folder: Path) -> Corpus:
    """Read RAVDESS' audio-only speech from the folder that holds Actor_01 to Actor_24.

    Args:
        folder: folder that holds the files at any depth.

    Returns:
        The corpus with all eight emotions, where the id of an utterance is the name of its file without suffix;
        `refused` holds the files whose names don't fit.

    Raises:
        InputError: no name fits.
    """
    by_id, refused = _read_files(folder)
    if not by_id:
        raise InputError(
            f"{folder}: none of its {len(refused)} audio files is RAVDESS' speech; give the folder that holds "
            "Actor_01 to Actor_24"
        )
    return Corpus(RAVDESS, tuple(by_id[id] for id in sorted(by_id)), refused, folders=(folder,))


def _read_files(folder: Path) -> tuple[dict[str, Utterance], tuple[Refusal, ...]]:
    """Read the labels of all files; return the utterances by id, and the files whose names don't fit."""
    by_id: dict[str, Utterance] = {}
    refused: list[Refusal] = []
    for path in audio_files(folder):
        utterance = _read_labels(path)
        if isinstance(utterance, Refusal):
            refused.append(utterance)
        elif utterance.id in by_id:
            refused.append(Refusal(path, f"has the same name as {by_id[utterance.id].path}"))
        else:
            by_id[utterance.id] = utterance
    return by_id, tuple(refused)


def _read_labels(path: Path) -> Utterance | Refusal:
    name = _NAME.fullmatch(path.stem)
    if name is None or not 1 <= int(name["actor"]) <= 24:
        return Refusal(path, "its name does not fit RAVDESS' pattern MM-VV-EE-II-SS-RR-AA")
    if name["modality"] != "03" or name["channel"] != "01":
        return Refusal(path, "is not audio-only speech (its name must start with 03-01)")
    gender: Gender = "male" if int(name["actor"]) % 2 else "female"
    return Utterance(path.stem, path, name["actor"], gender, _EMOTIONS[name["emotion"]], RAVDESS)
