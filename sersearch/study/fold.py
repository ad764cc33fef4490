"""Who is learnt from, who chooses, who tests: folds of a store's speakers (Section 5.2: 70:10:20, by speaker)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sersearch.errors import InputError
from sersearch.study.key import KeyRule

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


class Shares(BaseModel):
    """How speakers are shared out, and the seed of the draw.

    Attributes:
        train: share of the speakers that are learnt from. Paper: 70 (Section 5.2).
        validation: share of the speakers by whom training is stopped and models are chosen. Paper: 10 (Section 5.2).
        test: share of the speakers who test the winners. Paper: 20 (Section 5.2).
        seed: seed of the draw of the speakers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: int = Field(70, ge=1)
    validation: int = Field(10, ge=1)
    test: int = Field(20, ge=1)
    seed: int = Field(0, ge=0)


class Fold(BaseModel):
    """The speakers of each part, sorted; no speaker is in two parts.

    Attributes:
        train: the speakers that are learnt from.
        validation: the speakers by whom training is stopped and models are chosen; empty where a system is validated by
            leaving out each training speaker in turn.
        test: the speakers that test the winner; empty in what a worker is handed. No number of a trial depends on them,
            so they are no part of its key.
        name: what distinguishes the fold from others of its protocol, for people; empty where there is one fold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: Annotated[tuple[str, ...], KeyRule.NEVER] = ()
    name: Annotated[str, KeyRule.NEVER] = ""

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        speakers = [speaker for part in PARTS for speaker in self.speakers(part)]
        shared = sorted({speaker for speaker in speakers if speakers.count(speaker) > 1})
        if shared:
            raise ValueError(f"speaker {shared[0]} is in two parts; each belongs to exactly one")
        return self

    def speakers(self, part: Part) -> tuple[str, ...]:
        """The speakers of one part."""
        speakers: tuple[str, ...] = getattr(self, part)
        return speakers

    @property
    def learnt(self) -> tuple[str, ...]:
        """The speakers that training may see: those of train and validation, sorted."""
        return tuple(sorted(self.train + self.validation))

    @property
    def sealed(self) -> Fold:
        """The fold without its test speakers: all that training and a search are handed."""
        return self.model_copy(update={"test": ()})


def make_partition(speakers: Iterable[str], shares: Shares | None = None) -> Fold:
    """Draw the paper's partition by speaker, which is one fold.

    Args:
        speakers: all speakers; order and repetition don't matter.
        shares: the shares and the seed; 70:10:20 and 0 unless given.

    Raises:
        InputError: fewer than three speakers.
    """
    shares = shares or Shares()
    names = sorted(set(speakers))
    if len(names) < len(PARTS):
        raise InputError(
            f"{len(names)} speakers were given, but training, validation and test need at least one each: "
            "add speakers to the corpus"
        )
    counts = largest_remainder(len(names), (shares.train, shares.validation, shares.test))
    order = np.random.default_rng(shares.seed).permutation(len(names))
    ends = np.cumsum(counts)
    train, validation, test = (tuple(sorted(names[i] for i in part)) for part in np.split(order, ends[:-1]))
    return Fold(train=train, validation=validation, test=test)


def leave_one_out(speakers: Iterable[str], shares: Shares, validation: bool = True) -> tuple[Fold, ...]:
    """One fold per speaker, who tests; all others are learnt from, some of them on the side of validation.

    Args:
        speakers: all speakers; order and repetition don't matter.
        shares: the ratio of training and validation speakers, and the seed by which the latter are drawn.
        validation: whether there are validation speakers; without them all others are training speakers.

    Raises:
        InputError: too few speakers to leave one out.
    """
    names = sorted(set(speakers))
    fewest = 3 if validation else 2
    if len(names) < fewest:
        raise InputError(
            f"{len(names)} speakers were given, but leaving one out needs {fewest}: add speakers to the corpus"
        )
    return tuple(_without(speaker, number, names, shares, validation) for number, speaker in enumerate(names))


def _without(speaker: str, number: int, names: Sequence[str], shares: Shares, validation: bool) -> Fold:
    others = [name for name in names if name != speaker]
    chosen: set[str] = set()
    if validation:
        _, count = largest_remainder(len(others), (shares.train, shares.validation))
        drawn = np.random.default_rng((shares.seed, number)).permutation(len(others))[:count]
        chosen = {others[index] for index in drawn}
    return Fold(
        train=tuple(name for name in others if name not in chosen),
        validation=tuple(sorted(chosen)),
        test=(speaker,),
        name=f"without {speaker}",
    )


def missing_emotion(
    folds: Sequence[Fold], emotions: Sequence[str], shown_by: Mapping[str, Collection[str]]
) -> str | None:
    """Say which part lacks an emotion; None where every part has them all.

    The training and the validation speakers of each fold must show every emotion, and so must the test speakers of all
    folds together: UA over fewer classes would be reported, or would select winners, as if it were over all.

    Args:
        folds: of one protocol.
        emotions: names of the classes.
        shown_by: for each speaker, the emotions of the speaker's utterances.
    """
    parts = [(part, fold.name, fold.speakers(part)) for fold in folds for part in PARTS[:2]]
    tested = tuple(speaker for fold in folds for speaker in fold.test)
    for part, name, speakers in [*parts, ("test", "", tested)]:
        shown = {emotion for speaker in speakers for emotion in shown_by[speaker]}
        lacking = [emotion for emotion in emotions if emotion not in shown]
        if speakers and lacking:
            fold = f" of the fold {name}" if name else ""
            one = f"speaker {speakers[0]}" if len(speakers) == 1 else f"{len(speakers)} speakers"
            return f"the {part} part{fold} ({one}) has no utterance of {', '.join(lacking)}"
    return None


def largest_remainder(total: int, shares: Sequence[int]) -> list[int]:
    """Share `total` out in whole numbers: floors, then the largest remainders; ties go to the earlier part.

    Each part gets at least one, taken from the largest, when `total` allows it.

    >>> largest_remainder(42, (70, 10, 20))
    [30, 4, 8]
    >>> largest_remainder(24, (70, 10, 20))
    [17, 2, 5]
    """
    weight = sum(shares)
    counts = [total * share // weight for share in shares]
    remainders = [total * share % weight for share in shares]
    for part in sorted(range(len(shares)), key=lambda p: -remainders[p])[: total - sum(counts)]:
        counts[part] += 1
    while 0 in counts and max(counts) > 1:
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(0)] += 1
    return counts
