"""openSMILE's functionals of a store's clean utterances (Section 4.1). This module alone imports openSMILE.

An utterance that is shorter than openSMILE's windows (`WINDOW_MS`) gives NaN throughout. Single functionals that
openSMILE can't compute are NaN as well.

openSMILE's licence allows research and private use, but no products.

Shapes: N samples, U utterances, D functionals.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sersearch.digests import digest, sha256_of
from sersearch.errors import InputError
from sersearch.speech.audio import SAMPLING_RATE, Waveform
from sersearch.speech.corpora import Corpus, Survey, Utterance, decode_utterance, examine, utterances_by_speaker
from sersearch.store.manifest import content_of
from sersearch.store.reader import Store
from sersearch.store.vectors.manifest import FOLDER, VectorSetManifest
from sersearch.store.vectors.writer import VectorSetWriter, writing_vectors
from sersearch.workers import in_parallel

SETS = ("IS09", "IS10", "IS11", "IS12", "IS13", "eGeMAPSv02")
"""openSMILE's names of the sets EC, PC, SSC, STC and ComParE (Section 4.1), and of the extended Geneva set [5]."""

WINDOW_MS = {"IS09": 25, "IS10": 70, "IS11": 70, "IS12": 70, "IS13": 60, "eGeMAPSv02": 60}
"""Duration of the shortest waveform that has functionals, by set, in ms."""

# openSMILE converts samples to 16 bits, where 1.0 would wrap around to -1.0.
_LARGEST_SAMPLE = np.float32(32767 / 32768)


def extract_functionals(
    store: Store,
    corpus: Corpus,
    sets: Sequence[str] = SETS,
    workers: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[VectorSetManifest]:
    """Add openSMILE's functionals of the clean utterances to a store, or resume an interrupted extraction.

    Args:
        store: the store that the vector sets are added to.
        corpus: the corpus that the store was built from.
        sets: names out of `SETS`.
        workers: number of processes; None for one per core.
        progress: called with (vectors done, vectors in total, "SPEAKER, SET") whenever a speaker is complete.

    Returns:
        One manifest per set.

    Raises:
        InputError: openSMILE is missing, a set is unknown, the store was built from another corpus, or the store
            holds a set of the same name from another source.
    """
    _check_sets(sets)
    writers = {name: _writer(store, name) for name in dict.fromkeys(sets)}
    survey = examine(corpus, workers)
    _check_corpus(store, survey)
    speakers = utterances_by_speaker(survey.corpus.utterances)
    with writing_vectors(store):
        jobs = _missing_jobs(writers, speakers)
        jobs_left = Counter(job.set_name for job in jobs)
        total = len(survey.recordings) * len(writers)
        done = total - sum(len(job.utterances) for job in jobs)
        manifests = {name: writer.finish(speakers) for name, writer in writers.items() if not jobs_left[name]}
        for job in in_parallel(partial(_extract, writers), jobs, workers):
            jobs_left[job.set_name] -= 1
            if not jobs_left[job.set_name]:
                manifests[job.set_name] = writers[job.set_name].finish(speakers)
            done += len(job.utterances)
            if progress:
                progress(done, total, f"{job.speaker}, {job.set_name}")
    return [manifests[name] for name in writers]


def functionals_of(name: str, waveform: Waveform) -> NDArray[np.float32]:
    """Compute one set of openSMILE's functionals.

    Args:
        name: name of the set, out of `SETS`.
        waveform: samples [N] at 16 kHz; samples beyond full scale are clipped.

    Returns:
        Functionals [D]; all of them are NaN if the waveform is shorter than `WINDOW_MS`.

    Raises:
        RuntimeError: openSMILE returned nothing for a waveform that is long enough, for example because an exception
            was raised in its callback, where it is lost.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Segment too short")
        functionals = _smile(name)(np.clip(waveform, -1.0, _LARGEST_SAMPLE), SAMPLING_RATE)
    vector_D: NDArray[np.float32] = functionals.reshape(-1).astype(np.float32)
    if np.isnan(vector_D).all() and waveform.size * 1000 >= WINDOW_MS[name] * SAMPLING_RATE:
        raise RuntimeError(f"{name}: openSMILE returned no functionals of {waveform.size} samples; was it interrupted?")
    return vector_D


def reasons_for_nan(manifest: VectorSetManifest) -> list[str]:
    """Say how many numbers of a vector set are NaN and why, one sentence per reason."""
    counts = manifest.not_finite.values()
    if manifest.name not in SETS:
        why = "their fields are empty, or hold what float32 can't"
        return [f"{_numbers(counts)} are NaN: {why}"] if counts else []
    sentences: list[str] = []
    short = sum(count == manifest.dimensions for count in counts)
    if short:
        window = f"shorter than openSMILE's window of {WINDOW_MS[manifest.name]} ms"
        sentences.append(f"all numbers of {_utterances(short)} are NaN: {window}")
    single = [count for count in counts if count < manifest.dimensions]
    if single:
        sentences.append(f"{_numbers(single)} are NaN: openSMILE gave no finite value")
    return sentences


def _numbers(counts: Collection[int]) -> str:
    return f"{sum(counts)} numbers of {_utterances(len(counts))}"


def _utterances(count: int) -> str:
    return f"{count} utterance{'s' if count > 1 else ''}"


@dataclass(frozen=True)
class _Job:
    """The utterances of one speaker, whose functionals of one set are to be extracted."""

    set_name: str
    speaker: str
    utterances: tuple[Utterance, ...]


def _missing_jobs(writers: Mapping[str, VectorSetWriter], speakers: Mapping[str, tuple[Utterance, ...]]) -> list[_Job]:
    jobs: list[_Job] = []
    for name, writer in writers.items():
        for speaker, utterances in speakers.items():
            if not writer.has_written(speaker):
                jobs.append(_Job(name, speaker, utterances))
    return jobs


def _extract(writers: Mapping[str, VectorSetWriter], job: _Job) -> _Job:
    """Extract and write the functionals of one speaker, and return the job."""
    x_UD = np.stack([functionals_of(job.set_name, decode_utterance(utterance)) for utterance in job.utterances])
    writers[job.set_name].write(job.utterances, x_UD)
    return job


def _check_sets(sets: Sequence[str]) -> None:
    choices = ", ".join(SETS)
    if not sets:
        raise InputError(f"no set of functionals was given; choose from {choices}")
    unknown = sorted(set(sets) - set(SETS))
    if unknown:
        raise InputError(f"{', '.join(unknown)}: no such set of functionals; choose from {choices}")


def _check_corpus(store: Store, survey: Survey) -> None:
    if content_of(survey) != store.recipe.content:
        raise InputError(
            f"{store.path}: was not built from this corpus ({store.recipe.corpus}: other files or labels); "
            "give the store's own corpus, or build a store of this corpus with `sersearch features`"
        )


def _writer(store: Store, name: str) -> VectorSetWriter:
    smile = _smile(name)
    root = Path(smile.default_config_root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    configuration = digest([[path.relative_to(root).as_posix(), sha256_of(path)] for path in files])
    source = {"opensmile": version("opensmile"), "configuration": configuration}
    return VectorSetWriter(store.path / FOLDER / name, name, store.recipe.content, source, tuple(smile.feature_names))


@cache
def _smile(name: str) -> Any:
    # openSMILE is an optional extra, so it is imported only where it is needed.
    try:
        import opensmile
    except ImportError:
        raise InputError(
            f"{name} needs openSMILE, which is not installed: run pip install 'sersearch[functionals]' "
            "(its licence allows research and private use, but no products)"
        ) from None
    return opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel.Functionals, loglevel=0)
