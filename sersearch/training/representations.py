"""What each module of a network makes of an utterance: one vector per utterance and module (Section 7.5).

Shapes: B utterances of a minibatch, T frames, P padded frames, V numbers per frame, J columns of a window, D numbers of
a representation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sersearch.models.cldnn import CLDNN
from sersearch.models.kernels.convolution import edge_pad
from sersearch.study.configuration.base import Module


def represent(model: CLDNN, x_BTF: Tensor, lengths_B: Tensor) -> dict[Module, Tensor]:
    """What each module makes of some utterances, one vector [B, D] each; the LDNN has no CNN.

    Raw, CNN and BLSTM are means over an utterance's real frames: of the spliced features, of the second layer's maps,
    pooled and rectified, and of the hidden states, which is the paper's c. The MLP's are the outputs of the softmax.

    Args:
        model: a trained model.
        x_BTF: frames, padded at the end.
        lengths_B: real frames of each utterance.
    """
    configuration, convolutions = model.configuration, model.convolutions
    padded_PBF = edge_pad(x_BTF, lengths_B, configuration.left, configuration.right)
    maps_PBV = model.maps(x_BTF, lengths_B)
    c_BH = model.represent(maps_PBV, lengths_B)
    representations: dict[Module, Tensor] = {"raw": mean_window(padded_PBF, lengths_B, configuration.columns)}
    if configuration.kernels:
        representations["cnn"] = mean_window(maps_PBV, lengths_B, convolutions.columns, convolutions.dilation)
    return representations | {"blstm": c_BH, "mlp": model.classify(c_BH).softmax(1)}


def mean_window(x_PBV: Tensor, lengths_B: Tensor, columns: int, dilation: int = 1) -> Tensor:
    """Mean over an utterance's real frames of the window at each: [P, B, V] to [B, V * J]; no window is ever built.

    Args:
        x_PBV: frames; frame t's window is x[t + j * dilation] for j in range(columns).
        lengths_B: real frames of each utterance.
        columns: J.
        dilation: frames from one column to the next.
    """
    steps = len(x_PBV) - (columns - 1) * dilation
    starts = range(0, columns * dilation, dilation)
    means = [_mean_over_frames(x_PBV[start : start + steps].transpose(0, 1), lengths_B) for start in starts]
    return torch.stack(means, 2).flatten(1)


def _mean_over_frames(y_BTH: Tensor, lengths_B: Tensor) -> Tensor:
    """Mean over each utterance's real frames: [B, T, H] to [B, H]."""
    real_BT = torch.arange(y_BTH.shape[1], device=y_BTH.device) < lengths_B.unsqueeze(1)
    mean_BT = real_BT.to(y_BTH) / lengths_B.unsqueeze(1)
    return torch.bmm(mean_BT.unsqueeze(1), y_BTH).squeeze(1)
