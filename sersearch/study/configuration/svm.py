"""Configurations of support vector machines on one vector per utterance (Section 6.1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from sersearch.study.conditions import Condition
from sersearch.study.configuration.base import Configuration, Value

# Seconds of one fit to 1,000 utterances of six classes by their kernel matrix; the vectors' values and C change it by
# half or twice.
FIT_S = 0.06

FAMILY = "functionals"
"""The features under which all SVMs are ranked together, whatever their sets of vectors (Table 4)."""


class SVMConfiguration(Configuration):
    """Everything that decides how one support vector machine is trained, data aside.

    A number that the kernel does not use is set to its default, so that two ways of writing the same machine are one
    configuration.

    Attributes:
        model: the support vector machine.
        features: name of a set of vectors: openSMILE functionals, or any table of one row per utterance. Paper: IS09 to
            IS13 (Table 3).
        standardisation: of the vectors: by each speaker's own utterances ("speaker"), or by those of the training
            speakers ("corpus"). Paper: by speaker (Section 6.1).
        kernel: see `sersearch.models.svm.kernel_matrix`. Paper: all three (Section 6.1).
        C: the price of an error. Paper: silent (decisions#svm-kernels).
        gamma: scale of the polynomial and RBF kernels, in units of 1 / dimensions. Paper: silent
            (decisions#svm-kernels).
        degree: degree of the polynomial kernel. Paper: silent (decisions#svm-kernels).
    """

    model: Literal["SVM"]
    features: Annotated[str, Field(min_length=1)]
    standardisation: Literal["speaker", "corpus"] = "speaker"
    kernel: Literal["linear", "polynomial", "rbf"] = "linear"
    C: Annotated[float, Field(gt=0)] = 1.0
    gamma: Annotated[float, Field(gt=0)] = 1.0
    degree: Annotated[int, Field(ge=1)] = 3

    system: ClassVar[str] = "sersearch.training.svm:SupportVectorMachine"
    classifier: ClassVar[str | None] = "sersearch.deployment.vectors:SVMClassifier"
    switches: ClassVar[tuple[str, ...]] = ("model", "features", "kernel")
    described: ClassVar[tuple[str, ...]] = ("model", "features", "kernel", "C", "gamma", "degree", "protocol")
    seeded: ClassVar[bool] = False
    uses_gpu: ClassVar[bool] = False
    validates_within_training: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _drop_unused(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        without_use = unused(data.get("kernel", "linear"))
        return {name: value for name, value in data.items() if name not in without_use}

    @classmethod
    def check_ranges(cls, models: Collection[str], ranges: Mapping[str, Any]) -> None:
        """Refuse a space that names no features."""
        if "features" not in ranges:
            raise ValueError('features is missing; an SVM needs sets of vectors, as in features = ["IS09", "IS13"]')

    @classmethod
    def absent(cls, switched: Mapping[str, Value], ranges: Mapping[str, Any]) -> set[str]:
        """The numbers that the kernel does not use."""
        return set(unused(switched.get("kernel", "linear")))

    @classmethod
    def vectors_of(cls, values: Mapping[str, Any]) -> str | None:
        """The features name the set of vectors."""
        return str(values["features"])

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """SVMs are trained on clean speech only."""
        return ("clean",)

    @property
    def family(self) -> str:
        """All sets of vectors are ranked together."""
        return FAMILY

    @property
    def description(self) -> str:
        """Title, kernel and the kernel's numbers."""
        numbers = [f"{name} {getattr(self, name):g}" for name in ("C", "gamma", "degree")]
        used = [text for text in numbers if text.split()[0] not in self.meaningless]
        return " ".join([self.title, self.kernel, *used, self.protocol])

    @property
    def meaningless(self) -> tuple[str, ...]:
        """The numbers that the kernel does not use."""
        return unused(self.kernel)

    @property
    def knows_speakers(self) -> bool:
        """Whether its vectors are standardised by speaker."""
        return self.standardisation == "speaker"

    def fit_seconds(self, clean_utterances: int, speakers: int) -> float:
        """One fit, or one fit per speaker left out within the training speakers; each costs its utterances squared."""
        fits = speakers if self.protocol == "loso" else 1
        return FIT_S * fits * (clean_utterances / 1000) ** 2

    def relative_cost(self) -> float:
        """Leaving one subject out, choosing takes a fit for each of the others."""
        return 20.0 if self.protocol == "loso" else 1.0


def unused(kernel: object) -> tuple[str, ...]:
    """The numbers that an SVM's kernel does not use."""
    return {"linear": ("gamma", "degree"), "rbf": ("degree",)}.get(str(kernel), ())
