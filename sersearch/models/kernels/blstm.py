"""A bidirectional LSTM that never sees padding and still runs dense (Section 3.2, eq. 6-11)."""

import torch
from torch import Tensor, nn

from sersearch.models.kernels.filtering import correlate, gather_windows
from sersearch.models.kernels.gpu import Form
from sersearch.models.kernels.recurrence import recur, recur_together


class BLSTM(nn.Module):
    """Two one-way LSTMs, the second from each sequence's own last frame.

    An LSTM is causal, so what follows a sequence's last frame can't reach its real outputs: padding needs no packing.
    Gates are in the order input, forget, cell, output; one bias per gate, as in Keras. No peephole connections.
    """

    def __init__(self, features: int, cells: int, form: Form = "loops") -> None:
        """Make the parameters without initialising them.

        Args:
            features: length of an input vector.
            cells: cells of each direction.
            form: of the kernels; "cudnn" on a GPU.
        """
        super().__init__()
        self.cells = cells
        self.form = form
        self.kernel = nn.Parameter(torch.empty(2, 4 * cells, features))
        self.recurrent = nn.Parameter(torch.empty(2, 4 * cells, cells))
        self.bias = nn.Parameter(torch.empty(2, 4 * cells))

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Run both directions: [B, T, F] to [B, T, 2 * cells], zero behind a sequence's last frame."""
        return self.over_windows(x_BTF.transpose(0, 1), lengths_B, 1).transpose(0, 1)

    def over_windows(self, x_PBV: Tensor, lengths_B: Tensor, columns: int, dilation: int = 1) -> Tensor:
        """Run both directions over windows of frames, which only a GPU gathers.

        It computes in the precision of its inputs.

        Args:
            x_PBV: [P, B, V]; step t's input is x[t + j * dilation] for j in range(columns), each of the V * columns
                inputs of a step at v * columns + j.
            lengths_B: steps of each sequence, at least 1; P - (columns - 1) * dilation is the longest.
            columns: frames of a window.
            dilation: frames from one of them to the next.

        Returns:
            [T, B, 2 * cells], zero behind a sequence's last frame.
        """
        kernel, recurrent, bias = (each.to(x_PBV.dtype) for each in (self.kernel, self.recurrent, self.bias))
        if self.form == "cudnn":
            return recur_together(gather_windows(x_PBV, columns, dilation), kernel, recurrent, bias, lengths_B)
        gates_TBG = correlate(x_PBV, kernel.view(2 * 4 * self.cells, -1, columns), dilation)
        return recur(gates_TBG, recurrent, bias, lengths_B)
