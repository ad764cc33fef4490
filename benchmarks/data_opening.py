"""Open a store of the paper's size for trials, beside Parquet per trial, Hugging Face datasets, WebDataset and Shar.

    pip install datasets webdataset lhotse       the rivals; one that is missing is said to be
    python benchmarks/data_opening.py            76,677 copies, 58 hours: 10 GB of disk, 16 GB of memory
    python benchmarks/data_opening.py --utterances 84 --sides ours datasets

The store is generated: random numbers in rows that the store's own writer writes. Each side first makes the files that
it needs, as at the first use on a machine. Then two trials, each a process of its own, open them one after the other
and take a first minibatch, and read the rest of an epoch (training and validation) side by side. Every frame of every
minibatch is held against ours by checksum; tables (ours, Parquet, datasets) also give them in the same order. Private
memory is what the second trial has to itself after the epoch (USS, both alive), less that of a process that has only
imported torch (also one of two).

Last, a small store: files made where the disk is full (a tmpfs; needs the right to mount one), and files that were made
before a speaker's Parquet file was replaced.
"""

import argparse
import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
from results_file import write_results
from rivals.plain_data import SIDES

from sersearch.speech.augment import utterance_generator
from sersearch.speech.corpora import Utterance
from sersearch.store.manifest import Manifest, Recipe
from sersearch.store.reader import open_store
from sersearch.store.rows import Row, SpeakerWriter
from sersearch.study.fold import Fold, make_partition
from sersearch.workers import in_parallel

EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
SPEAKERS, MEAN_FRAMES, LEAST_FRAMES = 42, 271, 98
TRIALS = 2
SMALL, SMALL_DISK = 84, "4m"
TORCH = "import sys, torch, psutil; print(); sys.stdin.readline(); print(psutil.Process().memory_full_info().uss)"

Found = dict[str, Any]


# The store


class GeneratedWriter(SpeakerWriter):
    """Writes random log-Mels in place of those of sound."""

    def _rows(self, utterance: Utterance) -> Iterator[Row]:
        generator = utterance_generator(self.recipe.seed, utterance.id)
        frames = max(LEAST_FRAMES, round(generator.gamma(8, MEAN_FRAMES / 8)))
        for number in range(self.recipe.copies):
            noise = f"noise {number}" if number else None
            yield {
                "utterance": utterance.id,
                "corpus": utterance.corpus,
                "speaker": utterance.speaker,
                "gender": utterance.gender,
                "emotion": utterance.emotion,
                "condition": "noisy" if number else "clean",
                "noise": noise,
                "snr_db": 0.0 if noise else None,
                "noise_offset_s": 0.0 if noise else None,
                "duration_s": (frames * 160 + 240) / 16_000,
                "frames": frames,
                "log_mel": 12 + 3 * generator.standard_normal((frames, self.recipe.bands), np.float32),
            }


def generate(path: Path, utterances: int, seed: int = 0, only: str = "") -> None:
    """Write a store; or, with another seed, the file of one of its speakers anew."""
    recipe = Recipe(corpus="generated", emotions=EMOTIONS, content="", noise_content="", seed=seed)
    jobs = [
        tuple(
            Utterance(f"{number:04}", path, f"s{speaker:02}", None, EMOTIONS[number % SPEAKERS % 6], "generated")
            for number in range(speaker, utterances, SPEAKERS)
        )
        for speaker in range(SPEAKERS)
    ]
    if only:
        jobs = [job for job in jobs if job[0].speaker == only]
    else:
        path.mkdir()
        planned = {job[0].speaker: len(job) * recipe.copies for job in jobs}
        Manifest(fingerprint=recipe.fingerprint, recipe=recipe, versions={}, planned=planned).write(path)
    for part, info in in_parallel(GeneratedWriter(path, recipe, None), jobs):
        part.replace(path / info.file)
        manifest = Manifest.read(path)
        others = [each for each in manifest.speakers if each.speaker != info.speaker]
        manifest.model_copy(update={"speakers": (*others, info)}).write(path)


def partition_of(path: Path) -> Fold:
    """Which speakers train."""
    return make_partition(info.speaker for info in Manifest.read(path).speakers)


# One side, in a process of its own


def serve(side: str, path: Path, folder: Path) -> None:
    """Do what the lines of stdin say, and answer each with a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    trial = Trial(side, path, folder)
    for word in sys.stdin:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                answer = getattr(trial, word.strip())()
            except Exception as error:
                answer = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        answer["warnings"] = [str(warning.message) for warning in warned]
        print(json.dumps(answer), file=answers, flush=True)


def peak_mib() -> float:
    """This process's largest memory so far; getrusage would count that of the process it was forked from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10


class Trial:
    """A side's part of a trial."""

    def __init__(self, side: str, path: Path, folder: Path) -> None:
        """Nothing is opened yet."""
        self._side = SIDES[side]
        self._where = path, partition_of(path), folder
        # Ray Tune, in whose processes trials run, has imported pandas; otherwise pyarrow would while it opens.
        for package in ("pandas", *self._side.packages):
            importlib.import_module(package)

    def prepare(self) -> Found:
        """The first use on a machine."""
        begin, cpu, before_mib = time.perf_counter(), time.process_time(), peak_mib()
        self._side.prepare(*self._where)
        grown_mib = peak_mib() - before_mib
        return {"seconds": time.perf_counter() - begin, "cpu_s": time.process_time() - cpu, "grown_mib": grown_mib}

    def open(self) -> Found:
        """Open, and take a minibatch."""
        begin, cpu = time.perf_counter(), time.process_time()
        epoch = self._side.open(*self._where)
        opened, cpu = time.perf_counter(), time.process_time() - cpu
        self._minibatches = epoch(np.random.default_rng(0))
        self._first = next(self._minibatches)
        return {"open_s": opened - begin, "open_cpu_s": cpu, "first_s": time.perf_counter() - opened}

    def read(self) -> Found:
        """Read the rest of the epoch; only the side's own work is timed."""
        found = {"copies": 0, "frames": 0, "checksum": 0, "in_order": 0}
        seconds = cpu_s = 0.0
        minibatch = self._first
        while minibatch:
            for x_TF, frames, emotion in zip(*(each.numpy() for each in minibatch), strict=True):
                checksum = zlib.crc32(x_TF[:frames], int(emotion))
                found["copies"] += 1
                found["frames"] += int(frames)
                found["checksum"] += checksum
                found["in_order"] = zlib.crc32(checksum.to_bytes(4, "little"), found["in_order"])
            begin, cpu = time.perf_counter(), time.process_time()
            minibatch = next(self._minibatches, None)  # type: ignore[assignment]
            seconds += time.perf_counter() - begin
            cpu_s += time.process_time() - cpu
        return found | {"epoch_s": seconds, "epoch_cpu_s": cpu_s}

    def measure(self) -> Found:
        """What this process has to itself."""
        return {"private_mib": psutil.Process().memory_full_info().uss / 2**20}


class Child:
    """A process that serves a side."""

    def __init__(self, side: str, path: Path, folder: Path, limit_s: float) -> None:
        """Start it."""
        self._limit_s = limit_s
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        command = [sys.executable, __file__, "--side", side, "--store", str(path), "--folder", str(folder)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | {"TMPDIR": str(path.parent), "XDG_CACHE_HOME": str(path.parent), "HF_HUB_OFFLINE": "1"},
        )

    def __enter__(self) -> Self:
        """Leave the process to the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def begin(self, word: str) -> None:
        """Say what is to be done."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def end(self) -> Found:
        """Wait for the answer."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self._limit_s)[0]:
            return {"failed": f"over {self._limit_s:g} s"}
        if line := self._process.stdout.readline():
            found: Found = json.loads(line)
            return found
        self._log.seek(0)
        return {"failed": (self._log.read().strip().splitlines() or ["nothing said"])[-1]}

    def ask(self, word: str) -> Found:
        """Say it and wait."""
        self.begin(word)
        return self.end()


def ask_all(children: Sequence[Child], word: str) -> list[Found]:
    """Ask several at the same time."""
    for child in children:
        child.begin(word)
    return [child.end() for child in children]


# All sides


def missing(side: str) -> str:
    """The packages that a side needs and that aren't there."""
    return ", ".join(package for package in SIDES[side].packages if not importlib.util.find_spec(package))


def compare(side: str, path: Path, limit_s: float) -> Found:
    """One side: its first use, and two trials."""
    if missing(side):
        return {"side": side, "failed": f"{missing(side)}: not installed"}
    with made_by(side, path) as folder:
        with Child(side, path, folder, limit_s) as child:
            row: Found = {"side": side, "first_use": child.ask("prepare")}
        row["made_mib"] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
        if "failed" in row["first_use"]:
            return row | {"failed": row["first_use"]["failed"]}
        with ExitStack() as stack:
            trials = [stack.enter_context(Child(side, path, folder, limit_s)) for _ in range(TRIALS)]
            # A process's imports are no part of its opening, and the others rest while one opens.
            ask_all(trials, "measure")
            answers = [[trial.ask("open") for trial in trials], ask_all(trials, "read"), ask_all(trials, "measure")]
    for answer in answers:
        row |= answer[-1]
    return row


@contextmanager
def made_by(side: str, path: Path) -> Iterator[Path]:
    """A side's folder, for as long as it is needed; and our cache folder beside the store."""
    folder = path / "arrow" if side == "ours" else path.parent / side
    yield folder
    for made in (folder, path.parent / "sersearch"):
        shutil.rmtree(made, ignore_errors=True)


def torch_alone() -> float:
    """Private memory in MiB of a process, one of two, that has imported torch."""
    python = [sys.executable, "-c", TORCH]
    pipes = [subprocess.Popen(python, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(TRIALS)]
    for process in pipes:
        assert process.stdout is not None
        process.stdout.readline()
    # Both measure before either ends.
    assert pipes[-1].stdin is not None
    assert pipes[-1].stdout is not None
    pipes[-1].stdin.write("\n")
    pipes[-1].stdin.flush()
    private = int(pipes[-1].stdout.readline())
    for process in pipes:
        process.communicate("\n")
    return private / 2**20


def copy_rate() -> float:
    """Bytes a second that one core copies."""
    source, target = np.ones(2**25, np.float64), np.empty(2**25, np.float64)
    times = []
    for _ in range(5):
        begin = time.process_time()
        np.copyto(target, source)
        times.append(time.process_time() - begin)
    return source.nbytes / min(times)


# What goes wrong


def full_disk(side: str, path: Path, limit_s: float) -> Found:
    """Make a side's files where there is no room for them; then a trial comes."""
    with made_by(side, path) as folder:
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
            return {"failed": "not measured: no right to mount a tmpfs"}
        try:
            with Child(side, path, folder, limit_s) as child:
                return {"first_use": child.ask("prepare"), "open": child.ask("open"), "read": child.ask("read")}
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def stale(side: str, path: Path, limit_s: float, seed: int) -> Found:
    """Replace a training speaker's Parquet file after a side has made its files; then a trial comes."""
    with made_by(side, path) as folder, Child(side, path, folder, limit_s) as child:
        child.ask("prepare")
        generate(path, SMALL, seed, only=partition_of(path).train[0])
        return {"open": child.ask("open"), "read": child.ask("read")}


def truth(path: Path, limit_s: float) -> int:
    """The checksum of what the Parquet files hold now."""
    with Child("parquet", path, path, limit_s) as child:
        child.ask("open")
        found: int = child.ask("read")["checksum"]
        return found


def go_wrong(sides: Sequence[str], path: Path, limit_s: float) -> Iterator[Found]:
    """What each side does on a full disk, and with files that are no longer the store's."""
    generate(path, SMALL)
    before = truth(path, limit_s)
    for seed, side in enumerate(sides, start=1):
        row: Found = {"side": side, "full": full_disk(side, path, limit_s), "stale": stale(side, path, limit_s, seed)}
        after = truth(path, limit_s)
        for name, numbers in (("full", {before: "right"}), ("stale", {before: "old", after: "new"})):
            if "checksum" in row[name].get("read", {}):
                row[name]["numbers"] = numbers.get(row[name]["read"]["checksum"], "other")
        before = after
        yield row


# What is shown


def show(row: Found, ours: Found | None, torch_mib: float) -> None:
    """Print a row of the first table."""
    title = SIDES[row["side"]].title
    if "failed" in row:
        print(f"| {title} | {row['failed']} |", flush=True)
        return
    first = row["first_use"]
    same = ""
    if ours and "failed" not in ours:
        same = "other frames" if row["checksum"] != ours["checksum"] else "same frames"
        same = "same minibatches" if row["in_order"] == ours["in_order"] else same
    cells = [
        title,
        f"{first['seconds']:.1f} s, {first['cpu_s']:.1f} s CPU",
        f"{first['grown_mib']:.0f} MiB",
        f"{row['made_mib']:.0f} MiB",
        f"{1000 * row['open_s']:.0f} ms, {1000 * row['open_cpu_s']:.0f} ms CPU",
        f"{1000 * row['first_s']:.0f} ms",
        f"{row['epoch_cpu_s']:.1f} s",
        f"{row['private_mib'] - torch_mib:.0f} MiB",
        same,
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def show_wrong(row: Found) -> None:
    """Print a row of the second table."""

    def said(answer: Found) -> str:
        return answer.get("failed") or "; ".join(["done", *sorted(set(answer["warnings"]))])

    def trial(found: Found) -> str:
        for step in ("open", "read"):
            if "failed" in found[step]:
                return str(found[step]["failed"])
        return f"{found['numbers']} numbers, opened in {1000 * found['open']['open_s']:.0f} ms"

    full = row["full"]
    cells = [full["failed"]] * 2 if "failed" in full else [said(full["first_use"]), trial(full)]
    print("| " + " | ".join([SIDES[row["side"]].title, *cells, trial(row["stale"])]) + " |", flush=True)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="A store opened for trials, beside other ways to serve its frames.")
    parser.add_argument("--utterances", type=int, default=1257, help="of which there are 61 copies each (1257)")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--scratch", type=Path, help="folder for the store and all that is made (the system's)")
    parser.add_argument("--limit-s", type=float, default=300, help="time limit of each step in seconds (300)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "data_opening.json")
    for hidden in ("--side", "--store", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        serve(given.side, Path(given.store), Path(given.folder))
        return
    if given.utterances < SPEAKERS:
        parser.error(f"--utterances {given.utterances}: at least {SPEAKERS}, one of each speaker")
    with tempfile.TemporaryDirectory(prefix="data-opening-", dir=given.scratch) as scratch:
        path = Path(scratch) / "store"
        begin = time.perf_counter()
        generate(path, given.utterances)
        store = open_store(path)
        rows, frames = (sum(getattr(info, name) for info in store.speakers) for name in ("rows", "frames"))
        size = sum(info.bytes for info in store.speakers)
        facts = {"copies": rows, "hours": frames / 360_000, "parquet_mib": size / 2**20, "copy_rate": copy_rate()}
        facts |= {"written_s": time.perf_counter() - begin, "torch_mib": torch_alone()}
        print(
            "{copies:,} copies, {hours:.1f} hours, {parquet_mib:.0f} MiB, written in {written_s:.0f} s".format(**facts)
        )
        print(f"one core copies {facts['copy_rate'] / 1e9:.1f} GB a second; torch alone {facts['torch_mib']:.0f} MiB")
        print("| side | first use | grown | made | opened | first minibatch | epoch (CPU) | private | against ours |")
        print("|" + " --- |" * 9)
        found: list[Found] = []
        for side in given.sides:
            found.append(compare(side, path, given.limit_s))
            show(found[-1], found[0] if given.sides[0] == "ours" else None, facts["torch_mib"])
        shutil.rmtree(path)
        print("| side | made on a full disk | then a trial | after a speaker's file was replaced |")
        print("|" + " --- |" * 4)
        wrong = []
        for row in go_wrong([side for side in given.sides if not missing(side)], path, given.limit_s):
            wrong.append(row)
            show_wrong(row)
    write_results(given.out, {**facts, "rows": found, "wrong": wrong})


if __name__ == "__main__":
    main()
