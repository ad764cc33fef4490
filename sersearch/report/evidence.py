"""What a winner's test predictions show: UA with its interval, and where it comes from and where it is lost.

Shapes: N utterance (copies, of every seed), S speaker, E emotion (true, then predicted).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sersearch.report.units import Units
from sersearch.speech.augment import snr_bands
from sersearch.speech.corpora.known_noises import known_noises
from sersearch.statistics.counts import Counts, macro_f1, mean_recall, recalls, speaker_confusions, weighted_accuracy
from sersearch.statistics.intervals import Interval, recipe_interval, speaker_interval
from sersearch.statistics.seeds import SeedSpread, seed_spread

NOISE = "noise in training"
"""Column that says whether the noise of a copy was trained on."""

MOST_VALUES = 12
"""A column of a manifest with more values, such as the text, gives no table."""


@dataclass(frozen=True)
class Slice:
    """UA in per cent on some of the test utterances.

    Attributes:
        name: which ones.
        utterances: how many, each copy counted; with seeds, each once.
        ua: in per cent, over the emotions that occur.
        interval: over speakers; None where there is none to give.
        emotions: how many emotions occur.
        at_chance: whether the UA can't be told from that of guessing, 100 / emotions.
    """

    name: str
    utterances: int
    ua: float
    interval: Interval | None
    emotions: int
    at_chance: bool


@dataclass(frozen=True)
class Evidence:
    """A winner's test under one condition; UA in per cent, means over the seeds.

    Attributes:
        overall: everything.
        recipe: interval of the overall UA over folds, for networks that are trained again; None of one partition.
        macro_f1: mean F1 of the emotions that occur, in per cent.
        wa: weighted accuracy, the share of utterances that are right, in per cent.
        noisy_alone: the noisy copies alone, without the clean ones; None in a test of clean copies.
        recalls: of each emotion; None for one that the test partition lacks.
        confusion: [E, E] counts, all seeds added up.
        speakers: each test speaker.
        snr_bands: clean copies, then noisy ones by SNR, lowest first.
        noise_kinds: noisy copies by kind of noise, worst first.
        seeds: spread over training seeds.
        groups: the utterances of each value of a column, by the column's name: the corpus, if there are several,
            whether the noise was trained on, if some were, and the further columns of the manifest that have 2 to 12
            values.
        not_grouped: number of values of each further column of the manifest that has more.
    """

    overall: Slice
    recipe: Interval | None
    macro_f1: float
    wa: float
    noisy_alone: Slice | None
    recalls: dict[str, float | None]
    confusion: list[list[int]]
    speakers: tuple[Slice, ...]
    snr_bands: tuple[Slice, ...]
    noise_kinds: tuple[Slice, ...]
    seeds: SeedSpread
    groups: dict[str, tuple[Slice, ...]]
    not_grouped: dict[str, int]

    @property
    def parts(self) -> list[tuple[str, tuple[Slice, ...]]]:
        """Every way in which the test utterances are parted, with its title; only those of several parts."""
        ways = [("speaker", self.speakers), ("SNR", self.snr_bands), ("kind of noise", self.noise_kinds)]
        return [(f"By {name}", slices) for name, slices in (*ways, *self.groups.items()) if len(slices) > 1]


@dataclass(frozen=True)
class Predictions:
    """A winner's predictions of the test partition, those of all seeds one after the other.

    Adding up the seeds' counts gives the mean of their UAs, because each seed predicts the same utterances.

    Attributes:
        emotions: names of the E classes.
        seeds: how many there are.
        emotion_N: true classes.
        predicted_N: predicted classes.
        speaker_N: names.
        noise_N: name of the clip in each noisy copy, "" in a clean one.
        snr_db_N: of each noisy copy; NaN of a clean one.
        columns_N: the corpus, and the further columns of the manifest, by name; "" where a corpus lacks a column.
        noise_library: name of the noise library in the catalogue, which says what kind a noise is.
    """

    emotions: tuple[str, ...]
    seeds: int
    emotion_N: NDArray[np.int64]
    predicted_N: NDArray[np.int64]
    speaker_N: NDArray[np.str_]
    noise_N: NDArray[np.str_]
    snr_db_N: NDArray[np.float64]
    columns_N: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    noise_library: str | None = None

    @classmethod
    def read(
        cls,
        tables: Sequence[pa.Table],
        emotions: tuple[str, ...],
        seeds: int,
        learnt: Sequence[Collection[str]] | None = None,
        noise_library: str | None = None,
    ) -> Self:
        """Read a winner's predictions.

        Args:
            tables: one per trial: all folds of the first seed, then those of the next.
            emotions: names of the classes.
            seeds: how many there are.
            learnt: the noises that each of these trials was trained on; None where that is not asked.
            noise_library: name of the store's noise library in the catalogue; None for any folder.
        """
        # Tables of before there were scores have fewer columns.
        table = pa.concat_tables(tables, promote_options="default")
        index = {name: number for number, name in enumerate(emotions)}

        def classes(column: str) -> NDArray[np.int64]:
            return np.array([index[name] for name in table[column].to_pylist()], np.int64)

        return cls(
            emotions=emotions,
            seeds=seeds,
            emotion_N=classes("emotion"),
            predicted_N=classes("predicted"),
            speaker_N=np.array(table["speaker"].to_pylist(), np.str_),
            noise_N=np.array([noise or "" for noise in table["noise"].to_pylist()], np.str_),
            snr_db_N=np.array(table["snr_db"].to_pylist(), np.float64),
            noise_library=noise_library,
            columns_N=_read_columns(table) | ({} if learnt is None else {NOISE: _mark_unseen(tables, learnt)}),
        )

    @property
    def clean_N(self) -> NDArray[np.bool_]:
        """Which copies are clean."""
        clean_N: NDArray[np.bool_] = self.noise_N == ""
        return clean_N

    def counts(self, chosen_N: NDArray[np.bool_] | None = None) -> Counts:
        """Confusions [S, E, E] of some copies, or all, by the speakers that they are of."""
        at = np.flatnonzero(np.ones(len(self.emotion_N), np.bool_) if chosen_N is None else chosen_N)
        return speaker_confusions(self.emotion_N[at], self.predicted_N[at], self.speaker_N[at], len(self.emotions))

    def evidence(self, units: Units) -> Evidence:
        """Everything that the predictions show.

        Args:
            units: of the board that they stand on.
        """
        counts_SEE = self.counts()
        recall_E = recalls(counts_SEE.sum(0)).tolist()
        return Evidence(
            overall=self._slice("all"),
            recipe=recipe_interval(units.add_up(counts_SEE)) if units.kind == "fold" else None,
            macro_f1=float(macro_f1(counts_SEE.sum(0))),
            wa=float(weighted_accuracy(counts_SEE.sum(0))),
            noisy_alone=None if self.clean_N.all() else self._slice("noisy copies alone", ~self.clean_N),
            recalls={
                name: None if np.isnan(value) else value for name, value in zip(self.emotions, recall_E, strict=True)
            },
            confusion=counts_SEE.sum(0).tolist(),
            speakers=tuple(self._slice(str(name), self.speaker_N == name) for name in np.unique(self.speaker_N)),
            snr_bands=self._snr_bands(),
            noise_kinds=self._noise_kinds(),
            seeds=seed_spread([float(mean_recall(self._of_seed(n))) for n in range(self.seeds)]),
            groups={
                name: tuple(self._slice(str(value), column_N == value) for value in np.unique(column_N) if value)
                for name, column_N in self.columns_N.items()
                if 1 < _values(column_N) <= MOST_VALUES
            },
            not_grouped={
                name: _values(column_N) for name, column_N in self.columns_N.items() if _values(column_N) > MOST_VALUES
            },
        )

    def _slice(self, name: str, chosen_N: NDArray[np.bool_] | None = None) -> Slice:
        counts_SEE = self.counts(chosen_N)
        utterances = int(counts_SEE.sum()) // self.seeds
        emotions = int(np.count_nonzero(counts_SEE.sum(axis=(0, 2))))
        interval, chance = speaker_interval(counts_SEE), reaches_chance(counts_SEE)
        return Slice(name, utterances, float(mean_recall(counts_SEE.sum(0))), interval, emotions, chance)

    def _of_seed(self, number: int) -> Counts:
        at = np.arange(len(self.emotion_N)) // (len(self.emotion_N) // self.seeds)
        counts: Counts = self.counts(at == number).sum(0)
        return counts

    def _snr_bands(self) -> tuple[Slice, ...]:
        clean = (self._slice("clean", self.clean_N),) if self.clean_N.any() else ()
        return clean + tuple(self._slice(name, found_N) for name, found_N in snr_bands(self.snr_db_N).items())

    def _noise_kinds(self) -> tuple[Slice, ...]:
        kinds = [noise_kind(noise, self.noise_library) if noise else "" for noise in self.noise_N.tolist()]
        kind_N = np.array(kinds, np.str_)
        slices = [self._slice(str(kind), kind_N == kind) for kind in np.unique(kind_N[~self.clean_N])]
        return tuple(sorted(slices, key=lambda found: found.ua))


def reaches_chance(counts_SEE: Counts) -> bool:
    """Whether a UA can't be told from chance: its interval, or without one the UA itself, reaches down to chance.

    Example:
        >>> reaches_chance(np.array([[[5, 5], [4, 6]], [[6, 4], [5, 5]], [[5, 5], [5, 5]]]))
        True
    """
    emotions = int(np.count_nonzero(counts_SEE.sum(axis=(0, 2))))
    interval = speaker_interval(counts_SEE)
    lowest = interval.low if interval else float(mean_recall(counts_SEE.sum(axis=0)))
    return lowest <= 100 / emotions


def _read_columns(table: pa.Table) -> dict[str, NDArray[np.str_]]:
    """Read the corpus and the manifest's further columns, which a store keeps as one JSON object per utterance."""
    columns_N = {"corpus": np.array(table["corpus"].to_pylist(), np.str_)}
    if "extra" in table.column_names:
        facts_N = [json.loads(extra) for extra in table["extra"].to_pylist()]
        for name in sorted({name for facts in facts_N for name in facts}):
            columns_N[name] = np.array([facts.get(name, "") for facts in facts_N], np.str_)
    return columns_N


def _mark_unseen(tables: Sequence[pa.Table], learnt: Sequence[Collection[str]]) -> NDArray[np.str_]:
    """Say of each noisy copy whether its noise was trained on; a store may have noises that some parts don't."""
    marks: list[str] = []
    for table, noises in zip(tables, learnt, strict=True):
        for noise in table["noise"].to_pylist():
            marks.append("" if noise is None else "trained on" if noise in noises else "unseen")
    return np.array(marks, np.str_)


def _values(column_N: NDArray[np.str_]) -> int:
    """Count the different values of a column; an empty field is none."""
    return int(np.count_nonzero(np.unique(column_N)))


def noise_kind(noise: str, library: str | None = None) -> str:
    """What kind of noise a clip is: what the catalogue says of a known library, or what its path in the library says.

    That is the folder it is in, or its name without numbers.

    Args:
        noise: path of the clip in the library.
        library: name of the library in the catalogue; None for any folder.

    Example:
        >>> noise_kind("001 - Dog bark/1-100032-A.flac"), noise_kind("babble-12.wav"), noise_kind("7.wav")
        ('Dog bark', 'babble', '7')
    """
    if library and (kind := known_noises()[library].kind(noise)):
        return kind
    path = PurePosixPath(noise)
    name = path.parent.name or path.stem
    return re.sub(r"^[\d\W_]+|[\d\W_]+$", "", name) or name
