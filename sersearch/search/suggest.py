"""Optuna suggests configurations: one study per sampled space, in memory, by ask and tell.

Nothing of Optuna is stored. A resumed search asks again from the seed and tells the outcomes that the ledger holds, so
it draws the same configurations as an uninterrupted one.

Suggestion n is drawn when Optuna was told the outcomes of suggestions 0 to n - k, in this order, and of no other; k is
the window. The k - 1 before it are pending, which each sampler treats in its own way: TPE as bad (constant liar), GP as
outcomes that it integrates over; CMA-ES and NSGA-II continue their generation, random and QMC ignore all outcomes.
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
    "tpe": partial(optuna.samplers.TPESampler, multivariate=True, group=True, constant_liar=True),
    "gp": partial(optuna.samplers.GPSampler, warn_independent_sampling=False),
    "cma-es": partial(optuna.samplers.CmaEsSampler, warn_independent_sampling=False),
    "qmc": partial(optuna.samplers.QMCSampler, warn_independent_sampling=False),
    "nsga-ii": optuna.samplers.NSGAIISampler,
}


def sources(run: Run, agenda: Agenda, slots: int, on_gpus: int | None = None) -> dict[str, Source]:
    """Create a suggester for each sampled space and fold; it records each configuration before handing it out.

    Windows that the study leaves open are settled, on record and in the agenda.

    Each fold has a sampler of its own, which is told the fold's outcomes alone: those of other folds are of speakers
    who test in this one. All begin from the same seed, so that their first suggestions are the same.

    Args:
        run: the run to draw for.
        agenda: its agenda.
        slots: how many trials at a time fit on the cluster; only the run's first launch regards it.
        on_gpus: how many of those that take GPUs, where the study has others beside them.
    """
    record = run.suggestions()
    record.launch(slots, on_gpus)
    agenda.windows.update(record.windows)
    return {
        name: Suggester(space, run.study, record.windows[space.name], partial(record.add, name))
        for space in run.study.spaces
        if run.study.samples(space)
        for name in agenda.source_names(space)
    }


class Suggester:
    """Draws distinct feasible configurations of a space with a sliding window.

    Before a configuration is drawn, Optuna is told the outcomes of all but the last `window` - 1 before it, in the
    order in which they were drawn, and nothing of the others, even where they have outcomes. The sequence therefore
    depends on the study, the window and the outcomes only, not on the order of completion or on interruptions.

    Attributes:
        optuna: the Optuna study that is asked and told.
    """

    def __init__(
        self, space: Space, study: Study, window: int, record: Callable[[int, Configuration, int], None]
    ) -> None:
        """Prepare to draw from a space.

        Args:
            space: the space to draw from.
            study: the study that the space belongs to.
            window: how many configurations may be without an outcome at once; 1 is the sequential search.
            record: called with the number, from 0, of each configuration, the configuration, and the number of outcomes
                that it was drawn from, before it is handed out.
        """
        self.optuna = optuna.create_study(sampler=_sampler(study.search), directions=directions(study.search))
        self._space, self._study, self._window, self._record = space, study, window, record
        self._wanted = wanted(space, study)
        # Both in the order in which they were drawn; what is told was drawn before what is pending.
        self._told: dict[Configuration, Outcome] = {}
        self._pending: dict[Configuration, list[optuna.Trial]] = {}
        self._random = optuna.create_study(sampler=optuna.samplers.RandomSampler(study.search.seed))

    def __call__(self, outcomes: Outcomes) -> Sequence[Configuration]:
        """Draw as far as the outcomes allow, and return all configurations drawn so far."""
        while self._count < self._wanted:
            if len(self._pending) < self._window:
                self._draw()
                continue
            oldest = next(iter(self._pending))
            outcome = outcomes(oldest)
            if outcome is None:
                break
            self._tell(oldest, outcome)
        return [*self._told, *self._pending]

    @property
    def _count(self) -> int:
        return len(self._told) + len(self._pending)

    def _tell(self, configuration: Configuration, outcome: Outcome) -> None:
        """Tell Optuna an outcome, for each time that it suggested the configuration."""
        for trial in self._pending.pop(configuration):
            tell(self.optuna, trial, outcome)
        self._told[configuration] = outcome

    def _draw(self) -> None:
        """Draw the next configuration that can be built and was not drawn before."""
        fruitless = 0
        while True:
            if fruitless >= STALE_AFTER:
                self.optuna.enqueue_trial(self._alternative(fruitless))
            trial = self.optuna.ask()
            configuration = build(self._space, suggest_values(trial, self._space, self._study.settings))
            if configuration is not None and not self._is_drawn(configuration):
                break
            self._answer_again(trial, configuration)
            fruitless += 1
        self._record(self._count, configuration, len(self._told))
        self._pending[configuration] = [trial]

    def _is_drawn(self, configuration: Configuration) -> bool:
        return configuration in self._told or configuration in self._pending

    def _answer_again(self, trial: optuna.Trial, configuration: Configuration | None) -> None:
        """Answer a suggestion that is infeasible (None) or was drawn before."""
        if configuration is None:
            self.optuna.tell(trial, state=TrialState.FAIL)
        elif configuration in self._told:
            tell(self.optuna, trial, self._told[configuration])
        else:
            self._pending[configuration].append(trial)

    def _alternative(self, fruitless: int) -> dict[str, Any]:
        """Choose parameters in the sampler's place: the first new ones of a countable space, otherwise random ones.

        Raises:
            InputError: no new configuration was found in `HOPELESS_AFTER` suggestions.
        """
        if self._space.countable:
            for leaf in self._space.leaves(self._study.settings):
                configuration = build(self._space, leaf)
                if configuration and not self._is_drawn(configuration):
                    return {name: optuna_value(leaf[name]) for name in self._space.ranges if name in leaf}
        if fruitless >= HOPELESS_AFTER:
            raise InputError(
                f"space {self._space.name}: after {self._count} configurations, {fruitless} suggestions in a row "
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
