"""An exported network: log-Mels of an utterance, alone, to posterior probabilities.

Shapes: T frames, M Mel bands, F coefficients per frame, E emotions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from sersearch.deployment.classifier import Classifier, ModelRecord
from sersearch.models.cldnn import CLDNN
from sersearch.models.kernels.loops import one_thread
from sersearch.speech.audio import Waveform
from sersearch.speech.features import Moments, speech_range, sum_moments
from sersearch.speech.kaldi import log_mel, moments_of, one_torch_thread
from sersearch.store.reader import unpack_moments
from sersearch.study.configuration import NetworkConfiguration
from sersearch.training.dataset import FrameMap, Minibatch
from sersearch.training.network import METADATA, posteriors


class NetworkClassifier(Classifier):
    """A network on a CPU, in the form in which it was tested, so that it gives the same bits."""

    def __init__(self, record: ModelRecord, weights: bytes) -> None:
        """Build the network; one thread is used, set for the whole process."""
        super().__init__(record, weights)
        one_thread()
        assert isinstance(record.configuration, NetworkConfiguration)
        self.configuration = record.configuration
        self.model = CLDNN(self.configuration, len(record.emotions))
        self.model.load_state_dict(safetensors.torch.load(weights))
        self.moments = read_moments(weights)
        self._map = FrameMap.fit(self.configuration, self.moments)

    def features(self, waveform: Waveform) -> NDArray[np.floating]:
        """Log-Mels [T, M] as a store holds them, without silence at both ends where the model leaves it out."""
        front_end = self.record.front_end
        with one_torch_thread():
            log_mel_TM = log_mel(waveform, front_end.sampling_rate, front_end.bands).astype(front_end.dtype)
        if self.configuration.trim:
            start, end = speech_range(log_mel_TM)
            return log_mel_TM[start:end]
        return log_mel_TM

    def statistics(self, features: Sequence[NDArray[np.floating]]) -> Moments:
        """Moments of a speaker's frames."""
        with one_torch_thread():
            return sum_moments(moments_of(log_mel_TM.astype(np.float64)) for log_mel_TM in features)

    def frames(self, features: NDArray[np.floating], statistics: Moments | None = None) -> NDArray[np.float32]:
        """The coefficients [T, F] that enter the network."""
        if self.configuration.knows_speakers:
            assert statistics is not None, "the model is normalised by speaker"
            return FrameMap.fit(self.configuration, statistics).apply(features)
        return self._map.apply(features)

    def scores(
        self, features: NDArray[np.floating], statistics: Moments | None = None
    ) -> tuple[int, NDArray[np.floating]]:
        """The most probable emotion, and the probability of each."""
        x_1TF = torch.from_numpy(self.frames(features, statistics)).unsqueeze(0)
        lengths = torch.tensor([x_1TF.shape[1]])
        (probability_E,) = posteriors(self.model, Minibatch(x_1TF, lengths, torch.zeros(1, dtype=torch.int64)))
        return int(probability_E.argmax()), probability_E.numpy()


def read_moments(weights: bytes) -> Moments:
    """The moments of the training frames, which weights carry in their metadata."""
    length = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + length])
    return unpack_moments(json.loads(header["__metadata__"][METADATA])["moments"])
