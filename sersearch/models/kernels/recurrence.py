"""The recurrence of a bidirectional LSTM: in compiled loops for a CPU, in one call of cuDNN for a GPU (eq. 6-11).

Shapes: T frames; B utterances; V inputs per frame; H cells of one direction; G = 4 * H gates in the order input,
forget, cell, output; S mask inputs; N states that are kept. An axis of length 2 is the LSTM's direction.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from sersearch.models.kernels import loops

# Mask inputs that `blstm_from_inputs` appends to each frame; eight of them keep the vectors aligned in memory. Each has
# this weight at the input gate, which together close the gate.
MASK_INPUTS = 8
MASK_WEIGHT = -1e4


def blstm_from_gates(gates_TBG: Tensor, recurrent_2GH: Tensor, bias_2G: Tensor, lengths_B: Tensor) -> Tensor:
    """Run both directions in compiled loops, given the gates' inputs of each frame.

    Args:
        gates_TBG: [T, B, 2 * G], kernel times input of both directions; contiguous. The memory is reused: the values
            are overwritten.
        recurrent_2GH: [2, G, H], the recurrent weights.
        bias_2G: [2, G].
        lengths_B: real frames of each utterance, at least 1.

    Returns:
        [T, B, 2 * H], zero behind an utterance's last frame.
    """
    hidden_TBH: Tensor = _BLSTMFromGates.apply(gates_TBG, recurrent_2GH, bias_2G, lengths_B)  # type: ignore[no-untyped-call]
    return hidden_TBH


def blstm_from_inputs(
    x_TBV: Tensor, kernel_2GV: Tensor, recurrent_2GH: Tensor, bias_2G: Tensor, lengths_B: Tensor
) -> Tensor:
    """Run both directions in one call of torch's LSTM, which is cuDNN's on a GPU, given each frame's input.

    The backward direction reads the padding first and must reach an utterance's last frame with a state of zero. So
    each frame gets a few mask inputs, 1 in the padding and 0 elsewhere, whose weights close the backward direction's
    input gate. Packed sequences would give the same numbers, but with them cuDNN does not use its persistent kernel,
    which holds the weights of up to 128 cells on the chip and needs no launch per step.

    Args:
        x_TBV: [T, B, V].
        kernel_2GV: [2, G, V], the input weights.
        recurrent_2GH: [2, G, H], the recurrent weights.
        bias_2G: [2, G].
        lengths_B: real frames of each utterance, at least 1.

    Returns:
        [T, B, 2 * H], zero behind an utterance's last frame.
    """
    steps, batch, _ = x_TBV.shape
    _, gates, cells = recurrent_2GH.shape
    padding_TB = torch.arange(steps, device=x_TBV.device).unsqueeze(1) >= lengths_B
    mask_TBS = padding_TB.unsqueeze(2).expand(-1, -1, MASK_INPUTS).to(x_TBV.dtype)
    mask_kernel_2GS = x_TBV.new_zeros(2, gates, MASK_INPUTS)
    mask_kernel_2GS[1, :cells].fill_(MASK_WEIGHT)
    kernel_2GV = torch.cat((kernel_2GV, mask_kernel_2GS), dim=2)
    weights = []
    for direction in (0, 1):
        bias_G = bias_2G[direction]
        weights += [kernel_2GV[direction], recurrent_2GH[direction], bias_G, torch.zeros_like(bias_G)]
    state = x_TBV.new_zeros(2, batch, cells)
    inputs_TBV = torch.cat((x_TBV, mask_TBS), dim=2)
    training = torch.is_grad_enabled()
    outputs: tuple[Tensor, Tensor, Tensor] = torch.lstm(
        inputs_TBV, (state, state), weights, True, 1, 0.0, training, True, False
    )
    return outputs[0].masked_fill(padding_TB.unsqueeze(2), 0)


class _BLSTMFromGates(torch.autograd.Function):
    """Both directions in compiled loops, as one node of autograd's graph.

    One array holds the gates' inputs, then their values (after forward), then the gradients of their inputs (after
    backward, which can therefore run only once). Every KEEP_EVERY-th cell state is kept; backward recomputes the
    others.
    """

    @staticmethod
    def forward(ctx: Any, gates_TBG: Tensor, recurrent_2GH: Tensor, bias_2G: Tensor, lengths_B: Tensor) -> Tensor:
        steps, batch, _ = gates_TBG.shape
        _, gates, cells = recurrent_2GH.shape
        gate_TB2G = gates_TBG.detach().view(steps, batch, 2, gates)
        weight_2HG = recurrent_2GH.detach().transpose(1, 2).contiguous()
        kept_N2BH = gate_TB2G.new_empty(-(-steps // loops.KEEP_EVERY), 2, batch, cells)
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
            raise RuntimeError(
                "backward ran twice through an LSTM's recurrence, but it can run only once, because it overwrites the "
                "gates; compute the loss again"
            )
        d_y_TBH = gradients[0]
        # Behind a sum over the frames each frame has the same gradient, so one frame's are enough.
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
