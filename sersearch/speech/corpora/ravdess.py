"""RAVDESS, the speech part: labels from file names.

Livingstone and Russo (2018), "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)",
PLoS ONE 13(5): e0196391. A name is MM-VV-EE-II-SS-RR-AA: modality, vocal channel, emotion, intensity,
sentence, repetition, actor; actors with odd numbers are male.
"""

import re
from pathlib import Path

from sersearch.errors import InputError
from sersearch.speech.audio import audio_files
from sersearch.speech.corpora.corpus import Corpus, Gender, Refusal, Utterance, check_emotions

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


def read_ravdess(folder: Path, emotions: tuple[str, ...] | None = None) -> Corpus:
    """Read RAVDESS' audio-only speech from the folder that holds Actor_01 to Actor_24.

    Args:
        folder: where the files are, at any depth.
        emotions: the emotions to keep; None for the six archetypal ones. There are "calm" and "neutral" too.

    Returns:
        The utterances, whose ids are the names without suffix, and the files whose names break the rule.

    Raises:
        InputError: no file there follows the rule, or RAVDESS has no such emotion.
    """
    wanted = ARCHETYPAL if emotions is None else emotions
    check_emotions(wanted, _EMOTIONS.values(), "RAVDESS")
    found: dict[str, Utterance] = {}
    refused: list[Refusal] = []
    for path in audio_files(folder):
        match _label(path):
            case str(reason):
                refused.append(Refusal(path, reason))
            case utterance if utterance.id in found:
                refused.append(Refusal(path, f"has the same name as {found[utterance.id].path}"))
            case utterance:
                found[utterance.id] = utterance
    kept = tuple(found[id] for id in sorted(found) if found[id].emotion in wanted)
    if not kept:
        raise InputError(
            f"{folder}: none of its {len(refused) + len(found)} audio files is RAVDESS' speech with "
            f"{', '.join(wanted)}; give the folder that holds Actor_01 to Actor_24"
        )
    return Corpus("ravdess", kept, tuple(refused))


def _label(path: Path) -> Utterance | str:
    """Read the labels off a file's name, or say why they can't be."""
    name = _NAME.fullmatch(path.stem)
    if name is None or not 1 <= int(name["actor"]) <= 24:
        return "its name breaks RAVDESS' rule MM-VV-EE-II-SS-RR-AA"
    if name["modality"] != "03" or name["channel"] != "01":
        return "is not audio-only speech (its name must start with 03-01)"
    gender: Gender = "male" if int(name["actor"]) % 2 else "female"
    return Utterance(path.stem, path, name["actor"], gender, _EMOTIONS[name["emotion"]])
