"""The networks in plain PyTorch: spliced frames, Conv2d over all splices, a packed LSTM."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sersearch.models.cldnn import CLDNN


class Plain(nn.Module):
    """A plain network with the weights of one of this package."""

    def __init__(self, model: CLDNN, dropout: float = 0.0) -> None:
        """Build the layers and copy the weights; `dropout` is the share of the mean state that is dropped."""
        super().__init__()
        c = self.configuration = model.configuration
        layers = model.convolutions.geometry
        temporal = c.model in ("T-CLDNN", "ST-CLDNN", "FST-CLDNN")
        self.convolutions = nn.Sequential()
        for layer, kernel, bias in zip(layers, model.convolutions.kernels, model.convolutions.biases, strict=True):
            convolution = nn.Conv2d(layer.channels, c.maps, layer.kernel)
            convolution.load_state_dict({"weight": kernel, "bias": bias})
            stride = (2 if layer.window[0] > 1 else 1, 2 if temporal else 1)
            self.convolutions.extend([convolution, nn.ReLU(), nn.MaxPool2d(layer.window, stride)])
        b = model.blstm
        self.lstm = nn.LSTM(b.kernel.shape[2], c.cells, bidirectional=True, batch_first=True)
        weights = {}
        for direction, suffix in enumerate(("", "_reverse")):
            weights[f"weight_ih_l0{suffix}"] = b.kernel[direction]
            weights[f"weight_hh_l0{suffix}"] = b.recurrent[direction]
            weights[f"bias_ih_l0{suffix}"] = b.bias[direction]
            weights[f"bias_hh_l0{suffix}"] = torch.zeros_like(b.bias[direction])
        self.lstm.load_state_dict(weights)
        self.dropout = nn.Dropout(dropout)
        self.dense = model.dense

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits [B, N]."""
        c = self.configuration
        batch, steps, _ = x_BTF.shape
        index = torch.arange(steps).unsqueeze(1) + torch.arange(-c.left, c.right + 1)
        index = index.to(x_BTF.device)
        index = index.clamp(min=0).unsqueeze(0).minimum(lengths_B.view(-1, 1, 1) - 1)
        spliced = x_BTF.gather(1, index.view(batch, -1, 1).expand(-1, -1, x_BTF.shape[2]))
        images = spliced.view(batch * steps, c.columns, c.channels, c.rows).permute(0, 2, 3, 1)
        vectors = self.convolutions(images).reshape(batch, steps, -1)
        packed = pack_padded_sequence(vectors, lengths_B.cpu(), batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        c_BH = self.dropout(hidden.sum(1) / lengths_B.unsqueeze(1))
        for layer in self.dense[:-1]:
            c_BH = layer(c_BH).relu()
        logits: Tensor = self.dense[-1](c_BH)
        return logits


def renamed(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Put the gradients under the parameter names of this package."""
    found = {name: g for name, g in gradients.items() if name.startswith("dense")}
    for theirs, ours in (("weight_ih_l0", "kernel"), ("weight_hh_l0", "recurrent"), ("bias_ih_l0", "bias")):
        found[f"blstm.{ours}"] = np.stack([gradients[f"lstm.{theirs}{suffix}"] for suffix in ("", "_reverse")])
    for theirs, ours in (("weight", "kernels"), ("bias", "biases")):
        layers = sorted(name for name in gradients if name.startswith("convolutions") and name.endswith(theirs))
        found |= {f"convolutions.{ours}.{i}": gradients[name] for i, name in enumerate(layers)}
    return found
