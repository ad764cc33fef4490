"""What probes find in the modules of a run's winners, as RUN/probe keeps it (Section 7.5).

UA and losses are in per cent (points); intervals are those of `statistics`, over speakers.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from statistics import fmean, stdev
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from sersearch.errors import InputError
from sersearch.evaluation.leaderboard import Winner
from sersearch.models.svm import Kernel
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
    keys: tuple[str, ...] = ()
    """Keys of the trials that were probed, one per fold; `key` alone in files of earlier versions."""
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
    present = {(winner.keys, winner.candidates.space, winner.condition) for winner in winners}
    kept = []
    for condition in CONDITIONS:
        name = findings_name(condition)
        content = run.storage.get(name)
        if content is None:
            continue
        try:
            findings = Findings.model_validate_json(content)
        except ValidationError as error:
            raise InputError(
                f"{run.storage.locate(name)}: is damaged or of another version ({error.errors()[0]['msg']}); make it "
                f"again with `sersearch probe {run.path} --condition {condition}`, or delete it"
            ) from None
        still = tuple(
            winner for winner in findings.winners if (winner.keys or (winner.key,), winner.space, condition) in present
        )
        if still:
            kept.append(findings.model_copy(update={"winners": still}))
    return tuple(kept)


def findings_name(condition: Condition) -> str:
    """The object that keeps the findings of the winners under a condition."""
    return f"probe/probe-{condition}.json"
