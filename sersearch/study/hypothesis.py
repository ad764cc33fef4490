"""The one comparison that a study is made for, named before anything is trained."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from sersearch.errors import unknown
from sersearch.study.values import Table

Measure = Literal["ua", "loss"]
"""What an order is claimed of: noisy UA, which rises along it, or the loss to noise, which falls along it."""


def _level(given: object) -> object:
    return (given,) if isinstance(given, str) else given


Level = Annotated[tuple[str, ...], BeforeValidator(_level), Field(min_length=1)]
"""The models of one level, which the claim does not order among themselves."""


class Hypothesis(Table):
    """An order of models, from those that noise harms most to those that it harms least.

    Attributes:
        order: the levels; each is a model, or a list of models that are claimed to be alike. "S" is short for
            "S-CLDNN".
        on: the measures that the claim is made of; p values are corrected for their number.
        difference: points between the first and the last level that the study is planned to find.
        luck: standard deviation in points of one network over training seeds that the plan assumes.
        ua: UA in per cent that the plan assumes.
    """

    order: tuple[Level, ...] = Field(min_length=2)
    on: tuple[Measure, ...] = Field(("ua", "loss"), min_length=1)
    difference: float = Field(3.5, gt=0)
    luck: float = Field(2.0, ge=0)
    ua: float = Field(70.0, gt=0, lt=100)

    @model_validator(mode="after")
    def _no_model_twice(self) -> Self:
        named = [model for level in self.order for model in level]
        for model in named:
            if named.count(model) > 1:
                raise ValueError(f"order names {model} twice: give each model one level")
        if len(set(self.on)) < len(self.on):
            raise ValueError(f"on = {list(self.on)} names a measure twice: name each once")
        return self

    def resolve(self, models: Collection[str]) -> Hypothesis:
        """Write each model as the study's spaces name it.

        Args:
            models: of the study's spaces.

        Raises:
            ValueError: the order names a model of no space.
        """
        levels = []
        for level in self.order:
            names = [model if model in models else f"{model}-CLDNN" for model in level]
            for model, name in zip(level, names, strict=True):
                if name not in models:
                    raise ValueError(f"hypothesis: no space trains {model}: {unknown(model, models, 'model')}")
            levels.append(tuple(names))
        return self.model_copy(update={"order": tuple(levels)})

    @property
    def levels(self) -> dict[str, int]:
        """The level of each model, 0 for those that noise harms most."""
        return {model: number for number, level in enumerate(self.order) for model in level}


PAPERS_CLAIM = Hypothesis(order=(("S-CLDNN",), ("T-CLDNN", "ST-CLDNN"), ("FST-CLDNN",)))
"""Section 7.3: S suffers from noise the most, T and ST to a roughly equivalent degree, FST the least."""
