"""Training, validation and test speakers (Section 5.2: 70:10:20, by speaker)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sersearch.errors import InputError

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


class Shares(BaseModel):
    """How speakers are shared out, and the seed of the draw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: int = Field(70, ge=1)
    validation: int = Field(10, ge=1)
    test: int = Field(20, ge=1)
    seed: int = Field(0, ge=0)


class Partition(BaseModel):
    """The speakers of each part, sorted; no speaker is in two parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        speakers = [speaker for part in PARTS for speaker in self.speakers(part)]
        shared = sorted({speaker for speaker in speakers if speakers.count(speaker) > 1})
        if shared:
            raise ValueError(f"speaker {shared[0]} is in two parts; each belongs to exactly one")
        return self

    def speakers(self, part: Part) -> tuple[str, ...]:
        """The speakers of one part."""
        found: tuple[str, ...] = getattr(self, part)
        return found


def make_partition(speakers: Iterable[str], shares: Shares | None = None) -> Partition:
    """Draw a partition by speaker.

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
    drawn = np.random.default_rng(shares.seed).permutation(len(names))
    ends = np.cumsum(counts)
    groups = [tuple(sorted(names[i] for i in part)) for part in np.split(drawn, ends[:-1])]
    return Partition(train=groups[0], validation=groups[1], test=groups[2])


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
