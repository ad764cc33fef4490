"""Serve the frames of a store in other formats: each side makes its files once and opens them for each trial.

All sides serve the same minibatches through the same `View` of this package, so that they differ only in the source of
the frames. The rows of a table can be read in any order. Those of a stream (WebDataset, Shar) come in the order of
shuffled shards and a buffer, and are sorted by length in runs of 10 minibatches, as training does. All sides are given
the moments of the training frames, which this package keeps in its store.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.speech.features import Moments, sum_moments
from sersearch.store.reader import Store, open_store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.fold import Fold, Part
from sersearch.training.dataset import (
    MINIBATCHES_A_RUN,
    Minibatch,
    Utterances,
    View,
    by_length,
    open_dataset,
    shuffled,
)

Epoch = Callable[[np.random.Generator], Iterator[Minibatch]]
"""Yields all minibatches of training, then those of validation."""

PARTS: tuple[Part, ...] = ("train", "validation")
CONFIGURATION = NetworkConfiguration(model="FST-CLDNN", w1=3, w2=2)
A_RUN = CONFIGURATION.minibatch * MINIBATCHES_A_RUN


class Side(NamedTuple):
    """One way to serve frames: its work at the first use on a machine, and its work for each trial.

    Attributes:
        title: the name in tables.
        packages: packages that the side needs in addition to this one.
        prepare: makes the side's files in a folder from the store's Parquet files.
        open: opens these files for a trial.
    """

    title: str
    packages: tuple[str, ...]
    prepare: Callable[[Path, Fold, Path], None]
    open: Callable[[Path, Fold, Path], Epoch]


# Tables, whose rows can be read in any order


def serve(train: Utterances, validation: Utterances, moments: Moments) -> Epoch:
    """Serve shuffled training minibatches and sorted validation minibatches, as a trial does."""
    views = [View(part, CONFIGURATION, moments) for part in (train, validation)]

    def epoch(generator: np.random.Generator) -> Iterator[Minibatch]:
        for indices in shuffled(train.length, CONFIGURATION.minibatch, generator):
            yield views[0].minibatch(indices)
        for indices in by_length(validation.length, CONFIGURATION.minibatch):
            yield views[1].minibatch(indices)

    return epoch


def prepare_ours(path: Path, partition: Fold, folder: Path) -> None:
    """Make this package's Arrow files, as the first trial on a machine does."""
    open_dataset(open_store(path), partition)


def open_ours(path: Path, partition: Fold, folder: Path) -> Epoch:
    """Open this package's Arrow files, which are mapped into memory."""
    data = open_dataset(open_store(path), partition)
    return serve(data.train, data.validation, data.moments)


class _InMemory(Store):
    """A store whose Parquet files are read into memory by each process."""

    @cache  # noqa: B019 - lives as long as its process
    def table(self, speaker: str) -> pa.Table:
        file = self.path / self.info(speaker).file
        return pq.read_table(file).combine_chunks().replace_schema_metadata(pq.read_metadata(file).metadata)


def prepare_nothing(path: Path, partition: Fold, folder: Path) -> None:
    """Make no files: each trial reads the Parquet files."""


def open_parquet(path: Path, partition: Fold, folder: Path) -> Epoch:
    """Read all rows of the Parquet files into memory with `pyarrow.parquet`."""
    data = open_dataset(_InMemory(path, open_store(path).manifest), partition)
    return serve(data.train, data.validation, data.moments)


def _loaded(path: Path, partition: Fold, folder: Path) -> Any:
    import datasets  # type: ignore[import-not-found,unused-ignore]

    datasets.disable_progress_bars()
    files = {info.speaker: str(path / info.file) for info in open_store(path).speakers}
    data_files = {part: [files[speaker] for speaker in partition.speakers(part)] for part in PARTS}
    return datasets.load_dataset("parquet", data_files=data_files, cache_dir=str(folder))


def prepare_datasets(path: Path, partition: Fold, folder: Path) -> None:
    """Convert Parquet to the Arrow files of Hugging Face datasets with `load_dataset`."""
    _loaded(path, partition, folder)


def open_datasets(path: Path, partition: Fold, folder: Path) -> Epoch:
    """Open the Arrow files with `load_dataset`; rows are NumPy arrays from files that are mapped into memory."""
    emotions = {name: index for index, name in enumerate(open_store(path).emotions)}

    class Rows(NamedTuple):
        length: np.ndarray
        emotion: np.ndarray
        log_mel: Any

        def copy(self, index: int) -> np.ndarray:
            found: np.ndarray = self.log_mel[int(index)]["log_mel"]
            return found.reshape(-1, CONFIGURATION.bands)

    parts = []
    for rows in _loaded(path, partition, folder).values():
        columns = rows.with_format("arrow")
        emotion = np.array([emotions[name] for name in columns["emotion"][:].to_pylist()])
        length = columns["frames"][:].to_numpy().astype(np.int64)
        parts.append(Rows(length, emotion, rows.select_columns("log_mel").with_format("numpy")))
    return serve(cast(Utterances, parts[0]), cast(Utterances, parts[1]), _moments(open_store(path), partition))


# Streams, whose rows come in their own order

Copy = tuple[np.ndarray, int]
"""Log-Mels [T, M] and the emotion's index."""


@dataclass(frozen=True)
class _Run:
    """Some copies in memory, with the attributes that `View` reads."""

    copies: list[Copy]

    @cached_property
    def emotion(self) -> np.ndarray:
        return np.array([emotion for _, emotion in self.copies])

    def copy(self, index: int) -> np.ndarray:
        return self.copies[index][0]


def stream(parts: list[Iterable[Copy]], moments: Moments) -> Epoch:
    """Sort runs of a stream by length and cut them into minibatches."""

    def epoch(generator: np.random.Generator) -> Iterator[Minibatch]:
        for part in parts:
            copies = iter(part)
            while run := list(islice(copies, A_RUN)):
                view = View(cast(Utterances, _Run(run)), CONFIGURATION, moments)
                lengths = np.array([len(log_mel) for log_mel, _ in run])
                for indices in shuffled(lengths, CONFIGURATION.minibatch, generator):
                    yield view.minibatch(indices)

    return epoch


def prepare_webdataset(path: Path, partition: Fold, folder: Path) -> None:
    """Write WebDataset's tar files of 1000 copies each."""
    import webdataset  # type: ignore[import-not-found,unused-ignore]

    store = open_store(path)
    for part in PARTS:
        (folder / part).mkdir(parents=True)
        with webdataset.ShardWriter(str(folder / part / "%06d.tar"), maxcount=1000, verbose=0) as writer:
            for number, (log_mel, emotion) in enumerate(_rows(store, partition, part)):
                writer.write({"__key__": f"{number:06}", "npy": log_mel, "cls": emotion})
    _keep_moments(store, partition, folder)


def open_webdataset(path: Path, partition: Fold, folder: Path) -> Epoch:
    """Open WebDataset's tar files, with shuffled shards and a buffer of 1000 copies."""
    import webdataset

    def copies(part: str) -> Iterable[Copy]:
        shards = sorted(map(str, (folder / part).glob("*.tar")))
        shuffled_shards = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=0)
        found: Iterable[Copy] = shuffled_shards.shuffle(1000).decode().to_tuple("npy", "cls")
        return found

    return stream([copies(part) for part in PARTS], _kept_moments(folder))


def prepare_shar(path: Path, partition: Fold, folder: Path) -> None:
    """Write Lhotse Shar's manifests and tar files of 1000 copies each, uncompressed, because lilcom is lossy."""
    from lhotse import MonoCut  # type: ignore[import-not-found,unused-ignore]
    from lhotse.features.io import MemoryRawWriter  # type: ignore[import-not-found,unused-ignore]
    from lhotse.shar import SharWriter  # type: ignore[import-not-found,unused-ignore]

    memory, store = MemoryRawWriter(), open_store(path)
    for part in PARTS:
        (folder / part).mkdir(parents=True)
        with SharWriter(str(folder / part), fields={"log_mel": "numpy"}, shard_size=1000) as writer:
            for number, (log_mel, emotion) in enumerate(_rows(store, partition, part)):
                cut = MonoCut(f"{number:06}", start=0, duration=len(log_mel) / 100, channel=0)
                cut.emotion = emotion
                cut.log_mel = memory.store_array(cut.id, log_mel)
                writer.write(cut)
    _keep_moments(store, partition, folder)


def open_shar(path: Path, partition: Fold, folder: Path) -> Epoch:
    """Open Lhotse Shar's files, with shuffled shards and a buffer of 1000 copies."""
    from lhotse import CutSet

    def copies(part: str) -> Iterator[Copy]:
        cuts = CutSet.from_shar(in_dir=folder / part, shuffle_shards=True, seed=0)
        for cut in cuts.shuffle(buffer_size=1000):
            yield cut.load_log_mel(), cut.emotion

    return stream([copies(part) for part in PARTS], _kept_moments(folder))


def _rows(store: Store, partition: Fold, part: Part) -> Iterator[Copy]:
    """Read all copies of a part from the Parquet files."""
    emotions = {name: index for index, name in enumerate(store.emotions)}
    files = {info.speaker: info.file for info in store.speakers}
    for speaker in partition.speakers(part):
        table = pq.read_table(store.path / files[speaker], columns=["emotion", "log_mel"])
        for batch in table.to_batches():
            for emotion, log_mel in zip(batch["emotion"].to_pylist(), batch["log_mel"], strict=True):
                yield log_mel.values.to_numpy().reshape(-1, CONFIGURATION.bands), emotions[emotion]


class _Footers(Store):
    """A store of which only the footers of the Parquet files are read, which contain the moments."""

    def table(self, speaker: str) -> pa.Table:
        return pa.table({}).replace_schema_metadata(pq.read_metadata(self.path / self.info(speaker).file).metadata)


def _moments(store: Store, partition: Fold) -> Moments:
    footers = _Footers(store.path, store.manifest)
    return sum_moments(footers.moments(speaker) for speaker in partition.train)


def _keep_moments(store: Store, partition: Fold, folder: Path) -> None:
    (folder / "moments").write_bytes(pickle.dumps(_moments(store, partition)))


def _kept_moments(folder: Path) -> Moments:
    found: Moments = pickle.loads((folder / "moments").read_bytes())
    return found


SIDES = {
    "ours": Side("ours", (), prepare_ours, open_ours),
    "parquet": Side("Parquet per trial", (), prepare_nothing, open_parquet),
    "datasets": Side("Hugging Face datasets", ("datasets",), prepare_datasets, open_datasets),
    "webdataset": Side("WebDataset", ("webdataset",), prepare_webdataset, open_webdataset),
    "shar": Side("Lhotse Shar", ("lhotse",), prepare_shar, open_shar),
}
