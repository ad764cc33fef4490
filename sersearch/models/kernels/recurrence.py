"""The recurrent half of a bidirectional LSTM, given its gates' inputs (Section 3.2, eq. 6-11).

Shapes: T frames, B utterances, G = 4 * cells gates, H cells of a direction.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from sersearch.models.kernels import loops

# Inputs that `recur_together` adds, so many that a vector stays aligned, and what each weighs at the gate it shuts.
SHUTTERS = 8
SHUT = -1e4


def recur(gates_TBG: Tensor, recurrent_2GH: Tensor, bias_2G: Tensor, lengths_B: Tensor) -> Tensor:
    """Run both directions over what each frame gives to the gates.

    Args:
        gates_TBG: [T, B, 2 * G], kernel times input of both directions, gates in the order input, forget, cell, output;
            contiguous, and used up.
        recurrent_2GH: [2, G, H].
        bias_2G: [2, G].
        lengths_B: real frames of each utterance, at least 1.

    Returns:
        [T, B, 2 * H], zero behind an utterance's last frame.
    """
    hidden_TBH: Tensor = _Recurrence.apply(gates_TBG, recurrent_2GH, bias_2G, lengths_B)  # type: ignore[no-untyped-call]
    return hidden_TBH


def recur_together(
    x_TBV: Tensor, kernel_2GV: Tensor, recurrent_2GH: Tensor, bias_2G: Tensor, lengths_B: Tensor
) -> Tensor:
    """The same from each frame's input, kernel included, in one call of cuDNN's: nothing is reversed.

    A few inputs more, 1 behind an utterance's last frame, shut the second direction's input gate there, so its state is
    zero until the last frame is reached. Packed sequences would do as well, but keep cuDNN from its persistent kernel,
    which holds up to 128 cells' weights on the chip and needs no launch a step.
    """
    steps, batch, _ = x_TBV.shape
    _, gates, cells = recurrent_2GH.shape
    behind_TB = torch.arange(steps, device=x_TBV.device).unsqueeze(1) >= lengths_B
    shutters_TBS = behind_TB.unsqueeze(2).expand(-1, -1, SHUTTERS).to(x_TBV.dtype)
    shut_2GS = x_TBV.new_zeros(2, gates, SHUTTERS)
    shut_2GS[1, :cells].fill_(SHUT)
    kernel_2GV = torch.cat((kernel_2GV, shut_2GS), dim=2)
    weights = []
    for direction in (0, 1):
        bias_G = bias_2G[direction]
        weights += [kernel_2GV[direction], recurrent_2GH[direction], bias_G, torch.zeros_like(bias_G)]
    state = x_TBV.new_zeros(2, batch, cells)
    inputs_TBV = torch.cat((x_TBV, shutters_TBS), dim=2)
    training = torch.is_grad_enabled()
    found: tuple[Tensor, Tensor, Tensor] = torch.lstm(
        inputs_TBV, (state, state), weights, True, 1, 0.0, training, True, False
    )
    return found[0].masked_fill(behind_TB.unsqueeze(2), 0)


class _Recurrence(torch.autograd.Function):
    """Both directions in compiled loops, without a graph.

    All is done where the gates' inputs lie: forward leaves there what the gates let through, and the way back, which
    can be gone once, their gradients. Of the states only every few are kept; the way back finds the others again.
    """

    @staticmethod
    def forward(ctx: Any, gates_TBG: Tensor, recurrent_2GH: Tensor, bias_2G: Tensor, lengths_B: Tensor) -> Tensor:
        steps, batch, _ = gates_TBG.shape
        _, gates, cells = recurrent_2GH.shape
        gate_TB2G = gates_TBG.detach().view(steps, batch, 2, gates)
        weight_2HG = recurrent_2GH.detach().transpose(1, 2).contiguous()
        kept_N2BH = gate_TB2G.new_empty(-(-steps // loops.KEPT), 2, batch, cells)
        y_TB2H = gate_TB2G.new_empty(steps, batch, 2, cells)
        loops.lstm_forward(*_arrays(gate_TB2G, weight_2HG, bias_2G.detach(), lengths_B, kept_N2BH, y_TB2H))
        increment_version(gates_TBG)
        ctx.save_for_backward(kept_N2BH, recurrent_2GH, lengths_B)
        ctx.gate = gate_TB2G
        return y_TB2H.flatten(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        kept_N2BH, recurrent_2GH, lengths_B = ctx.saved_tensors
        d_gate_TB2G, ctx.gate = ctx.gate, None
        if d_gate_TB2G is None:
            raise RuntimeError("a recurrence can be gone back through once")
        d_y_TBH = gradients[0]
        # Each frame of a sum over frames has the same gradient.
        d_y_TBH = d_y_TBH[:1] if d_y_TBH.stride(0) == 0 else d_y_TBH
        d_y_TB2H = d_y_TBH.contiguous().view(*d_y_TBH.shape[:2], 2, -1)
        d_recurrent_2HG = torch.zeros_like(recurrent_2GH).view(2, -1, d_gate_TB2G.shape[3])
        d_bias_2G = d_recurrent_2HG.new_zeros(2, d_gate_TB2G.shape[3])
        recurrent = recurrent_2GH.detach()
        loops.lstm_backward(
            *_arrays(d_y_TB2H, d_gate_TB2G, recurrent, lengths_B, kept_N2BH, d_recurrent_2HG, d_bias_2G)
        )
        return d_gate_TB2G.flatten(2), d_recurrent_2HG.transpose(1, 2), d_bias_2G, None


def _arrays(*tensors: Tensor) -> Iterator[Any]:
    return (tensor.numpy() for tensor in tensors)
