"""What a study still has to train: its trials without those that are done, in order, each handed out once.

Pure logic over keys and outcomes, without Ray, Optuna, torch or files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from sersearch.study.configuration import Configuration
from sersearch.study.space import Space
from sersearch.study.study import Scores, Study, configurations, wanted
from sersearch.study.trial import Folds, StoreIdentity, Trial, make_trials


@dataclass(frozen=True)
class Outcome:
    """How a trial ended; of several seeds, how a configuration did.

    Attributes:
        state: "complete", "pruned" by a lag behind others, or "failed" for good.
        ua: validation UA in per cent under the study's objective: of the best epoch, of the last where it was pruned;
            0 where it failed.
        epochs: how many it was trained for.
        parameters: trained parameters of the model.
    """

    state: Literal["complete", "pruned", "failed"]
    ua: float = 0.0
    epochs: int = 0
    parameters: int = 0


FAILED = Outcome("failed")

Outcomes = Callable[[Configuration], Outcome | None]
Source = Callable[[Outcomes], Sequence[Configuration]]
"""The distinct configurations that a sampler has drawn of a space so far, given the outcomes that are known; each call
gives those of the call before and, once their outcomes allow it, more."""


class Agenda:
    """The trials of a study over one set of data.

    A space that builds on the best of others (`top`) joins as soon as those are complete. A space that a sampler draws
    from grows as outcomes come in. A configuration that two spaces share is one trial.

    Attributes:
        spaces: the trials of each space that is settled, or of a sampler's as far as they are drawn, by name.
        trials: all of these, each once, by key.
    """

    def __init__(
        self,
        study: Study,
        identity: StoreIdentity,
        outcomes: Mapping[str, Outcome],
        drawn: Mapping[str, Sequence[Configuration]] | None = None,
    ) -> None:
        """Plan a study.

        Args:
            study: what to train.
            identity: the store that its trials are trained on.
            outcomes: of each trial that is done or has failed for good, by key; keys that the study does not name are
                ignored.
            drawn: on record, the configurations that samplers have drawn of their spaces, in order.
        """
        self.study = study
        self.identity = identity
        self._folds = Folds(identity.speakers, study.partition)
        self.spaces: dict[str, list[Trial]] = {}
        self.trials: dict[str, Trial] = {}
        self._entered: dict[str, int] = {}
        self._known = dict(outcomes)
        self._wanted = {space.name: wanted(space, study) for space in study.spaces if study.samples(space)}
        self._left: dict[str, Trial] = {}
        self._queue: deque[Trial] = deque()
        record = {name: list((drawn or {}).get(name, ()))[:count] for name, count in self._wanted.items()}
        self.draw_from({name: lambda _, found=found: found for name, found in record.items()})  # type: ignore[misc]

    def draw_from(self, sources: Mapping[str, Source]) -> None:
        """Begin again with samplers at work in place of their record; nothing may be handed out yet."""
        self._sources = dict(sources)
        for container in (self.spaces, self.trials, self._entered, self._left, self._queue):
            container.clear()
        self._settle()

    @property
    def unsettled(self) -> list[str]:
        """Names of the spaces whose trials depend on others that are not complete."""
        return [space.name for space in self.study.spaces if space.name not in self.spaces]

    @property
    def left(self) -> list[Trial]:
        """Trials that are settled and have no outcome."""
        return list(self._left.values())

    @property
    def failed(self) -> list[str]:
        """Keys of the trials that failed for good."""
        return [key for key in self.trials if self._known.get(key) == FAILED]

    @property
    def complete(self) -> bool:
        """Whether every trial of the study has an outcome."""
        return not self._left and not self.unsettled and not any(map(self.undrawn, self.spaces))

    def take(self) -> Trial | None:
        """The next trial that is neither done nor handed out; None if there is none for now."""
        while self._queue:
            trial = self._queue.popleft()
            if trial.key not in self._known:
                return trial
        return None

    def finish(self, key: str, outcome: Outcome) -> None:
        """Enter a trial's outcome."""
        self._known[key] = outcome
        self._left.pop(key, None)
        self._settle()

    def upper_bound(self) -> int:
        """How many trials there can be at most, spaces that are not settled or not yet drawn included."""
        waiting = [space for space in self.study.spaces if space.name not in self.spaces and space.top]
        combined = sum(space.top.k**2 * self.most_trials(space) for space in waiting if space.top)
        undrawn = sum(self.undrawn(space.name) * self.most_trials(space) for space in self.study.spaces)
        return len(self.trials) + combined + undrawn

    def trials_of(self, configuration: Configuration) -> list[Trial]:
        """All trials of a configuration."""
        return make_trials(configuration, self.study.seeds, self.identity, self._folds)

    def most_trials(self, space: Space) -> int:
        """How many trials a configuration of a space can have: one per seed and fold."""
        folds = len(self.identity.speakers) if "loso" in space.protocols else 1
        return folds * (self.study.seeds if space.kind.seeded else 1)

    def undrawn(self, name: str) -> int:
        """How many configurations of a space its sampler has yet to draw."""
        return self._wanted[name] - self._entered[name] if name in self._wanted else 0

    def outcome(self, configuration: Configuration) -> Outcome | None:
        """The mean over a configuration's trials: failed or pruned if one of them was; None while one is missing."""
        found = []
        for trial in self.trials_of(configuration):
            outcome = self._known.get(trial.key)
            if outcome is None:
                return None
            found.append(outcome)
        states = {outcome.state for outcome in found}
        if "failed" in states:
            return FAILED
        state: Literal["complete", "pruned"] = "pruned" if "pruned" in states else "complete"
        epochs = max(outcome.epochs for outcome in found)
        return Outcome(state, fmean(outcome.ua for outcome in found), epochs, found[0].parameters)

    def _settle(self) -> None:
        while any([self._grow(space) for space in self.study.spaces]):
            pass

    def _grow(self, space: Space) -> bool:
        """Enter a space's trials as far as they follow from what is known; whether there were any new ones."""
        if space.name not in self._wanted and (space.name in self.spaces or not self._founded(space)):
            return False
        trials = self.spaces.setdefault(space.name, [])
        unentered = self._configurations(space)[self._entered.get(space.name, 0) :]
        new = [trial for made in unentered for trial in self.trials_of(made)]
        self._entered[space.name] = self._entered.get(space.name, 0) + len(unentered)
        trials += new
        self._enter({trial.key: trial for trial in new if trial.key not in self.trials}, space.name in self._wanted)
        return bool(new)

    def _enter(self, trials: Mapping[str, Trial], first: bool) -> None:
        left = {key: trial for key, trial in trials.items() if key not in self._known}
        self.trials.update(trials)
        self._left.update(left)
        if first:
            # A sampler waits for these, while a grid waits for nothing.
            self._queue.extendleft(reversed(left.values()))
        else:
            self._queue.extend(left.values())

    def _founded(self, space: Space) -> bool:
        """Whether the spaces that a space builds on are complete."""
        return not space.top or all(self._ended(name) for name in (space.top.h, space.top.w))

    def _ended(self, name: str) -> bool:
        return (
            name in self.spaces
            and not self.undrawn(name)
            and all(trial.key in self._known for trial in self.spaces[name])
        )

    def _configurations(self, space: Space) -> Sequence[Configuration]:
        if space.name in self._wanted:
            return self._sources[space.name](self.outcome)
        founds = {name: self._scores(name) for name in (space.top.h, space.top.w)} if space.top else {}
        found = configurations(space, self.study, founds)
        assert found is not None
        return found

    def _scores(self, name: str) -> Scores:
        """What `top` ranks by: a space's configurations that did not fail and their UA."""
        found = {trial.configuration: self.outcome(trial.configuration) for trial in self.spaces[name]}
        return [(made, each.ua) for made, each in found.items() if each and each.state != "failed"]
