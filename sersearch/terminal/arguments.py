"""Options that several commands take, and what their values mean."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sersearch.errors import InputError, unknown


class Format(StrEnum):
    """How facts are printed: for people, or for programs."""

    text = "text"
    json = "json"


class NoiseUnit(StrEnum):
    """What of a noise library is dealt to groups of speakers."""

    recording = "recording"
    folder = "folder"


class WonUnder(StrEnum):
    """The condition under which winners were selected."""

    clean = "clean"
    noisy = "noisy"


StudyName = Annotated[
    Path, typer.Argument(metavar="STUDY", help="A study's file, or a study that comes with sersearch: table-4.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change a setting of the study, as in training.epochs=5; may be given several times.",
    ),
]
Emotions = Annotated[
    str | None,
    typer.Option(help="Emotions to keep, as in anger,happiness,calm; the corpus' default unless given."),
]
Mapping = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="LABEL=EMOTION",
        help="Map a label of the corpus by hand, as in exc=happiness; may be given several times.",
    ),
]
DistinctSpeakers = Annotated[
    bool,
    typer.Option("--distinct-speakers", help="Keep speakers apart whose names look alike, such as 01 and 1."),
]
Speakers = Annotated[
    Path | None,
    typer.Option(
        metavar="TABLE.csv",
        help="A table with a column speaker, and gender or further facts about each speaker.",
    ),
]
ImpulseResponses = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Rooms' impulse responses: one of them reverberates each noisy copy's speech."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="text for people, json for programs.")]
RunFolder = Annotated[Path, typer.Argument(help="The run's folder.", metavar="RUN")]
Address = Annotated[
    str | None,
    typer.Option(help="A running Ray cluster, or 'auto'; without it Ray is started on this machine."),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try trials that failed for good again.")]
TakeOver = Annotated[
    bool,
    typer.Option("--take-over", help="Work on the run although another search does, which is dead or out of reach."),
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard files to RUN/tensorboard.")]
StoreOption = Annotated[Path | None, typer.Option(help="The store; the recorded one unless given.")]


def parse_pair(option: str, given: str, form: str = "NAME=PATH") -> tuple[str, Path]:
    """Read NAME=PATH, the form of --corpus and --table."""
    name, separator, path = given.partition("=")
    if not (name and separator and path):
        raise InputError(f"{option} {given}: write {form}, as in --corpus ravdess=data/RAVDESS")
    return name, Path(path)


def parse_corpora(given: list[str]) -> dict[str, Path]:
    """Read the values of --corpus: name -> folder."""
    folders: dict[str, Path] = {}
    for pair in given:
        name, folder = parse_pair("--corpus", pair, "NAME=DIR")
        if set(name) & set("/+"):
            raise InputError(f"--corpus {pair}: the name {name} holds / or +, which join names; choose another")
        if name in folders:
            raise InputError(f"--corpus {pair}: the name {name} is given twice; give each corpus a name of its own")
        folders[name] = folder
    return folders


def parse_noise(given: str | None) -> tuple[str | None, Path | None]:
    """Read DIR or NAME=DIR, the forms of --noise: name of a noise library of the catalogue, and its folder."""
    if given is None:
        return None, None
    from sersearch.speech.corpora.known_noises import known_noises

    name, separator, folder = given.partition("=")
    # A folder's own name may hold an equals sign.
    if separator and folder and not Path(given).exists():
        if name not in known_noises():
            raise InputError(f"--noise {given}: {unknown(name, known_noises(), 'noise')}; or give a folder")
        return name, Path(folder)
    return None, Path(given)


def parse_mapping(given: list[str] | None) -> dict[str, str]:
    """Read the values of --map: label -> emotion."""
    mapping: dict[str, str] = {}
    for pair in given or ():
        label, separator, emotion = (part.strip() for part in pair.partition("="))
        if not (label and separator and emotion):
            raise InputError(f"--map {pair}: write LABEL=EMOTION, as in --map exc=happiness")
        if mapping.setdefault(label, emotion) != emotion:
            raise InputError(f"--map {pair}: {label} is mapped to {mapping[label]} as well; choose one")
    return mapping


def parse_list(names: str | None) -> tuple[str, ...] | None:
    """Read names with commas between; None where the option was not given."""
    return tuple(name.strip() for name in names.split(",") if name.strip()) if names is not None else None


def parse_snr_range(given: str) -> tuple[float, float]:
    """Read LOW:HIGH, in dB."""
    try:
        low, high = (float(end) for end in given.split(":"))
    except ValueError:
        raise InputError(f"--snr-range {given}: write LOW:HIGH in dB, as in -10:15") from None
    return low, high
