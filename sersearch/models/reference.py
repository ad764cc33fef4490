"""The networks of the paper in their literal form: what every fast form must equal, and an explanation of them.

One utterance, one frame, one step at a time, with plain operations and no tricks: read this to know what is computed,
and `sersearch.models.kernels` to know how it is computed fast. Tests hold the fast form to it, to 1e-10 in float64,
values and gradients.

Weights are given by the names that `CLDNN.named_parameters` gives them.

Shapes: T frames, F coefficients per frame, C maps of the input, M Mel bands (or cepstra), W columns of a splice, K maps
of a layer, H cells, G = 4 H gates, N emotions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sersearch.study.configuration import NetworkConfiguration

POOL_SIZE, POOL_STRIDE = 3, 2

Weights = Mapping[str, Tensor]


def logits(configuration: NetworkConfiguration, weights: Weights, x_TF: Tensor) -> Tensor:
    """The whole model on one utterance, without dropout (Figure 1): [T, F] to logits [N]."""
    c = configuration
    spliced_TFW = splice(x_TF, c.left, c.right)
    image_TCMW = spliced_TFW.unflatten(1, (c.channels, c.rows))  # type: ignore[no-untyped-call]
    vectors_TV = convolve(configuration, weights, image_TCMW).flatten(1)
    hidden_T2H = bidirectional_lstm(weights, vectors_TV)
    return classify(weights, mean_over_time(hidden_T2H))


def splice(x_TF: Tensor, left: int, right: int) -> Tensor:
    """Each frame with its neighbours (Section 6.2: 10 to the left, 5 to the right): [T, F] to [T, F, W].

    Beyond an utterance's ends the first and the last frame are repeated, as Kaldi's splice does.
    """
    last = len(x_TF) - 1
    splices = []
    for t in range(len(x_TF)):
        columns = [x_TF[min(max(t + offset, 0), last)] for offset in range(-left, right + 1)]
        splices.append(torch.stack(columns, dim=1))
    return torch.stack(splices)


def convolve(configuration: NetworkConfiguration, weights: Weights, image_TCMW: Tensor) -> Tensor:
    """The convolutional layers on each splice alone (Section 3.1, eq. 1 to 3): [T, C, M, W] to [T, K, M', W'].

    A layer is a valid convolution of stride 1, a bias, ReLU, and max pooling of size 3 and stride 2 in the directions
    in which the model convolves: S along the spectrum, T and FST along time, ST along both (Table 1). Pooling floors:
    what is left over is dropped. In the second layer the temporal window shrinks to the columns that are left, because
    the paper exhausts w1 in {7, 8} with w2 = 3, which leave two. The LDNN has no such layers.
    """
    spectral = configuration.model in ("S-CLDNN", "ST-CLDNN")
    temporal = configuration.model in ("T-CLDNN", "ST-CLDNN", "FST-CLDNN")
    maps = image_TCMW
    for layer in range(len(configuration.kernels)):
        kernel, bias = weights[f"convolutions.kernels.{layer}"], weights[f"convolutions.biases.{layer}"]
        maps = F.conv2d(maps, kernel, bias).relu()
        columns = min(POOL_SIZE, maps.shape[3]) if layer == 1 else POOL_SIZE
        window = (POOL_SIZE if spectral else 1, columns if temporal else 1)
        stride = (POOL_STRIDE if spectral else 1, POOL_STRIDE if temporal else 1)
        maps = F.max_pool2d(maps, window, stride)
    return maps


def bidirectional_lstm(weights: Weights, x_TV: Tensor) -> Tensor:
    """Two LSTMs, the second over the frames from the last to the first (Section 3.2): [T, V] to [T, 2 H]."""
    kernel, recurrent, bias = weights["blstm.kernel"], weights["blstm.recurrent"], weights["blstm.bias"]
    ahead = lstm(x_TV, kernel[0], recurrent[0], bias[0])
    back = lstm(x_TV.flip(0), kernel[1], recurrent[1], bias[1]).flip(0)
    return torch.cat((ahead, back), dim=1)


def lstm(x_TV: Tensor, kernel_GV: Tensor, recurrent_GH: Tensor, bias_G: Tensor) -> Tensor:
    """One LSTM, one step at a time (eq. 6 to 11), without peephole connections: [T, V] to [T, H].

    The gates are in the order input, forget, cell, output; one bias per gate, as in Keras.
    """
    hidden_H = cell_H = x_TV.new_zeros(recurrent_GH.shape[1])
    outputs = []
    for x_V in x_TV:
        gates_G = kernel_GV @ x_V + recurrent_GH @ hidden_H + bias_G
        input_gate, forget_gate, candidate, output_gate = gates_G.chunk(4)
        cell_H = forget_gate.sigmoid() * cell_H + input_gate.sigmoid() * candidate.tanh()
        hidden_H = output_gate.sigmoid() * cell_H.tanh()
        outputs.append(hidden_H)
    return torch.stack(outputs)


def mean_over_time(hidden_TH: Tensor) -> Tensor:
    """The utterance's representation c: the mean of the hidden states over its frames (Section 3.3)."""
    return hidden_TH.mean(0)


def classify(weights: Weights, c_H: Tensor) -> Tensor:
    """The dense layers of 128, 32 and 32 units with ReLU, and the layer of N logits under the softmax."""
    layers = dense_layers(weights)
    for weight, bias in layers[:-1]:
        c_H = (weight @ c_H + bias).relu()
    weight, bias = layers[-1]
    return weight @ c_H + bias


def dense_layers(weights: Weights) -> Sequence[tuple[Tensor, Tensor]]:
    """Weights and biases of the dense layers, from the first to the last."""
    layers: list[tuple[Tensor, Tensor]] = []
    while f"dense.{len(layers)}.weight" in weights:
        layers.append((weights[f"dense.{len(layers)}.weight"], weights[f"dense.{len(layers)}.bias"]))
    return layers
