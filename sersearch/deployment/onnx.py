"""A network as an ONNX graph, from an utterance's log-Mels to its logits, for programs that don't run Python.

The graph holds what lies between: normalisation, MFCCs, deltas, splices and the network, in the paper's form
(`sersearch.models.reference`). A model that is normalised by speaker takes the speaker's map as two further inputs.

    log_mel [T, M]    natural logarithms of Kaldi's Mel energies, any number of frames T
    scale, shift      only of a model that is normalised by speaker: the coefficients are log_mel * scale + shift, of
                      MFCCs log_mel @ scale + shift (`FrameMap` computes both from the speaker's frames)
    logits [E]        before the softmax, in the order of `emotions` in config.json

Shapes: T frames, M Mel bands, K static coefficients, F coefficients per frame, W columns of a splice, V numbers that
enter the LSTM at each frame, H cells per direction, E emotions.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sersearch.deployment.classifier import Classifier
from sersearch.deployment.network import NetworkClassifier
from sersearch.errors import InputError
from sersearch.models.reference import ReferenceCLDNN
from sersearch.speech.features import delta_kernels
from sersearch.study.configuration import Configuration, NetworkConfiguration
from sersearch.training.dataset import FrameMap, Minibatch

TOLERANCE = 1e-5
"""The graph's logits differ from the network's by no more."""

# Frames of the utterances on which a new graph is compared with the network.
_COMPARED = (1, 7, 180)
_OPSET = 18


def check_onnx(configuration: Configuration) -> None:
    """Refuse what can't be written as ONNX.

    Raises:
        InputError: the model is no network, or the packages of the extra are missing.
    """
    if not isinstance(configuration, NetworkConfiguration):
        raise InputError(f"{configuration.model}: only networks are written as ONNX; leave --onnx out")
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise InputError(f"--onnx needs the package {package}: run pip install 'sersearch[onnx]'")


def write_onnx(model: Classifier, file: Path) -> None:
    """Write an exported network as an ONNX graph, and compare both.

    Args:
        model: an exported model, whose configuration `check_onnx` lets pass.
        file: where the graph is written.
    """
    import onnxruntime

    assert isinstance(model, NetworkClassifier)
    graph = Graph(model)
    names = ["log_mel", *(["scale", "shift"] if model.configuration.knows_speakers else [])]
    inputs = tuple(torch.from_numpy(value) for value in example_inputs(model, 50).values())
    with warnings.catch_warnings():
        # torch warns of this exporter and of LSTMs of several utterances. The newer exporter takes a minute instead of
        # two seconds, and fixes the number of frames.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            inputs,
            str(file),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={"log_mel": {0: "frames"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for count in _COMPARED:
        difference = compare(model, session, example_inputs(model, count))
        assert difference <= TOLERANCE, f"ONNX and the network differ by {difference:.2g} on {count} frames"


def example_inputs(model: NetworkClassifier, frames: int) -> dict[str, NDArray[np.float32]]:
    """Inputs of a graph, drawn like the training frames."""
    generator = np.random.default_rng(frames)
    mean, covariance = model.moments.mean(), model.moments.covariance()
    log_mel = generator.normal(mean, np.sqrt(np.maximum(np.diag(covariance), 1e-6)), (frames, len(mean)))
    inputs = {"log_mel": log_mel.astype(np.float32)}
    if model.configuration.knows_speakers:
        found = FrameMap.fit(model.configuration, model.moments)
        scale = np.ascontiguousarray(np.diag(found.matrix_MK)) if found.is_diagonal else found.matrix_MK
        inputs |= {"scale": scale, "shift": found.shift_K}
    return inputs


def compare(model: NetworkClassifier, session: Any, inputs: dict[str, NDArray[np.float32]]) -> float:
    """The largest difference between a graph's logits and the network's.

    Args:
        model: the network.
        session: the graph, opened by onnxruntime.
        inputs: of the graph; a speaker's map is that of the training frames.
    """
    (logits_E,) = session.run(None, inputs)
    statistics = model.moments if model.configuration.knows_speakers else None
    x_1TF = torch.from_numpy(model.frames(inputs["log_mel"], statistics)).unsqueeze(0)
    batch = Minibatch(x_1TF, torch.tensor([x_1TF.shape[1]]), torch.zeros(1, dtype=torch.int64))
    with torch.inference_mode():
        expected_E = model.model(batch.x_BTF, batch.lengths_B)[0].numpy()
    return float(np.abs(logits_E - expected_E).max())


class Graph(nn.Module):
    """A network and all that lies between log-Mels and it, in operations that ONNX has."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: NetworkClassifier) -> None:
        """Take the weights of a network."""
        super().__init__()
        configuration = model.configuration
        self.configuration = configuration
        self.network = ReferenceCLDNN(configuration, len(model.record.emotions))
        self.network.load_state_dict(model.model.state_dict())
        self.lstm = _as_lstm(self.network, configuration.shapes.vector, configuration.cells)
        found = FrameMap.fit(configuration, model.moments)
        self.is_diagonal = found.is_diagonal
        scale = np.diag(found.matrix_MK).copy() if found.is_diagonal else found.matrix_MK
        self.register_buffer("scale", torch.from_numpy(scale))
        self.register_buffer("shift", torch.from_numpy(found.shift_K))
        self.eval()

    def forward(self, log_mel: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Logits [E] of an utterance's log-Mels [T, M]."""
        scale = self.scale if scale is None else scale
        shift = self.shift if shift is None else shift
        x_TK = (log_mel * scale if self.is_diagonal else log_mel @ scale) + shift
        if self.configuration.normalisation == "utterance":
            deviation_K = (x_TK - x_TK.mean(0)).square().mean(0).sqrt()
            x_TK = (x_TK - x_TK.mean(0)) / deviation_K.clamp(min=1e-5)
        x_TF = self._deltas(x_TK)
        splices_TFW = _windows(x_TF, self.configuration.left, self.configuration.right)
        configuration = self.configuration
        x_TCMW = splices_TFW.unflatten(1, (configuration.channels, configuration.rows))  # type: ignore[no-untyped-call]
        vectors_TV = self.network.convolutions(x_TCMW).flatten(1)
        hidden_T1H, _ = self.lstm(vectors_TV.unsqueeze(1))
        return self.network.classify(hidden_T1H.mean(0).squeeze(0))

    def _deltas(self, x_TK: Tensor) -> Tensor:
        order = self.configuration.deltas
        if not order:
            return x_TK
        kernels_OJ = torch.from_numpy(delta_kernels(order))
        reach = kernels_OJ.shape[1] // 2
        windows_TKJ = _windows(x_TK, reach, reach)
        return (windows_TKJ @ kernels_OJ.T).transpose(1, 2).flatten(1)


def _windows(x_TF: Tensor, left: int, right: int) -> Tensor:
    """The window of each frame, the first and the last frame repeated: [T, F] to [T, F, left + 1 + right]."""
    padded = torch.cat((x_TF[:1].expand(left, -1), x_TF, x_TF[-1:].expand(right, -1)))
    # The exporter follows a shape, but takes len() for a constant.
    frames = x_TF.shape[0]
    return torch.stack([padded[start : start + frames] for start in range(left + 1 + right)], 2)


def _as_lstm(network: ReferenceCLDNN, inputs: int, cells: int) -> nn.LSTM:
    """The network's BLSTM as torch's, which has two biases per gate."""
    lstm = nn.LSTM(inputs, cells, bidirectional=True)
    blstm = network.blstm
    with torch.no_grad():
        for direction, suffix in enumerate(("l0", "l0_reverse")):
            getattr(lstm, f"weight_ih_{suffix}").copy_(blstm.kernel[direction])
            getattr(lstm, f"weight_hh_{suffix}").copy_(blstm.recurrent[direction])
            getattr(lstm, f"bias_ih_{suffix}").copy_(blstm.bias[direction])
            getattr(lstm, f"bias_hh_{suffix}").zero_()
    return lstm
