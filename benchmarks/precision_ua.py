"""Train networks on a CPU in float32 and in bf16, seed by seed, and compare their UA.

    sersearch features --corpus ravdess=DIR --noise DIR --noises 1 --snrs 1 --out STORE
    python benchmarks/precision_ua.py --store STORE
    python benchmarks/precision_ua.py --store STORE --only "FST 8, 3 MFCCs" --seeds 10 --epochs 10

A seed has the same initial weights, order of utterances and dropout in both precisions. Networks are trained on clean
speech of half of the speakers. UA is that of the best epoch on the validation speakers, clean speech too. The results
are written after each seed, so that a run that is interrupted leaves those that it has.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from epoch import SHARES, open_data
from results_file import write_results
from scipy import stats
from training_step import CASES
from trials import make_trial

from sersearch.models.kernels.units import bf16_unit
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.configuration.network import Precision
from sersearch.training.dataset import Dataset
from sersearch.training.network import NetworkSystem

PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")


def clean_data(store: Path) -> Dataset:
    """The clean utterances of a store's training and validation speakers."""
    data = open_data(store, SHARES)
    clean = (part.select(np.flatnonzero(~part.noisy)) for part in (data.train, data.validation))
    train, validation = clean
    return replace(data, train=train, validation=validation)


def train(case: str, precision: Precision, seed: int, epochs: int, data: Dataset) -> dict[str, float]:
    """Train one network; its UA in per cent, and the CPU seconds that this took."""
    configuration = NetworkConfiguration(**CASES[case], epochs=epochs, patience=epochs, precision=precision)
    trial = make_trial(configuration, seed, "clean")
    # Weights, order and dropout are drawn from the key, which otherwise contains the precision.
    trial.__dict__["key"] = f"seed {seed}"
    training = NetworkSystem(trial, data)
    begin = time.process_time()
    while training.stopped is None:
        training.step()
    return {"ua": training.epochs[training.best].ua_clean, "seconds": time.process_time() - begin}


def paired(seeds: list[dict[str, Any]]) -> dict[str, float]:
    """The mean difference of UA, bf16 minus float32, in points, with half the width of its 95 % interval."""
    differences = np.array([seed["bf16"]["ua"] - seed["float32"]["ua"] for seed in seeds])
    if len(seeds) < 2:
        return {"difference": float(differences.mean())}
    error = stats.sem(differences)
    half_width = float(stats.t.ppf(0.975, len(seeds) - 1) * error)
    return {"difference": float(differences.mean()), "half_width": half_width}


def summary(row: dict[str, Any]) -> str:
    """A row of results in one line."""
    seeds, parts = row["seeds"], []
    for precision in PRECISIONS:
        uas = [seed[precision]["ua"] for seed in seeds]
        seconds = sum(seed[precision]["seconds"] for seed in seeds)
        parts.append(f"{precision} {np.mean(uas):.1f} % in {seconds:.0f} s")
    difference, half_width = row["difference"], row.get("half_width")
    around = f", 95 % from {difference - half_width:+.1f} to {difference + half_width:+.1f}" if half_width else ""
    return f"{row['case']}, {len(seeds)} seeds: {', '.join(parts)}; difference {difference:+.1f} points{around}"


def main() -> None:
    """Train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="a store of RAVDESS")
    parser.add_argument("--only", action="append", choices=CASES, help="a case; repeat for more (FST and T)")
    parser.add_argument("--seeds", type=int, default=10, help="networks per case and precision (10)")
    parser.add_argument("--epochs", type=int, default=10, help="epochs per network (10)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "precision_ua.json")
    given = parser.parse_args()
    unit = bf16_unit()
    if unit is None:
        parser.error("this processor has no units for bfloat16, so both precisions would be float32")
    data = clean_data(given.store)
    utterances = [len(data.train), len(data.validation)]
    print(f"{unit}; {utterances[0]} training and {utterances[1]} validation utterances; {given.epochs} epochs")
    rows: list[dict[str, Any]] = []
    for case in given.only or ("FST 8, 3 MFCCs", "T 8, 3 MFCCs"):
        seeds: list[dict[str, Any]] = []
        rows.append({"case": case})
        for seed in range(given.seeds):
            seeds.append({name: train(case, name, seed, given.epochs, data) for name in PRECISIONS})
            rows[-1] |= {"seeds": seeds, **paired(seeds)}
            print(summary(rows[-1]), flush=True)
            write_results(given.out, {"unit": unit, "epochs": given.epochs, "utterances": utterances, "rows": rows})


if __name__ == "__main__":
    main()
