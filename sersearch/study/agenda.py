"""What a study still has to train: its trials without those that are done, in order, each handed out once.

A fold's choice may not see its test speakers, who validate or train in other folds. So wherever results decide what is
tried (`top`, samplers), each fold decides by its own validation speakers alone, as if it were a study of its own.

Pure logic over keys and outcomes, without Ray, Optuna, torch or files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Literal

from sersearch.study.configuration import Configuration
from sersearch.study.fold import Fold
from sersearch.study.space import Space
from sersearch.study.study import Scores, Study, configurations, feasible_configurations, wanted
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

Queues = Mapping[bool, deque[Trial]]
"""Trials in order, those on GPUs and those that take none apart."""

FEW_PER_SLOT = 10
"""With at most so many trials for each slot, those of a grid are handed out by their cost."""

Outcomes = Callable[[Configuration], Outcome | None]
Source = Callable[[Outcomes], Sequence[Configuration]]
"""The distinct configurations that a sampler has drawn of a space in one fold so far, given the fold's outcomes that
are known; each call gives those of the call before and, once their outcomes allow it, more."""


def source_name(space: str, fold: int, folds: int) -> str:
    """Name of what a sampler draws of a space in one of several folds; the space's own where there is one fold.

    Example:
        >>> source_name("fst", 0, 1), source_name("fst", 1, 6)
        ('fst', 'fst, fold 2')
    """
    return space if folds == 1 else f"{space}, fold {fold + 1}"


class Agenda:
    """The trials of a study over one set of data.

    A space that builds on the best of others (`top`) joins as soon as those are complete. A space that a sampler draws
    from grows as outcomes come in. A configuration that two spaces share is one trial.

    Attributes:
        spaces: the trials of each space that is settled, or of a sampler's as far as they are drawn, by name.
        trials: all of these, each once, by key.
        windows: how many configurations of a sampled space may be without an outcome at once, by its name; without
            those that follow from the cluster of a launch that is still to come.
    """

    def __init__(
        self,
        study: Study,
        identity: StoreIdentity,
        outcomes: Mapping[str, Outcome],
        drawn: Mapping[str, Sequence[Configuration]] | None = None,
        windows: Mapping[str, int] | None = None,
    ) -> None:
        """Plan a study.

        Args:
            study: what to train.
            identity: the store that its trials are trained on.
            outcomes: of each trial that is done or has failed for good, by key; keys that the study does not name are
                ignored.
            drawn: on record, the configurations that samplers have drawn, in order, by `source_names`.
            windows: those on record.
        """
        self.study = study
        self.identity = identity
        self._folds = Folds(identity.speakers, study.partition, identity.groups)
        self.spaces: dict[str, list[Trial]] = {}
        self.trials: dict[str, Trial] = {}
        self._in_fold: dict[tuple[str, int], list[Trial]] = {}
        self._entered: dict[tuple[str, int], int] = {}
        self._known = dict(outcomes)
        self._wanted = {space.name: wanted(space, study) for space in study.spaces if study.samples(space)}
        self._left: dict[str, Trial] = {}
        self._suggested: Queues = {True: deque(), False: deque()}
        self._queue: Queues = {True: deque(), False: deque()}
        self.windows = dict(windows or {})
        if study.search.window is not None:
            self.windows |= dict.fromkeys(self._wanted, study.search.window)
        record = {
            name: list((drawn or {}).get(name, ()))[: self._wanted[space.name]]
            for space in study.spaces
            if space.name in self._wanted
            for name in self.source_names(space)
        }
        self.draw_from({name: lambda _, found=found: found for name, found in record.items()})  # type: ignore[misc]

    def draw_from(self, sources: Mapping[str, Source]) -> None:
        """Begin again with samplers at work in place of their record; nothing may be handed out yet.

        Args:
            sources: one per sampled space and fold, by `source_names`.
        """
        self._sources = dict(sources)
        by_space = (self.spaces, self.trials, self._in_fold, self._entered)
        for container in (*by_space, self._left):
            container.clear()
        for queue in (*self._suggested.values(), *self._queue.values()):
            queue.clear()
        self._settle()

    def order_for(self, slots: int) -> None:
        """Hand out the dearest trials of grids first if there are few for each slot; nothing may be handed out yet.

        Otherwise most slots would be idle at the end, while the last dear trials are trained. With many trials for each
        slot that is a small part of the time, and the order of the study's spaces is kept.
        """
        for queue in self._queue.values():
            if len(queue) <= FEW_PER_SLOT * slots:
                dearest_first = sorted(queue, key=lambda trial: -trial.configuration.relative_cost())
                queue.clear()
                queue.extend(dearest_first)

    def folds_of(self, space: Space) -> tuple[Fold, ...]:
        """The folds of a space that has one protocol."""
        (protocol,) = space.protocols
        return self._folds.of_protocol(protocol, space.kind.validates_within_training)

    def folds_for(self, configuration: Configuration) -> tuple[Fold, ...]:
        """The folds that a configuration is trained and tested on."""
        return self._folds.of(configuration)

    def source_names(self, space: Space) -> list[str]:
        """What a sampler draws of a space in each fold, by name."""
        folds = len(self.folds_of(space))
        return [source_name(space.name, fold, folds) for fold in range(folds)]

    @property
    def unsettled(self) -> list[str]:
        """Names of the spaces whose trials depend on others that are not complete, in one fold or more."""
        return [space.name for space in self.study.spaces if self.unsettled_folds(space)]

    def unsettled_folds(self, space: Space) -> int:
        """In how many folds a space's trials depend on others that are not complete."""
        if space.top is None:
            return 0
        return len(self.folds_of(space)) - sum(name == space.name for name, _ in self._entered)

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

    def take(self, *devices: bool) -> Trial | None:
        """The next trial that is neither done nor handed out; None if there is none for now.

        Samplers wait for outcomes, for those of their earliest suggestions first; a grid waits for nothing.

        Args:
            devices: by `Study.on_gpu`, which kinds of trials may be taken, those that should be taken first; those on
                GPUs and then the others unless given.
        """
        for on_gpu in devices or (True, False):
            while queue := self._suggested[on_gpu] or self._queue[on_gpu]:
                trial = queue.popleft()
                if trial.key not in self._known:
                    return trial
        return None

    def queued(self, on_gpu: bool) -> int:
        """How many trials of a kind can be taken, those perhaps included that have an outcome by now."""
        return len(self._suggested[on_gpu]) + len(self._queue[on_gpu])

    def finish(self, key: str, outcome: Outcome) -> None:
        """Enter a trial's outcome."""
        self._known[key] = outcome
        self._left.pop(key, None)
        self._settle()

    def upper_bound(self) -> int:
        """How many trials there can be at most, spaces that are not settled or not yet drawn included."""
        combined = sum(
            space.top.k**2 * self.repetitions(space) * self.unsettled_folds(space)
            for space in self.study.spaces
            if space.top
        )
        undrawn = sum(self.undrawn(space.name) * self.repetitions(space) for space in self.study.spaces)
        return len(self.trials) + combined + undrawn

    def trials_of(self, configuration: Configuration, fold: int | None = None) -> list[Trial]:
        """All trials of a configuration, or those of one of its folds."""
        return make_trials(configuration, self.study.seeds, self.identity, self._folds, fold)

    def repetitions(self, space: Space) -> int:
        """How many trials a configuration of a space has in each fold: one per seed."""
        return self.study.repetitions(space)

    def most_trials(self, space: Space) -> int:
        """How many trials a configuration of a space can have: one per seed and fold."""
        within = space.kind.validates_within_training
        return max(len(self._folds.of_protocol(p, within)) for p in space.protocols) * self.repetitions(space)

    def undrawn(self, name: str) -> int:
        """How many configurations of a space its samplers have yet to draw, those of all folds together."""
        if name not in self._wanted:
            return 0
        (space,) = (space for space in self.study.spaces if space.name == name)
        return sum(self._undrawn_in(space, fold) for fold in range(len(self.folds_of(space))))

    def _undrawn_in(self, space: Space, fold: int) -> int:
        return self._wanted[space.name] - self._entered.get((space.name, fold), 0)

    def at_a_time(self, space: Space) -> int | None:
        """How many trials of a space can run at once at most: all that are left, of a sampler's a window in each fold.

        Returns:
            None while the window depends on the cluster of a launch that is still to come.
        """
        entered = self.spaces.get(space.name, ())
        left = sum(trial.key in self._left for trial in entered)
        if space.top:
            return left + space.top.k**2 * self.repetitions(space) * self.unsettled_folds(space)
        if space.name not in self._wanted:
            return left
        if space.name not in self.windows:
            return None
        most = self.windows[space.name] * self.repetitions(space)
        return sum(min(most, self._left_in(space, fold)) for fold in range(len(self.folds_of(space))))

    def _left_in(self, space: Space, fold: int) -> int:
        """How many trials a sampled space has left in a fold, those included that are still to be drawn."""
        entered = self._in_fold.get((space.name, fold), ())
        undrawn = self._undrawn_in(space, fold) * self.repetitions(space)
        return sum(trial.key in self._left for trial in entered) + undrawn

    @property
    def most_at_a_time(self) -> int | None:
        """How many trials can run at once at most; None where `at_a_time` is None for a space."""
        found = {space.name: self.at_a_time(space) for space in self.study.spaces}
        if None in found.values():
            return None
        at_once = {name: count or 0 for name, count in found.items()}
        waiting = [space.top for space in self.study.spaces if space.top and self.unsettled_folds(space)]
        awaited = {name for top in waiting for name in (top.h, top.w)}
        first = sum(count for name, count in at_once.items() if name not in self.unsettled)
        later = sum(count for name, count in at_once.items() if name not in awaited)
        return max(first, later)

    def outcome(self, configuration: Configuration, fold: int = 0) -> Outcome | None:
        """The mean over a configuration's trials in one fold: failed or pruned if one of them was.

        Returns:
            None while one is missing.
        """
        found = []
        for trial in self.trials_of(configuration, fold):
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
        if space.top is None and space.name not in self._wanted:
            return self._enter_grid(space)
        # A sampled space is there from the beginning, one that builds on others once a fold of it is settled.
        return any([self._grow_fold(space, fold) for fold in range(len(self.folds_of(space)))])

    def _enter_grid(self, space: Space) -> bool:
        """Enter every configuration in every fold; one fold is handed out after the other, so that data stay open."""
        if space.name in self.spaces:
            return False
        by_fold: dict[int, list[Trial]] = {}
        for configuration in feasible_configurations(space, self.study):
            for fold in range(len(self._folds.of(configuration))):
                by_fold.setdefault(fold, []).extend(self.trials_of(configuration, fold))
        trials = [trial for fold in sorted(by_fold) for trial in by_fold[fold]]
        self._in_fold.update({(space.name, fold): of_fold for fold, of_fold in by_fold.items()})
        self.spaces[space.name] = trials
        self._enter(trials, self._queue)
        return bool(trials)

    def _grow_fold(self, space: Space, fold: int) -> bool:
        """Enter what one fold has newly drawn of a space, or the best of others that it combines."""
        at = space.name, fold
        sampled = space.name in self._wanted
        if not sampled and (at in self._entered or not self._founded(space, fold)):
            return False
        unentered = self._configurations(space, fold)[self._entered.get(at, 0) :]
        new = [trial for made in unentered for trial in self.trials_of(made, fold)]
        self._entered[at] = self._entered.get(at, 0) + len(unentered)
        self.spaces.setdefault(space.name, []).extend(new)
        self._in_fold.setdefault(at, []).extend(new)
        self._enter(new, self._suggested if sampled else self._queue)
        return bool(new)

    def _enter(self, trials: Sequence[Trial], queues: Queues) -> None:
        new = {trial.key: trial for trial in trials if trial.key not in self.trials}
        left = {key: trial for key, trial in new.items() if key not in self._known}
        self.trials.update(new)
        self._left.update(left)
        for trial in left.values():
            queues[self.study.on_gpu(type(trial.configuration))].append(trial)

    def _founded(self, space: Space, fold: int) -> bool:
        """Whether the spaces that a space builds on are complete in a fold."""
        return not space.top or all(self._ended(name, fold) for name in (space.top.h, space.top.w))

    def _ended(self, name: str, fold: int) -> bool:
        drawn = name not in self._wanted or self._entered.get((name, fold)) == self._wanted[name]
        trials = self._in_fold.get((name, fold))
        return drawn and trials is not None and all(trial.key in self._known for trial in trials)

    def _configurations(self, space: Space, fold: int) -> Sequence[Configuration]:
        if space.name in self._wanted:
            outcomes: Outcomes = partial(self.outcome, fold=fold)
            return self._sources[source_name(space.name, fold, len(self.folds_of(space)))](outcomes)
        assert space.top
        scores = {name: self._scores(name, fold) for name in (space.top.h, space.top.w)}
        found = configurations(space, self.study, scores)
        assert found is not None
        return found

    def _scores(self, name: str, fold: int) -> Scores:
        """What `top` ranks by: a space's configurations that did not fail in a fold, and their UA there."""
        found = {trial.configuration: self.outcome(trial.configuration, fold) for trial in self._in_fold[name, fold]}
        return [(made, each.ua) for made, each in found.items() if each and each.state != "failed"]
