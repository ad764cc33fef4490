"""What a study can show, computed before it is trained: the power of its tests, and where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sersearch.statistics.contrast import smallest_p
from sersearch.statistics.power import ENOUGH, LEVEL, Luck, contrast_power, pair_power, smallest_difference
from sersearch.study.hypothesis import PAPERS_CLAIM, Hypothesis
from sersearch.study.study import Study
from sersearch.study.trial import Trial

FEWEST_UNITS = 6
"""Fewer folds, or speakers, show no difference of a pair: two-sided sign flips of five give p = 0.0625 at best."""

MOST_FOLDS = 14
"""Of the folds that a warning proposes; the more there are, the more has to be trained."""


@dataclass(frozen=True)
class DesignPower:
    """What a study's leaderboard can show, with networks tested on the partition or on folds.

    Attributes:
        folds: how many there are; 1 is the paper's partition.
        speakers: test speakers of all folds together.
        all_speakers: of the store.
        seeds: networks per configuration and fold.
        utterances: clean utterances per speaker.
        rows: of the leaderboard under one condition.
        hypothesis: the study's, or the paper's as an example.
        named: whether the study names it.
        luck: what is assumed of luck.
        sd: standard deviation in points of one system's value in one unit that follows from that.
        contrast: the power of the hypothesis on each of its measures; None if its models are not all trained.
        pair: the power of a difference between two rows as large as the hypothesis' between first and last level; None
            for one row.
        smallest: the difference between two rows that is found with 80 % power, in points; None if none is.
    """

    folds: int
    speakers: int
    all_speakers: int
    seeds: int
    utterances: float
    rows: int
    hypothesis: Hypothesis
    named: bool
    luck: Luck
    sd: float
    contrast: float | None
    pair: float | None
    smallest: float | None

    @property
    def units(self) -> int:
        """How many folds are flipped whole; of one partition, how many speakers."""
        return self.folds if self.folds > 1 else self.speakers

    @property
    def unit(self) -> str:
        """What is flipped whole."""
        return "fold" if self.folds > 1 else "test speaker"

    @property
    def statements(self) -> tuple[str, ...]:
        """The design, what is assumed, and the power that follows, in sentences."""
        several = f"{self.folds} folds test" if self.folds > 1 else "one partition tests"
        design = (
            f"design: {several} {self.speakers} of {self.all_speakers} speakers, "
            f"{self.utterances:.0f} clean utterances each, {_counted(self.seeds, 'seed')}, "
            f"{_counted(self.rows, 'row')} per condition"
        )
        training = f"luck of training {self.luck.training:g} points, " if self.folds > 1 else ""
        assumed = (
            f"assumed: {training}luck of speakers {self.luck.speakers:g} points, UA {self.luck.ua:g} %; "
            "[hypothesis] difference, luck and ua change that"
        )
        return (design, assumed, *self._powers())

    def _powers(self) -> Iterable[str]:
        about = "" if self.folds > 1 else " for these trained systems"
        points = f"{self.hypothesis.difference:g} points"
        if self.contrast is not None:
            order = " > ".join("{" + ", ".join(level) + "}" if len(level) > 1 else level[0] for level in self.levels)
            whose = "hypothesis" if self.named else "the paper's claim, as no hypothesis is named"
            # Noisy UA is a mean over many copies, which have less of the luck of few utterances than is assumed.
            measures = "at least that on noisy UA" if "ua" in self.hypothesis.on else ""
            if "loss" in self.hypothesis.on:
                measures = "; ".join(filter(None, ("on the loss", measures)))
            share = f"about {100 * self.contrast:.0f} %"
            yield f"power{about}: {share} for {whose}: {order}, {points} from first to last, {measures}"
        if self.pair is not None:
            found = f"; 80 % for {self.smallest:.1f} points" if self.smallest is not None else ""
            yield f"power{about}: at least {100 * self.pair:.0f} % for two rows {points} apart among {self.rows}{found}"

    @property
    def levels(self) -> list[list[str]]:
        """The hypothesis' levels in the paper's short names."""
        return [[model.removesuffix("-CLDNN") for model in level] for level in self.hypothesis.order]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What this design can't show, each with a remedy."""
        return tuple(self._warnings())

    def _warnings(self) -> Iterable[str]:
        proposed = min(MOST_FOLDS, self.all_speakers // 2)
        by_folds = f"folds = {proposed} in [partition] tests all {self.all_speakers}"
        if self.folds == 1 and self.speakers < FEWEST_UNITS:
            yield f"{_counted(self.speakers, 'test speaker')}: no difference can be shown; {by_folds}"
        elif self.folds == 1:
            yield f"one partition: differences are of these trained systems, not of their kinds; {by_folds}"
        elif self.folds < FEWEST_UNITS:
            yield f"{self.folds} folds: no difference between two rows can be shown; that takes {FEWEST_UNITS} folds"
        if self.contrast is None:
            return
        if smallest_p(list(self.hypothesis.levels.values()), self.units) > _level_of(self.hypothesis):
            yield f"{_counted(self.units, self.unit)}: the order of the hypothesis can't be shown, however large"
        elif self.named and self.contrast < ENOUGH:
            found = f"{100 * self.contrast:.0f} % of such studies"
            yield f"the hypothesis is shown in {found}: more folds or seeds raise that"

    def facts(self) -> dict[str, Any]:
        """The power as plain JSON."""
        return {
            "folds": self.folds,
            "test_speakers": self.speakers,
            "seeds": self.seeds,
            "utterances_per_speaker": round(self.utterances, 1),
            "rows": self.rows,
            "hypothesis": self.hypothesis.model_dump(mode="json") | {"named": self.named},
            "assumed": {"training": self.luck.training, "speakers": self.luck.speakers, "ua": self.luck.ua},
            "power_of_hypothesis": self.contrast,
            "power_of_pair": self.pair,
            "smallest_difference": self.smallest,
            "warnings": list(self.warnings),
        }


def design_power(
    study: Study, trials: Mapping[str, Sequence[Trial]], speakers: int, clean_utterances: int
) -> DesignPower | None:
    """Compute what a study's leaderboard can show.

    Args:
        study: what is planned.
        trials: its trials by name of space, as far as they are known.
        speakers: of the store.
        clean_utterances: of all speakers together.

    Returns:
        The power; None if nothing is trained on the partition or on folds, or nothing of it is known yet.
    """
    on_partition = {
        name: [trial for trial in of_space if trial.configuration.protocol == "partition"]
        for name, of_space in trials.items()
    }
    folds = list(dict.fromkeys(trial.fold for of_space in on_partition.values() for trial in of_space))
    if not folds:
        return None
    tested = len({speaker for fold in folds for speaker in fold.test})
    hypothesis = study.hypothesis.resolve(study.models) if study.hypothesis else PAPERS_CLAIM
    luck = Luck(training=hypothesis.luck, ua=hypothesis.ua)
    utterances = clean_utterances / speakers
    units, sd = len(folds), luck.sd(tested // len(folds), study.seeds, utterances)
    if len(folds) == 1:
        # A test over speakers is about the networks as trained: their luck of training moves no speaker.
        units, sd = tested, Luck(0, luck.speakers, luck.ua).sd(1, study.seeds, utterances)
    rows = _rows(study, on_partition)
    contrast = None
    if set(hypothesis.levels) <= set(study.models):
        contrast = contrast_power(
            list(hypothesis.levels.values()), hypothesis.difference, sd, units, _level_of(hypothesis)
        )
    return DesignPower(
        folds=len(folds),
        speakers=tested,
        all_speakers=speakers,
        seeds=study.seeds,
        utterances=utterances,
        rows=rows,
        hypothesis=hypothesis,
        named=study.hypothesis is not None,
        luck=luck,
        sd=sd,
        contrast=contrast,
        pair=pair_power(hypothesis.difference, sd, units, rows) if rows > 1 else None,
        smallest=smallest_difference(sd, units, rows) if rows > 1 else None,
    )


def _level_of(hypothesis: Hypothesis) -> float:
    """The level at which each measure is tested; Holm's correction begins with 0.05 over their number."""
    return LEVEL / len(hypothesis.on)


def _rows(study: Study, on_partition: Mapping[str, Sequence[Trial]]) -> int:
    """Rows of the leaderboard: of each space, model and features; one of each space without trials so far."""
    kinds = {
        (name, trial.configuration.model, trial.configuration.family)
        for name, of_space in on_partition.items()
        for trial in of_space
    }
    started = {name for name, _, _ in kinds}
    waiting = [space for space in study.spaces if space.name not in started and "partition" in space.protocols]
    return len(kinds) + len(waiting)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
