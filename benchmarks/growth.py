"""What grows with utterances, corpora and trials at a time, and what stays flat.

    python benchmarks/growth.py                        all four tables
    python benchmarks/growth.py --parts lengths corpus

- lengths: an epoch of 10 generated utterances of 1 to 60 s, learnt and evaluated: CPU time, and what the peak is above
  what the process holds before.
- corpus: generated stores of 1 to 61 copies of each utterance: opening one for the first time (its Parquet files become
  files that can be mapped) and later (clock), passing an epoch's frames (CPU time), and memory of the process alone.
- memory: the largest of these stores while its pages are taken away from memory as fast as they come, which is what a
  corpus larger than memory meets: passing frames and training, beside the same with all pages in memory (clock).
- trials: 1 to 8 trials at a time on the largest store, one thread each: utterances a second of all together (clock).

What grows with the number of trials is `no_op_trials.py`'s. All but the last table is one process after the other.
"""

import argparse
import ctypes
import json
import mmap
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from alone import run_alone
from results_file import write_results
from trials import make_trial

from sersearch.speech.corpora import Utterance
from sersearch.speech.kaldi import moments_of
from sersearch.store.manifest import Manifest, Recipe
from sersearch.store.reader import Frames, open_store
from sersearch.store.rows import Row, SpeakerWriter
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.fold import make_partition
from sersearch.training.dataset import Dataset, Utterances, View, open_dataset, shuffled
from sersearch.training.network import NetworkSystem

PARTS = ("lengths", "corpus", "memory", "trials")
EMOTIONS = tuple("abcdef")
SPEAKERS, BANDS, MINIBATCH = 24, 40, 10
LENGTHS_S = (1, 3, 10, 30, 60)
COPIES = (1, 4, 16, 61)
AT_A_TIME = (1, 2, 4, 8)
# Python's mmap has the name, but only for maps of its own.
MADV_PAGEOUT = 21
TAKEN_AWAY_EVERY_S = 0.02

CASES: dict[str, dict[str, Any]] = {
    "FST 3, 2": {"model": "FST-CLDNN", "w1": 3, "w2": 2},
    "T 8, 3": {"model": "T-CLDNN", "w1": 8, "w2": 3},
}
FST = NetworkConfiguration(**CASES["FST 3, 2"], epochs=2, patience=2)


def read_proc(file: str, name: str) -> int:
    """A number that the system keeps of this process."""
    lines = (line.split() for line in Path("/proc/self", file).read_text().splitlines())
    return next(int(words[1]) for words in lines if words and words[0] == f"{name}:")


def private_mib() -> float:
    """Memory of this process alone."""
    return read_proc("status", "RssAnon") / 1024


def mapped_mib() -> float:
    """Pages of files that this process has in memory; the system may take them away, and others share them."""
    return read_proc("status", "RssFile") / 1024


def alike(steps: int) -> Dataset:
    """A minibatch of generated utterances of so many frames, to learn from and to evaluate."""
    frames = np.random.default_rng(0).standard_normal((MINIBATCH * steps, BANDS), np.float32)
    numbers = np.arange(MINIBATCH)
    zeros, length = np.zeros(MINIBATCH, np.int64), np.full(MINIBATCH, steps)
    offset, noisy = numbers * steps, numbers > 4
    clean = (np.stack([offset, length], 1)[~noisy],)
    utterances = Utterances((frames,), zeros, offset, length, numbers % 6, noisy, ("s",), clean)
    return Dataset(utterances, utterances, EMOTIONS, moments_of(frames))


def train_length(case: str, seconds: int) -> dict[str, float]:
    """An epoch of utterances of so many seconds, in this process."""
    configuration = NetworkConfiguration(**CASES[case], epochs=2, patience=2)
    # What libraries take when they are first used doesn't grow with anything.
    small = configuration.model_copy(update={"maps": 2, "cells": 2, "dense": (2,)})
    NetworkSystem(make_trial(small, 0, "first use"), alike(20)).train_epoch()
    training = NetworkSystem(make_trial(configuration, 0, "growth"), alike(100 * seconds - 2))
    before = read_proc("status", "VmRSS") / 1024
    training.train_epoch()
    begin = time.process_time()
    training.train_epoch()
    taken = time.process_time() - begin
    return {"seconds": taken / MINIBATCH, "mib": read_proc("status", "VmHWM") / 1024 - before}


class GeneratedWriter(SpeakerWriter):
    """Writes a speaker's file as a build does, with noise for log-Mels."""

    def __init__(self, out: Path, recipe: Recipe) -> None:
        """See SpeakerWriter; what the frames are cut from is drawn once."""
        super().__init__(out, recipe, None)
        self._pool = np.random.default_rng(0).standard_normal((20_000, BANDS), np.float32)

    def _rows(self, utterance: Utterance) -> Iterator[Row]:
        """Copies of about RAVDESS' lengths."""
        generator = np.random.default_rng(int(utterance.id))
        steps = int(generator.integers(290, 440))
        for copy in range(self.recipe.copies):
            start = int(generator.integers(len(self._pool) - steps))
            yield {
                "utterance": utterance.id,
                "corpus": utterance.corpus,
                "speaker": utterance.speaker,
                "gender": None,
                "emotion": utterance.emotion,
                "condition": "noisy" if copy else "clean",
                "noise": "generated" if copy else None,
                "snr_db": 0.0 if copy else None,
                "noise_offset_s": 0.0 if copy else None,
                "duration_s": steps / 100,
                "frames": steps,
                "log_mel": self._pool[start : start + steps],
            }


def generate(out: Path, utterances: int, copies: int) -> None:
    """A store of so many utterances and copies of each."""
    out.mkdir()
    recipe = Recipe(corpus="generated", emotions=EMOTIONS, content=str(utterances), noises=copies - 1, snrs=1)
    write = GeneratedWriter(out, recipe)
    infos = []
    for speaker, numbers in enumerate(np.array_split(np.arange(utterances), SPEAKERS)):
        name = f"s{speaker:02}"
        part, info = write(tuple(Utterance(str(n), Path(), name, None, EMOTIONS[n % 6], "growth") for n in numbers))
        part.replace(out / info.file)
        infos.append(info)
    planned = {info.speaker: info.rows for info in infos}
    manifest = Manifest(
        fingerprint=recipe.fingerprint, recipe=recipe, versions={}, planned=planned, speakers=tuple(infos)
    )
    manifest.write(out)


def open_data(store: Path) -> Dataset:
    """NetworkSystem and validation of a store."""
    opened = open_store(store)
    return open_dataset(opened, make_partition(info.speaker for info in opened.speakers))


def pass_frames(data: Dataset, copies: int | None = None) -> int:
    """Assemble the minibatches of an epoch, or of its first copies; how many copies there were."""
    view = View(data.train, FST, data.moments)
    count = 0
    for indices in shuffled(data.train.length, MINIBATCH, np.random.default_rng(0)):
        view.minibatch(indices)
        count += len(indices)
        if copies and count >= copies:
            break
    return count


def open_corpus(store: Path) -> dict[str, float]:
    """Open a store and pass an epoch's frames, in this process."""
    before = private_mib()
    begin = time.perf_counter()
    data = open_data(store)
    opened_s = time.perf_counter() - begin
    opened = private_mib()
    begin = time.process_time()
    copies = pass_frames(data)
    passed_s = time.process_time() - begin
    return {
        "open_s": opened_s,
        "pass_s": passed_s,
        "copies": copies,
        "opened_mib": opened - before,
        "private_mib": private_mib() - before,
    }


def take_away(frames: Sequence[Frames]) -> None:
    """Have the system drop the pages of mapped arrays; the next look at them reads the disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    for array in frames:
        start = array.ctypes.data & -mmap.PAGESIZE
        size = array.ctypes.data + array.nbytes - start
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), MADV_PAGEOUT):
            raise OSError(ctypes.get_errno(), "madvise")


@contextmanager
def short_of_memory(frames: Sequence[Frames]) -> Iterator[list[float]]:
    """Take the pages away all the while; the list is what of them was there each time, in MiB."""
    held: list[float] = []
    over = threading.Event()

    def work() -> None:
        while not over.wait(TAKEN_AWAY_EVERY_S):
            held.append(mapped_mib() - before)
            take_away(frames)

    take_away(frames)
    before = mapped_mib()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()


def some(data: Dataset, copies: int, seed: int = 0) -> Dataset:
    """A few copies from all over the training part, evaluated on a fifth of them as if they were clean."""
    chosen = np.random.default_rng(seed).permutation(len(data.train))[:copies]
    train, validation = data.train.select(chosen), data.train.select(chosen[: copies // 5])
    return replace(data, train=train, validation=replace(validation, noisy=np.zeros(len(validation), np.bool_)))


def clocked(work: Callable[[], int]) -> tuple[float, float]:
    """Seconds and bytes read from disk of each copy that some work went over."""
    begin, read = time.perf_counter(), read_proc("io", "read_bytes")
    copies = work()
    return (time.perf_counter() - begin) / copies, (read_proc("io", "read_bytes") - read) / copies


def lack_memory(store: Path, copies: int) -> dict[str, Any]:
    """Frames passed and an FST-CLDNN trained, with pages in memory and without, in this process."""
    data = open_data(store)
    chosen = some(data, copies)

    def train() -> int:
        training = NetworkSystem(make_trial(FST, 0, "growth"), chosen)
        losses.append(training.train_epoch().train_loss)
        return copies

    losses: list[float | None] = []
    found: dict[str, Any] = {"gib": sum(frames.nbytes for frames in data.train.frames) / 2**30}
    works: dict[str, Callable[[], int]] = {"pass": lambda: pass_frames(data, 10 * copies), "train": train}
    for name, work in works.items():
        work()
        warm_s, _ = clocked(work)
        with short_of_memory(data.train.frames) as held:
            cold_s, read = clocked(work)
        found[name] = {"warm_s": warm_s, "cold_s": cold_s, "read": read, "held_mib": max(held, default=0.0)}
    assert len(set(losses)) == 1, losses
    found["copy"] = float(data.train.length.mean()) * BANDS * data.train.frames[0].itemsize
    return found


def train_beside(store: Path, copies: int, seed: int, all_ready: Any, found: Any) -> None:
    """One trial of several; its clock begins when all are ready."""
    private, mapped = private_mib(), mapped_mib()
    training = NetworkSystem(make_trial(FST, seed, "growth"), some(open_data(store), copies, seed))
    training.train_epoch()
    all_ready.wait()
    begin = time.perf_counter()
    training.train_epoch()
    found.put((time.perf_counter() - begin, private_mib() - private, mapped_mib() - mapped))


def train_at_once(store: Path, copies: int, trials: int, limit_s: float) -> dict[str, float]:
    """Several trials at a time: copies a second of all, and memory of one."""
    spawn = multiprocessing.get_context("spawn")
    all_ready = spawn.Barrier(trials, timeout=limit_s)
    found: multiprocessing.Queue[tuple[float, float, float]] = spawn.Queue()
    processes = [
        spawn.Process(target=train_beside, args=(store, copies, seed, all_ready, found)) for seed in range(trials)
    ]
    for process in processes:
        process.start()
    try:
        answers = [found.get(timeout=limit_s) for _ in processes]
    finally:
        for process in processes:
            process.kill()
            process.join()
    seconds, private, mapped = np.array(answers).T
    return {
        "trials": trials,
        "copies_a_s": trials * copies / seconds.max(),
        "private_mib": private.mean(),
        "mapped_mib": mapped.mean(),
    }


def run_part(given: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own is for."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    if given.length_s:
        return train_length(given.case, given.length_s)
    if given.lack:
        return lack_memory(given.store, given.copies)
    return open_corpus(given.store)


def lengths(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The table of lengths."""
    print("\n| kernels | utterance | CPU an utterance | a second of it | peak | of which a second |\n|" + " --- |" * 6)
    rows = []
    for case in CASES:
        for seconds in LENGTHS_S:
            row = run_alone(__file__, ["--case", case, "--length-s", seconds], given.limit_s)
            rows.append({"case": case, "length_s": seconds, **row})
            cells = [row.get("failed", "")]
            if "failed" not in row:
                cells = [f"{1000 * row['seconds']:.0f} ms", f"{1000 * row['seconds'] / seconds:.1f} ms"]
                cells += [f"{row['mib']:.0f} MiB", f"{row['mib'] / seconds:.1f} MiB"]
            print(f"| {case} | {seconds} s | {' | '.join(cells)} |", flush=True)
    return rows


def corpus(stores: dict[int, Path], given: argparse.Namespace) -> list[dict[str, Any]]:
    """The table of corpora."""
    columns = ("copies", "frames", "first opening", "later", "a copy passed", "private, opened", "after a pass")
    print(f"\n| {' | '.join(columns)} |\n|" + " --- |" * len(columns))
    rows = []
    for times, store in stores.items():
        first, later = (run_alone(__file__, ["--store", store], given.limit_s) for _ in range(2))
        rows.append({"times": times, "first": first, "later": later})
        gib = sum(info.frames for info in open_store(store).speakers) * BANDS * 4 / 2**30
        cells = [f"{times} x {given.utterances}", f"{gib:.2f} GiB"]
        cells += [row["failed"] for row in (first, later) if "failed" in row]
        if len(cells) == 2:
            cells += [f"{first['open_s']:.2f} s", f"{1000 * later['open_s']:.0f} ms"]
            cells += [f"{1e6 * later['pass_s'] / later['copies']:.0f} us"]
            cells += [f"{later['opened_mib']:.0f} MiB", f"{later['private_mib']:.0f} MiB"]
        print(f"| {' | '.join(cells)} |", flush=True)
    return rows


def memory(store: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The table of a corpus that does not fit."""
    row = run_alone(__file__, ["--store", store, "--lack", "--copies", given.copies], given.limit_s)
    if "failed" in row:
        print(f"\nshort of memory: {row['failed']}")
        return row
    print(f"\n{row['gib']:.2f} GiB of frames to learn from, {row['copy'] / 1024:.0f} KiB a copy; losses are the same")
    columns = ("a copy", "pages in memory", "taken away", "times", "read", "MiB a second", "most in memory")
    print(f"| {' | '.join(columns)} |\n|" + " --- |" * len(columns))
    for name in ("pass", "train"):
        r = row[name]
        cells = [f"{1000 * r['warm_s']:.2f} ms", f"{1000 * r['cold_s']:.2f} ms", f"{r['cold_s'] / r['warm_s']:.2f}"]
        cells += [f"{r['read'] / 1024:.0f} KiB", f"{r['read'] / r['cold_s'] / 2**20:.0f}", f"{r['held_mib']:.0f} MiB"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return row


def trials(store: Path, given: argparse.Namespace) -> list[dict[str, float]]:
    """The table of trials at a time."""
    print("\n| at a time | utterances a second | times | private | mapped |\n|" + " --- |" * 5)
    rows: list[dict[str, float]] = []
    for count in AT_A_TIME:
        rows.append(train_at_once(store, given.copies, count, given.limit_s))
        row = rows[-1]
        times = row["copies_a_s"] / rows[0]["copies_a_s"]
        sizes = f"{row['private_mib']:.0f} MiB | {row['mapped_mib']:.0f} MiB"
        print(f"| {count} | {row['copies_a_s']:.1f} | {times:.2f} | {sizes} |", flush=True)
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--utterances", type=int, default=312, help="of a generated corpus, before its copies (312)")
    parser.add_argument("--copies", type=int, default=200, help="copies that a trial learns from (200)")
    parser.add_argument("--folder", type=Path, help="where the generated stores lie meanwhile (the system's)")
    parser.add_argument("--limit-s", type=float, default=300, help="time limit of a process in seconds (300)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "growth.json")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--length-s", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--lack", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.store or given.length_s:
        print(json.dumps(run_part(given)))
        return
    found: dict[str, Any] = {"utterances": given.utterances}
    if "lengths" in given.parts:
        found["lengths"] = lengths(given)
    with tempfile.TemporaryDirectory(prefix="growth-", dir=given.folder) as folder:
        wanted = COPIES if "corpus" in given.parts else COPIES[-1:] if {"memory", "trials"} & {*given.parts} else ()
        stores = {times: Path(folder) / str(times) for times in wanted}
        for times, store in stores.items():
            generate(store, given.utterances, times)
        if "corpus" in given.parts:
            found["corpus"] = corpus(stores, given)
        if "memory" in given.parts:
            found["memory"] = memory(stores[COPIES[-1]], given)
        if "trials" in given.parts:
            found["trials"] = trials(stores[COPIES[-1]], given)
    write_results(given.out, found)


if __name__ == "__main__":
    main()
