"""Measure training on a GPU: a step, its data, waiting for the host, TF32 and bf16, and several trials at a time.

    pip install torch==2.11.0 torchaudio==2.11.0 numba numpy pyarrow pydantic safetensors scipy soundfile soxr
    pip install threadpoolctl
    pip install --no-deps --editable .
    python benchmarks/gpu.py --store STORE           all of it
    python benchmarks/gpu.py --parts sync step       some of it, on generated frames
    python benchmarks/gpu.py --device cpu --quick    run every line on a CPU with tiny networks; measures nothing

*sync* runs training steps under torch.cuda.set_sync_debug_mode("error"), which makes any operation for which the host
waits for the GPU an error, and names the operation. *step* is forward, backward and Adam on 10 utterances of RAVDESS'
lengths, compared with plain PyTorch with the same weights (spliced frames, Conv2d, a packed cuDNN LSTM); all gradients
are compared with plain PyTorch's in float32. *data* compares a minibatch that is made on the GPU from frames there with
one that is made on the host and copied. *blstm* is the BLSTM alone, in one call and packed. *ua* trains each seed in
each precision. *parallel* trains in several processes at a time, as with a fraction of a GPU per trial (`[resources]
gpus = 0.25`).

Each side runs in a process of its own. Times are those of the clock, from one moment when the GPU is idle to another.
Without --store the frames are generated, and the UA means little.
"""

import argparse
import json
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alone import Alone, run_alone
from gpu_data import data_of
from results_file import write_results
from rivals.plain_pytorch import Plain, renamed
from scipy import stats
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from training_step import CASES, minibatch, start
from trials import make_trial

from sersearch.models.cldnn import CLDNN, cross_entropy
from sersearch.models.kernels import gpu
from sersearch.models.kernels.filtering import gather_windows
from sersearch.models.kernels.loops import one_thread
from sersearch.models.kernels.recurrence import blstm_from_inputs
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.configuration.network import Precision
from sersearch.training.dataset import Dataset, Minibatch, ResidentView, View, shuffled
from sersearch.training.network import NetworkSystem

LENGTHS = [365 - index % 4 for index in range(10)]
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bf16")
SIDES: dict[str, tuple[str, Precision]] = {
    "ours": ("ours", "float32"),
    "ours, TF32": ("ours", "tf32"),
    "ours, bf16": ("ours", "bf16"),
    "PyTorch": ("plain", "float32"),
    "PyTorch, TF32": ("plain", "tf32"),
}
VIEWS: dict[str, dict[str, Any]] = {
    "log-Mels": {},
    "MFCCs": {"features": "mfccs"},
    "MFCCs, deltas, by utterance": {"features": "mfccs", "deltas": 2, "normalisation": "utterance"},
}
TINY = {"maps": 4, "cells": 8, "dense": (8,)}

Job = dict[str, Any]
Answer = dict[str, Any]


def configured(job: Job, **more: Any) -> NetworkConfiguration:
    """The configuration of a job's case, with tiny layers if the job is quick."""
    return NetworkConfiguration(**CASES[job["case"]] | (TINY if job["quick"] else {}) | more)


def lengths_of(job: Job) -> list[int]:
    """Frames of each utterance of the minibatch."""
    return [9, 12, 10] if job["quick"] else LENGTHS


def synchronise(device: str) -> None:
    """Wait until the device is idle."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object], job: Job) -> float:
    """Seconds that a piece of work takes, in the fastest of three rounds."""
    rounds, repeats, warm = (1, 1, 1) if job["quick"] else (3, 20, 5)
    for _ in range(warm):
        work()
    found = []
    for _ in range(rounds):
        synchronise(job["device"])
        begin = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronise(job["device"])
        found.append((time.perf_counter() - begin) / repeats)
    return min(found)


def peak_mib(device: str) -> float:
    """The peak of the GPU memory that tensors of this process have used."""
    return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0


def training_of(job: Job, data: Dataset, seed: int = 0, **more: Any) -> NetworkSystem:
    """The training of a trial on the job's device."""
    return NetworkSystem(make_trial(configured(job, **more), seed, "gpu"), data, job["device"])


def endless(training: NetworkSystem) -> Iterator[Minibatch]:
    """The minibatches of one epoch after the other, without end."""
    for epoch in count():
        order = np.random.default_rng(epoch)
        batches = shuffled(training.data.train.length, training.configuration.minibatch, order)
        yield from training.view(training.data.train).minibatches(batches)


# The work of one process


def work_step(job: Job) -> Answer:
    """Measure a side's training step, and save the gradients at its initial weights."""
    kind, precision = SIDES[job["side"]]
    configuration = configured(job, precision=precision)
    frames, lengths, emotion = (each.to(job["device"]) for each in minibatch(configuration, lengths_of(job)))
    model = start(configuration, job["device"]) if kind == "ours" else Plain(start(configuration)).to(job["device"])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.001, eps=1e-7, fused=True)

    def backward() -> None:
        optimiser.zero_grad()
        cross_entropy(model(frames, lengths), emotion).backward()  # type: ignore[no-untyped-call]

    def step() -> None:
        backward()
        optimiser.step()

    with gpu.product_precision(precision):
        backward()
        found = {name: p.grad.cpu().numpy() for name, p in model.named_parameters() if p.grad is not None}
        np.savez(job["gradients"], **(found if kind == "ours" else renamed(found)))  # type: ignore[arg-type]
        return {"seconds": seconds_of(step, job), "mib": peak_mib(job["device"])}


def work_sync(job: Job) -> Answer:
    """Test each case and precision for operations that the host waits for; the answer names the line in the package."""
    found, data = {}, data_of({**job, "store": None})
    for case, precision in ((case, precision) for case in job["cases"] for precision in PRECISIONS):
        try:
            take_steps({**job, "case": case}, data, precision)
            found[f"{case}, {precision}"] = "does not wait"
        except RuntimeError as error:
            lines = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            ours = [line for line in lines if "sersearch" in line] or lines
            found[f"{case}, {precision}"] = f"{str(error).splitlines()[0]} ({ours[-1]})"
    return found


def take_steps(job: Job, data: Dataset, precision: Precision) -> None:
    """Train ten steps; from the fourth step on, waiting for the GPU is an error."""
    training = training_of(job, data, precision=precision)
    dropout = torch.Generator(job["device"]).manual_seed(0)
    batches = shuffled(data.train.length, training.configuration.minibatch, np.random.default_rng(0))[:10]
    made = training.view(data.train).minibatches(batches)
    with gpu.product_precision(precision):
        for batch in islice(made, 3):
            training._update(batch, dropout)
        with waiting_forbidden(job["device"]):
            for batch in made:
                training._update(batch, dropout)


@contextmanager
def waiting_forbidden(device: str) -> Iterator[None]:
    """Make each operation for which the host waits for the GPU an error, inside a `with` block."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def work_data(job: Job) -> Answer:
    """Measure for each kind of features a minibatch made on the device and on the host, and moving all frames once."""
    data, device = data_of(job), job["device"]
    begin = time.perf_counter()
    moved = data.train.on(device)
    synchronise(device)
    found: Answer = {"moved_s": time.perf_counter() - begin, "moved_mib": moved.frames_NM.nbytes / 2**20}
    for name, settings in VIEWS.items():
        configuration = NetworkConfiguration(model="LDNN", **settings)
        resident, host = (
            ResidentView(data.train, configuration, data.moments, device),
            View(data.train, configuration, data.moments),
        )
        batches = shuffled(data.train.length, configuration.minibatch, np.random.default_rng(0))
        ours = np.concatenate([each.x_BTF.cpu().numpy().ravel() for each in resident.minibatches(batches[:3])])
        theirs = np.concatenate([each.x_BTF.numpy().ravel() for each in host.minibatches(batches[:3])])
        on_device, on_host = resident.minibatches(cycle_of(batches)), host.minibatches(cycle_of(batches))
        found[name] = {
            "device": seconds_of(lambda made=on_device: next(made), job),  # type: ignore[misc]
            "host": seconds_of(lambda made=on_host: [each.to(device) for each in next(made)], job),  # type: ignore[misc]
            "difference": float(np.abs(ours - theirs).max()),
        }
    return found


def cycle_of(batches: list[np.ndarray]) -> list[np.ndarray]:
    """Repeat the minibatches up to 100, which is enough for all rounds."""
    return list(islice(cycle(batches), 100))


def work_blstm(job: Job) -> Answer:
    """Measure the BLSTM with its gradients, in one call and packed, and the difference between the two."""
    configuration, device = configured(job), job["device"]
    frames, lengths, _ = minibatch(configuration, lengths_of(job))
    model, frames, counts = start(configuration, device), frames.to(device), lengths.to(device)
    convolutions, blstm = model.convolutions, model.blstm
    maps = model.maps(frames, counts).detach()
    windows = gather_windows(maps, convolutions.columns, convolutions.dilation).requires_grad_()
    weights = (blstm.kernel, blstm.recurrent, blstm.bias)
    lstm = Plain(model).lstm.to(device)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours, both directions in one call": lambda: blstm_from_inputs(windows, *weights, counts),
        "packed": lambda: packed(lstm, windows, lengths),
    }
    real = (torch.arange(max(lengths_of(job)), device=device).unsqueeze(1) < counts).unsqueeze(2)
    found: Answer = {}
    with gpu.product_precision("float32"):
        expected = next(iter(ways.values()))().detach()
        for name, way in ways.items():
            difference = (way().detach()[: len(real)] - expected[: len(real)]) * real
            found[name] = {
                "seconds": seconds_of(lambda way=way: way().sum().backward(), job),  # type: ignore[misc]
                "difference": float(difference.abs().max()),
            }
    return found


def packed(lstm: torch.nn.LSTM, x_TBV: Tensor, lengths_B: Tensor) -> Tensor:
    """Run an LSTM over packed sequences; the lengths must be on the CPU."""
    hidden, _ = pad_packed_sequence(lstm(pack_padded_sequence(x_TBV, lengths_B, enforce_sorted=False))[0])
    return hidden


def work_ua(job: Job) -> Answer:
    """Train each seed; the UA of its best epoch in per cent, and the seconds of the fastest epoch."""
    data = data_of(job)
    found, seconds = [], []
    for seed in range(job["seeds"]):
        training = training_of(
            job, data, seed, precision=job["precision"], epochs=job["epochs"], patience=job["epochs"]
        )
        # A seed has the same initial weights, order and dropout in each precision.
        training.trial.__dict__["key"] = f"seed {seed}"
        model = CLDNN(training.configuration, len(data.emotions), torch.Generator().manual_seed(seed))
        training.model.load_state_dict(model.state_dict())
        while training.stopped is None:
            seconds.append(training.train_epoch().seconds)
        found.append(training.epochs[training.best].ua_noisy)
    return {"ua": found, "seconds": min(seconds)}


def work_parallel(job: Job) -> Answer:
    """Count training steps in a span of time that starts at the same moment in all processes."""
    training = training_of(job, data_of(job))
    dropout = torch.Generator(job["device"]).manual_seed(0)
    batches = endless(training)
    for batch in islice(batches, 3):
        training._update(batch, dropout)
    synchronise(job["device"])
    folder = Path(job["folder"])
    (folder / f"ready {job['number']}").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    begin, steps, frames = time.perf_counter(), 0, 0
    while time.perf_counter() < begin + job["seconds"]:
        for batch in islice(batches, 5):
            training._update(batch, dropout)
            steps, frames = steps + 1, frames + batch.x_BTF.shape[0] * batch.x_BTF.shape[1]
        # Without this the host would queue steps faster than the GPU computes them.
        synchronise(job["device"])
    elapsed = time.perf_counter() - begin
    used = 0.0
    if job["device"] == "cuda":
        free, total = torch.cuda.mem_get_info()
        used = (total - free) / 2**20
    return {"steps": steps / elapsed, "frames": frames / elapsed, "mib": peak_mib(job["device"]), "used_mib": used}


WORK: dict[str, Callable[[Job], Answer]] = {
    "sync": work_sync,
    "step": work_step,
    "data": work_data,
    "blstm": work_blstm,
    "ua": work_ua,
    "parallel": work_parallel,
}


def work(job: Job) -> Answer:
    """Do a job in this process."""
    if job["device"] == "cpu":
        one_thread()
        # The CPU runs the GPU's form of the kernels, so that every line of this script can be tried without a GPU.
        gpu.backend_for = lambda device: "gpu"
    return WORK[job["part"]](job)


# The parent process: it starts the work and prints the tables


def ask(given: argparse.Namespace, part: str, **more: Any) -> Answer:
    """Do a job in a process of its own, or in this process if the run is quick."""
    job = job_of(given, part, **more)
    return work(job) if given.quick else run_alone(__file__, ["--job", json.dumps(job)], given.limit_s)


def job_of(given: argparse.Namespace, part: str, **more: Any) -> Job:
    """Describe a job for the process that does it."""
    store = str(given.store) if given.store else None
    return {"part": part, "device": given.device, "quick": given.quick, "store": store} | more


def row(*cells: object) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(*cells: object) -> None:
    """Print a table's first rows."""
    print()
    row(*cells)
    print("|" + " --- |" * len(cells))


def part_sync(given: argparse.Namespace) -> Any:
    """Test whether the host waits for the GPU within a step."""
    found = ask(given, "sync", cases=given.only)
    head("case, precision", "the host" if given.device == "cuda" else "the host (no CUDA: nothing is proved)")
    for name, verdict in found.items():
        row(name, verdict)
    return found


def part_step(given: argparse.Namespace) -> Any:
    """Measure a training step of all sides for each case."""
    head("kernels", *SIDES, "times", "frames a second")
    rows = []
    for case in given.only:
        found: Answer = {"case": case}
        with tempfile.TemporaryDirectory() as folder:
            for side in SIDES:
                found[side] = ask(given, "step", case=case, side=side, gradients=f"{folder}/{side}.npz")
            for side in SIDES:
                if side != "PyTorch" and not {"failed"} & {*found[side], *found["PyTorch"]}:
                    found[side]["gradients"] = difference_of(Path(folder), side)
        rows.append(found)
        show_step(found, sum(lengths_of({"quick": given.quick})))
    return rows


def difference_of(folder: Path, side: str) -> float:
    """The largest difference of a parameter's gradient from plain PyTorch's, relative to the norm of the latter."""
    with np.load(folder / f"{side}.npz") as ours, np.load(folder / "PyTorch.npz") as theirs:
        return max(float(np.linalg.norm(ours[k] - theirs[k]) / np.linalg.norm(theirs[k])) for k in theirs.files)


def show_step(found: Answer, frames: int) -> None:
    """Print the row of a case."""
    cells = [found["case"]]
    for side in SIDES:
        each = found[side]
        if "failed" in each:
            cells.append(each["failed"])
            continue
        cell = f"{1000 * each['seconds']:.2f} ms, {each['mib']:.0f} MiB"
        cells.append(cell + (f", gradients {each['gradients']:.0e}" if "gradients" in each else ""))
    if "failed" in found["ours"] or "failed" in found["PyTorch"]:
        row(*cells, "", "")
        return
    found["times"] = found["PyTorch"]["seconds"] / found["ours"]["seconds"]
    row(*cells, f"{found['times']:.2f}", f"{frames / found['ours']['seconds']:.0f}")


def part_data(given: argparse.Namespace) -> Any:
    """Measure how long making a minibatch takes."""
    found = ask(given, "data")
    if "failed" in found:
        print(found["failed"])
        return found
    head("minibatch", "on the device", "on the host, and copied", "times", "largest difference")
    for name in VIEWS:
        each = found[name]
        times = f"{each['host'] / each['device']:.1f}"
        row(name, f"{1e6 * each['device']:.0f} us", f"{1e6 * each['host']:.0f} us", times, f"{each['difference']:.0e}")
    print(f"training's frames: {found['moved_mib']:.0f} MiB, moved once in {found['moved_s']:.2f} s")
    return found


def part_blstm(given: argparse.Namespace) -> Any:
    """Measure the BLSTM in one call and packed."""
    head("kernels", "way", "forward and backward", "largest difference")
    rows = []
    for case in given.only:
        found = ask(given, "blstm", case=case)
        rows.append({"case": case, **found})
        if "failed" in found:
            row(case, found["failed"])
            continue
        for way, each in found.items():
            row(case, way, f"{1000 * each['seconds']:.2f} ms", f"{each['difference']:.0e}")
    return rows


def part_ua(given: argparse.Namespace) -> Any:
    """Measure the UA for each precision and seed, and its difference from float32."""
    head(f"UA (%), {given.epochs} epochs", "case", *(f"seed {s}" for s in range(given.seeds)), "from float32", "epoch")
    rows = []
    for case in given.only[-1:] if given.quick else ("FST 3, 2", "T 8, 3"):
        exact: list[float] = []
        for precision in PRECISIONS:
            settings = {"case": case, "precision": precision, "seeds": given.seeds, "epochs": given.epochs}
            found = ask(given, "ua", **settings)
            rows.append({"case": case, "precision": precision, **found})
            if "failed" in found:
                row(precision, case, found["failed"])
                continue
            exact = exact or found["ua"]
            each = [f"{ua:.1f}" for ua in found["ua"]]
            row(precision, case, *each, interval(found["ua"], exact), f"{found['seconds']:.2f} s")
    return rows


def interval(ua: list[float], exact: list[float]) -> str:
    """The mean difference of paired seeds with its 95 % interval."""
    differences = np.subtract(ua, exact)
    if not differences.any():
        return "0.0"
    half = stats.t.ppf(0.975, len(ua) - 1) * differences.std(ddof=1) / math.sqrt(len(ua))
    return f"{differences.mean():+.1f}, 95 % from {differences.mean() - half:+.1f} to {differences.mean() + half:+.1f}"


def part_parallel(given: argparse.Namespace) -> Any:
    """Measure the throughput for each number of processes at a time."""
    head("processes", "case", "steps a second", "frames a second", "times one", "a process", "GPU in use")
    rows = []
    for case in given.only[-1:] if given.quick else ("FST 3, 2", "T 3, 2"):
        one = 0.0
        for processes in given.processes:
            found = at_a_time(given, case, processes)
            rows.append({"case": case, "processes": processes, "each": found})
            if failed := [each["failed"] for each in found if "failed" in each]:
                row(processes, case, f"{len(failed)} failed: {failed[0]}", "", "", "", "")
                continue
            steps, frames = (sum(each[name] for each in found) for name in ("steps", "frames"))
            one = one or steps
            mib, used = (max(each[name] for each in found) for name in ("mib", "used_mib"))
            row(
                processes,
                case,
                f"{steps:.1f}",
                f"{frames:.0f}",
                f"{steps / one:.2f}",
                f"{mib:.0f} MiB",
                f"{used:.0f} MiB",
            )
    return rows


def at_a_time(given: argparse.Namespace, case: str, processes: int) -> list[Answer]:
    """Train in several processes at a time, which start when all of them are ready."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"case": case, "folder": folder, "seconds": 0.2 if given.quick else given.seconds}
        jobs = [job_of(given, "parallel", number=number, **settings) for number in range(processes)]
        sides = [Alone(__file__, ["--job", json.dumps(job)]) for job in jobs]
        deadline = time.monotonic() + given.limit_s
        while time.monotonic() < deadline and all(side.running for side in sides):
            if len(list(Path(folder).glob("ready *"))) == processes:
                break
            time.sleep(0.01)
        (Path(folder) / "go").touch()
        return [side.answer(given.limit_s) for side in sides]


PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "sync": part_sync,
    "step": part_step,
    "data": part_data,
    "blstm": part_blstm,
    "ua": part_ua,
    "parallel": part_parallel,
}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="a store, noisy copies included (generated frames)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure (all)")
    parser.add_argument("--only", action="append", choices=CASES, help="a case; repeat for more (all)")
    parser.add_argument("--processes", nargs="+", type=int, help="numbers of processes at a time (1 2 4 8 16)")
    parser.add_argument("--seconds", type=float, default=20, help="seconds of training in several processes (20)")
    parser.add_argument("--seeds", type=int, help="seeds per precision, 2 or more (5)")
    parser.add_argument("--epochs", type=int, help="epochs per seed (6)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where to train (cuda)")
    parser.add_argument("--quick", action="store_true", help="tiny models and few steps, in this process")
    parser.add_argument("--limit-s", type=float, default=900, help="time limit of a process in seconds (900)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        print(json.dumps(work(given.job)))
        return
    if given.device == "cuda" and not torch.cuda.is_available():
        remedy = "run this script on a machine with an NVIDIA GPU, or try it on a CPU with --device cpu --quick"
        print(f"no CUDA device here: {remedy}", file=sys.stderr)
        sys.exit(2)
    if given.device == "cpu" and not given.quick:
        parser.error("--device cpu was given without --quick; a CPU only tries the script: add --quick")
    few = given.quick
    given.only = given.only or (["LDNN", "ST 4x3, 3x2"] if few else list(CASES))
    given.processes = given.processes or ([2] if few else [1, 2, 4, 8, 16])
    given.seeds, given.epochs = given.seeds or (2 if few else 5), given.epochs or (1 if few else 6)
    device = torch.cuda.get_device_name() if given.device == "cuda" else "cpu"
    print(f"{device}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")  # type: ignore[no-untyped-call]
    write_results(given.out, {"device": device} | {part: PARTS[part](given) for part in given.parts})


if __name__ == "__main__":
    main()
