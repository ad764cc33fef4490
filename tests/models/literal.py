"""The models written as the paper says them, frame by frame and step by step: slow, and the oracle of the fast ones."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sersearch.models.cldnn import CLDNN
from sersearch.study.configuration import Configuration


def splice(x_TF: Tensor, left: int, right: int) -> Tensor:
    """[T, F] to [T, F, W]: Kaldi's splice, first and last frame repeated."""
    last = len(x_TF) - 1
    return torch.stack(
        [
            torch.stack([x_TF[min(max(t + o, 0), last)] for o in range(-left, right + 1)], dim=1)
            for t in range(len(x_TF))
        ]
    )


def convolve(model: CLDNN, image_TCMW: Tensor) -> Tensor:
    """Two layers on each splice alone, eq. 1-3 with floor pooling; the second temporal window shrinks."""
    temporal = model.configuration.model in ("T-CLDNN", "ST-CLDNN", "FST-CLDNN")
    spectral = model.configuration.model in ("S-CLDNN", "ST-CLDNN")
    for number, (kernel, bias) in enumerate(zip(model.convolutions.kernels, model.convolutions.biases, strict=True)):
        image_TCMW = F.conv2d(image_TCMW, kernel, bias).relu()
        columns = min(3, image_TCMW.shape[3]) if number == 1 else 3
        size = (3 if spectral else 1, columns if temporal else 1)
        image_TCMW = F.max_pool2d(image_TCMW, size, stride=(2 if spectral else 1, 2 if temporal else 1))
    return image_TCMW


def lstm(x_TF: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
    """Eq. 6-11, one step at a time."""
    state = cell = x_TF.new_zeros(recurrent.shape[1])
    outputs = []
    for x in x_TF:
        i, f, g, o = (kernel @ x + recurrent @ state + bias).chunk(4)
        cell = cell * f.sigmoid() + g.tanh() * i.sigmoid()
        state = cell.tanh() * o.sigmoid()
        outputs.append(state)
    return torch.stack(outputs)


def blstm(x_TBF: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor, lengths: list[int]) -> Tensor:
    """Both directions over each utterance alone: [T, B, F] to [T, B, 2 * H], zero behind an utterance's end."""
    outputs = []
    for b, length in enumerate(lengths):
        real = x_TBF[:length, b]
        ahead = lstm(real, kernel[0], recurrent[0], bias[0])
        back = lstm(real.flip(0), kernel[1], recurrent[1], bias[1]).flip(0)
        outputs.append(F.pad(torch.cat((ahead, back), dim=1), (0, 0, 0, len(x_TBF) - length)))
    return torch.stack(outputs, dim=1)


def logits(model: CLDNN, x_TF: Tensor) -> Tensor:
    """The whole model on one utterance: [T, F] to [N], without dropout."""
    c: Configuration = model.configuration
    spliced = splice(x_TF, c.left, c.right).unflatten(1, (c.channels, c.rows))
    vectors = convolve(model, spliced).flatten(1)
    kernel, recurrent, bias = model.blstm.kernel, model.blstm.recurrent, model.blstm.bias
    c_H = blstm(vectors.unsqueeze(1), kernel, recurrent, bias, [len(vectors)]).mean((0, 1))
    *hidden, last = model.dense
    for layer in hidden:
        c_H = F.relu(layer(c_H))
    return last(c_H)
