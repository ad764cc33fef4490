"""Train a run's networks again in plain PyTorch, and compare their validation UA fold by fold.

    sersearch search ravdess --store STORE --run RUN
    python benchmarks/plain_training.py --run RUN --space ldnn-mfccs

The plain network is what one would write in PyTorch: spliced frames, Conv2d, a packed nn.LSTM, Dropout, PyTorch's own
initial weights and its Adam. It sees the same normalised frames, in minibatches of its own, and stops by the same rule.
No test speaker is opened. A difference that is more than luck would be a fault of ours.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results_file import write_results
from rivals.plain_pytorch import Plain
from sklearn.metrics import recall_score
from torch import nn

from sersearch.models.cldnn import CLDNN, cross_entropy
from sersearch.run.ledger import Result
from sersearch.run.run import Run, open_run
from sersearch.study.configuration import NetworkConfiguration
from sersearch.training.dataset import View, by_length, open_dataset


def plain_network(configuration: NetworkConfiguration, emotions: int, seed: int) -> Plain:
    """The plain network with PyTorch's own initial weights."""
    torch.manual_seed(seed)
    plain = Plain(CLDNN(configuration, emotions), configuration.dropout)
    for layer in plain.modules():
        if isinstance(layer, nn.Conv2d | nn.LSTM | nn.Linear):
            layer.reset_parameters()
    return plain


def validate(plain: Plain, view: View, minibatch: int) -> tuple[float, float]:
    """UA of all validation copies and of the clean ones, in per cent."""
    plain.eval()
    utterances = view.utterances
    predicted = np.empty(len(utterances), np.int64)
    with torch.no_grad():
        for batch in by_length(utterances.length, minibatch):
            x_BTF, lengths_B, _ = view.minibatch(batch)
            predicted[batch] = plain(x_BTF, lengths_B).argmax(1).numpy()
    clean = ~utterances.noisy
    noisy_ua = recall_score(utterances.emotion, predicted, average="macro")
    return 100 * noisy_ua, 100 * recall_score(utterances.emotion[clean], predicted[clean], average="macro")


def train(run: Run, result: Result, seed: int) -> dict[str, Any]:
    """Train the plain network of a finished trial's fold until UA no longer rises; its figures at the best epoch."""
    configuration = result.trial.configuration
    assert isinstance(configuration, NetworkConfiguration)
    data = open_dataset(run.store, result.trial.fold, configuration.trim)
    view, validation = (View(part, configuration, data.moments) for part in (data.train, data.validation))
    plain = plain_network(configuration.model_copy(update={"precision": "float32"}), len(data.emotions), seed)
    optimiser = torch.optim.Adam(plain.parameters(), lr=configuration.learning_rate, eps=configuration.epsilon)
    generator = np.random.default_rng(seed)
    uas: list[tuple[float, float]] = []
    best = 0
    utterances = len(data.train)
    limit, patience = (
        configuration.in_epochs(given, utterances) for given in (configuration.epochs, configuration.patience)
    )
    while len(uas) < limit and len(uas) - 1 - best < patience:
        plain.train()
        order = generator.permutation(utterances)
        for start in range(0, utterances, configuration.minibatch):
            x_BTF, lengths_B, emotion_B = view.minibatch(order[start : start + configuration.minibatch])
            optimiser.zero_grad()
            cross_entropy(plain(x_BTF, lengths_B), emotion_B).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        uas.append(validate(plain, validation, configuration.minibatch))
        best = max(range(len(uas)), key=lambda epoch: uas[epoch][0])
    return {"noisy": uas[best][0], "clean": uas[best][1], "best": best + 1, "epochs": len(uas)}


def main() -> None:
    """Train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run whose trials keep the epoch of the highest UA")
    parser.add_argument("--space", required=True, help="the space whose networks are trained again")
    parser.add_argument("--folds", type=int, nargs="*", help="their numbers from 1 (all)")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights, the order and the dropout (0)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "plain_training.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    run = open_run(given.run)
    results = run.ledger.results()
    trials = [trial for trial in run.agenda(results).spaces[given.space] if trial.key in results]
    rows = []
    for number, trial in enumerate(trials, start=1):
        if given.folds and number not in given.folds:
            continue
        result = results[trial.key]
        ours = {
            "noisy": result.ua("noisy"),
            "clean": result.ua("clean"),
            "best": result.best_epoch.epoch if result.best_epoch else 0,
            "epochs": len(result.epochs),
        }
        sides = {"ours": ours, "plain": train(run, result, given.seed)}
        rows.append({"fold": trial.fold.name or "1", **sides})
        said = (
            f"{side} {found['noisy']:.2f} noisy {found['clean']:.2f} clean, epoch {found['best']} of {found['epochs']}"
            for side, found in sides.items()
        )
        print(f"fold {trial.fold.name or 1}: {'; '.join(said)}", flush=True)
        write_results(given.out, {"space": given.space, "rows": rows})


if __name__ == "__main__":
    main()
