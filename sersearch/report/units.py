"""What a comparison flips or permutes whole: the folds of a board, or the speakers of one partition.

Shapes: S speaker, U unit, E emotion (true, then predicted).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from sersearch.statistics.counts import Counts
from sersearch.study.fold import Fold


@dataclass(frozen=True)
class Units:
    """The units of a board.

    Attributes:
        kind: "fold" where several folds test, each with networks of its own; "speaker" where one partition does.
        members: for each unit, the numbers of its speakers in the order of the names.
        test_to_train: test speakers per training speaker, mean over the folds.
    """

    kind: Literal["fold", "speaker"]
    members: tuple[tuple[int, ...], ...]
    test_to_train: float

    @classmethod
    def of_folds(cls, folds: Sequence[Fold]) -> Self:
        """Describe the units of some folds that test each speaker once."""
        names = sorted(speaker for fold in folds for speaker in fold.test)
        number = {name: index for index, name in enumerate(names)}
        ratio = float(np.mean([len(fold.test) / len(fold.train) for fold in folds]))
        if len(folds) == 1:
            return cls("speaker", tuple((index,) for index in range(len(names))), ratio)
        members = tuple(tuple(number[speaker] for speaker in fold.test) for fold in folds)
        return cls("fold", members, ratio)

    def add_up(self, counts_SEE: Counts) -> Counts:
        """Add the counts of each unit's speakers up: [U, E, E]."""
        return np.stack([counts_SEE[list(members)].sum(axis=0) for members in self.members])

    @property
    def bound(self) -> float | None:
        """The ratio for the conservative t test over folds; None over speakers."""
        return self.test_to_train if self.kind == "fold" else None

    def counted(self) -> str:
        """How many units there are, in words."""
        return f"{len(self.members)} {self.kind}{'' if len(self.members) == 1 else 's'}"

    @property
    def speaks_of(self) -> str:
        """What a test over these units is about, in a sentence."""
        if self.kind == "fold":
            return (
                "Each fold trained networks of its own and is exchanged as a whole, so the tests are about the kinds "
                "of system, and the luck of training is in them."
            )
        return (
            "There is one partition, so the tests are about these trained systems, not about their kinds: all test "
            "speakers share the luck of the same trainings. Several folds show that luck."
        )
