"""Who is learnt from, who chooses, who tests: folds of a store's speakers (Section 5.2: 70:10:20, by speaker).

A study's table [partition] says which: the paper's shares, folds in which every speaker or every corpus tests once, or
a split by name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from sersearch.errors import InputError
from sersearch.study.key import KeyRule
from sersearch.study.values import Table

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")

VALIDATION_SPEAKERS = 4
"""Validation speakers of a fold at least, where a partition does not say how many: fewer choose nearly at random."""

CORPUS = "corpus:"
"""Begins a name that stands for all speakers of one corpus of a store, as in "corpus:emodb"."""

Groups = Mapping[str, str]
"""The group of each speaker that parts are balanced by, such as the gender; a speaker without one is in group ""."""


class Shares(Table):
    """How speakers are shared out among three parts, and the seed of the draw.

    Attributes:
        train: share of the speakers that are learnt from, relative to the other two. Paper: 70 (Section 5.2).
        validation: share of the speakers by whom training is stopped and models are chosen. Paper: 10 (Section 5.2).
        test: share of the speakers who test the winners. Paper: 20 (Section 5.2).
        seed: seed of the draw of the speakers.
        stratify: whether each part gets its share of each group of speakers (gender, and corpus if there are several).
    """

    train: int = Field(70, ge=1)
    validation: int = Field(10, ge=1)
    test: int = Field(20, ge=1)
    seed: int = Field(0, ge=0)
    stratify: bool = False


class Dealt(Table):
    """Folds into which speakers are dealt, so that every speaker tests once; balanced by gender, and by corpus.

    Attributes:
        folds: how many; as many as speakers to leave one subject out.
        validation: validation speakers of each fold at least; they are the next folds' test speakers.
        seed: of the dealing.
    """

    folds: int = Field(ge=2)
    validation: int = Field(VALIDATION_SPEAKERS, ge=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _no_shares(cls, given: Any) -> Any:
        for name in ("train", "test", "stratify"):
            if isinstance(given, Mapping) and name in given:
                raise ValueError(
                    f"{name} = {given[name]} was given, but folds = {given.get('folds')} test every speaker once and "
                    f"are always stratified: leave {name} out"
                )
        return given


class LeftOutCorpora(Table):
    """Folds in each of which one corpus of the store tests, and the others are learnt from and chosen by.

    Attributes:
        folds: "corpora".
        validation: how many validation speakers to draw in each fold from the corpora that do not test in it.
        seed: of that draw.
    """

    folds: Literal["corpora"]
    validation: int = Field(VALIDATION_SPEAKERS, ge=1)
    seed: int = Field(0, ge=0)


def _as_names(given: Any) -> Any:
    """Take one name for a list of one."""
    return (given,) if isinstance(given, str) else given


def _no_share(given: Any) -> Any:
    """Refuse a share beside parts that are given by name."""
    if isinstance(given, int | float):
        raise ValueError(
            f"{given} is a share, but another part is given by name: name this one too, as in "
            f'["s05", "s12"] or "{CORPUS}NAME"'
        )
    return _as_names(given)


Names = Annotated[tuple[str, ...], BeforeValidator(_no_share)]
"""Names of speakers; "corpus:NAME" stands for all speakers of a corpus of the store."""


class NamedParts(Table):
    """One fold by the names of its speakers, or of their corpora.

    Attributes:
        test: the speakers who test.
        validation: the speakers who choose, or how many to draw from the training speakers.
        train: the speakers who are learnt from; all others unless given. Speakers in no part are left out.
        seed: of the draw of validation speakers.
    """

    test: Names = Field(min_length=1)
    validation: Annotated[tuple[str, ...] | Annotated[int, Field(ge=1)], BeforeValidator(_as_names)] = (
        VALIDATION_SPEAKERS
    )
    train: Names = ()
    seed: int = Field(0, ge=0)


class SplitFile(Table):
    """A split in a CSV file: a line per speaker or utterance, with its part, its fold, or both.

    Attributes:
        file: its path; in a study, relative to the study.
        validation: how many validation speakers to draw from the training speakers, where the file names none.
        seed: of that draw.
    """

    file: str
    validation: int = Field(VALIDATION_SPEAKERS, ge=1)
    seed: int = Field(0, ge=0)


class SplitColumn(Table):
    """A split in a column of the corpus' manifest: the part of each utterance, or its fold.

    Attributes:
        column: its name.
        validation: how many validation speakers to draw from the training speakers, where the column names none.
        seed: of that draw.
    """

    column: str
    validation: int = Field(VALIDATION_SPEAKERS, ge=1)
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


class Split(Table):
    """A split that was read: the folds themselves, as a run keeps them.

    Attributes:
        source: where it was read, for people.
        parts: the folds.
    """

    source: str
    parts: tuple[Fold, ...] = Field(min_length=1)


def make_partition(speakers: Iterable[str], shares: Shares | None = None, groups: Groups | None = None) -> Fold:
    """Draw the paper's partition by speaker, which is one fold.

    Args:
        speakers: all speakers; order and repetition don't matter.
        shares: the shares and the seed; 70:10:20 and 0 unless given.
        groups: of the speakers; used where the shares are stratified.

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
    generator = np.random.default_rng(shares.seed)
    if shares.stratify:
        train, validation, test = draw_parts(names, counts, groups or {}, generator)
        return Fold(train=train, validation=validation, test=test)
    order = generator.permutation(len(names))
    ends = np.cumsum(counts)
    train, validation, test = (tuple(sorted(names[i] for i in part)) for part in np.split(order, ends[:-1]))
    return Fold(train=train, validation=validation, test=test)


def draw_parts(
    names: Sequence[str], counts: Sequence[int], groups: Groups, generator: np.random.Generator
) -> list[tuple[str, ...]]:
    """Draw parts of given sizes, each with its share of each group; of two groups within one speaker of the share.

    Args:
        names: the speakers.
        counts: speakers of each part; they add up to all speakers.
        groups: of the speakers.
        generator: where the draw comes from.
    """
    parts: list[list[str]] = [[] for _ in counts]
    free = list(counts)
    for members in _by_group(names, groups, generator):
        # Each group takes its share of the places that are left, so that the last group fills them.
        for number, count in enumerate(_apportion(len(members), free)):
            parts[number] += members[:count]
            del members[:count]
            free[number] -= count
    return [tuple(sorted(part)) for part in parts]


def deal_folds(speakers: Iterable[str], dealt: Dealt, groups: Groups | None = None) -> tuple[Fold, ...]:
    """Deal speakers into folds, each of which tests once; the following folds' speakers validate.

    Speakers are shuffled within their group and dealt like cards, one group after the other: the sizes of the folds
    differ by one at most, and so do the folds' numbers of speakers of each group.

    Args:
        speakers: all speakers; order and repetition don't matter.
        dealt: how many folds, how many validation speakers, and the seed.
        groups: of the speakers.

    Raises:
        InputError: there are more folds than speakers, or a fold would have no training speaker.
    """
    names = sorted(set(speakers))
    if dealt.folds > len(names):
        raise InputError(
            f"folds = {dealt.folds} was given, but there are {len(names)} speakers and each tests once: "
            f"set folds = {len(names)} or fewer in [partition]"
        )
    hands = deal_speakers(names, dealt.folds, dealt.seed, groups or {})
    # Folds of different groups alternate, so that the validation speakers of small folds are of all groups.
    alike: dict[tuple[str, ...], list[list[str]]] = {}
    for hand in hands:
        alike.setdefault(tuple(sorted((groups or {}).get(name, "") for name in hand)), []).append(hand)
    tests = _interleave([alike[kind] for kind in sorted(alike)])
    titles = [f"{number} of {dealt.folds}" for number in range(1, dealt.folds + 1)]
    return rotate(tests, titles, dealt.validation)


def deal_speakers(speakers: Iterable[str], hands: int, seed: int, groups: Groups) -> list[list[str]]:
    """Deal shuffled speakers like cards, one group after the other; see `deal_folds`."""
    names = sorted(set(speakers))
    order = [name for group in _by_group(names, groups, np.random.default_rng(seed)) for name in group]
    return [order[first::hands] for first in range(hands)]


def name_groups(speakers: Mapping[str, tuple[str, str | None]]) -> dict[str, str]:
    """The groups by which folds and stratified parts are balanced: gender, and corpus where there are several.

    Args:
        speakers: corpus and gender of each speaker.

    Example:
        >>> name_groups({"ann": ("emodb", "female"), "bob": ("emodb", None)})
        {'ann': 'female', 'bob': ''}
    """
    several = len({corpus for corpus, _ in speakers.values()}) > 1
    return {
        name: f"{corpus}, {gender or 'unknown'}" if several else (gender or "")
        for name, (corpus, gender) in speakers.items()
    }


def rotate(tests: Sequence[Sequence[str]], titles: Sequence[str], validation: int) -> tuple[Fold, ...]:
    """Folds in which each set of speakers tests once, and the following sets validate, in a circle.

    Args:
        tests: speakers who test in each fold.
        titles: name of each fold.
        validation: validation speakers at least.

    Raises:
        InputError: a fold would have no training speaker.
    """
    folds = []
    for number, test in enumerate(tests):
        others = [*tests[number + 1 :], *tests[:number]]
        chosen: list[str] = []
        while others and len(chosen) < validation:
            chosen += others.pop(0)
        train = [name for other in others for name in other]
        if not train:
            raise InputError(
                f"{len(tests)} folds and validation = {validation} leave no training speaker in the fold "
                f"{titles[number]}: set more folds or fewer validation speakers in [partition]"
            )
        folds.append(
            Fold(
                train=tuple(sorted(train)),
                validation=tuple(sorted(chosen)),
                test=tuple(sorted(test)),
                name=titles[number],
            )
        )
    return tuple(folds)


def _by_group(names: Sequence[str], groups: Groups, generator: np.random.Generator) -> list[list[str]]:
    """The speakers of each group, in random order; the groups sorted by name."""
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(groups.get(name, ""), []).append(name)
    return [
        [members[group][index] for index in generator.permutation(len(members[group]))] for group in sorted(members)
    ]


def _interleave(rows: Sequence[Sequence[list[str]]]) -> list[list[str]]:
    """All items in one row in which those of each given row are evenly spread."""
    placed = [
        ((index + 0.5) / len(row), number, item) for number, row in enumerate(rows) for index, item in enumerate(row)
    ]
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]


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
    counts = _apportion(total, shares)
    while 0 in counts and max(counts) > 1:
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(0)] += 1
    return counts


def _apportion(total: int, shares: Sequence[int]) -> list[int]:
    """Floors of the exact shares, then the largest remainders; ties go to the earlier part."""
    weight = sum(shares)
    counts = [total * share // weight for share in shares]
    remainders = [total * share % weight for share in shares]
    for part in sorted(range(len(shares)), key=lambda p: -remainders[p])[: total - sum(counts)]:
        counts[part] += 1
    return counts


def _kind(given: Any) -> str:
    """Which table of [partition] is meant, from the keys that are given."""
    if isinstance(given, BaseModel):
        return type(given).__name__
    if not isinstance(given, Mapping):
        return Shares.__name__
    if isinstance(given.get("folds"), str):
        return LeftOutCorpora.__name__
    for name, kind in (("parts", Split), ("file", SplitFile), ("column", SplitColumn), ("folds", Dealt)):
        if name in given:
            return kind.__name__
    return (NamedParts if any(_are_names(given.get(part)) for part in PARTS) else Shares).__name__


def _are_names(given: Any) -> bool:
    """Whether a part is given by the names of speakers or of a corpus, and not as a share."""
    return isinstance(given, list | tuple) or (isinstance(given, str) and given.startswith(CORPUS))


Partition = Annotated[
    Annotated[Shares, Tag("Shares")]
    | Annotated[Dealt, Tag("Dealt")]
    | Annotated[LeftOutCorpora, Tag("LeftOutCorpora")]
    | Annotated[NamedParts, Tag("NamedParts")]
    | Annotated[SplitFile, Tag("SplitFile")]
    | Annotated[SplitColumn, Tag("SplitColumn")]
    | Annotated[Split, Tag("Split")],
    Discriminator(_kind),
]
PARTITION_FORMS: tuple[type[BaseModel], ...] = (Shares, Dealt, LeftOutCorpora, NamedParts, SplitFile, SplitColumn)
"""What a person may write in [partition]."""
PARTITIONS: tuple[type[BaseModel], ...] = (*PARTITION_FORMS, Split)
