"""Time a training step of this package, of plain PyTorch and of Keras.

    python benchmarks/training_step.py --ravdess DIR               in float32
    python benchmarks/training_step.py --ravdess DIR --only "T 8, 3" --rivals pytorch
    python benchmarks/training_step.py --ravdess DIR --precision bf16 --rivals float32 pytorch autocast
        the table of docs/performance.md

A step is forward, backward and Adam on one minibatch of 10 utterances of RAVDESS' real lengths, on one core. All sides
have the same weights and data, and their losses and gradients are compared. The sides take turns, each in a process of
its own. Times are CPU times, which depend less on other work on the machine than the clock does. Keras is measured if
it can be imported (`pip install keras jax`); KERAS_BACKEND chooses its backend, which is JAX by default. *float32* is
this package in float32, a rival of itself in bf16; *autocast* is plain PyTorch under torch.autocast in bfloat16, whose
gradients are compared with ours as all others are.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from results_file import write_results

from sersearch.models.cldnn import CLDNN, cross_entropy
from sersearch.models.kernels.loops import one_thread
from sersearch.models.kernels.units import bf16_unit
from sersearch.study.configuration import NetworkConfiguration
from sersearch.training.dataset import shuffled

EMOTIONS = 6
RATE_HZ, SHIFT, WINDOW = 16_000, 160, 400

CASES: dict[str, dict[str, Any]] = {
    "LDNN": {"model": "LDNN"},
    "S 4, 3": {"model": "S-CLDNN", "h1": 4, "h2": 3},
    "S 9, 4": {"model": "S-CLDNN", "h1": 9, "h2": 4},
    "S 22, 3": {"model": "S-CLDNN", "h1": 22, "h2": 3},
    "T 3, 2": {"model": "T-CLDNN", "w1": 3, "w2": 2},
    "T 8, 3": {"model": "T-CLDNN", "w1": 8, "w2": 3},
    "ST 4x3, 3x2": {"model": "ST-CLDNN", "h1": 4, "w1": 3, "h2": 3, "w2": 2},
    "ST 9x8, 4x3": {"model": "ST-CLDNN", "h1": 9, "w1": 8, "h2": 4, "w2": 3},
    "FST 3, 2": {"model": "FST-CLDNN", "w1": 3, "w2": 2},
    "FST 8, 3": {"model": "FST-CLDNN", "w1": 8, "w2": 3},
    "T 3, 2 MFCCs": {"model": "T-CLDNN", "features": "mfccs", "w1": 3, "w2": 2},
    "T 8, 3 MFCCs": {"model": "T-CLDNN", "features": "mfccs", "w1": 8, "w2": 3},
    "FST 3, 2 MFCCs": {"model": "FST-CLDNN", "features": "mfccs", "w1": 3, "w2": 2},
    "FST 8, 3 MFCCs": {"model": "FST-CLDNN", "features": "mfccs", "w1": 8, "w2": 3},
}

RIVALS = ("pytorch", "autocast", "float32", "keras")

Step = Callable[[], float]
Gradients = dict[str, np.ndarray]


def lengths_of(ravdess: Path) -> list[int]:
    """Frames per utterance of one minibatch: of those that training draws in an epoch, the one of median length."""
    import soundfile

    infos = [soundfile.info(path) for path in sorted(ravdess.rglob("*.flac")) + sorted(ravdess.rglob("*.wav"))]
    frames = np.array([1 + (round(info.duration * RATE_HZ) - WINDOW) // SHIFT for info in infos])
    batches = shuffled(frames, 10, np.random.default_rng(0))
    full = sorted((batch for batch in batches if len(batch) == 10), key=lambda batch: int(frames[batch].sum()))
    return [int(n) for n in frames[full[len(full) // 2]]]


def minibatch(
    configuration: NetworkConfiguration, lengths: list[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames [B, T, F], lengths and emotions."""
    size = len(lengths), max(lengths), configuration.rows * configuration.channels
    frames = torch.randn(size, generator=torch.Generator().manual_seed(1))
    return frames, torch.tensor(lengths), torch.arange(len(lengths)) % EMOTIONS


def start(configuration: NetworkConfiguration, device: str = "cpu") -> CLDNN:
    """Build the network whose initial weights all sides share."""
    return CLDNN(configuration, EMOTIONS, torch.Generator().manual_seed(0), device)


def torch_side(
    model: torch.nn.Module, configuration: NetworkConfiguration, lengths: list[int], autocast: bool = False
) -> tuple[Step, Gradients]:
    """The training step of a PyTorch model, and the gradients at its initial weights."""
    frames, counts, emotion = minibatch(configuration, lengths)
    ours = isinstance(model, CLDNN)

    def loss_now() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model(frames, counts)
        return cross_entropy(logits.float(), emotion)

    optimiser = torch.optim.Adam(model.parameters(), lr=0.001, eps=1e-7, foreach=not ours, fused=ours)

    def step() -> float:
        optimiser.zero_grad()
        loss = loss_now()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return float(loss.detach())

    loss_now().backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None}
    return step, gradients


def side(name: str, configuration: NetworkConfiguration, lengths: list[int]) -> tuple[Step, Gradients]:
    """One side's training step and its initial gradients, under this package's names and shapes."""
    if name == "ours":
        return torch_side(start(configuration), configuration, lengths)
    configuration = configuration.model_copy(update={"precision": "float32"})
    if name == "float32":
        return torch_side(start(configuration), configuration, lengths)
    sys.path.insert(0, str(Path(__file__).parent))
    if name in ("pytorch", "autocast"):
        from rivals import plain_pytorch

        plain = plain_pytorch.Plain(start(configuration))
        step, gradients = torch_side(plain, configuration, lengths, autocast=name == "autocast")
        return step, plain_pytorch.renamed(gradients)
    os.environ.setdefault("KERAS_BACKEND", "jax")
    from rivals import plain_keras

    return plain_keras.side(start(configuration), *minibatch(configuration, lengths))


def run_side(
    name: str, case: str, precision: str, lengths: list[int], repeats: int, gradients_file: Path
) -> dict[str, float]:
    """Measure one side in this process, which is pinned to one core.

    Returns:
        CPU seconds of the fastest step, the process's peak of memory in MiB and the first step's loss.
    """
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    one_thread()
    configuration = NetworkConfiguration(**CASES[case], precision=precision)
    # A small network first: what libraries need at their first use, in time and memory, is not part of a step.
    small = configuration.model_copy(update={"maps": 2, "cells": 2, "dense": (2,)})
    side(name, small, [30, 29])[0]()
    before = psutil.Process().memory_info().rss
    step, gradients = side(name, configuration, lengths)
    np.savez(gradients_file, **gradients)  # type: ignore[arg-type]
    loss = step()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        step()
        times.append(time.process_time() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {"seconds": min(times), "mib": peak / 2**20, "loss": loss}


def matrix_rate(dtype: torch.dtype = torch.float32) -> float:
    """Multiply-adds per second of a matrix product on one thread."""
    one_thread()
    a, b, out = (torch.randn(1024, 1024).to(dtype) for _ in range(3))
    best = math.inf
    for _ in range(30):
        begin = time.process_time()
        torch.mm(a, b, out=out)
        best = min(best, time.process_time() - begin)
    return 1024**3 / best


def measure(name: str, case: str, lengths: list[int], given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run a side in a process of its own; if it fails, the answer is its last error line, as `failed`."""
    arguments = ["--side", name, "--only", case, "--lengths", json.dumps(lengths), "--repeats", str(given.repeats)]
    arguments += ["--precision", given.precision, "--gradients", str(folder / f"{name}.npz")]
    command = [sys.executable, __file__, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=given.limit_s)
    except subprocess.TimeoutExpired:
        return {"failed": f"over {given.limit_s:g} s"}
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def largest_difference(folder: Path, rival: str) -> float:
    """The largest difference between a parameter's gradients on both sides, relative to the gradient's norm."""
    with np.load(folder / "ours.npz") as ours, np.load(folder / f"{rival}.npz") as theirs:
        return max(float(np.linalg.norm(ours[k] - theirs[k]) / np.linalg.norm(ours[k])) for k in theirs.files)


def compare(case: str, lengths: list[int], rivals: list[str], given: argparse.Namespace) -> dict[str, Any]:
    """Measure all sides in turns; keep the fastest step and the lowest peak of memory of each."""
    row: dict[str, Any] = {"case": case}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.rounds):
            for name in ("ours", *rivals):
                if "failed" in row.get(name, {}):
                    continue
                found = measure(name, case, lengths, given, Path(folder))
                earlier = row.get(name, {})
                row[name] = found | {
                    k: min(found[k], earlier[k]) for k in ("seconds", "mib") if k in earlier and k in found
                }
        assert "failed" not in row["ours"], row["ours"]
        for name in rivals:
            if "failed" not in row[name]:
                row[name]["times"] = row[name]["seconds"] / row["ours"]["seconds"]
                row[name]["memory"] = row["ours"]["mib"] / row[name]["mib"]
                row[name]["loss_difference"] = abs(row[name]["loss"] - row["ours"]["loss"])
                row[name]["gradient_difference"] = largest_difference(Path(folder), name)
    counted = NetworkConfiguration(**CASES[case]).multiply_adds(EMOTIONS)
    row["multiply_adds"] = 3 * ((counted.cnn + counted.blstm) * sum(lengths) + counted.mlp * len(lengths))
    return row


def show(row: dict[str, Any], rivals: list[str], rate: float) -> None:
    """Print a row of the table."""
    ours = row["ours"]
    share = row["multiply_adds"] / rate / ours["seconds"]
    cells = [row["case"], f"{1000 * ours['seconds']:.0f} ms", f"{ours['mib']:.0f} MiB"]
    cells += [f"{row['multiply_adds'] / 1e9:.1f}", f"{100 * share:.0f} %"]
    for name in rivals:
        r = row[name]
        if "failed" in r:
            cells.append(r["failed"])
            continue
        cells.append(
            f"{1000 * r['seconds']:.0f} ms, {r['mib']:.0f} MiB: {r['times']:.1f} x, memory {r['memory']:.2f}, "
            f"gradients {r['gradient_difference']:.0e}"
        )
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="A training step beside plain PyTorch and Keras.")
    parser.add_argument("--ravdess", type=Path, help="RAVDESS' folder")
    parser.add_argument("--only", action="append", choices=CASES, help="a case; repeat for more (all)")
    parser.add_argument("--rivals", nargs="*", default=["pytorch", "keras"], choices=RIVALS)
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"), help="of this package (float32)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side (3)")
    parser.add_argument("--repeats", type=int, default=5, help="steps of each process (5)")
    parser.add_argument("--limit-s", type=float, default=300, help="time limit of a process in seconds (300)")
    parser.add_argument("--out", type=Path, help="the file of results (results/training_step.json, _bf16 in bf16)")
    for hidden in ("--side", "--lengths", "--gradients"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        job = given.only[0], given.precision, json.loads(given.lengths), given.repeats, Path(given.gradients)
        print(json.dumps(run_side(given.side, *job)))
        return
    if given.ravdess is None:
        parser.error("--ravdess DIR is needed: the folder that holds RAVDESS")
    rivals = [r for r in given.rivals if r != "keras" or importlib.util.find_spec("keras")]
    if len(rivals) < len(given.rivals):
        print("keras can't be imported and is left out")
    is_bf16 = given.precision == "bf16"
    if is_bf16 and bf16_unit() is None:
        parser.error("--precision bf16 was given, but this processor has no units for it: measure on another one")
    suffix = "_bf16" if is_bf16 else ""
    lengths, rate = lengths_of(given.ravdess), matrix_rate(torch.bfloat16 if is_bf16 else torch.float32)
    print(f"lengths {lengths}; {rate / 1e9:.0f} G multiply-adds a second on one thread in {given.precision}")
    print("| case | ours | peak | G multiply-adds | of the limit | " + " | ".join(rivals) + " |")
    print("|" + " --- |" * (5 + len(rivals)))
    rows = []
    for case in given.only or CASES:
        rows.append(compare(case, lengths, rivals, given))
        show(rows[-1], rivals, rate)
    for name in rivals:
        ratios = [row[name]["times"] for row in rows if "times" in row[name]]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            print(f"{name}: {mean:.1f} times in the geometric mean, {min(ratios):.1f} the least")
    out = given.out or Path(__file__).parent / "results" / f"training_step{suffix}.json"
    measured = {"precision": given.precision, "unit": bf16_unit(), "lengths": lengths, "multiply_adds_per_s": rate}
    write_results(out, {**measured, "rows": rows})


if __name__ == "__main__":
    main()
