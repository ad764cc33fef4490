"""One model to train, and the trials that follow from a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny

from sersearch.digests import short_digest
from sersearch.errors import InputError
from sersearch.study.configuration import Configuration, parse_configuration
from sersearch.study.configuration.base import Protocol
from sersearch.study.fold import (
    Dealt,
    Fold,
    Groups,
    Partition,
    Shares,
    Split,
    deal_folds,
    leave_one_out,
    make_partition,
)
from sersearch.study.key import key_of


def _configuration(given: object) -> object:
    return parse_configuration(given) if isinstance(given, dict) else given


AnyConfiguration = Annotated[SerializeAsAny[Configuration], BeforeValidator(_configuration)]
"""A configuration of any kind, told from others by its `model`."""


class Trial(BaseModel):
    """One model to train: its configuration, its seed, its fold and the data that it is trained on.

    Attributes:
        configuration: how it is built and trained.
        seed: which repetition it is, from 0.
        fold: the speakers of each part.
        data: `StoreIdentity.data` of the configuration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    configuration: AnyConfiguration
    seed: int = 0
    fold: Fold
    data: str

    @cached_property
    def key(self) -> str:
        """A hash of all that the trial depends on; every bit of its randomness comes from it."""
        return key_of(self)

    @property
    def sealed(self) -> Trial:
        """The trial without its test speakers, with the same key: what a worker is handed."""
        return self.model_copy(update={"fold": self.fold.sealed})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the trial; the copy derives its key anew."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**values, **(update or {})})

    def __hash__(self) -> int:
        """Hash the key alone: folds of many speakers are slow to hash."""
        return hash(self.key)


class StoreIdentity(BaseModel):
    """A store as the keys of a study's trials see it.

    Attributes:
        fingerprint: of the store's recipe; empty where no store is named.
        speakers: all of the store's, sorted.
        vectors: digest of each set of vectors that the store holds, by name.
        groups: the group of each speaker by which parts are balanced; see `sersearch.study.fold.Groups`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    speakers: tuple[str, ...] = ()
    vectors: dict[str, str] = {}
    groups: dict[str, str] = {}

    def data(self, configuration: Configuration) -> str:
        """The data that a configuration is trained on: the store's frames, or one set of its vectors."""
        if configuration.vectors is None:
            return self.fingerprint
        return short_digest([self.fingerprint, self.vectors.get(configuration.vectors, "")])


class Folds:
    """The folds of each protocol over one store's speakers, each made once."""

    def __init__(self, speakers: Sequence[str], partition: Partition, groups: Groups | None = None) -> None:
        """Make no fold yet.

        Args:
            speakers: all of the store's.
            partition: how the study parts them; a split by name is read by `sersearch.run.split` before.
            groups: of the speakers.
        """
        self._speakers = tuple(speakers)
        self._partition = partition
        self._groups = groups or {}
        self._made: dict[tuple[Protocol, bool], tuple[Fold, ...]] = {}

    def of(self, configuration: Configuration) -> tuple[Fold, ...]:
        """The folds that a configuration is trained and tested on.

        Raises:
            InputError: too few speakers.
        """
        return self.of_protocol(configuration.protocol, configuration.validates_within_training)

    def of_protocol(self, protocol: Protocol, validates_within_training: bool) -> tuple[Fold, ...]:
        """The folds of a protocol; see `Configuration.validates_within_training`.

        Raises:
            InputError: too few speakers.
        """
        kind = protocol, validates_within_training
        if kind not in self._made:
            match protocol:
                case "partition":
                    self._made[kind] = self._parted()
                case "loso":
                    self._made[kind] = self._left_out(not validates_within_training)
        return self._made[kind]

    def _parted(self) -> tuple[Fold, ...]:
        match self._partition:
            case Shares():
                return (make_partition(self._speakers, self._partition, self._groups),)
            case Dealt():
                return deal_folds(self._speakers, self._partition, self._groups)
            case Split():
                return self._partition.parts
            case _:
                raise InputError(
                    "the speakers of a split by name are known with the store alone: name it, as in --store STORE"
                )

    def _left_out(self, validation: bool) -> tuple[Fold, ...]:
        """One fold per speaker: of a study in folds they are the same folds, as many as speakers."""
        if isinstance(self._partition, Dealt) and validation:
            every = self._partition.model_copy(update={"folds": len(self._speakers)})
            return deal_folds(self._speakers, every, self._groups)
        shares = self._partition if isinstance(self._partition, Shares) else Shares()
        return leave_one_out(self._speakers, shares, validation)


def make_trials(
    configuration: Configuration, seeds: int, identity: StoreIdentity, folds: Folds, number: int | None = None
) -> list[Trial]:
    """The trials of a configuration: one per seed and fold, or one per fold where training draws nothing at random.

    Args:
        configuration: what is trained.
        seeds: how many the study asks for.
        identity: of the store.
        folds: of the store's speakers.
        number: of the fold whose trials alone are made, from 0; of all folds unless given.

    Raises:
        InputError: the store has too few speakers for the configuration's protocol.
    """
    data = identity.data(configuration)
    chosen = folds.of(configuration)
    if number is not None:
        chosen = chosen[number : number + 1]
    return [
        Trial(configuration=configuration, seed=seed, fold=fold, data=data)
        for seed in range(seeds if configuration.seeded else 1)
        for fold in chosen
    ]
