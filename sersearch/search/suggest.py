"""Optuna suggests: one study a space, in memory, by ask and tell.

Nothing of Optuna is kept: a search that goes on asks again from the seed and tells what the ledger knows, so it draws
what an uninterrupted one would.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import optuna
from optuna.trial import TrialState

from sersearch.errors import InputError
from sersearch.run.run import Run
from sersearch.search.dimensions import draw, label
from sersearch.study.agenda import Outcome, Outcomes, Source
from sersearch.study.configuration import Configuration
from sersearch.study.space import Space
from sersearch.study.study import Search, Study, build, wanted

optuna.logging.set_verbosity(optuna.logging.ERROR)

# Suggestions in a row that are known or can't be built, until the sampler is given another; until there is no hope.
STALE, HOPELESS = 10, 1000

SAMPLERS: dict[str, Callable[..., optuna.samplers.BaseSampler]] = {
    "tpe": partial(optuna.samplers.TPESampler, multivariate=True, group=True),
    "gp": partial(optuna.samplers.GPSampler, warn_independent_sampling=False),
    "cma-es": partial(optuna.samplers.CmaEsSampler, warn_independent_sampling=False),
    "qmc": partial(optuna.samplers.QMCSampler, warn_independent_sampling=False),
    "nsga-ii": optuna.samplers.NSGAIISampler,
}


def sources(run: Run) -> dict[str, Source]:
    """A sampler for each space of a run that is sampled; what they draw goes on record first."""
    record = run.suggestions()
    return {
        space.name: Suggester(space, run.study, partial(record.add, space.name))
        for space in run.study.spaces
        if run.study.samples(space)
    }


class Suggester:
    """Draws distinct feasible configurations of a space, in batches.

    Each batch knows the outcomes of all before it, told in the order of asking, so the sequence depends on the study
    and the outcomes alone: neither on the order of completion nor on interruptions.

    Attributes:
        optuna: the study that is asked and told.
    """

    def __init__(self, space: Space, study: Study, record: Callable[[int, Configuration], None]) -> None:
        """Draw nothing yet; `record` is given each configuration and its number, from 0, before it is handed out."""
        self.optuna = new_study(study.search)
        self._space, self._study, self._record = space, study, record
        self._wanted = wanted(space, study)
        self._told: dict[Configuration, Outcome | None] = {}
        self._batch: list[tuple[optuna.Trial, Configuration]] = []
        self._random = optuna.create_study(sampler=optuna.samplers.RandomSampler(study.search.seed))

    def __call__(self, outcomes: Outcomes) -> Sequence[Configuration]:
        """All configurations drawn so far; the next batch is among them once the last has its outcomes."""
        while None not in (known := [outcomes(configuration) for _, configuration in self._batch]):
            for (trial, configuration), outcome in zip(self._batch, known, strict=True):
                assert outcome
                self._told[configuration] = outcome
                tell(self.optuna, trial, outcome)
            self._batch = []
            if len(self._told) == self._wanted:
                break
            self._ask()
        return list(self._told)

    def _ask(self) -> None:
        goal, stale = min(len(self._told) + self._study.search.batch, self._wanted), 0
        while len(self._told) < goal:
            if stale >= STALE:
                self.optuna.enqueue_trial(self._other(stale))
            trial = self.optuna.ask()
            configuration = build(self._space, draw(trial, self._space, self._study.settings))
            stale += 1
            if configuration is None:
                self.optuna.tell(trial, state=TrialState.FAIL)
            elif configuration not in self._told:
                self._record(len(self._told), configuration)
                self._told[configuration] = None
                self._batch.append((trial, configuration))
                stale = 0
            elif outcome := self._told[configuration]:
                tell(self.optuna, trial, outcome)
            else:
                self._batch.append((trial, configuration))

    def _other(self, stale: int) -> dict[str, Any]:
        """Parameters that the sampler did not think of: the first that are new, or random where they can't be counted.

        Raises:
            InputError: nothing new is to be found.
        """
        if self._space.countable:
            for leaf in self._space.leaves(self._study.settings):
                if (made := build(self._space, leaf)) and made not in self._told:
                    return {name: label(leaf[name]) for name in self._space.ranges if name in leaf}
        if stale >= HOPELESS:
            raise InputError(
                f"space {self._space.name}: after {len(self._told)} configurations {stale} suggestions in a row were "
                "known or can't be built: widen its ranges, or ask for fewer trials"
            )
        trial = self._random.ask()
        draw(trial, self._space, self._study.settings)
        return trial.params


def new_study(search: Search, **where: Any) -> optuna.Study:
    """An Optuna study with the objectives and the sampler of a search; `where` names a storage, if any."""
    ways: list[Literal["maximize", "minimize"]] = (
        ["maximize", "minimize"] if search.sampler == "nsga-ii" else ["maximize"]
    )
    return optuna.create_study(sampler=_sampler(search), directions=ways, **where)


def _sampler(search: Search) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        # Conditional TPE and QMC are experimental; Optuna is pinned, and what it draws is tested.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS.get(search.sampler, optuna.samplers.RandomSampler)(seed=search.seed)


def tell(study: optuna.Study, trial: optuna.Trial, outcome: Outcome) -> None:
    """Tell how a trial ended: COMPLETE with its value, PRUNED with its last one, FAIL with none."""
    if outcome.state == "failed":
        study.tell(trial, state=TrialState.FAIL)
    elif outcome.state == "pruned":
        trial.report(outcome.ua, outcome.epochs)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, values(study, outcome.ua, outcome.parameters))


def values(study: optuna.Study, ua: float, parameters: int) -> list[float]:
    """A value for each of a study's objectives."""
    return [ua, parameters][: len(study.directions)]
