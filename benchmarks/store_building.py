"""Build a store of RAVDESS with noise from ESC-10, beside the same copies made with Lhotse.

    pip install lhotse lilcom h5py                                   the rival; without it ours is measured alone
    python benchmarks/store_building.py --ravdess DIR --esc10 DIR    4,392 copies, 4.5 hours
    python benchmarks/store_building.py --ravdess DIR --esc10 DIR --speakers 2 --utterances 1 --rivals torchaudio

Ours is `build_store`, all of it: checking and hashing every file, decoding, mixing, log-Mels, moments, Parquet, fsync.
Lhotse (cuts, `mix`, `compute_and_store_features`) is told what ours has drawn, and checks and syncs nothing. To give
both the same noise, ESC-10's clips with silent stretches are left out (ours would cut these out first, which Lhotse
can't), and so are utterances longer than a clip (ours would loop the noise). Every log-Mel of every copy is compared:
Lhotse computes them by torchaudio, as ours does, or by its own layers, and writes HDF5, or lilcom, which loses bits.
Each build is a process of its own; imports are no part of it, but those of the worker processes are, for either side.
One thread a process.

Then the share of each step, by timers in a build on one core, and how often files are opened. The limit is what the
Fourier transforms and the products with the Mel bands alone take.
"""

import argparse
import importlib.util
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import soundfile
import torch
from results_file import write_results

from sersearch.speech.augment import noisy_copies
from sersearch.speech.corpora import Corpus, NoiseLibrary, read_corpus, read_noises
from sersearch.speech.features import frame_count
from sersearch.store import build, rows
from sersearch.store.build import build_store
from sersearch.store.reader import open_store
from sersearch.workers import in_parallel

BANDS, FFT = 40, 512
RIVALS = {
    "torchaudio": "Lhotse, torchaudio's Fbank, HDF5",
    "own": "Lhotse, its own Fbank, HDF5",
    "lilcom": "Lhotse, torchaudio's Fbank, lilcom",
}
PACKAGES = ("lhotse", "lilcom", "h5py")

Found = dict[str, Any]


def select(given: argparse.Namespace, folder: Path) -> None:
    """Leave what both sides can use: links to noises without silence, and utterances shorter than any of them."""
    (folder / "noise").mkdir()
    shortest = math.inf
    for clip in read_noises(given.esc10).clips:
        length = soundfile.info(given.esc10 / clip.name).frames
        if clip.active_samples == length:
            (folder / "noise" / clip.name.replace("/", " ")).symlink_to((given.esc10 / clip.name).resolve())
            shortest = min(shortest, length)
    chosen: list[str] = []
    spoken = sorted(read_corpus("ravdess", given.ravdess).utterances, key=lambda u: (u.speaker, u.id))
    for _, utterances in islice(groupby(spoken, key=lambda u: u.speaker), given.speakers):
        fitting = [u.id for u in utterances if soundfile.info(u.path).frames <= shortest]
        chosen += fitting[:: max(1, len(fitting) // given.utterances)][: given.utterances]
    (folder / "utterances.json").write_text(json.dumps(chosen))


def corpus_of(given: argparse.Namespace, folder: Path) -> Corpus:
    """The utterances that were selected."""
    chosen = set(json.loads((folder / "utterances.json").read_text()))
    return Corpus("ravdess", tuple(u for u in read_corpus("ravdess", given.ravdess).utterances if u.id in chosen))


# Sides, each in a process of its own


@contextmanager
def timed(found: Found) -> Iterator[None]:
    """Time a block, this process and its children."""

    def cpu() -> float:
        usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    begin, cpu_begin = time.perf_counter(), cpu()
    yield
    found |= {"seconds": time.perf_counter() - begin, "cpu_s": cpu() - cpu_begin}


def ready(number: int) -> int:
    """Do nothing, in a worker that has imported what a build imports."""
    return number


def ours(given: argparse.Namespace, folder: Path, workers: int) -> Found:
    """`build_store`; and what only starting so many workers takes."""
    corpus, found, starting = corpus_of(given, folder), Found(), Found()
    with timed(found):
        store = build_store(folder / f"ours {workers}", corpus, folder / "noise", workers=workers)
    with timed(starting):
        list(in_parallel(ready, range(workers), workers))
    size = sum(info.bytes for info in store.speakers)
    return found | {"starting_s": starting["seconds"], "bytes": size, "copies": sum(i.rows for i in store.speakers)}


def lhotse(given: argparse.Namespace, folder: Path, workers: int, kind: str) -> Found:
    """The copies of our store, made with Lhotse, and how far they are from ours."""
    from rivals import lhotse_store

    torch.set_num_threads(1)
    store = open_store(folder / f"ours {workers}")
    copies = [row for i in store.speakers for row in store.table(i.speaker).drop_columns("log_mel").to_pylist()]
    speech = {u.id: u.path for u in corpus_of(given, folder).utterances}
    out, found = folder / f"{kind} {workers}", Found()
    with timed(found):
        cuts = lhotse_store.build(kind, copies, speech, folder / "noise", out, workers)
    size = sum(file.stat().st_size for file in folder.glob(f"{out.name}*/**/*") if file.is_file())
    size += sum(file.stat().st_size for file in folder.glob(f"{out.name}*") if file.is_file())
    return found | {"bytes": size, "copies": len(copies), "difference": lhotse_store.difference(cuts, store)}


class Steps:
    """CPU time of functions, less that of those that they call."""

    def __init__(self) -> None:
        """Nothing has been called."""
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A call."""
        self._inner.append(0.0)
        begin = time.process_time()
        yield
        took = time.process_time() - begin
        self.seconds[name] += took - self._inner.pop()
        self._inner[-1] += took

    def of(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def call(*arguments: Any, **options: Any) -> Any:
            with self.step(name):
                return function(*arguments, **options)

        return call

    def of_each(self, name: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The generator, timed step by step."""

        def call(*arguments: Any) -> Iterator[Any]:
            found = function(*arguments)
            while True:
                with self.step(name):
                    each = next(found, None)
                if each is None:
                    return
                yield each

        return call


def steps(given: argparse.Namespace, folder: Path) -> Found:
    """Time the steps of a build in this process."""
    corpus, found, clock = corpus_of(given, folder), Found(), Steps()
    parts = [
        (build, "examine", "check"),
        (build, "read_noises", "check"),
        (rows, "decode", "decode speech"),
        (NoiseLibrary, "__getitem__", "decode noise"),
        (rows, "log_mel", "log-Mel"),
        (rows, "moments_of", "moments"),
        (rows, "sum_moments", "moments"),
        (rows, "_batch", "write"),
        (pq.ParquetWriter, "write_batch", "write"),
        (rows, "sha256_of", "write"),
        (rows, "sync", "write"),
    ]
    opened: Counter[Path] = Counter()

    def counted(path: Path) -> soundfile.SoundFile:
        opened[path] += 1
        return sound_file(path)

    sound_file = soundfile.SoundFile
    with ExitStack() as stack:
        for owner, name, step in parts:
            stack.enter_context(patch.object(owner, name, clock.of(step, getattr(owner, name))))
        stack.enter_context(patch.object(rows, "noisy_copies", clock.of_each("mix", noisy_copies)))
        stack.enter_context(patch.object(soundfile, "SoundFile", counted))
        with timed(found):
            build_store(folder / "steps", corpus, folder / "noise", workers=1)
    opened_most = {
        "speech": max(opened[u.path] for u in corpus.utterances),
        "noise": max(opened[path] for path in opened if path.parent == folder / "noise"),
    }
    clock.seconds["rest"] = found["cpu_s"] - sum(clock.seconds.values())
    frames = [frame_count(soundfile.info(u.path).frames) for u in corpus.utterances]
    limit_s = 61 * sum(least(T) for T in frames)
    return found | {"steps": clock.seconds, "opened_most": opened_most, "limit_s": limit_s}


def least(frames: int) -> float:
    """CPU time of the Fourier transforms of so many frames, and of the product of their powers with the bands."""
    x_TN, power_TF, bands_FM = (
        torch.randn(frames, FFT),
        torch.randn(frames, FFT // 2 + 1),
        torch.randn(FFT // 2 + 1, BANDS),
    )
    out_TF, out_TM = torch.empty(frames, FFT // 2 + 1, dtype=torch.cfloat), torch.empty(frames, BANDS)
    times = []
    for _ in range(5):
        begin = time.process_time()
        torch.fft.rfft(x_TN, out=out_TF)
        torch.mm(power_TF, bands_FM, out=out_TM)
        times.append(time.process_time() - begin)
    return min(times)


# All sides


def measure(words: list[str], folder: Path, limit_s: float) -> Found:
    """Run one side in a process of its own; what went wrong is in `failed`."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder), "--side", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=environment)
    except subprocess.TimeoutExpired:
        return {"failed": f"over {limit_s:g} s"}
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def show(title: str, row: Found, audio_s: float, first: Found) -> None:
    """Print a row of the table."""
    if "failed" in row:
        print(f"| {title} | {row['workers']} | {row['failed']} |", flush=True)
        return
    apart = row.get("difference", {})
    cells = [
        title,
        str(row["workers"]),
        f"{row['seconds']:.1f} s",
        f"{audio_s / row['seconds'] / row['workers']:.0f}",
        f"{audio_s / row['cpu_s']:.0f}",
        f"{row['bytes'] / 2**20:.0f} MiB",
        f"{row['seconds'] / first['seconds']:.2f}, {row['cpu_s'] / first['cpu_s']:.2f} CPU",
        f"{apart['clean']:.0e}, {apart['noisy']:.0e}" if apart else "",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="A store built from sound, beside the same with Lhotse.")
    parser.add_argument("--ravdess", type=Path, required=True, help="RAVDESS' folder, 16 kHz")
    parser.add_argument("--esc10", type=Path, required=True, help="ESC-10's folder, 16 kHz")
    parser.add_argument("--speakers", type=int, default=24, help="how many of them (24)")
    parser.add_argument("--utterances", type=int, default=3, help="of each speaker, 61 copies each (3)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes (1 2)")
    parser.add_argument("--rivals", nargs="*", default=list(RIVALS), choices=RIVALS)
    parser.add_argument("--scratch", type=Path, help="folder for the stores (the system's)")
    parser.add_argument("--limit-s", type=float, default=300, help="time limit of a build in seconds (300)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "store_building.json")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        name, *words = given.side
        sides: dict[str, Callable[..., Found]] = {"ours": ours, "lhotse": lhotse, "steps": steps}
        print(json.dumps(sides[name](given, given.folder, *(int(w) if w.isdigit() else w for w in words))))
        return
    with tempfile.TemporaryDirectory(prefix="store-building-", dir=given.scratch) as scratch:
        folder = Path(scratch)
        select(given, folder)
        audio_s = 61 * sum(soundfile.info(u.path).duration for u in corpus_of(given, folder).utterances)
        lacking = [package for package in PACKAGES if not importlib.util.find_spec(package)]
        print(f"{audio_s / 3600:.1f} hours")
        print(
            "| side | workers | time | times real time a core | by CPU time | written | against ours | log-Mels apart |"
        )
        print("|" + " --- |" * 8)
        found: list[Found] = []
        for side in ("ours", *given.rivals):
            for workers in given.workers:
                if side == "ours":
                    row = measure(["ours", str(workers)], folder, given.limit_s)
                elif lacking:
                    row = {"failed": f"{', '.join(lacking)}: not installed"}
                else:
                    row = measure(["lhotse", str(workers), side], folder, given.limit_s)
                found.append({"side": side, "workers": workers} | row)
                first = next(each for each in found if each["workers"] == workers)
                show(RIVALS.get(side, side), found[-1], audio_s, first)
        alone = measure(["steps"], folder, given.limit_s)
        show_steps(alone, found)
    write_results(given.out, {"audio_s": audio_s, "rows": found, "alone": alone})


def show_steps(alone: Found, found: list[Found]) -> None:
    """Print the growth with workers, the share of each step, and the limit."""
    one, *more = [row for row in found if row["side"] == "ours"]
    for row in more:
        speedup = one["seconds"] / row["seconds"] * one["workers"]
        apart = one["seconds"] / (row["seconds"] - row["starting_s"]) * one["workers"]
        print(
            f"{row['workers']} workers do {speedup:.2f} times the work of one, "
            f"{apart:.2f} without the {row['starting_s']:.1f} s in which they start"
        )
    shares = sorted(alone["steps"].items(), key=lambda step: -step[1])
    print(", ".join(f"{name} {100 * seconds / alone['cpu_s']:.1f} %" for name, seconds in shares))
    print("opened at most {speech} times a speech file, {noise} times a noise".format(**alone["opened_most"]))
    print(f"transforms and bands alone {alone['limit_s']:.1f} s, log-Mels {alone['steps']['log-Mel']:.1f} s")


if __name__ == "__main__":
    main()
