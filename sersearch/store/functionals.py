"""One vector an utterance beside the log-Mels: openSMILE's functionals (Section 4.1), or a table of your own.

    STORE/functionals/NAME/SPEAKER.parquet     utterance, speaker, gender, emotion, functionals: D float32
    STORE/functionals/NAME/functionals.json    names, provenance and the files' hashes; there once the set is complete

Who writes: whoever holds the store's lock. A speaker's file is written beside, fsynced and renamed, and is the same
whatever the number of workers; an extraction that was interrupted, killed included, goes on with the missing speakers.
What is not finite is kept as NaN: all of an utterance that is shorter than openSMILE's windows (25 ms for IS09, 60 ms
for eGeMAPSv02 and IS13, 70 ms for the others), and single functionals that openSMILE can't compute.

openSMILE's licence allows research and private use, no products; reading functionals needs no openSMILE.

Shapes: U utterances, D functionals.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from sersearch import durable
from sersearch.errors import InputError
from sersearch.speech.audio import SAMPLING_RATE, Waveform, decode
from sersearch.speech.corpora import Corpus, Utterance, examine, sha256_of
from sersearch.store import Store
from sersearch.store.build import content_of, locked
from sersearch.store.manifest import digest
from sersearch.workers import in_parallel

SETS = ("IS09", "IS10", "IS11", "IS12", "IS13", "eGeMAPSv02")
"""EC, PC, SSC, STC and ComParE (Section 4.1), and the extended Geneva set [5], by openSMILE's names."""

FOLDER = "functionals"
MANIFEST = "functionals.json"

_LICENCE = "its licence allows research and private use, no products"
_LARGEST = np.float32(32767 / 32768)  # openSMILE takes 16 bits: 1.0 would become -1.0


class FunctionalsManifest(BaseModel):
    """What `functionals.json` says; `digest` is that of all the rest.

    `content` is the store's: which utterances. `source` names openSMILE's version and its configuration's hash, or the
    hash of a table. `not_finite` counts, by utterance, what is NaN. `files` gives SHA-256 by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    content: str
    source: dict[str, str]
    count: int
    names: tuple[str, ...]
    utterances: int
    not_finite: dict[str, int]
    files: dict[str, str]
    digest: str


@dataclass(frozen=True)
class Functionals:
    """A set's functionals of all utterances of a store, sorted by speaker and utterance.

    Attributes:
        name: of the set.
        names: of the functionals [D].
        x_UD: the functionals, NaN where there is none.
        utterance: ids [U].
        speaker: of each utterance [U].
        gender: of its speaker [U], "" where unknown.
        emotion: index into the store's emotions [U].
        digest: 16 hexadecimal digits that change with any number.
    """

    name: str
    names: tuple[str, ...]
    x_UD: NDArray[np.float64]
    utterance: tuple[str, ...]
    speaker: NDArray[np.str_]
    gender: NDArray[np.str_]
    emotion: NDArray[np.int64]
    digest: str


def open_functionals(store: Store, name: str, speakers: Collection[str] | None = None) -> Functionals:
    """Read one set of a store, of all speakers or of some; no other speaker's file is touched.

    Raises:
        InputError: the store has no such set, it is unfinished, of another corpus, or damaged.
    """
    manifest = _read_manifest(store, name)
    tables = []
    chosen = manifest.files.keys() if speakers is None else {_file_of(speaker) for speaker in speakers}
    for file, sha256 in manifest.files.items():
        if file not in chosen:
            continue
        path = store.path / FOLDER / name / file
        if not path.is_file() or sha256_of(path) != sha256:
            raise InputError(f"{path}: missing or damaged; delete it and run the same `sersearch functionals` again")
        tables.append(_read_table(path))
    table = pa.concat_tables(tables).sort_by([("speaker", "ascending"), ("utterance", "ascending")])
    return Functionals(
        name=name,
        names=manifest.names,
        x_UD=_numbers(table).astype(np.float64),
        utterance=tuple(table["utterance"].to_pylist()),
        speaker=np.array(table["speaker"].to_pylist(), dtype=np.str_),
        gender=np.array([gender or "" for gender in table["gender"].to_pylist()], dtype=np.str_),
        emotion=np.array([store.emotions.index(emotion) for emotion in table["emotion"].to_pylist()], dtype=np.int64),
        digest=manifest.digest,
    )


def functionals_digests(store: Store) -> dict[str, str]:
    """Give the digest of each complete set of a store by its name, without reading a number.

    Raises:
        InputError: a set's manifest is damaged, or of another corpus.
    """
    complete = sorted(path.parent.name for path in (store.path / FOLDER).glob(f"*/{MANIFEST}"))
    return {name: _read_manifest(store, name).digest for name in complete}


def extract_functionals(
    store: Store,
    corpus: Corpus,
    sets: Sequence[str] = SETS,
    workers: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[FunctionalsManifest]:
    """Add openSMILE's functionals of the clean utterances to a store, or go on with that.

    Args:
        store: where to.
        corpus: the one that the store was built from.
        sets: out of `SETS`.
        workers: processes; None for one a core.
        progress: called with (vectors done, vectors in all, speaker and set) whenever a speaker is complete.

    Returns:
        What has been added, a manifest a set.

    Raises:
        InputError: openSMILE is missing, a set is unknown, the corpus is another, or what is there does not fit.
    """
    unknown = sorted(set(sets) - set(SETS))
    if unknown or not sets:
        raise InputError(f"{', '.join(unknown) or 'no set'}: is no set of functionals; choose from {', '.join(SETS)}")
    tasks = {name: _task(store, name) for name in dict.fromkeys(sets)}
    survey = examine(corpus, workers)
    if content_of(survey) != store.recipe.content:
        raise InputError(
            f"{store.path}: was not built from this corpus ({store.recipe.corpus}: other files or labels); "
            "give the corpus of the store, or build a store of this one with `sersearch features`"
        )
    speakers = _by_speaker(survey.corpus.utterances)
    with _writing(store):
        jobs = [
            (name, utterances)
            for name, task in tasks.items()
            for speaker, utterances in speakers.items()
            if not _is_there(task, speaker)
        ]
        left = Counter(name for name, _ in jobs)
        total = len(survey.recordings) * len(tasks)
        done = total - sum(len(utterances) for _, utterances in jobs)
        manifests = {name: _finish(task, speakers) for name, task in tasks.items() if not left[name]}
        for name, speaker, utterances in in_parallel(partial(_extract, tasks), jobs, workers):
            left[name] -= 1
            if not left[name]:
                manifests[name] = _finish(tasks[name], speakers)
            done += utterances
            if progress:
                progress(done, total, f"{speaker}, {name}")
    return [manifests[name] for name in tasks]


def import_table(store: Store, name: str, file: Path) -> FunctionalsManifest:
    """Add numbers of your own to a store, as a set of functionals: one row an utterance.

    Args:
        store: where to.
        name: of the set, new.
        file: CSV with a header, or Parquet: a column `utterance` with the ids of the store's utterances, each once, and
            a column of numbers for each functional. An empty field is NaN, as is what a float32 can't hold.

    Raises:
        InputError: the name or the table can't be used.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name, re.ASCII) or name in SETS:
        raise InputError(f"--table {name}=...: choose a name of letters, digits, '_', '-', '.', not openSMILE's")
    names, rows, x_UD = _table_of(file)
    speakers = _by_speaker(_clean_rows(store))
    _check_utterances(file, rows, [utterance.id for utterances in speakers.values() for utterance in utterances])
    task = _Task(store.path / FOLDER / name, name, store.recipe.content, {"table": sha256_of(file)}, names)
    place = {utterance: row for row, utterance in enumerate(rows)}
    with _writing(store):
        for speaker, utterances in speakers.items():
            if not _is_there(task, speaker):
                _write(task, utterances, x_UD[[place[utterance.id] for utterance in utterances]])
        return _finish(task, speakers)


@dataclass(frozen=True)
class _Task:
    """A set that is being added: where, and all that its numbers depend on."""

    folder: Path
    name: str
    content: str
    source: dict[str, str]
    names: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        return digest([self.name, self.content, self.source, self.names])[:16]

    def file(self, speaker: str) -> Path:
        return self.folder / _file_of(speaker)


def _file_of(speaker: str) -> str:
    return f"{quote(speaker, safe='')}.parquet"


def _task(store: Store, name: str) -> _Task:
    smile = _smile(name)
    root = Path(smile.default_config_root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    configuration = digest([[path.relative_to(root).as_posix(), sha256_of(path)] for path in files])
    source = {"opensmile": version("opensmile"), "configuration": configuration}
    return _Task(store.path / FOLDER / name, name, store.recipe.content, source, tuple(smile.feature_names))


@cache
def _smile(name: str) -> Any:
    try:
        import opensmile
    except ImportError:
        raise InputError(
            f"{name} needs openSMILE, which is not installed: pip install 'sersearch[functionals]'; {_LICENCE}"
        ) from None
    return opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel.Functionals, loglevel=0)


def _extract(tasks: Mapping[str, _Task], job: tuple[str, tuple[Utterance, ...]]) -> tuple[str, str, int]:
    """Write one speaker's functionals; give the set, the speaker and the number of utterances."""
    name, utterances = job
    x_UD = np.stack([functionals_of(name, decode(utterance.path)) for utterance in utterances])
    _write(tasks[name], utterances, x_UD)
    return name, utterances[0].speaker, len(utterances)


def functionals_of(name: str, waveform: Waveform) -> NDArray[np.float32]:
    """Compute one set of openSMILE's functionals [D] of a waveform [N] at 16 kHz.

    Samples beyond full scale are clipped. All are NaN if the waveform is too short.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Segment too short")
        found = _smile(name)(np.clip(waveform, -1.0, _LARGEST), SAMPLING_RATE)
    vector: NDArray[np.float32] = found.reshape(-1).astype(np.float32)
    return vector


def _by_speaker(utterances: Iterable[Utterance]) -> dict[str, tuple[Utterance, ...]]:
    """The utterances of each speaker by their ids, the speakers by their names."""
    in_order = sorted(utterances, key=lambda u: (u.speaker, u.id))
    return {speaker: tuple(group) for speaker, group in groupby(in_order, key=lambda u: u.speaker)}


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    """Hold the store's lock, and sweep up after a writer that was killed."""
    with locked(store.path):
        for part in (store.path / FOLDER).glob("*/.*.part"):
            part.unlink()
        yield


def _is_there(task: _Task, speaker: str) -> bool:
    """Whether a speaker's functionals are in place already, of the same source."""
    path = task.file(speaker)
    if not path.is_file():
        return False
    if (_read_table(path).schema.metadata or {}).get(b"sersearch") != task.fingerprint.encode():
        raise InputError(
            f"{task.folder}: holds {task.name} of another source (version of openSMILE, corpus or table); "
            "delete that folder, or choose another name or store"
        )
    return True


def _write(task: _Task, utterances: Sequence[Utterance], x_UD: NDArray[np.floating]) -> None:
    """Put one speaker's file in place."""
    with np.errstate(over="ignore"):
        numbers = x_UD.astype(np.float32)
    numbers[~np.isfinite(numbers)] = np.nan
    columns = {
        "utterance": pa.array([utterance.id for utterance in utterances], pa.string()),
        "speaker": pa.array([utterance.speaker for utterance in utterances], pa.string()),
        "gender": pa.array([utterance.gender for utterance in utterances], pa.string()),
        "emotion": pa.array([utterance.emotion for utterance in utterances], pa.string()),
        "functionals": pa.FixedSizeListArray.from_arrays(numbers.ravel(), numbers.shape[1]),
    }
    table = pa.table(columns).replace_schema_metadata({"sersearch": task.fingerprint})
    task.folder.mkdir(parents=True, exist_ok=True)
    with durable.replacing(task.file(utterances[0].speaker)) as part:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)


def _read_table(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: is damaged ({reason}); delete it and run the same command again") from None


def _numbers(table: pa.Table) -> NDArray[np.float32]:
    """The functionals [U, D] of a table."""
    column = table["functionals"].combine_chunks()
    numbers: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
    return numbers


def _finish(task: _Task, speakers: Iterable[str]) -> FunctionalsManifest:
    """Write the manifest of a set that has all of its speakers; the hashes of an earlier one must hold."""
    earlier = _manifest_at(task.folder / MANIFEST)
    same = earlier and (earlier.content, earlier.source) == (task.content, task.source)
    written = earlier.files if earlier and same else {}
    files, not_finite, utterances = {}, {}, 0
    for path in map(task.file, speakers):
        files[path.name] = sha256_of(path)
        if written.get(path.name, files[path.name]) != files[path.name]:
            raise InputError(f"{path}: is damaged; delete it and run the same command again")
        table = _read_table(path)
        count_U = np.isnan(_numbers(table)).sum(1)
        not_finite.update({id: int(n) for id, n in zip(table["utterance"].to_pylist(), count_U, strict=True) if n})
        utterances += len(table)
    facts: dict[str, Any] = {
        "format": 1,
        "name": task.name,
        "content": task.content,
        "source": task.source,
        "count": len(task.names),
        "names": task.names,
        "utterances": utterances,
        "not_finite": not_finite,
        "files": files,
    }
    manifest = FunctionalsManifest.model_validate(facts | {"digest": digest(facts)[:16]})
    if manifest != earlier:
        durable.write(task.folder / MANIFEST, f"{manifest.model_dump_json(indent=1)}\n".encode())
    return manifest


def _manifest_at(path: Path) -> FunctionalsManifest | None:
    """Read a manifest; None if it is missing, or is not what was written."""
    try:
        manifest = FunctionalsManifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return manifest if digest(manifest.model_dump(exclude={"digest"}))[:16] == manifest.digest else None


def _read_manifest(store: Store, name: str) -> FunctionalsManifest:
    folder = store.path / FOLDER / name
    if not (name and folder.is_dir()):
        there = ", ".join(sorted(path.parent.name for path in (store.path / FOLDER).glob(f"*/{MANIFEST}"))) or "none"
        raise InputError(
            f"{store.path}: has no functionals {name!r} (there: {there}); `sersearch functionals` adds them"
        )
    manifest = _manifest_at(folder / MANIFEST)
    if manifest is None:
        raise InputError(f"{folder}: is unfinished or damaged; run the same `sersearch functionals` again")
    if manifest.content != store.recipe.content:
        raise InputError(f"{folder}: belongs to a store of other utterances; delete it and make it again")
    return manifest


def _clean_rows(store: Store) -> list[Utterance]:
    """The utterances of a store."""
    wanted = ["utterance", "speaker", "gender", "emotion", "condition"]
    rows: list[Utterance] = []
    for info in store.speakers:
        with pq.ParquetFile(store.path / info.file) as file:
            table = file.read(wanted).to_pylist()
        clean = (row for row in table if row["condition"] == "clean")
        rows += [Utterance(row["utterance"], Path(), row["speaker"], row["gender"], row["emotion"]) for row in clean]
    return rows


def _table_of(file: Path) -> tuple[tuple[str, ...], list[str], NDArray[np.float64]]:
    """Read a person's table: names [D], utterances [U] and numbers [U, D]."""
    try:
        match file.suffix.lower():
            case ".csv":
                table = _read_csv(file)
            case ".parquet":
                table = pq.ParquetFile(file).read()
            case _:
                raise InputError(f"{file}: is neither .csv nor .parquet; write the table as one of them")
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{file}: {reason}; a column `utterance`, all others numbers, is what is read") from None
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; give a CSV or Parquet file") from None
    _check_columns(file, table.column_names)
    ids = table["utterance"]
    if not (pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)):
        raise InputError(f"{file}: its utterances are {ids.type}; write them as text, as the store has them")
    names = [name for name in table.column_names if name != "utterance"]
    for name in names:
        kind = table[name].type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise InputError(f"{file}: column {name!r} is {kind}; all columns but `utterance` must be numbers")
    columns = [table[name].cast(pa.float64()).to_numpy() for name in names]
    return tuple(names), [id or "" for id in ids.to_pylist()], np.column_stack(columns)


def _read_csv(file: Path) -> pa.Table:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        header = next(csv.reader(lines), [])
    _check_columns(file, header)
    kinds = {name: pa.float64() for name in header} | {"utterance": pa.string()}
    return pacsv.read_csv(
        file, pacsv.ReadOptions(block_size=1 << 26), convert_options=pacsv.ConvertOptions(column_types=kinds)
    )


def _check_columns(file: Path, names: Sequence[str]) -> None:
    if "utterance" not in names:
        raise InputError(f"{file}: has no column `utterance`; name the one with the store's utterance ids so")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            f"{file}: has {Counter(names)[twice[0]]} columns {twice[0]!r}; each must have a name of its own"
        )
    nameless = [number for number, name in enumerate(names, 1) if not name or name.startswith("__index_level_")]
    if nameless:
        raise InputError(f"{file}: column {nameless[0]} has no name (pandas' index?); write the table without it")
    if len(names) == 1:
        raise InputError(f"{file}: has no column of numbers beside `utterance`")


def _check_utterances(file: Path, given: Iterable[str], known: Iterable[str]) -> None:
    counts = Counter(given)
    rule = "a row for each utterance of the store, once, is what is needed"
    faults = {
        "is there {} times": [id for id, count in counts.items() if count > 1],
        "is no utterance of the store": sorted(set(counts) - set(known)),
        "is missing": sorted(set(known) - set(counts)),
    }
    for fault, ids in faults.items():
        if ids:
            others = f" (and {len(ids) - 1} more)" if len(ids) > 1 else ""
            raise InputError(f"{file}: utterance {ids[0]!r} {fault.format(counts[ids[0]])}{others}; {rule}")
