"""Optuna suggests configurations: one study per sampled space, in memory, by ask and tell.

Nothing of Optuna is stored. A resumed search asks again from the seed and tells the outcomes that the ledger holds, so
it draws the same configurations as an uninterrupted one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from sersearch.errors import InputError
from sersearch.run.run import Run
from sersearch.search.dimensions import optuna_value, suggest_values
from sersearch.study.agenda import Agenda, Outcome, Outcomes, Source
from sersearch.study.configuration import Configuration
from sersearch.study.space import Space
from sersearch.study.study import Search, Study, build, wanted

STALE_AFTER = 10
"""After so many suggestions in a row without a new configuration, the sampler is given one."""

HOPELESS_AFTER = 1000
"""After so many suggestions in a row without a new configuration, the search gives up."""

# One entry per sampler of `sersearch.study.study.Sampler`, except "grid", which the agenda enumerates.
SAMPLERS: dict[str, Callable[..., optuna.samplers.BaseSampler]] = {
    "random": optuna.samplers.RandomSampler,
    "tpe": partial(optuna.samplers.TPESampler, multivariate=True, group=True),
    "gp": partial(optuna.samplers.GPSampler, warn_independent_sampling=False),
    "cma-es": partial(optuna.samplers.CmaEsSampler, warn_independent_sampling=False),
    "qmc": partial(optuna.samplers.QMCSampler, warn_independent_sampling=False),
    "nsga-ii": optuna.samplers.NSGAIISampler,
}


def sources(run: Run, agenda: Agenda) -> dict[str, Source]:
    """Create a suggester for each sampled space and fold; it records each configuration before handing it out.

    Each fold has a sampler of its own, which is told the fold's outcomes alone: those of other folds are of speakers
    who test in this one. All begin from the same seed, so that their first suggestions are the same.
    """
    record = run.suggestions()
    return {
        name: Suggester(space, run.study, partial(record.add, name))
        for space in run.study.spaces
        if run.study.samples(space)
        for name in agenda.source_names(space)
    }


class Suggester:
    """Draws distinct feasible configurations of a space, in batches.

    Before a batch is drawn, Optuna is told the outcomes of all earlier ones, in the order in which they were drawn. The
    sequence therefore depends on the study and the outcomes only, not on the order of completion or on interruptions.

    Attributes:
        optuna: the Optuna study that is asked and told.
    """

    def __init__(self, space: Space, study: Study, record: Callable[[int, Configuration], None]) -> None:
        """Prepare to draw from a space.

        Args:
            space: the space to draw from.
            study: the study that the space belongs to.
            record: called with the number, from 0, of each configuration and the configuration, before it is handed
                out.
        """
        self.optuna = optuna.create_study(sampler=_sampler(study.search), directions=directions(study.search))
        self._space, self._study, self._record = space, study, record
        self._wanted = wanted(space, study)
        self._drawn: dict[Configuration, Outcome | None] = {}
        self._batch: list[tuple[optuna.Trial, Configuration]] = []
        self._random = optuna.create_study(sampler=optuna.samplers.RandomSampler(study.search.seed))

    def __call__(self, outcomes: Outcomes) -> Sequence[Configuration]:
        """Draw further batches as far as the outcomes allow, and return all configurations drawn so far."""
        while True:
            batch_outcomes = [outcomes(configuration) for _, configuration in self._batch]
            if None in batch_outcomes:
                break
            for (trial, configuration), outcome in zip(self._batch, batch_outcomes, strict=True):
                assert outcome
                self._drawn[configuration] = outcome
                tell(self.optuna, trial, outcome)
            self._batch = []
            if len(self._drawn) == self._wanted:
                break
            self._draw_batch()
        return list(self._drawn)

    def _draw_batch(self) -> None:
        goal = min(len(self._drawn) + self._study.search.batch, self._wanted)
        fruitless = 0
        while len(self._drawn) < goal:
            if fruitless >= STALE_AFTER:
                self.optuna.enqueue_trial(self._alternative(fruitless))
            trial = self.optuna.ask()
            configuration = build(self._space, suggest_values(trial, self._space, self._study.settings))
            if configuration is not None and configuration not in self._drawn:
                self._record(len(self._drawn), configuration)
                self._drawn[configuration] = None
                self._batch.append((trial, configuration))
                fruitless = 0
            else:
                self._answer_again(trial, configuration)
                fruitless += 1

    def _answer_again(self, trial: optuna.Trial, configuration: Configuration | None) -> None:
        """Answer a suggestion that is infeasible (None) or was drawn before."""
        if configuration is None:
            self.optuna.tell(trial, state=TrialState.FAIL)
        elif outcome := self._drawn[configuration]:
            tell(self.optuna, trial, outcome)
        else:
            # The configuration is in this batch already, so both trials are told its outcome when it is known.
            self._batch.append((trial, configuration))

    def _alternative(self, fruitless: int) -> dict[str, Any]:
        """Choose parameters in the sampler's place: the first new ones of a countable space, otherwise random ones.

        Raises:
            InputError: no new configuration was found in `HOPELESS_AFTER` suggestions.
        """
        if self._space.countable:
            for leaf in self._space.leaves(self._study.settings):
                configuration = build(self._space, leaf)
                if configuration and configuration not in self._drawn:
                    return {name: optuna_value(leaf[name]) for name in self._space.ranges if name in leaf}
        if fruitless >= HOPELESS_AFTER:
            raise InputError(
                f"space {self._space.name}: after {len(self._drawn)} configurations, {fruitless} suggestions in a row "
                "were known or can't be built: widen its ranges, or set a smaller number of trials"
            )
        trial = self._random.ask()
        suggest_values(trial, self._space, self._study.settings)
        return trial.params


def directions(search: Search) -> list[StudyDirection]:
    """List the directions of a search's objectives: UA is maximised; NSGA-II also minimises the parameters."""
    if search.sampler == "nsga-ii":
        return [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    return [StudyDirection.MAXIMIZE]


def objective_values(study: optuna.Study, ua: float, parameters: int) -> list[float]:
    """List the values of a study's objectives, in the order of `directions`."""
    return [ua, parameters][: len(study.directions)]


def tell(study: optuna.Study, trial: optuna.Trial, outcome: Outcome) -> None:
    """Tell Optuna how a trial ended: COMPLETE with its value, PRUNED with its last value, or FAIL without a value."""
    if outcome.state == "failed":
        study.tell(trial, state=TrialState.FAIL)
    elif outcome.state == "pruned":
        trial.report(outcome.ua, outcome.epochs)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, objective_values(study, outcome.ua, outcome.parameters))


def _sampler(search: Search) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        # Optuna marks conditional TPE and QMC as experimental. Its version is pinned, and a test pins what it draws.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[search.sampler](seed=search.seed)
