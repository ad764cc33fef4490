"""The networks as the paper writes them: the LDNN and the S-, T-, ST- and FST-CLDNN (Section 3, Figure 1).

Read this module to learn what is computed. `sersearch.models.cldnn` computes the same numbers and the same gradients in
a small part of the time, and the tests compare the two.

One utterance is computed at a time: no padding, no minibatch. Its frames are spliced, each splice goes through two
convolutional layers (none in the LDNN), the resulting vectors go through a bidirectional LSTM, the hidden states are
averaged over time, and four dense layers turn the average into one logit per emotion.

Shapes: T frames of one utterance; F = C * M coefficients per frame, which are C channels (static coefficients, then
deltas) of M spectral coefficients; W columns of a splice; K maps; a kernel of h rows and w columns; V numbers that
enter the LSTM at each frame; H cells of one direction; G = 4 * H gate inputs; N emotions. An axis of length 2 is the
LSTM's direction, forward in time and then backward.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sersearch.study.configuration import NetworkConfiguration


def splice(x_TF: Tensor, left: int, right: int) -> Tensor:
    """Put each frame side by side with its neighbours: [T, F] to [T, F, W], W = left + 1 + right (Section 6.2).

    Where the context reaches over an end of the utterance, the first or the last frame is repeated, as Kaldi does.
    """
    last = len(x_TF) - 1
    splices = []
    for t in range(len(x_TF)):
        columns = []
        for offset in range(-left, right + 1):
            neighbour = min(max(t + offset, 0), last)
            columns.append(x_TF[neighbour])
        splices.append(torch.stack(columns, dim=1))
    return torch.stack(splices)


def convolve(x_TCMW: Tensor, kernel_KChw: Tensor, bias_K: Tensor) -> Tensor:
    """The convolutional function of eq. 1 with strides of 1, on each splice alone.

    The output at map k, row i and column j is

        sum over c, mu, nu of x[c, i + mu, j + nu] * kernel[k, c, mu, nu], plus bias[k].

    The convolution is valid: it has one output per position where the whole kernel fits. Eq. 1 writes one bias per map
    and position; here each map has one bias, as in Keras (docs/decisions.md).

    Returns:
        [T, K, M - h + 1, W - w + 1].
    """
    return F.conv2d(x_TCMW, kernel_KChw, bias_K)


def max_pool(y_TKMW: Tensor, window: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """The pooling function of eq. 2: the largest value of each m x n window, windows (s, t) apart.

    The number of windows is rounded down: rows or columns that do not fill a window are left out.

    Returns:
        [T, K, (M - m) // s + 1, (W - n) // t + 1].
    """
    return F.max_pool2d(y_TKMW, window, strides)


def pooling_windows(model: str, columns: int, layer: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The pooling window (m, n) and its strides of a model's convolutional layer (Table 1).

    Pooling has size 3 and stride 2 in the direction or directions of the convolution, and none in the other. The second
    layer's temporal window shrinks to the columns that are left (docs/decisions.md).

    Args:
        model: "S-CLDNN", "T-CLDNN", "ST-CLDNN" or "FST-CLDNN".
        columns: columns that the layer's convolution leaves.
        layer: 1 or 2.
    """
    spectral = model in ("S-CLDNN", "ST-CLDNN")
    temporal = model in ("T-CLDNN", "ST-CLDNN", "FST-CLDNN")
    m, row_stride = (3, 2) if spectral else (1, 1)
    n, column_stride = (3, 2) if temporal else (1, 1)
    if layer == 2:
        n = min(n, columns)
    return (m, n), (row_stride, column_stride)


class ConvolutionalLayers(nn.Module):
    """Two X-Conv layers, each a composition of convolution, ReLU and max pooling (eq. 3); none in the LDNN."""

    def __init__(self, configuration: NetworkConfiguration) -> None:
        """Make the kernels and biases, all of them zero.

        Args:
            configuration: a feasible configuration.
        """
        super().__init__()
        self.model = configuration.model
        self.kernels = nn.ParameterList()
        self.biases = nn.ParameterList()
        channels = configuration.channels
        for h, w in configuration.kernels:
            self.kernels.append(torch.zeros(configuration.maps, channels, h, w))
            self.biases.append(torch.zeros(configuration.maps))
            channels = configuration.maps

    def forward(self, x_TCMW: Tensor) -> Tensor:
        """Apply both layers to each splice: [T, C, M, W] to [T, K, rows left, columns left]."""
        layers = zip(self.kernels, self.biases, strict=True)
        for layer, (kernel_KChw, bias_K) in enumerate(layers, start=1):
            y_TKMW = convolve(x_TCMW, kernel_KChw, bias_K).relu()
            window, strides = pooling_windows(self.model, y_TKMW.shape[3], layer)
            x_TCMW = max_pool(y_TKMW, window, strides)
        return x_TCMW


def lstm(x_TV: Tensor, kernel_GV: Tensor, recurrent_GH: Tensor, bias_G: Tensor) -> Tensor:
    """A one-way LSTM, one step at a time (eq. 6-11): [T, V] to the outputs s_t of all steps, [T, H].

    The rows of the weights are those of the input gate i, the forget gate f, the cell input g (the paper's "gate") and
    the output gate o, in this order. No peephole connections: the gates do not depend on the cell's state c.

    Args:
        x_TV: the inputs x_t.
        kernel_GV: U^ix, U^fx, U^gx, U^ox, one below the other.
        recurrent_GH: U^is, U^fs, U^gs, U^os, one below the other.
        bias_G: u_i, u_f, u_g, u_o, one after the other.
    """
    cells = recurrent_GH.shape[1]
    kernel_i, kernel_f, kernel_g, kernel_o = torch.split(kernel_GV, cells)
    recurrent_i, recurrent_f, recurrent_g, recurrent_o = torch.split(recurrent_GH, cells)
    bias_i, bias_f, bias_g, bias_o = torch.split(bias_G, cells)
    s = x_TV.new_zeros(cells)
    c = x_TV.new_zeros(cells)
    outputs = []
    for x in x_TV:
        i = torch.sigmoid(kernel_i @ x + recurrent_i @ s + bias_i)  # eq. 6
        f = torch.sigmoid(kernel_f @ x + recurrent_f @ s + bias_f)  # eq. 7
        o = torch.sigmoid(kernel_o @ x + recurrent_o @ s + bias_o)  # eq. 8
        g = torch.tanh(kernel_g @ x + recurrent_g @ s + bias_g)  # eq. 9
        c = c * f + g * i  # eq. 10
        s = torch.tanh(c) * o  # eq. 11
        outputs.append(s)
    return torch.stack(outputs)


def blstm(x_TV: Tensor, kernel_2GV: Tensor, recurrent_2GH: Tensor, bias_2G: Tensor) -> Tensor:
    """Run one LSTM forward and one backward in time, z_t = [y_t^f; y_t^b]: [T, V] to [T, 2 * H] (Section 3.2).

    Args:
        x_TV: the inputs.
        kernel_2GV: input weights of both directions; see `lstm`.
        recurrent_2GH: recurrent weights of both directions.
        bias_2G: biases of both directions.
    """
    forward_TH = lstm(x_TV, kernel_2GV[0], recurrent_2GH[0], bias_2G[0])
    reversed_TV = x_TV.flip(0)
    backward_TH = lstm(reversed_TV, kernel_2GV[1], recurrent_2GH[1], bias_2G[1]).flip(0)
    return torch.cat((forward_TH, backward_TH), dim=1)


class BLSTM(nn.Module):
    """A bidirectional LSTM: one LSTM reads the sequence forward, a second one backward (Section 3.2)."""

    def __init__(self, inputs: int, cells: int) -> None:
        """Make the weights, all of them zero.

        Args:
            inputs: V, the length of an input vector.
            cells: H, the cells of each direction.
        """
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(2, 4 * cells, inputs))
        self.recurrent = nn.Parameter(torch.zeros(2, 4 * cells, cells))
        self.bias = nn.Parameter(torch.zeros(2, 4 * cells))

    def forward(self, x_TV: Tensor) -> Tensor:
        """Concatenate the outputs of both directions at each frame: [T, V] to [T, 2 * H]."""
        return blstm(x_TV, self.kernel, self.recurrent, self.bias)


class ReferenceCLDNN(nn.Module):
    """An LDNN, or an X-CLDNN: two X-Conv layers under the LDNN (Section 3.3).

    The parameters have the names, shapes and order of those of `sersearch.models.cldnn.CLDNN`; each of the two classes
    can load the other's state:

        reference = ReferenceCLDNN(model.configuration, model.emotions)
        reference.load_state_dict(model.state_dict())
    """

    def __init__(self, configuration: NetworkConfiguration, emotions: int) -> None:
        """Build the network; the weights are to be loaded.

        Args:
            configuration: a feasible configuration.
            emotions: N, the number of classes.
        """
        super().__init__()
        self.configuration = configuration
        self.convolutions = ConvolutionalLayers(configuration)
        self.blstm = BLSTM(configuration.shapes.vector, configuration.cells)
        widths = (2 * configuration.cells, *configuration.dense, emotions)
        self.dense = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(widths))

    def forward(self, x_TF: Tensor) -> Tensor:
        """Logits [N] of one utterance of frames [T, F].

        The softmax of the logits gives the probability of each emotion. In training, a dropout of probability 0.2 acts
        on the utterance's representation c, between `represent` and `classify`; at evaluation, and so here, it is left
        out.
        """
        return self.classify(self.represent(self.encode(x_TF)))

    def spliced(self, x_TF: Tensor) -> Tensor:
        """The splice of each frame as C images of M rows and W columns: [T, F] to [T, C, M, W]."""
        configuration = self.configuration
        splices_TFW = splice(x_TF, configuration.left, configuration.right)
        return splices_TFW.reshape(len(x_TF), configuration.channels, configuration.rows, configuration.columns)

    def encode(self, x_TF: Tensor) -> Tensor:
        """The vector that enters the BLSTM at each frame, the flattened maps of its splice: [T, F] to [T, V]."""
        maps_TKMW: Tensor = self.convolutions(self.spliced(x_TF))
        return maps_TKMW.flatten(1)

    def represent(self, vectors_TV: Tensor) -> Tensor:
        """The utterance's representation c, the mean of the BLSTM's outputs over time: [T, V] to [2 * H]."""
        outputs_TH: Tensor = self.blstm(vectors_TV)
        return outputs_TH.mean(0)

    def classify(self, c_H: Tensor) -> Tensor:
        """The dense layers, all but the last with a ReLU: [2 * H] to logits [N]."""
        *hidden_layers, last_layer = self.dense
        for layer in hidden_layers:
            c_H = layer(c_H).relu()
        logits_N: Tensor = last_layer(c_H)
        return logits_N
