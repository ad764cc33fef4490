"""An exported support vector machine: one vector of openSMILE's functionals per utterance to decision values.

Shapes: D numbers per vector, V support vectors, E emotions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sersearch.deployment.classifier import Classifier, ModelRecord
from sersearch.errors import InputError
from sersearch.models.svm import Scale, SupportVectors, fit_scale
from sersearch.speech.audio import Waveform
from sersearch.store.vectors.opensmile import SETS, functionals_of
from sersearch.study.configuration import SVMConfiguration
from sersearch.training.system import Score


class SVMClassifier(Classifier):
    """A support vector machine by its support vectors."""

    score: ClassVar[Score] = "decision"

    def __init__(self, record: ModelRecord, weights: bytes) -> None:
        """Take the support vectors.

        Raises:
            InputError: the machine takes vectors that can't be computed from sound.
        """
        super().__init__(record, weights)
        assert isinstance(record.configuration, SVMConfiguration)
        self.configuration = record.configuration
        if self.configuration.features not in SETS:
            raise InputError(
                f"the model takes the vectors {self.configuration.features}, which come from a table and not from "
                f"sound; export a model of frames or of openSMILE's sets ({', '.join(SETS)})"
            )
        arrays = safetensors.numpy.load(weights)
        names = ("vectors_VD", "coefficients_CV", "intercept_P", "count_K", "class_K")
        self.machine = SupportVectors(**{name: arrays[name] for name in names})
        self._scale = None
        if not self.configuration.knows_speakers:
            self._scale = Scale(arrays["mean"], arrays["deviation"], arrays["varies"])

    def features(self, waveform: Waveform) -> NDArray[np.floating]:
        """The functionals [D] of an utterance.

        Raises:
            InputError: openSMILE is missing, or gives no functionals of a waveform this short.
        """
        vector_D = functionals_of(self.configuration.features, waveform)
        if np.isnan(vector_D).all():
            raise InputError("is shorter than openSMILE's window; remove it")
        return vector_D

    def statistics(self, features: Sequence[NDArray[np.floating]]) -> Scale:
        """Mean and deviation of each number over a speaker's utterances."""
        return fit_scale(np.stack(features).astype(np.float64))

    def scores(
        self, features: NDArray[np.floating], statistics: Scale | None = None
    ) -> tuple[int, NDArray[np.floating]]:
        """The predicted emotion, and the decision value of each; NaN for one that no training utterance showed."""
        scale = self._scale or statistics
        assert scale is not None, "the model is standardised by speaker"
        c = self.configuration
        with threadpool_limits(1):
            x_1D = scale.apply(features.astype(np.float64)[None])
            (predicted,), (values_K,) = self.machine.decide(x_1D, c.kernel, c.gamma, c.degree)
        decision_E = np.full(len(self.record.emotions), np.nan)
        decision_E[self.machine.class_K] = values_K
        return int(predicted), decision_E
