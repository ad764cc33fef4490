"""Building a store: every utterance of a corpus, its noisy copies, and their log-Mels, speaker by speaker.

The bits depend on the recipe alone, neither on the number of workers nor on the order of the work.
"""

import math
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from sersearch.digests import digest, sha256_of
from sersearch.durable import sync
from sersearch.errors import InputError
from sersearch.speech.augment import check_library
from sersearch.speech.corpora import (
    Corpus,
    NoiseLibrary,
    Refusal,
    Survey,
    examine,
    read_noises,
    utterances_by_speaker,
)
from sersearch.speech.features import BANDS
from sersearch.store.lock import locked
from sersearch.store.manifest import MANIFEST, Manifest, Recipe, content_of
from sersearch.store.reader import Store, open_store
from sersearch.store.rows import SpeakerWriter
from sersearch.workers import in_parallel

Progress = Callable[[int, int, str], None]


def build_store(
    out: Path,
    corpus: Corpus,
    noise_folder: Path | None = None,
    *,
    noises: int = 20,
    snrs: int = 3,
    snr_range: tuple[float, float] = (-10.0, 15.0),
    seed: int = 0,
    bands: int = BANDS,
    dtype: Literal["float32", "float16"] = "float32",
    workers: int | None = None,
    skip_refused: bool = False,
    progress: Progress | None = None,
) -> Store:
    """Build a store, or go on with one that was interrupted: the same call (Section 5.2).

    Args:
        out: the store's folder; must be empty, new, or hold a store of the same recipe.
        corpus: what `read_corpus` found.
        noise_folder: any folder of audio; may be None if no noise is drawn.
        noises: noises drawn for each utterance, without replacement.
        snrs: SNRs drawn for each utterance; with `noises` = `snrs` = 0 the store holds clean utterances only.
        snr_range: lowest and highest SNR in dB.
        seed: of all draws.
        bands: number of Mel bands M.
        dtype: of the log-Mels.
        workers: processes; None for one a core. 1 works in this process.
        skip_refused: leave out files that can't be used, instead of raising.
        progress: called with (rows done, rows in all, speaker) whenever a speaker is complete.

    Returns:
        The complete store.

    Raises:
        InputError: a file can't be used, the numbers make no sense, or `out` holds something else. Nothing
            has been written then.
    """
    _check_numbers(noises, snrs, snr_range, noise_folder)
    survey = examine(corpus, workers)
    library = read_noises(noise_folder, workers) if noises and noise_folder else None
    _check_refused(survey, library, skip_refused)
    check_library(len(library or ()), noises)
    recipe = Recipe(
        corpus=corpus.name,
        emotions=survey.corpus.emotions,
        content=content_of(survey),
        noise_content=digest([[clip.name, clip.file_sha256] for clip in library.clips]) if library else None,
        noises=noises,
        snrs=snrs,
        snr_range=snr_range,
        seed=seed,
        bands=bands,
        dtype=dtype,
    )
    with locked(out):
        manifest = _begin(out, recipe, survey)
        _go_on(out, manifest, SpeakerWriter(out, recipe, library), survey.corpus, workers, progress)
    return open_store(out)


def _check_numbers(noises: int, snrs: int, snr_range: tuple[float, float], noise_folder: Path | None) -> None:
    if min(noises, snrs) < 0 or (noises == 0) != (snrs == 0):
        raise InputError(f"{noises} noises x {snrs} SNRs: give two positive numbers, or 0 and 0 for clean speech only")
    if noises and noise_folder is None:
        raise InputError(f"{noises} noises are to be drawn but there is no noise library; give its folder, or 0 and 0")
    low_db, high_db = snr_range
    if not (math.isfinite(low_db) and math.isfinite(high_db) and low_db <= high_db):
        raise InputError(f"SNRs from {low_db:g} to {high_db:g} dB: give a finite range, the lowest first")


def _check_refused(survey: Survey, library: NoiseLibrary | None, skip: bool) -> None:
    refused: tuple[Refusal, ...] = survey.refused + (library.refused if library else ())
    if refused and not skip:
        others = f" ({len(refused) - 1} more files can't be used)" if len(refused) > 1 else ""
        raise InputError(
            f"{refused[0].path}: {refused[0].reason}{others}; `sersearch corpus {survey.name} DIR` lists "
            "those of the corpus, --skip-refused leaves them out"
        )
    if not survey.recordings:
        raise InputError(f"corpus {survey.name}: no utterance is left; all {len(refused)} files are refused")


def _begin(out: Path, recipe: Recipe, survey: Survey) -> Manifest:
    """Write the manifest of a new store or check the one that is there; sweep up after a killed build."""
    for part in out.glob(".*.part"):
        part.unlink()
    if not (out / MANIFEST).exists():
        planned = {speaker: count * recipe.copies for speaker, count in survey.speakers.items()}
        manifest = Manifest(fingerprint=recipe.fingerprint, recipe=recipe, versions=_versions(), planned=planned)
        manifest.write(out)
        return manifest
    manifest = Manifest.read(out)
    _check_recipe(out, manifest.recipe, recipe)
    there = tuple(info for info in manifest.speakers if (out / info.file).exists())
    for info in there:
        if sha256_of(out / info.file) != info.sha256:
            raise InputError(f"{out / info.file}: is damaged; delete it and run the same command again")
    return manifest.model_copy(update={"speakers": there})


def _check_recipe(out: Path, there: Recipe, here: Recipe) -> None:
    differing = [name for name in Recipe.model_fields if getattr(there, name) != getattr(here, name)]
    if differing:
        fields = ", ".join(f"{name} ({getattr(there, name)} there, {getattr(here, name)} now)" for name in differing)
        raise InputError(f"{out}: holds a store of another recipe: {fields}; choose another folder, or delete it")


def _versions() -> dict[str, str]:
    packages = ("sersearch", "numpy", "pyarrow", "soundfile", "soxr", "torch", "torchaudio")
    return {"python": platform.python_version()} | {package: version(package) for package in packages}


def _go_on(
    out: Path,
    manifest: Manifest,
    write: "SpeakerWriter",
    corpus: Corpus,
    workers: int | None,
    progress: Progress | None,
) -> None:
    """Write the speakers that are missing; the manifest names each as soon as its file is in place."""
    missing = set(manifest.missing)
    speakers = utterances_by_speaker(corpus.utterances)
    jobs = [utterances for speaker, utterances in speakers.items() if speaker in missing]
    for part, info in in_parallel(write, jobs, workers):
        part.replace(out / info.file)
        sync(out)
        manifest = manifest.model_copy(update={"speakers": (*manifest.speakers, info)})
        manifest.write(out)
        if progress:
            done = sum(info.rows for info in manifest.speakers)
            progress(done, sum(manifest.planned.values()), info.speaker)
