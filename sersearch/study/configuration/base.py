"""What every configuration offers, whatever it trains: names, conditions, folds, shapes, costs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, get_args

from sersearch.study.conditions import CONDITIONS, Condition
from sersearch.study.configuration.shapes import Modules, Shapes
from sersearch.study.values import Table

CUDA_CONTEXT_BYTES = 600 * 10**6
"""What a process takes of a GPU before its first tensor: CUDA's context, torch's kernels, workspaces of its libraries.

It depends on the GPU and on the versions of CUDA and torch, and no counter of torch has it. This is what processes that
train such networks with torch 2 typically take on recent GPUs (300 to 600 MB), rounded up; it was not measured here.
"""

Value = bool | int | float | str | tuple[int, ...]

Protocol = Literal["partition", "loso"]

Module = Literal["raw", "cnn", "blstm", "mlp"]
MODULES: tuple[Module, ...] = get_args(Module)
"""The modules of a network in the order of its data (Section 7.5), the raw features first."""


class Configuration(Table):
    """One way to build and train a system; a subclass adds the settings of its kind.

    A subclass declares `model` as a Literal of the names that it configures, which is what tells one kind from another
    in TOML and in records (a union discriminated by `model`), and `system`, the class that trains it. All other class
    attributes and methods have defaults that suit a small network of one's own.

    Attributes:
        model: the name of the model, as in tables.
        features: what the model is trained on: a frame feature, or the name of a set of vectors.
        protocol: which folds the study's speakers are dealt into: the study's partition, or one fold per speaker, who
            is left out of it to be tested ("loso", leave one subject out).

    Class attributes:
        system: module and class that trains configurations of this kind, as "package.module:Class".
        classifier: module and class that applies exported models of this kind to sound, as "package.module:Class"; None
            where they can't be exported.
        switches: the parameters whose values decide which other parameters there are.
        seeded: whether training draws random numbers, so that each seed is a trial of its own.
        uses_gpu: whether its system has a GPU form; one without it takes no GPU, and is trained beside those that do.
        validates_within_training: whether a fold that leaves one subject out needs no validation speakers, because the
            system is validated by leaving out each training speaker in turn.
        described: the parameters that `description` names.
        feature_settings: the parameters that a study's table [features] may set for all spaces.
        training_settings: the parameters that its table [training] may set.
    """

    model: str
    features: str
    protocol: Protocol = "partition"

    system: ClassVar[str]
    classifier: ClassVar[str | None] = None
    switches: ClassVar[tuple[str, ...]] = ("model",)
    seeded: ClassVar[bool] = True
    uses_gpu: ClassVar[bool] = True
    validates_within_training: ClassVar[bool] = False
    described: ClassVar[tuple[str, ...]] = ("model", "features")
    feature_settings: ClassVar[tuple[str, ...]] = ()
    training_settings: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def models(cls) -> tuple[str, ...]:
        """The models that this class configures."""
        return tuple(get_args(cls.model_fields["model"].annotation))

    @classmethod
    def check_ranges(cls, models: Collection[str], ranges: Mapping[str, Any]) -> None:
        """Refuse a space's ranges that make no sense for these models.

        Raises:
            ValueError: says which range, and why.
        """

    @classmethod
    def defaults_of_switches(cls) -> dict[str, Value]:
        """Values of the switches that a space does not name."""
        return {}

    @classmethod
    def absent(cls, switched: Mapping[str, Value], ranges: Mapping[str, Any]) -> set[str]:
        """The parameters that have no meaning once the switches are set."""
        return set()

    @classmethod
    def resolve(cls, values: Mapping[str, Value]) -> dict[str, Value]:
        """Replace symbols such as "M" by the numbers that they stand for."""
        return dict(values)

    def record(self) -> dict[str, Any]:
        """The configuration as plain JSON with every field."""
        return self.model_dump(mode="json")

    @classmethod
    def vectors_of(cls, values: Mapping[str, Any]) -> str | None:
        """Name of the set of vectors, one per utterance, that configurations of these values are trained on.

        Returns:
            None where they are trained on frames.
        """
        return None

    @property
    def vectors(self) -> str | None:
        """Name of the set of vectors, one per utterance, that it is trained on; None where it is trained on frames."""
        return self.vectors_of(dict(self))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions under which it is ranked."""
        return CONDITIONS

    @property
    def family(self) -> str:
        """The features under which a leaderboard ranks it: one row per model and family."""
        return self.features

    @property
    def title(self) -> str:
        """Its name in tables."""
        return f"{self.model} ({self.features})"

    @property
    def description(self) -> str:
        """Its name on a terminal: the title and what tells it from others of its kind."""
        return self.title

    @property
    def meaningless(self) -> tuple[str, ...]:
        """Fields whose values change nothing in this configuration."""
        return ()

    @property
    def kernels(self) -> tuple[tuple[int, int], ...]:
        """((h1, w1), (h2, w2)) of the convolutional layers; empty if the model has none."""
        return ()

    @property
    def modules(self) -> tuple[Module, ...]:
        """The modules whose representations can be probed, in the order of the data; empty if the model has none."""
        return ()

    @property
    def departures(self) -> dict[str, Any]:
        """The settings in which it is not trained as the paper's model of the same name."""
        return {}

    @property
    def step_limits(self) -> tuple[int, int]:
        """The fewest and the most steps that training takes: epochs of a network, 1 where training is one fit."""
        return 1, 1

    def limits_on(self, utterances: int) -> tuple[int, int]:
        """The same for a training part of so many utterances (copies), where that decides."""
        return self.step_limits

    @property
    def data_settings(self) -> tuple[Any, ...]:
        """What decides how its data are opened, beside the store, the fold and the set of vectors."""
        return ()

    @property
    def trims(self) -> bool:
        """Whether silence at both ends of utterances is left out, so that there are fewer frames than in the store."""
        return False

    @property
    def knows_speakers(self) -> bool:
        """Whether it is normalised by each speaker's own utterances, which must be there before it can be used."""
        return False

    @property
    def keeps_last(self) -> bool:
        """Whether the last epoch's model is kept, however good it is."""
        return False

    @property
    def keeps_by_ua(self) -> bool:
        """Whether the epoch of the highest validation UA is kept, rather than that of the lowest loss."""
        return False

    @property
    def shapes(self) -> Shapes:
        """Sizes after each layer, or why it can't be built."""
        return Shapes(layers=(), vector=0, reason=None)

    def layer_shapes(self, emotions: int) -> list[tuple[str, list[int]]]:
        """Name and output size of each layer; up to the layer that fails where it can't be built."""
        return []

    def parameters(self, emotions: int) -> Modules | None:
        """Trained parameters by module; None where their number is only known after training."""
        return None

    def multiply_adds(self, emotions: int) -> Modules | None:
        """Multiply-adds of a forward pass by module, per frame (MLP: per utterance); None where that means nothing."""
        return None

    def minibatch_bytes(self, emotions: int, frames: int) -> int | None:
        """About what training holds for one minibatch of utterances of `frames` frames; None where unknown."""
        return None

    def gpu_bytes(self, emotions: int, frames: int, resident_bytes: int) -> int | None:
        """About what a process takes of a GPU that trains it: context, frames that stay there, and a minibatch.

        Args:
            emotions: how many classes there are.
            frames: of the longest utterance.
            resident_bytes: of all training and validation frames, which lie on the GPU as they are stored.

        Returns:
            None where `minibatch_bytes` gives none, and where it is not trained on a GPU.
        """
        minibatch = self.minibatch_bytes(emotions, frames) if self.uses_gpu else None
        return None if minibatch is None else CUDA_CONTEXT_BYTES + resident_bytes + minibatch

    def work(self) -> tuple[float, ...]:
        """What one frame costs, in quantities whose seconds a calibration measures; empty where none does."""
        return ()

    def fit_seconds(self, clean_utterances: int, speakers: int) -> float:
        """About how long training takes as a whole, where no calibration measures it.

        Args:
            clean_utterances: of all the store's speakers.
            speakers: how many there are.
        """
        return 0.0

    def relative_cost(self) -> float:
        """The cost of a step in comparison with other configurations of the same system."""
        return 1.0
