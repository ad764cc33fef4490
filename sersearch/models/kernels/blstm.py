"""A bidirectional LSTM over padded minibatches, whose results do not depend on the padding (Section 3.2, eq. 6-11).

Shapes: T frames; B utterances; F inputs per frame; P frames with V numbers each, of which windows of some columns are
the inputs; G = 4 * cells gates.
"""

import torch
from torch import Tensor, nn

from sersearch.models.kernels.filtering import correlate, gather_windows
from sersearch.models.kernels.gpu import Backend
from sersearch.models.kernels.recurrence import blstm_from_gates, blstm_from_inputs


class BLSTM(nn.Module):
    """Two one-way LSTMs; the second runs backward in time and starts at each sequence's own last frame.

    An LSTM is causal, so the padding behind a sequence's last frame cannot change the outputs at its real frames, and
    sequences need no packing. The gates have the order input, forget, cell, output. Each gate has one bias, as in
    Keras. No peephole connections.
    """

    def __init__(self, features: int, cells: int, backend: Backend = "cpu") -> None:
        """Create the parameters without initialising them.

        Args:
            features: length of an input vector.
            cells: cells of each direction.
            backend: the form of the kernels.
        """
        super().__init__()
        self.backend = backend
        self.cells = cells
        self.kernel = nn.Parameter(torch.empty(2, 4 * cells, features))
        self.recurrent = nn.Parameter(torch.empty(2, 4 * cells, cells))
        self.bias = nn.Parameter(torch.empty(2, 4 * cells))

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Run both directions: [B, T, F] to [B, T, 2 * cells], zero behind a sequence's last frame."""
        return self.over_windows(x_BTF.transpose(0, 1), lengths_B, 1).transpose(0, 1)

    def over_windows(self, x_PBV: Tensor, lengths_B: Tensor, columns: int, dilation: int = 1) -> Tensor:
        """Run both directions over windows of frames.

        The GPU's form copies each window; the CPU's form computes the products with the kernel as a filter over time.
        On a GPU all of it has the precision of the inputs; on a CPU this is the precision of the products with the
        kernel, and the recurrence and the results have that of the parameters.

        Args:
            x_PBV: [P, B, V]; the input of step t is the window x[t + j * dilation] for j in range(columns), in which
                number v of column j has index v * columns + j.
            lengths_B: steps of each sequence, at least 1; the longest has P - (columns - 1) * dilation steps.
            columns: frames of a window.
            dilation: distance in frames between two neighbouring columns.

        Returns:
            [T, B, 2 * cells], zero behind a sequence's last frame.
        """
        weights = self.kernel, self.recurrent, self.bias
        if self.backend == "gpu":
            kernel, recurrent, bias = (weight.to(x_PBV.dtype) for weight in weights)
            return blstm_from_inputs(gather_windows(x_PBV, columns, dilation), kernel, recurrent, bias, lengths_B)
        gates_TBG = correlate(x_PBV, self.kernel.view(2 * 4 * self.cells, -1, columns), dilation)
        return blstm_from_gates(gates_TBG, self.recurrent, self.bias, lengths_B)
