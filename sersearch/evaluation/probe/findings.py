"""What probes find in the modules of a run's winners, as RUN/probe keeps it (Section 7.5).

UA and losses are in per cent (points); intervals are those of `statistics`, over speakers.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from statistics import fmean, stdev
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from sersearch.errors import InputError
from sersearch.evaluation.leaderboard import Winner
from sersearch.models.svm import Kernel
from sersearch.run.records import unseal
from sersearch.run.run import Run
from sersearch.statistics.intervals import Interval
from sersearch.study.conditions import CONDITIONS, Condition
from sersearch.study.configuration.base import MODULES, Module

Attribute = Literal["emotion", "speaker", "gender"]
ATTRIBUTES: tuple[Attribute, ...] = get_args(Attribute)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Accuracy(_Record):
    """How well a probe predicts an attribute from a module.

    Attributes:
        ua: mean recall of the classes.
        interval: over speakers; None where one speaker gives none.
        chance: the UA of guessing.
        p_value: of a permutation test against chance.
    """

    ua: float
    interval: Interval | None
    chance: float
    p_value: float


class Noise(_Record):
    """What noise costs the probe of a module, clean and noisy copies of the same test utterances.

    Attributes:
        band: of SNR, or "all".
        copies: how many there are.
        clean_ua: of the clean utterances that the copies are of, each counted as often.
        noisy_ua: of the copies.
        loss: the difference, in points.
        interval: of the loss, over speakers.
    """

    band: str
    copies: int
    clean_ua: float
    noisy_ua: float
    loss: float
    interval: Interval | None


class Separability(_Record):
    """How classes lie in a module's representations of the clean training utterances.

    Attributes:
        intra: mean squared distance to the class's centre (eq. 15).
        inter: mean squared distance between centres (eq. 16).
        rho: intra over inter (eq. 17).
        points: each utterance in the plane of the first components, one or two; none for the raw features.
    """

    intra: float
    inter: float
    rho: float | None
    points: tuple[tuple[float, ...], ...]


class ProbedModule(_Record):
    """A module of a winner.

    Attributes:
        name: raw, cnn, blstm or mlp.
        numbers: D, the length of its representations.
        kernel: kernel of the support vector machine that is best on validation; of several folds, on the first one's.
        C: its price of an error.
        validation_ua: its UA on validation, mean over folds.
        known: how well emotion (Table 5: on the test speakers of all folds), speaker and gender are read off.
        noise: what noise costs Table 5's machine, all copies first, then by band of SNR.
        parted: emotion, speaker and gender in Figures 3 to 9.
    """

    name: Module
    numbers: int
    kernel: Kernel
    C: float
    validation_ua: float
    accuracy: dict[Attribute, Accuracy]
    noise: tuple[Noise, ...]
    separability: dict[Attribute, Separability]


class ProbedWinner(_Record):
    """A winner, module by module in the order of the model."""

    key: str
    keys: tuple[str, ...]
    """Keys of the trials that were probed: those of the first seed, one per fold."""
    figures: tuple[str, ...]
    """`Result.figures_digest` of each of these trials."""
    space: str
    model: str
    features: str
    represents_model: bool
    """Whether it represents its model and features, which may have winners in several spaces."""
    modules: tuple[ProbedModule, ...]

    def module(self, name: Module) -> ProbedModule | None:
        """One of its modules; None for the CNN of an LDNN."""
        return next((module for module in self.modules if module.name == name), None)


class Findings(_Record):
    """What the probes of the winners under one condition found; figures are of clean speech unless they say noisy.

    Attributes:
        condition: under which the winners were selected.
        emotions: names of the classes.
        utterance: names of the clean training utterances, which the pictures show.
        labels: names of their emotions, speakers and genders.
        omitted: the attributes that were not probed, and why.
        winners: in the leaderboard's order.
    """

    condition: Condition
    emotions: tuple[str, ...]
    utterance: tuple[str, ...]
    labels: dict[Attribute, tuple[str, ...]]
    omitted: dict[Attribute, str]
    winners: tuple[ProbedWinner, ...]

    def contributions(self) -> dict[Module, tuple[float, float | None]]:
        """What each module adds to Table 5's UA, in points: mean and standard deviation over the CLDNNs."""
        found: dict[Module, tuple[float, float | None]] = {}
        for before, after in pairwise(MODULES):
            steps = [
                b.accuracy["emotion"].ua - a.accuracy["emotion"].ua
                for winner in self.winners
                if winner.represents_model
                and winner.module("cnn")
                and (a := winner.module(before))
                and (b := winner.module(after))
            ]
            if steps:
                found[after] = fmean(steps), stdev(steps) if len(steps) > 1 else None
        return found


def read_findings(run: Run, winners: Iterable[Winner]) -> tuple[Findings, ...]:
    """What was found of winners that still are winners, by condition; nothing where `probe` was never called.

    Args:
        run: an opened run.
        winners: the run's winners now.

    Raises:
        InputError: a file is damaged or of another version.
    """
    present = {(winner.keys, figures_of(winner), winner.candidates.space, winner.condition) for winner in winners}
    kept = []
    for condition in CONDITIONS:
        findings = check_findings(run, condition)
        if findings is None:
            continue
        still = tuple(
            winner for winner in findings.winners if (winner.keys, winner.figures, winner.space, condition) in present
        )
        if still:
            kept.append(findings.model_copy(update={"winners": still}))
    return tuple(kept)


def figures_of(winner: Winner) -> tuple[str, ...]:
    """`Result.figures_digest` of each trial that represents a winner: those of its first seed, one per fold."""
    return tuple(choice.results[0].figures_digest for choice in winner.choices)


def check_findings(run: Run, condition: Condition) -> Findings | None:
    """Everything that was found under a condition, of whichever winners; None where `probe` was never called.

    Raises:
        InputError: the file is damaged or of another version.
    """
    name = findings_name(condition)
    place = run.storage.locate(name)
    again = f"make it again with `sersearch probe {run.path} --condition {condition}`, or delete it"
    content = run.storage.get(name)
    if content is None:
        return None
    try:
        findings = unseal(Findings, content)
    except ValueError as error:
        raise InputError(f"{place}: is damaged or of another version ({error}); {again}") from None
    if findings.condition != condition:
        raise InputError(f"{place}: holds the findings of the {findings.condition} condition; {again}")
    return findings


def findings_name(condition: Condition) -> str:
    """The object that keeps the findings of the winners under a condition."""
    return f"probe/probe-{condition}.json"
