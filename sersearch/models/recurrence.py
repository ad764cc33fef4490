"""The recurrent half of a bidirectional LSTM, given its gates' inputs (Section 3.2, eq. 6-11).

Shapes: T frames, B utterances, G = 4 * cells gates, H cells of a direction.
"""

from typing import Any

import torch
from torch import Tensor

# Inputs that `recur_together` adds, so many that a vector stays aligned, and what each weighs at the gate it shuts.
SHUTTERS = 8
SHUT = -1e4


def recur(gates_TBG: Tensor, recurrent_2GH: Tensor, bias_2G: Tensor, lengths_B: Tensor) -> Tensor:
    """Run both directions over what each frame gives to the gates.

    Args:
        gates_TBG: [T, B, 2 * G], kernel times input of both directions, gates in the order input, forget, cell, output.
        recurrent_2GH: [2, G, H].
        bias_2G: [2, G].
        lengths_B: real frames of each utterance, at least 1.

    Returns:
        [T, B, 2 * H]; what lies behind an utterance's last frame means nothing.
    """
    hidden_TBH: Tensor = _Recurrence.apply(gates_TBG, recurrent_2GH, bias_2G, lengths_B)  # type: ignore[no-untyped-call]
    return hidden_TBH


def reverse_within(x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
    """Reverse each sequence within its own length; what lies behind it stays where it is. Its own inverse."""
    step_T = torch.arange(x_BTF.shape[1], device=x_BTF.device)
    mirrored_BT = lengths_B.unsqueeze(1) - 1 - step_T
    index_BT = torch.where(mirrored_BT >= 0, mirrored_BT, step_T)
    return x_BTF.gather(1, index_BT.unsqueeze(2).expand(-1, -1, x_BTF.shape[2]))


def recur_fused(x_TBV: Tensor, kernel_2GV: Tensor, recurrent_2GH: Tensor, bias_2G: Tensor, lengths_B: Tensor) -> Tensor:
    """The same from each frame's input, kernel included, by the vendor's LSTM (oneDNN, cuDNN)."""
    ahead = _one_way(x_TBV, kernel_2GV[0], recurrent_2GH[0], bias_2G[0])
    backwards = reverse_within(x_TBV.transpose(0, 1), lengths_B).transpose(0, 1)
    back = _one_way(backwards, kernel_2GV[1], recurrent_2GH[1], bias_2G[1])
    return torch.cat((ahead, reverse_within(back.transpose(0, 1), lengths_B).transpose(0, 1)), dim=2)


def _one_way(x_TBV: Tensor, kernel_GV: Tensor, recurrent_GH: Tensor, bias_G: Tensor) -> Tensor:
    state = x_TBV.new_zeros(1, x_TBV.shape[1], recurrent_GH.shape[1])
    # torch keeps a second bias; a constant zero there leaves the one of eq. 6-9.
    weights = [kernel_GV, recurrent_GH, bias_G, torch.zeros_like(bias_G)]
    y_TBH, _, _ = torch.lstm(x_TBV, (state, state), weights, True, 1, 0.0, True, False, False)
    return y_TBH


def recur_together(
    x_TBV: Tensor, kernel_2GV: Tensor, recurrent_2GH: Tensor, bias_2G: Tensor, lengths_B: Tensor
) -> Tensor:
    """The same in one call: the directions run side by side, and nothing is reversed.

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
    y_TBH, _, _ = torch.lstm(inputs_TBV, (state, state), weights, True, 1, 0.0, training, True, False)
    return y_TBH


class _Recurrence(torch.autograd.Function):
    """Both directions a step at a time, without a graph; the second direction's time runs from the end.

    A step works in one small buffer that stays in the cache, on both directions at once. What else makes it quick
    changes no number by more than rounding: a logistic gate is (1 + tanh(x / 2)) / 2, so one tanh serves all gates;
    where the second direction is still behind an utterance's end, an input of minus infinity shuts the input gate, so
    the state stays zero until the last frame is reached and nothing need be reversed within its own length; and a
    recurrent weight's gradient is one product over all steps.
    """

    @staticmethod
    def forward(ctx: Any, gates_TBG: Tensor, recurrent_2GH: Tensor, bias_2G: Tensor, lengths_B: Tensor) -> Tensor:
        steps, batch, _ = gates_TBG.shape
        cells = recurrent_2GH.shape[2]
        scale_G = gates_TBG.new_tensor([0.5, 0.5, 1.0, 0.5]).repeat_interleave(cells)
        weight_2HG = (recurrent_2GH.transpose(1, 2) * scale_G).contiguous()
        bias = bias_2G * scale_G
        half = gates_TBG.new_tensor(0.5)
        gate_2BG = gates_TBG.new_empty(2, batch, 4 * cells)
        i, f, g, o = gate_2BG.chunk(4, dim=2)
        i_and_f = gate_2BG[..., : 2 * cells]
        kept_T2BG = gates_TBG.new_empty(steps, *gate_2BG.shape)
        cells_T2BH = gates_TBG.new_empty(steps, *i.shape)
        hidden_T2BH = torch.empty_like(cells_T2BH)
        behind_TB = torch.arange(steps - 1, -1, -1).unsqueeze(1) >= lengths_B
        waiting = behind_TB.unsqueeze(2)[: int(behind_TB.any(1).sum())].unbind()
        before = cell_before = torch.zeros_like(i)
        each = zip(*_directions(gates_TBG), kept_T2BG.unbind(), cells_T2BH.unbind(), hidden_T2BH.unbind(), strict=True)
        for t, (ahead, back, kept, cell, hidden) in enumerate(each):
            torch.addcmul(bias[0], ahead, scale_G, out=gate_2BG[0])
            torch.addcmul(bias[1], back, scale_G, out=gate_2BG[1])
            if t < len(waiting):
                i[1].masked_fill_(waiting[t], -torch.inf)
            gate_2BG.baddbmm_(before, weight_2HG).tanh_()
            torch.add(half, i_and_f, alpha=0.5, out=i_and_f)
            torch.add(half, o, alpha=0.5, out=o)
            torch.mul(f, cell_before, out=cell).addcmul_(i, g)
            torch.tanh(cell, out=hidden).mul_(o)
            kept.copy_(gate_2BG)
            before, cell_before = hidden, cell
        hidden_TBH = torch.cat((hidden_T2BH[:, 0], hidden_T2BH[:, 1].flip(0)), dim=2)
        ctx.save_for_backward(kept_T2BG, cells_T2BH, hidden_TBH, recurrent_2GH)
        return hidden_TBH

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        kept_T2BG, cells_T2BH, hidden_TBH, recurrent_2GH = ctx.saved_tensors
        gates, cells = recurrent_2GH.shape[1:]
        d_gates_TBG = kept_T2BG.new_empty(*hidden_TBH.shape[:2], 2 * gates)
        gate_2BG, d_gate_2BG = torch.empty_like(kept_T2BG[0]), torch.empty_like(kept_T2BG[0])
        square_2BG = torch.empty_like(gate_2BG)
        i, f, g, o = gate_2BG.chunk(4, dim=2)
        d_i, d_f, d_g, d_o = d_gate_2BG.chunk(4, dim=2)
        d_ahead, d_back = d_gate_2BG
        d_hidden, d_cell, tanh = torch.zeros(3, *i.shape, dtype=i.dtype)
        d_hidden_ahead, d_hidden_back = d_hidden
        cell = cells_T2BH.unbind()
        each = zip(
            *_directions(gradients[0]),
            *_directions(d_gates_TBG),
            kept_T2BG.unbind(),
            cell,
            (torch.zeros_like(tanh), *cell[:-1]),
            strict=True,
        )
        for d_y_ahead, d_y_back, d_x_ahead, d_x_back, kept, cell, cell_before in reversed(list(each)):
            d_hidden_ahead.add_(d_y_ahead)
            d_hidden_back.add_(d_y_back)
            gate_2BG.copy_(kept)
            torch.tanh(cell, out=tanh)
            torch.mul(d_hidden, tanh, out=d_o)
            d_hidden.mul_(o)
            d_cell.add_(d_hidden).addcmul_(d_hidden, tanh.mul_(tanh), value=-1)
            torch.mul(d_cell, g, out=d_i)
            torch.mul(d_cell, cell_before, out=d_f)
            torch.mul(d_cell, i, out=d_g)
            d_cell.mul_(f)
            # The slope is s - s * s of a logistic gate and 1 - g * g of the cell's.
            torch.mul(gate_2BG, gate_2BG, out=square_2BG)
            g.fill_(1)
            d_gate_2BG.mul_(gate_2BG.sub_(square_2BG))
            d_x_ahead.copy_(d_ahead)
            d_x_back.copy_(d_back)
            torch.bmm(d_gate_2BG, recurrent_2GH, out=d_hidden)
        d_recurrent_2HG = torch.stack(
            (
                hidden_TBH[:-1, :, :cells].flatten(0, 1).T @ d_gates_TBG[1:, :, :gates].flatten(0, 1),
                hidden_TBH[1:, :, cells:].flatten(0, 1).T @ d_gates_TBG[:-1, :, gates:].flatten(0, 1),
            )
        )
        d_bias_2G = d_gates_TBG.sum((0, 1)).view(2, gates)
        return d_gates_TBG, d_recurrent_2HG.transpose(1, 2), d_bias_2G, None


def _directions(x_TBF: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Each direction's half of the last dimension, by step: the first's from the start, the second's from the end."""
    ahead, back = x_TBF.chunk(2, dim=2)
    return ahead.unbind(), back.unbind()[::-1]
