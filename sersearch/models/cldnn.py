"""The LDNN and the X-CLDNNs: convolutions, BLSTM, mean over time, dense layers (Section 3.3, Figure 1)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from sersearch.models.kernels.blstm import BLSTM
from sersearch.models.kernels.convolution import Convolutions, edge_pad
from sersearch.models.kernels.filtering import gather_windows
from sersearch.models.kernels.gpu import Form
from sersearch.study.configuration import NetworkConfiguration


class CLDNN(nn.Module):
    """Two X-Conv layers under an LDNN; the LDNN alone where the configuration has no kernels.

    Shapes: B utterances, T frames, F = C * M coefficients a frame (statics, then deltas), N emotions.
    """

    def __init__(
        self,
        configuration: NetworkConfiguration,
        emotions: int,
        generator: Generator | None = None,
        form: Form = "loops",
    ) -> None:
        """Build and initialise as Keras does (docs/decisions.md).

        Args:
            configuration: a feasible configuration.
            emotions: N, how many classes there are.
            generator: the CPU generator that the initial weights are drawn from.
            form: of the kernels; "cudnn" on a GPU.
        """
        super().__init__()
        self.configuration = configuration
        self.emotions = emotions
        self.form = form
        self.convolutions = Convolutions(configuration, form)
        self.blstm = BLSTM(configuration.shapes.vector, configuration.cells, form)
        widths = (2 * configuration.cells, *configuration.dense, emotions)
        self.dense = nn.ModuleList(
            skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]
            for n_in, n_out in pairwise(widths)
        )
        self._initialise(generator)

    def forward(self, x_BTF: Tensor, lengths_B: Tensor, dropout: Generator | None = None) -> Tensor:
        """Logits [B, N] of padded utterances [B, T, F].

        Args:
            x_BTF: frames; what lies behind an utterance's length may be anything finite.
            lengths_B: real frames of each utterance, at least 1.
            dropout: generator of the dropout mask while training; without it nothing is dropped.
        """
        if self.configuration.precision == "bf16" and self.form == "cudnn":
            # Convolutions and BLSTM compute in the precision of their inputs; the few numbers behind them stay exact.
            x_BTF = x_BTF.bfloat16()
        return self.classify(self._drop(self.represent(self.maps(x_BTF, lengths_B), lengths_B), dropout))

    def spliced(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Each frame's vector at the door of the BLSTM: [B, T, K * H * W'], for the LDNN the splice itself."""
        maps_PBV = self.maps(x_BTF, lengths_B)
        return gather_windows(maps_PBV, self.convolutions.columns, self.convolutions.dilation).transpose(0, 1)

    def maps(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """The last convolutional layer's maps over the edge-padded utterances: [P, B, K * H]."""
        configuration = self.configuration
        padded_PBF = edge_pad(x_BTF, lengths_B, configuration.left, configuration.right)
        padded_PBCM = padded_PBF.unflatten(2, (configuration.channels, configuration.rows))  # type: ignore[no-untyped-call]
        maps_PBV: Tensor = self.convolutions(padded_PBCM)
        return maps_PBV

    def represent(self, maps_PBV: Tensor, lengths_B: Tensor) -> Tensor:
        """An utterance's representation c, the mean of the BLSTM's hidden states: [P, B, K * H] to [B, 2 * cells]."""
        columns, dilation = self.convolutions.columns, self.convolutions.dilation
        hidden_TBH = self.blstm.over_windows(maps_PBV, lengths_B, columns, dilation)
        return hidden_TBH.sum(0, dtype=self.blstm.bias.dtype) / lengths_B.unsqueeze(1)

    def classify(self, c_BH: Tensor) -> Tensor:
        """The dense layers over an utterance's representation c: [B, 2 * cells] to logits [B, N]."""
        *hidden, last = self.dense
        for layer in hidden:
            c_BH = layer(c_BH).relu()
        logits: Tensor = last(c_BH)
        return logits

    def _drop(self, c_BH: Tensor, generator: Generator | None) -> Tensor:
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
        self.blstm.bias.zero_()[:, cells : 2 * cells] = 1.0
        for layer in self.dense:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            layer.bias.zero_()


def cross_entropy(logits_BN: Tensor, emotion_B: Tensor) -> Tensor:
    """Mean cross-entropy of a minibatch in nats (Section 6.2)."""
    loss: Tensor = F.cross_entropy(logits_BN, emotion_B)
    return loss
