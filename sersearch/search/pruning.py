"""Early stopping across trials: a trial that lags behind the others is ended after its current epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import optuna
from optuna.trial import TrialState

from sersearch.run.ledger import Epoch, Result
from sersearch.study.study import Search
from sersearch.study.trial import Trial


class Pruner:
    """Compares each trial's validation UA with that of the others of its fold, epoch by epoch, by Optuna's pruners.

    ASHA keeps the best quarter at epochs 1, 4, 16 and so on. The median rule applies from the third epoch and stops a
    trial whose UA is below the median of at least five others at the same epoch. Which trials are stopped depends on
    the order in which epochs are reported, so it may differ between runs with several workers.
    """

    def __init__(self, search: Search, results: Iterable[Result]) -> None:
        """Start from the results of the trials that are done."""
        self._condition = search.objective
        self._search = search
        self._studies: dict[tuple[str, ...], optuna.Study] = {}
        self._trials: dict[str, optuna.Trial] = {}
        for result in sorted(results, key=lambda result: result.trial.key):
            for epoch in result.epochs:
                self.lags(result.trial, epoch)
            self.ended(result)

    def lags(self, trial: Trial, epoch: Epoch) -> bool:
        """Enter an epoch of a trial; return whether the trial should end with it."""
        if trial.key not in self._trials:
            self._trials[trial.key] = self._study(trial).ask()
        asked = self._trials[trial.key]
        asked.report(epoch.ua(self._condition), epoch.epoch)
        return bool(asked.should_prune())

    def ended(self, result: Result) -> None:
        """Enter the result of a trial; one without a reported epoch is ignored."""
        asked = self._trials.pop(result.trial.key, None)
        if asked is None:
            return
        if result.stopped == "pruned":
            self._study(result.trial).tell(asked, state=TrialState.PRUNED)
        else:
            self._study(result.trial).tell(asked, result.ua(self._condition))

    def _study(self, trial: Trial) -> optuna.Study:
        """The Optuna study of a trial's fold, whose validation speakers it has in common with the others there."""
        fold = (*trial.fold.train, "", *trial.fold.validation)
        if fold not in self._studies:
            self._studies[fold] = optuna.create_study(
                direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0), pruner=_pruner(self._search)
            )
        return self._studies[fold]


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    match search.pruner:
        case "asha":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=4)
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
        case "none":
            return optuna.pruners.NopPruner()
        case _:
            assert_never(search.pruner)
