"""Building a store: the log-Mels of every utterance of a corpus and of its noisy copies, speaker by speaker.

The bits of a store depend on its recipe only, and neither on the number of workers nor on the order of the work.
"""

import math
import platform
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from sersearch.digests import digest, sha256_of
from sersearch.durable import sync
from sersearch.errors import InputError
from sersearch.speech.audio import describe_ignored
from sersearch.speech.augment import check_library
from sersearch.speech.codecs import parse_codec
from sersearch.speech.corpora import (
    Corpus,
    NoiseLibrary,
    Survey,
    Utterance,
    examine,
    read_noises,
    utterances_by_speaker,
)
from sersearch.speech.corpora.impulses import read_impulses
from sersearch.speech.corpora.noises import summarise_refusals
from sersearch.speech.features import BANDS
from sersearch.store.lock import locked
from sersearch.store.manifest import MANIFEST, Manifest, NoiseUnit, Recipe, SpeakerInfo, content_of, parquet_name
from sersearch.store.reader import Store, open_store
from sersearch.store.rows import SpeakerWriter
from sersearch.study.fold import deal_speakers, name_groups
from sersearch.workers import Parallel, in_parallel

Progress = Callable[[int, int, str], None]

# File systems allow 255 bytes; a partial file has 40 more characters than the file that it becomes.
_LONGEST_NAME = 200


def build_store(
    out: Path,
    corpus: Corpus,
    noise_folder: Path | None = None,
    *,
    noise_library: str | None = None,
    noises: int = 20,
    snrs: int = 3,
    snr_range: tuple[float, float] = (-10.0, 15.0),
    seed: int = 0,
    bands: int = BANDS,
    dtype: Literal["float32", "float16"] = "float32",
    noise_groups: int = 0,
    noise_unit: NoiseUnit = "recording",
    impulse_folder: Path | None = None,
    codecs: Sequence[str] = (),
    workers: int | None = None,
    skip_refused: bool = False,
    progress: Progress | None = None,
    decoded: Callable[[int, int], object] | None = None,
    note: Callable[[str], None] | None = None,
    parallel: Parallel = in_parallel,
) -> Store:
    """Build a store (Section 5.2), or resume a build that was interrupted.

    Args:
        out: folder of the store: new, empty, or with a store of the same recipe.
        corpus: one or several corpora, as `read_corpora` returns them.
        noise_folder: any folder of audio; may be None if no noise is drawn.
        noise_library: name of the noise library in the catalogue (`known_noises`); None for any folder.
        noises: number of noises drawn per utterance, without replacement.
        snrs: number of SNRs drawn per utterance; with `noises` = `snrs` = 0 the store holds clean utterances only.
        snr_range: lowest and highest SNR in dB.
        seed: seed of all draws.
        bands: number of Mel bands M.
        dtype: type of the log-Mels.
        noise_groups: number of groups of speakers with noises of their own, dealt by `seed` as a study's folds are;
            0 if all speakers share all noises.
        noise_unit: what is dealt to the groups: recordings, or the library's folders with all that is in them.
        impulse_folder: folder of impulse responses, one of which reverberates the speech of each noisy copy; None for
            none.
        codecs: names of codecs, one of which each noisy copy passes through; empty for none.
        workers: number of processes; None for one per core. With 1, the work is done in this process.
        skip_refused: whether to leave out files that can't be used, instead of raising an error.
        progress: called with (rows done, rows in total, speaker) whenever a speaker is complete.
        decoded: called with (files decoded, files in total) while the corpus is examined, then the noise library.
        note: called with each note on the corpus (`Survey.notes`), and on files of the folders that are not read,
            before anything is written.
        parallel: what writes the speakers, so many at a time as `workers` says; on other machines than this one, all
            paths have to be absolute and mean the same there.

    Returns:
        The complete store.

    Raises:
        InputError: a file can't be used (one recording with two speakers or emotions included), an argument is out of
            range, or `out` holds something else. Nothing has been written in this case.
    """
    _check_numbers(noises, snrs, snr_range, noise_folder)
    _check_passages(noises, impulse_folder, codecs)
    responses = read_impulses(impulse_folder) if impulse_folder else None
    survey = examine(corpus, workers, progress=decoded)
    library = read_noises(noise_folder, workers, decoded, noise_library) if noises and noise_folder else None
    if note and survey.ignored:
        note(f"not read in {', '.join(map(str, corpus.folders))}: {describe_ignored(survey.ignored)}")
    for read in (library, responses):
        if note and read and read.ignored:
            note(f"not read in {read.folder}: {describe_ignored(read.ignored)}")
    _check_refused(survey, library, skip_refused)
    _check_file_names(survey)
    if note:
        for sentence in survey.notes:
            note(sentence)
    check_library(0 if library is None else len(library), noises)
    noise_content = None
    if library:
        noise_content = digest([[clip.name, clip.file_sha256] for clip in library.clips])
    recipe = Recipe(
        corpus=corpus.name,
        emotions=survey.corpus.emotions,
        content=content_of(survey),
        noise_content=noise_content,
        noises=noises,
        snrs=snrs,
        snr_range=snr_range,
        seed=seed,
        bands=bands,
        dtype=dtype,
        noise_groups=noise_groups,
        noise_unit=noise_unit,
        noise_library=noise_library if library else None,
        impulse_content=responses.content if responses else None,
        codecs=tuple(sorted(set(codecs))),
    )
    shares = share_noises(library, survey.corpus, recipe) if library and noise_groups else None
    with locked(out):
        manifest = _start_or_resume(out, recipe, survey)
        has_extra = any(utterance.extra for utterance in survey.corpus.utterances)
        write_speaker = SpeakerWriter(out, recipe, library, has_extra, shares, responses)
        results = parallel(write_speaker, _missing_speakers(manifest, survey.corpus), workers)
        _enter_speakers(out, manifest, results, progress)
    return open_store(out)


def share_noises(library: NoiseLibrary, corpus: Corpus, recipe: Recipe) -> dict[str, NoiseLibrary]:
    """Deal speakers into groups, as a study deals them into as many folds with the same seed, and noises to the groups.

    Args:
        library: all noises.
        corpus: whose speakers.
        recipe: number of groups, what is dealt, and the seed.

    Returns:
        The noises of each speaker's group, by the speaker's name.

    Raises:
        InputError: there are more groups than speakers, or a group gets fewer noises than are drawn per utterance.
    """
    facts = {
        speaker: (utterances[0].corpus, utterances[0].gender)
        for speaker, utterances in utterances_by_speaker(corpus.utterances).items()
    }
    count = recipe.noise_groups
    if count > len(facts):
        raise InputError(f"{count} noise groups were asked for, but there are {len(facts)} speakers: ask for fewer")
    units: dict[str, list[str]] = {}
    for name in library:
        folder = name.rpartition("/")[0]
        units.setdefault(folder if recipe.noise_unit == "folder" else name, []).append(name)
    order = [sorted(units)[index] for index in np.random.default_rng(recipe.seed).permutation(len(units))]
    shares: dict[str, NoiseLibrary] = {}
    for number, hand in enumerate(deal_speakers(facts, count, recipe.seed, name_groups(facts))):
        own = {name for unit in order[number::count] for name in units[unit]}
        if len(own) < recipe.noises:
            raise InputError(
                f"{count} noise groups of the {len(units)} {recipe.noise_unit}s of {library.folder} leave one of them "
                f"{len(own)} noises, but {recipe.noises} are drawn per utterance: ask for fewer groups or noises"
            )
        shares |= dict.fromkeys(hand, library.take(own))
    return shares


def _check_numbers(noises: int, snrs: int, snr_range: tuple[float, float], noise_folder: Path | None) -> None:
    if min(noises, snrs) < 0 or (noises == 0) != (snrs == 0):
        raise InputError(
            f"{noises} noises x {snrs} SNRs per utterance: give two positive numbers, or 0 and 0 for clean speech only"
        )
    if noises and noise_folder is None:
        raise InputError(
            f"{noises} noises per utterance need a noise library, and none was given; give its folder, or draw 0 "
            "noises and 0 SNRs"
        )
    low_db, high_db = snr_range
    if not (math.isfinite(low_db) and math.isfinite(high_db) and low_db <= high_db):
        raise InputError(f"SNRs from {low_db:g} to {high_db:g} dB: give two finite numbers, the lower one first")


def _check_passages(noises: int, impulse_folder: Path | None, codecs: Sequence[str]) -> None:
    for codec in codecs:
        parse_codec(codec)
    if not noises and (impulse_folder or codecs):
        raise InputError(
            "impulse responses and codecs change noisy copies alone, and no noises are drawn: give a noise library, or "
            "leave them out"
        )


def _check_refused(survey: Survey, library: NoiseLibrary | None, skip: bool) -> None:
    refused = survey.refused
    if refused and not skip:
        first = refused[0]
        others = f" ({len(refused) - 1} more files can't be used)" if len(refused) > 1 else ""
        raise InputError(
            f"{first.path}: {first.reason}{others}; list the files of the corpus that can't be used with `sersearch "
            f"corpus {survey.name} DIR`, or leave them out with --skip-refused"
        )
    if library is not None and library.refused and not skip:
        raise InputError(
            f"{library.folder}: {len(library.refused)} of its clips can't be used as noise: "
            f"{summarise_refusals(library.refused, library.folder)}; remove them, or leave them out with --skip-refused"
        )
    if not survey.recordings:
        raise InputError(
            f"corpus {survey.name}: none of its files can be used; `sersearch corpus {survey.name} DIR` lists why"
        )


def _check_file_names(survey: Survey) -> None:
    """Check that each speaker's Parquet file can be written: its name is made of the speaker's."""
    for speaker in survey.speakers:
        if len(parquet_name(speaker)) > _LONGEST_NAME:
            raise InputError(
                f"corpus {survey.name}: the name of speaker {speaker[:40]!r}... is too long for a file name; "
                f"shorten it (letters other than A to Z count as 6 to 12 of the {_LONGEST_NAME} characters)"
            )


def _start_or_resume(out: Path, recipe: Recipe, survey: Survey) -> Manifest:
    """Write the manifest of a new store, or check that of an interrupted build; remove partial files."""
    _remove_partial_files(out)
    if not (out / MANIFEST).exists():
        planned = {speaker: count * recipe.copies for speaker, count in survey.speakers.items()}
        manifest = Manifest(fingerprint=recipe.fingerprint, recipe=recipe, versions=_versions(), planned=planned)
        manifest.write(out)
        return manifest
    manifest = Manifest.read(out)
    _check_recipe(out, manifest.recipe, recipe)
    written = tuple(info for info in manifest.speakers if (out / info.file).exists())
    for info in written:
        if sha256_of(out / info.file) != info.sha256:
            raise InputError(f"{out / info.file}: is damaged; delete it and run the same command again")
    return manifest.model_copy(update={"speakers": written})


def _check_recipe(out: Path, existing: Recipe, wanted: Recipe) -> None:
    differences: list[str] = []
    for name in Recipe.model_fields:
        before, now = getattr(existing, name), getattr(wanted, name)
        if before != now:
            differences.append(f"{name} ({before} there, {now} now)")
    if differences:
        raise InputError(
            f"{out}: holds a store of another recipe: {', '.join(differences)}; choose another folder, or delete it"
        )


def _versions() -> dict[str, str]:
    packages = ("sersearch", "numpy", "pyarrow", "soundfile", "soxr", "torch", "torchaudio")
    libsndfile = {"libsndfile": soundfile.__libsndfile_version__}
    return {"python": platform.python_version()} | {package: version(package) for package in packages} | libsndfile


def _missing_speakers(manifest: Manifest, corpus: Corpus) -> list[tuple[Utterance, ...]]:
    """The utterances of each speaker whose file is not in place."""
    missing = set(manifest.missing)
    speakers = utterances_by_speaker(corpus.utterances)
    return [utterances for speaker, utterances in speakers.items() if speaker in missing]


def _enter_speakers(
    out: Path, manifest: Manifest, results: Iterable[tuple[Path, SpeakerInfo]], progress: Progress | None
) -> None:
    """Put the files of speakers into place; the manifest names each speaker as soon as its file is there."""
    for part, info in results:
        part.replace(out / info.file)
        sync(out)
        # Sorted, so that the bytes do not depend on which worker was done first.
        speakers = sorted((*manifest.speakers, info), key=lambda info: info.speaker)
        manifest = manifest.model_copy(update={"speakers": tuple(speakers)})
        manifest.write(out)
        if progress:
            done = sum(info.rows for info in manifest.speakers)
            progress(done, sum(manifest.planned.values()), info.speaker)
    # A worker of a cluster that was lost leaves its partial file.
    _remove_partial_files(out)


def _remove_partial_files(out: Path) -> None:
    for part in out.glob(".*.part"):
        part.unlink()
