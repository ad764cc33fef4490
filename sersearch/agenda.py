"""What a study still has to train: its trials less those done, in order, each handed out once.

Pure logic over keys and scores: it knows no Ray, no torch, no files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import fmean

from sersearch.architecture import Configuration
from sersearch.study import Scores, Study, Trial, configurations


class Agenda:
    """The trials of a study over one set of data.

    A space that builds on the best of others (`top`) joins as soon as those are complete. A configuration that two
    spaces share is one trial.

    Attributes:
        spaces: the trials of each space that is settled, by name.
    """

    def __init__(self, study: Study, data: str, outcomes: Mapping[str, float | None]) -> None:
        """Plan a study.

        Args:
            study: what to train.
            data: digest of the store's recipe and the partition.
            outcomes: validation UA in per cent under the study's objective of each trial that is done, by key; None
                for one that failed for good. Keys that the study does not name are ignored.
        """
        self.study = study
        self.data = data
        self.spaces: dict[str, list[Trial]] = {}
        self._known = dict(outcomes)
        self._taken: set[str] = set()
        self._settle()

    @property
    def trials(self) -> dict[str, Trial]:
        """All trials that are settled so far, each once, by key."""
        return {trial.key: trial for trials in self.spaces.values() for trial in trials}

    @property
    def unsettled(self) -> list[str]:
        """Names of the spaces whose trials depend on others that are not complete."""
        return [space.name for space in self.study.spaces if space.name not in self.spaces]

    @property
    def left(self) -> list[Trial]:
        """Trials that are settled and have no outcome."""
        return [trial for key, trial in self.trials.items() if key not in self._known]

    @property
    def complete(self) -> bool:
        """Whether every trial of the study has an outcome."""
        return not self.unsettled and not self.left

    def take(self) -> Trial | None:
        """The next trial that is neither done nor handed out; None if there is none for now."""
        for trial in self._untaken():
            self._taken.add(trial.key)
            return trial
        return None

    def finish(self, key: str, score: float | None) -> None:
        """Enter a trial's outcome: validation UA in per cent, or None for one that failed for good."""
        self._known[key] = score
        self._settle()

    def upper_bound(self) -> int:
        """How many trials there can be at most, spaces that are not settled included."""
        waiting = [space for space in self.study.spaces if space.name not in self.spaces and space.top]
        return len(self.trials) + sum(space.top.k**2 * self.study.seeds for space in waiting if space.top)

    def score(self, configuration: Configuration) -> float | None:
        """Mean validation UA over a configuration's seeds; None while one is missing or failed."""
        keys = [Trial(configuration, seed, self.data).key for seed in range(self.study.seeds)]
        scores = [self._known.get(key) for key in keys]
        known = [score for score in scores if score is not None]
        return fmean(known) if len(known) == len(keys) else None

    def _untaken(self) -> Iterator[Trial]:
        for trial in self.left:
            if trial.key not in self._taken:
                yield trial

    def _settle(self) -> None:
        for space in self.study.spaces:
            if space.name not in self.spaces:
                found = configurations(space, self.study, self._complete_scores())
                if found is not None:
                    self.spaces[space.name] = [
                        Trial(configuration, seed, self.data)
                        for configuration in found
                        for seed in range(self.study.seeds)
                    ]

    def _complete_scores(self) -> dict[str, Scores]:
        complete: dict[str, Scores] = {}
        for name, trials in self.spaces.items():
            if all(trial.key in self._known for trial in trials):
                scored = [(trial.configuration, self.score(trial.configuration)) for trial in trials]
                complete[name] = [(c, score) for c, score in dict(scored).items() if score is not None]
        return complete


def shared(agenda: Agenda) -> dict[str, int]:
    """How many spaces name each trial, by key."""
    return dict(Counter(t.key for trials in agenda.spaces.values() for t in trials))
