"""A bidirectional LSTM that never sees padding and still runs dense (Section 3.2, eq. 6-11)."""

import torch
from torch import Tensor, nn


def reverse_within(x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
    """Reverse each sequence within its own length; what lies behind it stays where it is. Its own inverse."""
    step_T = torch.arange(x_BTF.shape[1], device=x_BTF.device)
    mirrored_BT = lengths_B.unsqueeze(1) - 1 - step_T
    index_BT = torch.where(mirrored_BT >= 0, mirrored_BT, step_T)
    return x_BTF.gather(1, index_BT.unsqueeze(2).expand(-1, -1, x_BTF.shape[2]))


class BLSTM(nn.Module):
    """Two one-way LSTMs, the second over each sequence reversed within its own length.

    An LSTM is causal, so what follows a sequence's last frame can't reach its real outputs: padding needs no packing.
    Gates are in the order input, forget, cell, output; one bias a gate, as in Keras. Peepholes there are none.
    """

    def __init__(self, features: int, cells: int) -> None:
        """Make the parameters without initialising them.

        Args:
            features: length of an input vector.
            cells: cells of each direction.
        """
        super().__init__()
        self.cells = cells
        self.kernel = nn.Parameter(torch.empty(2, 4 * cells, features))
        self.recurrent = nn.Parameter(torch.empty(2, 4 * cells, cells))
        self.bias = nn.Parameter(torch.empty(2, 4 * cells))

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Run both directions: [B, T, F] to [B, T, 2 * cells]; outputs behind a sequence's end mean nothing."""
        ahead = self._run(0, x_BTF)
        back = self._run(1, reverse_within(x_BTF, lengths_B))
        return torch.cat((ahead, reverse_within(back, lengths_B)), dim=2)

    def _run(self, direction: int, x_BTF: Tensor) -> Tensor:
        state = x_BTF.new_zeros(1, x_BTF.shape[0], self.cells)
        # torch keeps a second bias; a constant zero there leaves the one of eq. 6-9.
        weights = [
            self.kernel[direction],
            self.recurrent[direction],
            self.bias[direction],
            torch.zeros_like(self.bias[direction]),
        ]
        y_TBH, _, _ = torch.lstm(x_BTF.transpose(0, 1), (state, state), weights, True, 1, 0.0, False, False, False)
        return y_TBH.transpose(0, 1)
