"""Measure an epoch: padding, the time of data, training and evaluation, and the UA with and without sorting by length.

    sersearch features --corpus ravdess=DIR --noise DIR --noises 1 --snrs 1 --out STORE
    python benchmarks/epoch.py --store STORE                      all of it
    python benchmarks/epoch.py --store STORE --seeds 0            without the UA

*By length* is the order that training uses, minibatches of about equal length; *shuffle* cuts a plain shuffle. Both
train the same model, which differs from `sersearch.training.network.NetworkSystem` in its clock alone: the first run
compares its losses with NetworkSystem's, to the last bit. Times are CPU times of one process on one core, of the second
of two epochs of a few minibatches. Evaluation goes over the utterances that were learnt from, so that an utterance of
one is an utterance of the other. UA is on the validation speakers of a partition with many of them, clean speech alone.
"""

import argparse
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from alone import Alone, run_alone
from numpy.typing import NDArray
from results_file import write_results
from scipy import stats
from trials import make_trial

from sersearch.models.cldnn import cross_entropy
from sersearch.run.ledger import Epoch
from sersearch.store.reader import open_store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.fold import Shares, make_partition
from sersearch.study.trial import Trial
from sersearch.training.dataset import Dataset, by_length, open_dataset, shuffled
from sersearch.training.network import NetworkSystem
from sersearch.training.system import derive_seed

MINIBATCH = 10
EPOCHS_OF_PADDING = 20
# Few training speakers and many validation speakers, so that the UA has a small error.
SHARES = Shares(train=50, validation=30, test=20)

CASES: dict[str, dict[str, Any]] = {
    "FST 3, 2": {"model": "FST-CLDNN", "w1": 3, "w2": 2},
    "FST 8, 3 MFCCs": {"model": "FST-CLDNN", "features": "mfccs", "w1": 8, "w2": 3},
    "T 8, 3": {"model": "T-CLDNN", "w1": 8, "w2": 3},
}

Batches = list[NDArray[np.int64]]
Order = Callable[[NDArray[np.int64], int, np.random.Generator], Batches]


def plain_shuffle(lengths: NDArray[np.int64], size: int, generator: np.random.Generator) -> Batches:
    """All utterances in random order, cut into minibatches."""
    order = generator.permutation(len(lengths))
    return [order[start : start + size] for start in range(0, len(order), size)]


ORDERS: dict[str, Order] = {"by length": shuffled, "shuffle": plain_shuffle}


def waste(lengths: NDArray[np.int64], batches: Batches) -> float:
    """Share of all frames of the minibatches that are padding."""
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / padded


class Clocked(NetworkSystem):
    """NetworkSystem with an order of its own and a clock between the parts of a step."""

    def __init__(self, trial: Trial, data: Dataset, order: Order) -> None:
        """See NetworkSystem."""
        super().__init__(trial, data)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.learnt = 0
        self._order = order

    def train_epoch(self) -> Epoch:
        """Learn from all minibatches and evaluate, as NetworkSystem does step by step."""
        self.seconds.clear()
        self.learnt = 0
        progress = self._begin_epoch()
        order = np.random.default_rng(derive_seed(self.trial.key, f"order {len(self.epochs) + 1}"))
        for indices in self._order(self._train.utterances.length, self.configuration.minibatch, order):
            moments = [time.process_time()]
            batch = self._train.minibatch(indices)
            moments.append(time.process_time())
            self._optimiser.zero_grad()
            loss = cross_entropy(self.model(batch.x_BTF, batch.lengths_B, progress.dropout), batch.emotion_B)
            moments.append(time.process_time())
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            moments.append(time.process_time())
            progress.loss += loss.detach() * len(indices)
            self.learnt += len(indices)
            for name, taken in zip(("data", "forward", "backward"), np.diff(moments), strict=True):
                self.seconds[name] += float(taken)
        start = time.process_time()
        progress.logits = [self._classify(batch) for batch in self._unevaluated]
        epoch = self._end_epoch(progress, time.perf_counter())
        self.seconds["evaluation"] = time.process_time() - start
        return epoch


def open_data(store: Path, shares: Shares | None = None) -> Dataset:
    """The training and validation data of a store."""
    opened = open_store(store)
    return open_dataset(opened, make_partition((info.speaker for info in opened.speakers), shares))


def pin(core: int) -> None:
    """Keep this process on one core; 0 is the last core, 1 the one before it."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1 - core % len(cores)]})


def check_against_training(configuration: NetworkConfiguration, data: Dataset) -> None:
    """Two epochs of a few utterances, as the product trains them: the same losses to the last bit."""
    few = replace(data, train=data.train.select(np.arange(0, len(data.train), max(1, len(data.train) // 25))))
    few = replace(few, validation=few.train)
    trial = make_trial(configuration, 0, "check")
    product, clocked = NetworkSystem(trial, few), Clocked(trial, few, shuffled)
    for _ in range(2):
        ours, theirs = product.train_epoch(), clocked.train_epoch()
        assert ours.validation_loss == theirs.validation_loss, (ours, theirs)
        assert ours.train_loss == theirs.train_loss, (ours, theirs)


def run_step(order: str, case: str, store: Path, minibatches: int, check: bool) -> dict[str, float]:
    """Measure the parts of an epoch in this process, in seconds per utterance."""
    pin(0)
    configuration = NetworkConfiguration(**CASES[case], epochs=2, patience=2)
    data = open_data(store)
    if check:
        check_against_training(configuration, data)
    trial = make_trial(configuration, 0, "epoch")
    batches = ORDERS[order](data.train.length, MINIBATCH, np.random.default_rng(0))[:minibatches]
    learnt = np.concatenate(batches)
    clocked = Clocked(trial, replace(data, validation=data.train.select(learnt)), lambda *_: batches)
    clocked.train_epoch()
    clocked.train_epoch()
    assert clocked.learnt == len(learnt)
    seconds = {name: taken / len(learnt) for name, taken in clocked.seconds.items()}
    return seconds | {"waste": waste(data.train.length, batches), "frames": float(data.train.length[learnt].mean())}


def run_seeds(order: str, store: Path, seeds: int, epochs: int) -> dict[str, Any]:
    """Train each seed in this process; the UA of its best epoch in per cent."""
    pin(list(ORDERS).index(order))
    data = open_data(store, SHARES)
    clean = replace(
        data,
        train=data.train.select(np.flatnonzero(~data.train.noisy)),
        validation=data.validation.select(np.flatnonzero(~data.validation.noisy)),
    )
    configuration = NetworkConfiguration(**CASES["FST 8, 3 MFCCs"], epochs=epochs, patience=epochs)
    found = []
    for seed in range(seeds):
        training = Clocked(make_trial(configuration, seed, "clean"), clean, ORDERS[order])
        while training.stopped is None:
            training.train_epoch()
        found.append(training.epochs[training.best].ua_clean)
    return {"ua": found, "utterances": [len(clean.train), len(clean.validation)]}


def padding(store: Path) -> dict[str, float]:
    """Share of padding in each order, over some epochs of the training part, and in evaluation."""
    data = open_data(store)
    generator = np.random.default_rng(0)
    found = {}
    for name, order in ORDERS.items():
        of_epochs = [
            waste(data.train.length, order(data.train.length, MINIBATCH, generator)) for _ in range(EPOCHS_OF_PADDING)
        ]
        found[name] = float(np.mean(of_epochs))
    validation = data.validation.length
    found["evaluation"] = waste(validation, list(by_length(validation, MINIBATCH)))
    return found


def steps(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure each case in both orders and print the table."""
    print(
        "| kernels | order | padding | data | forward | backward | per utterance | data's share | evaluation | faster |"
    )
    print("|" + " --- |" * 10)
    rows: list[dict[str, Any]] = []
    for case in given.only or CASES:
        for order in ORDERS:
            words = ["--step", order, "--only", case, "--store", given.store, "--minibatches", given.minibatches]
            row = run_alone(__file__, words + ([] if rows else ["--check"]), given.limit_s)
            rows.append({"case": case, "order": order, **row})
            if "failed" in row:
                print(f"| {case} | {order} | {row['failed']} |", flush=True)
                continue
            step = row["data"] + row["forward"] + row["backward"]
            times = [f"{1000 * row[name]:.2f} ms" for name in ("data", "forward", "backward")]
            print(
                f"| {case} | {order} | {row['waste']:.1%} | {' | '.join(times)} | {1000 * step:.2f} ms "
                f"| {row['data'] / step:.2%} | {1000 * row['evaluation']:.2f} ms "
                f"| {row['forward'] / row['evaluation']:.2f} x |",
                flush=True,
            )
    return rows


def compare_ua(given: argparse.Namespace) -> dict[str, Any]:
    """Train the same seeds in both orders, at the same time on a core each, and print the table."""
    words = ["--store", given.store, "--seeds", given.seeds, "--epochs", given.epochs]
    sides = {order: Alone(__file__, ["--learn", order, *words]) for order in ORDERS}
    found = {order: side.answer(given.limit_s) for order, side in sides.items()}
    if failed := [row["failed"] for row in found.values() if "failed" in row]:
        print(f"UA: {failed[0]}")
        return found
    print(f"\n| UA (%), {given.epochs} epochs | {' | '.join(f'seed {seed}' for seed in range(given.seeds))} | mean |")
    print("|" + " --- |" * (given.seeds + 2))
    for order, row in found.items():
        print(f"| {order} | {' | '.join(f'{ua:.1f}' for ua in row['ua'])} | {np.mean(row['ua']):.1f} |")
    differences = np.subtract(found["by length"]["ua"], found["shuffle"]["ua"])
    half = stats.t.ppf(0.975, given.seeds - 1) * differences.std(ddof=1) / math.sqrt(given.seeds)
    learnt, measured = found["by length"]["utterances"]
    print(
        f"by length less shuffle: {differences.mean():+.1f} points, 95 % from {differences.mean() - half:+.1f} to "
        f"{differences.mean() + half:+.1f} ({given.seeds} seeds; {learnt} utterances learnt, {measured} measured)"
    )
    return {**found, "difference": float(differences.mean()), "half_width": float(half)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="a store of RAVDESS, noisy copies included")
    parser.add_argument("--only", action="append", choices=CASES, help="a case; repeat for more (all)")
    parser.add_argument("--minibatches", type=int, default=20, help="minibatches of a timed epoch (20)")
    parser.add_argument("--seeds", type=int, default=5, help="networks per order, 0 or 2 and more (5)")
    parser.add_argument("--epochs", type=int, default=6, help="epochs per network (6)")
    parser.add_argument("--limit-s", type=float, default=300, help="time limit of a process in seconds (300)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "epoch.json")
    for hidden in ("--step", "--learn"):
        parser.add_argument(hidden, choices=ORDERS, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(run_step(given.step, given.only[0], given.store, given.minibatches, given.check)))
        return
    if given.learn:
        print(json.dumps(run_seeds(given.learn, given.store, given.seeds, given.epochs)))
        return
    if given.seeds == 1:
        parser.error("--seeds 1 was given, but an interval needs at least two seeds; --seeds 0 leaves the UA out")
    wasted = padding(given.store)
    print(", ".join(f"{name} {share:.2%}" for name, share in wasted.items()), "of the frames are padding")
    rows = steps(given)
    ua = compare_ua(given) if given.seeds else {}
    write_results(given.out, {"padding": wasted, "steps": rows, "ua": ua})


if __name__ == "__main__":
    main()
