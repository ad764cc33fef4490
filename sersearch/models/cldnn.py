"""The LDNN and the X-CLDNNs in their fast form: the networks that are trained (Section 3.3, Figure 1).

`sersearch.models.reference` is the same network as the paper writes it.

Shapes: B utterances; T frames of the longest; F = C * M coefficients per frame (C channels, static coefficients and
then deltas; M spectral coefficients); P frames with the context at both edges; K maps; H rows of the last layer's maps;
W' columns of a splice after the last layer; N emotions.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from sersearch.models.kernels import gpu
from sersearch.models.kernels.blstm import BLSTM
from sersearch.models.kernels.convolution import Convolutions, edge_pad
from sersearch.models.kernels.units import bf16_on_this_processor
from sersearch.study.configuration import NetworkConfiguration


class CLDNN(nn.Module):
    """Two X-Conv layers under an LDNN; the LDNN alone if the configuration has no kernels.

    A network is built for a device and stays there: `to` may change its precision, but not its device.

    Attributes:
        configuration: the sizes of the layers, and the dropout.
        emotions: N, the number of classes.
        backend: the form of the kernels, which is chosen once, when the network is built.
        in_bf16: whether it multiplies in bfloat16. On a CPU without units for it, it computes in float32 instead.
    """

    def __init__(
        self,
        configuration: NetworkConfiguration,
        emotions: int,
        generator: Generator | None = None,
        device: str = "cpu",
        backend: gpu.Backend | None = None,
    ) -> None:
        """Build the network on a device and draw its initial weights as Keras does (docs/decisions.md).

        Args:
            configuration: a feasible configuration.
            emotions: N, the number of classes.
            generator: the generator that the initial weights are drawn from, on the CPU whatever the device, so that a
                seed gives the same weights everywhere.
            device: where to compute, "cpu" or "cuda".
            backend: the form of the kernels; by default the one that is fast on the device.
        """
        super().__init__()
        self.configuration = configuration
        self.emotions = emotions
        self.backend = backend or gpu.backend_for(device)
        self.in_bf16 = configuration.precision == "bf16" and (self.backend == "gpu" or bf16_on_this_processor())
        self.convolutions = Convolutions(configuration, self.backend)
        self.blstm = BLSTM(configuration.shapes.vector, configuration.cells, self.backend)
        widths = (2 * configuration.cells, *configuration.dense, emotions)
        self.dense = nn.ModuleList(
            skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]
            for n_in, n_out in pairwise(widths)
        )
        self._initialise(generator)
        self.to(device)

    def forward(self, x_BTF: Tensor, lengths_B: Tensor, dropout: Generator | None = None) -> Tensor:
        """Logits [B, N] of padded utterances [B, T, F].

        Args:
            x_BTF: frames; the padding behind an utterance's length may have any finite values.
            lengths_B: real frames of each utterance, at least 1.
            dropout: generator of the dropout mask in training; without it there is no dropout.
        """
        if self.in_bf16:
            # Convolutions and BLSTM multiply in the precision of their inputs. The few numbers after them stay in
            # float32.
            x_BTF = x_BTF.bfloat16()
        maps_PBV = self.maps(x_BTF, lengths_B)
        c_BH = self.represent(maps_PBV, lengths_B)
        return self.classify(self._drop(c_BH, dropout))

    def maps(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """The last convolutional layer's maps over the edge-padded utterances: [B, T, F] to [P, B, K * H].

        The vector that enters the BLSTM at a frame is a window of W' columns of these maps; for the LDNN, whose maps
        are the frames themselves, it is the splice.

        Args:
            x_BTF: frames; the padding behind an utterance's length may have any finite values.
            lengths_B: real frames of each utterance, at least 1.
        """
        configuration = self.configuration
        padded_PBF = edge_pad(x_BTF, lengths_B, configuration.left, configuration.right)
        padded_PBCM = padded_PBF.unflatten(2, (configuration.channels, configuration.rows))  # type: ignore[no-untyped-call]
        maps_PBV: Tensor = self.convolutions(padded_PBCM)
        return maps_PBV

    def represent(self, maps_PBV: Tensor, lengths_B: Tensor) -> Tensor:
        """The utterances' representations c, means of the BLSTM's hidden states: [P, B, K * H] to [B, 2 * cells]."""
        columns, dilation = self.convolutions.columns, self.convolutions.dilation
        hidden_TBH = self.blstm.over_windows(maps_PBV, lengths_B, columns, dilation)
        return hidden_TBH.sum(0, dtype=self.blstm.bias.dtype) / lengths_B.unsqueeze(1)

    def classify(self, c_BH: Tensor) -> Tensor:
        """The dense layers over the utterances' representations c: [B, 2 * cells] to logits [B, N]."""
        *hidden, last = self.dense
        for layer in hidden:
            c_BH = layer(c_BH).relu()
        logits: Tensor = last(c_BH)
        return logits

    def _drop(self, c_BH: Tensor, generator: Generator | None) -> Tensor:
        """Dropout with a mask from a generator, which is the trial's own; torch's dropout draws from a global one."""
        rate = self.configuration.dropout
        if generator is None or rate == 0:
            return c_BH
        kept = torch.rand(c_BH.shape, generator=generator, device=generator.device) >= rate
        return c_BH * kept.to(c_BH) / (1 - rate)

    @torch.no_grad()
    def _initialise(self, generator: Generator | None) -> None:
        for kernel, bias in zip(self.convolutions.kernels, self.convolutions.biases, strict=True):
            nn.init.xavier_uniform_(kernel, generator=generator)
            bias.zero_()
        cells = self.blstm.cells
        for direction in (0, 1):
            nn.init.xavier_uniform_(self.blstm.kernel[direction], generator=generator)
            nn.init.orthogonal_(self.blstm.recurrent[direction], generator=generator)
        # The forget gates start open.
        self.blstm.bias.zero_()[:, cells : 2 * cells] = 1.0
        for layer in self.dense:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            layer.bias.zero_()


def cross_entropy(logits_BN: Tensor, emotion_B: Tensor, weight_N: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of a minibatch in nats (Section 6.2).

    Args:
        logits_BN: the network's outputs before the softmax.
        emotion_B: index of each utterance's emotion.
        weight_N: factor of each class' cross-entropy, as Keras' `class_weight`; 1 unless given.
    """
    if weight_N is not None:
        weighted: Tensor = F.cross_entropy(logits_BN, emotion_B, weight_N, reduction="sum") / len(emotion_B)
        return weighted
    loss: Tensor = F.cross_entropy(logits_BN, emotion_B)
    return loss
