"""Convolution over spliced frames, computed once per utterance (Section 3.1).

A splice is a window of W frames around each frame, and neighbouring splices share all columns but one. A valid
convolution over the edge-padded utterance computes each column once. Pooling in time then has stride 1 instead of 2,
and the second layer has a dilation of 2 in time instead: at the right offsets this gives exactly what the layers give
on each splice alone. The splices are never built.

Frames are the first axis and maps the last, so that a shift in time is a view and a convolution is a matrix product.

Shapes: P padded frames; B utterances; C input maps; K maps; M rows; H rows after convolution or pooling; W columns of a
splice; V = K * H. Inside the layers: R = P * b columns of b utterances together; w columns of a kernel; N numbers under
one column of a kernel; L = H and margins of zero rows above and below.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sersearch.models.kernels import loops
from sersearch.models.kernels.gpu import Backend
from sersearch.study.configuration import Layer, NetworkConfiguration
from sersearch.study.configuration.network import pools
from sersearch.study.configuration.shapes import POOL_STRIDE

# Utterances are convolved in groups whose maps have about this many numbers, to stay in the cache: 512 KiB in float32.
GROUP_NUMBERS = 2**17
# If a kernel's column in the first layer has at most this many numbers, all columns are copied side by side and
# multiplied at once, because a matrix product per column would be too small to be fast.
GATHER_LIMIT = 12


def edge_pad(x_BTF: Tensor, lengths_B: Tensor, left: int, right: int) -> Tensor:
    """Repeat each utterance's first frame `left` times before it and its last frame `right` times after it.

    Args:
        x_BTF: frames; the padding behind an utterance's length may have any values.
        lengths_B: real frames of each utterance, at least 1.
        left: frames of context before a frame.
        right: frames of context after a frame.

    Returns:
        [P, B, F], P = left + T + right; position p of an utterance of n frames holds frame clamp(p - left, 0, n - 1).
    """
    steps = x_BTF.shape[1]
    position_P = torch.arange(-left, steps + right, device=x_BTF.device)
    frame_PB = position_P.clamp(min=0).unsqueeze(1).minimum(lengths_B - 1)
    return x_BTF.transpose(0, 1).gather(0, frame_PB.unsqueeze(2).expand(-1, -1, x_BTF.shape[2]))


class Convolutions(nn.Module):
    """The convolutional layers of a configuration over edge-padded utterances; the LDNN has none.

    Attributes:
        geometry: the sizes of each layer.
        columns: number of columns of a splice after the last layer.
        dilation: distance in frames between two neighbouring ones of these columns.
    """

    def __init__(self, configuration: NetworkConfiguration, backend: Backend = "cpu") -> None:
        """Create the parameters without initialising them.

        Args:
            configuration: a feasible configuration.
            backend: the form of the kernels.
        """
        super().__init__()
        self.backend = backend
        found = configuration.shapes
        assert found.feasible, found.reason
        self.geometry: tuple[Layer, ...] = found.layers
        maps = configuration.maps
        self.kernels = nn.ParameterList(torch.empty(maps, layer.channels, *layer.kernel) for layer in found.layers)
        self.biases = nn.ParameterList(torch.empty(maps) for _ in found.layers)
        last = found.layers[-1] if found.layers else None
        self.columns = last.pooled[1] if last else configuration.columns
        self._column_stride = POOL_STRIDE if pools(configuration.model)[1] else 1
        self.dilation = self._column_stride ** len(found.layers)

    def forward(self, x_PBCM: Tensor) -> Tensor:
        """Convolve, pool and apply ReLU: [P, B, C, M] to [P', B, V].

        Column j of the splice of frame t is at position t + j * dilation, and P' is the position of the last splice's
        last column, plus 1. The results have the precision of the inputs.
        """
        if self.backend == "gpu":
            return self._forward_on_gpu(x_PBCM)
        if not self.geometry:
            return x_PBCM.flatten(2)
        weights_WNK = []
        for n, (layer, kernel) in enumerate(zip(self.geometry, self.kernels, strict=True)):
            is_short = n == 0 and layer.channels * layer.kernel[0] <= GATHER_LIMIT
            # A product of bfloat16 is rounded, so a sum of one product per column would be rounded several times.
            if is_short or x_PBCM.dtype == torch.bfloat16:
                weights_WNK.append(kernel.permute(2, 3, 1, 0).flatten(0, 2).unsqueeze(0))
            else:
                weights_WNK.append(kernel.permute(3, 2, 1, 0).flatten(1, 2))
        parameters = (*weights_WNK, *self.biases)
        y_PBV: Tensor = _ConvolutionalLayers.apply(x_PBCM, self.geometry, self._column_stride, *parameters)  # type: ignore[no-untyped-call]
        return y_PBV

    def _forward_on_gpu(self, x_PBCM: Tensor) -> Tensor:
        x_BKMP = x_PBCM.permute(1, 2, 3, 0)
        dilation = 1
        for layer, kernel, bias in zip(self.geometry, self.kernels, self.biases, strict=True):
            weights = kernel.to(x_BKMP.dtype), bias.to(x_BKMP.dtype)
            x_BKMP = functional.conv2d(x_BKMP, *weights, dilation=(1, dilation))
            stride = _row_stride(layer.window), 1
            x_BKMP = functional.max_pool2d(x_BKMP, layer.window, stride, dilation=(1, dilation)).relu()
            dilation *= self._column_stride
        return x_BKMP.permute(3, 0, 1, 2).flatten(2)


class _ConvolutionalLayers(torch.autograd.Function):
    """All layers as one node of autograd's graph, for as many utterances at a time as the cache holds.

    A convolution is one matrix product per column of its kernel, over overlapping views of its input; if the columns
    are short, one product for all columns of the first layer; in bfloat16, one for all columns of any layer. Bias, max
    pooling and ReLU are one pass over the products, which keeps the output and one byte per value, the number of the
    window's largest element. The products are not kept. On a tie the first element takes the gradient.

    The factors and the results of matrix products have the precision of the frames. If that is bfloat16, all else is
    in float32: weights, their gradients, bias, pooling and the sums within a product.
    """

    @staticmethod
    def forward(ctx: Any, x_PBCM: Tensor, geometry: tuple[Layer, ...], stride: int, *parameters: Tensor) -> Tensor:
        assert not x_PBCM.requires_grad, "frames take no gradient"
        weights_WNK, biases = parameters[: len(geometry)], parameters[len(geometry) :]
        rows, maps = geometry[-1].pooled[0], len(biases[-1])
        together = max(1, GROUP_NUMBERS // (len(x_PBCM) * geometry[0].convolved[0] * maps))
        reach = sum((layer.kernel[1] + layer.window[1] - 2) * stride**n for n, layer in enumerate(geometry))
        y_PBKH = x_PBCM.new_empty(len(x_PBCM) - reach, x_PBCM.shape[1], maps, rows)
        ctx.groups = []
        for x_PbCM, y_PbKH in zip(*(torch.split(each, together, dim=1) for each in (x_PBCM, y_PBKH)), strict=True):
            batch, kept = x_PbCM.shape[1], []
            x_RMC = x_PbCM.flatten(0, 1).transpose(1, 2).contiguous()
            for n, (layer, weight_WNK, bias_K) in enumerate(zip(geometry, weights_WNK, biases, strict=True)):
                # R has one entry per frame and utterance, so the next frame is `batch` entries further.
                dilation = batch * stride**n
                columns_RMC = _gather_columns(x_RMC, layer.kernel[1], weight_WNK, dilation)
                z_RHK = _convolve(columns_RMC, weight_WNK.to(x_RMC.dtype), layer.kernel[0], dilation)
                y_RHK, winner_RHK = _max_pool_forward(z_RHK.to(bias_K.dtype), bias_K, layer.window, dilation)
                kept.append((x_RMC, winner_RHK))
                x_RMC = y_RHK.to(x_RMC.dtype)
            y_PbKH.copy_(x_RMC.view(-1, batch, rows, maps).transpose(2, 3))
            ctx.groups.append((batch, kept))
        ctx.save_for_backward(*weights_WNK)
        ctx.geometry, ctx.stride = geometry, stride
        return y_PBKH.flatten(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weights_WNK, geometry = ctx.saved_tensors, ctx.geometry
        rows, maps = geometry[-1].pooled[0], weights_WNK[-1].shape[2]
        d_weights_WNK = [torch.zeros_like(weight) for weight in weights_WNK]
        d_biases = [weight.new_zeros(maps) for weight in weights_WNK]
        d_y_PBKH = gradients[0].view(*gradients[0].shape[:2], maps, rows)
        sizes = [batch for batch, _ in ctx.groups]
        for d_y_PbKH, (batch, kept) in zip(torch.split(d_y_PBKH, sizes, dim=1), ctx.groups, strict=True):
            d_y_RHK = d_y_PbKH.transpose(2, 3).contiguous().view(-1, rows, maps).to(d_biases[-1].dtype)
            for n in reversed(range(len(geometry))):
                layer, (x_RMC, winner_RHK), dilation = geometry[n], kept[n], batch * ctx.stride**n
                # The gradient of the inputs is a full convolution, which needs zeros above and below.
                margin = layer.kernel[0] - 1 if n > 0 else 0
                d_z_RLK = _max_pool_backward(d_y_RHK, winner_RHK, layer, dilation, margin)
                d_biases[n] += d_z_RLK.sum((0, 1))
                d_z_RLK = d_z_RLK.to(x_RMC.dtype)
                d_z_RHK = d_z_RLK[:, margin : margin + layer.convolved[0]]
                columns_RMC = _gather_columns(x_RMC, layer.kernel[1], weights_WNK[n], dilation)
                if x_RMC.dtype == torch.bfloat16:
                    d_weights_WNK[n] += _weight_gradient(columns_RMC, d_z_RHK, layer.kernel[0])
                    if n > 0:
                        d_y_RHK = _input_gradient_at_once(d_z_RLK, weights_WNK[n], layer, dilation).float()
                    continue
                _add_weight_gradient(columns_RMC, d_z_RHK, layer.kernel[0], dilation, d_weights_WNK[n])
                if n > 0:
                    d_y_RHK = _input_gradient(d_z_RLK, weights_WNK[n], layer.kernel[0], dilation, x_RMC.shape)
        return None, None, None, *d_weights_WNK, *d_biases


def _gather_columns(x_RMC: Tensor, width: int, weight_WNK: Tensor, dilation: int) -> Tensor:
    """Copy the columns under the kernel side by side if one product serves all: [R, M, C] to [R', M, w * C]."""
    if len(weight_WNK) == width:
        return x_RMC
    rows = len(x_RMC) - (width - 1) * dilation
    x_RMwC = x_RMC.new_empty(rows, x_RMC.shape[1], width, x_RMC.shape[2])
    for w in range(width):
        x_RMwC[:, :, w].copy_(x_RMC[w * dilation :][:rows])
    return x_RMwC.flatten(2)


def _convolve(x_RMC: Tensor, weight_WNK: Tensor, height: int, dilation: int) -> Tensor:
    """The products of a convolution, without bias: [R, M, C] to [R', H, K]."""
    frames = len(x_RMC) - (len(weight_WNK) - 1) * dilation
    z_RHK = x_RMC.new_empty(frames, x_RMC.shape[1] - height + 1, weight_WNK.shape[2])
    for w, weight_NK in enumerate(weight_WNK):
        windows = _windows(x_RMC[w * dilation :][:frames], height)
        _rows_first(z_RHK, height).baddbmm_(windows, weight_NK.expand(len(windows), -1, -1), beta=int(w > 0))
    return z_RHK


def _add_weight_gradient(x_RMC: Tensor, d_z_RHK: Tensor, height: int, dilation: int, d_weight_WNK: Tensor) -> None:
    """Add the gradients of a convolution's weights to `d_weight_WNK`."""
    for w, d_weight_NK in enumerate(d_weight_WNK):
        windows = _windows(x_RMC[w * dilation :][: len(d_z_RHK)], height)
        d_weight_NK += (windows.transpose(1, 2) @ _rows_first(d_z_RHK, height)).sum(0)


def _weight_gradient(x_RMC: Tensor, d_z_RHK: Tensor, height: int) -> Tensor:
    """The gradients of the weights [1, N, K] of a convolution of one column, as one product.

    The windows are copied, because a product of many small matrices is slow if the first one is transposed.
    """
    windows_SN = _windows(x_RMC, height).transpose(0, 1).flatten(0, 1)
    if height == 1:
        windows_SN = x_RMC.flatten(0, 1)
    return (windows_SN.T @ d_z_RHK.flatten(0, 1)).unsqueeze(0)


def _input_gradient_at_once(d_z_RLK: Tensor, weight_1NK: Tensor, layer: Layer, dilation: int) -> Tensor:
    """The gradients of a convolution's inputs as in `_input_gradient`, as one product for all columns of the kernel."""
    height, width = layer.kernel
    maps, reach = d_z_RLK.shape[2], (width - 1) * dilation
    weight_hwCK = weight_1NK.view(height, width, -1, maps)
    back_1NC = weight_hwCK.flip(0, 1).transpose(2, 3).flatten(0, 2).unsqueeze(0).to(d_z_RLK.dtype)
    padded_RLK = functional.pad(d_z_RLK, (0, 0, 0, 0, reach, reach))
    return _convolve(_gather_columns(padded_RLK, width, back_1NC, dilation), back_1NC, height, dilation)


def _input_gradient(d_z_RLK: Tensor, weight_WNK: Tensor, height: int, dilation: int, shape: torch.Size) -> Tensor:
    """The gradients of a convolution's inputs [R, M, C]: a convolution with the flipped kernel, L = M + height - 1."""
    back_WNC = weight_WNK.unflatten(1, (height, -1)).flip(1).transpose(2, 3).flatten(1, 2)  # type: ignore[no-untyped-call]
    windows, frames = _windows(d_z_RLK, height), len(d_z_RLK)
    d_x_RMC = d_z_RLK.new_empty(shape)
    d_x_RMC[frames:] = 0
    for w, back_NC in enumerate(back_WNC):
        d_x = _rows_first(d_x_RMC[w * dilation :][:frames], height)
        d_x.baddbmm_(windows, back_NC.expand(len(windows), -1, -1), beta=int(w > 0))
    return d_x_RMC


def _windows(x_RMN: Tensor, height: int) -> Tensor:
    """The numbers under a kernel at each of its positions, as a view: [R, M, N] to [H, R, height * N]."""
    frames, rows, values = x_RMN.shape
    if height == 1:
        return x_RMN.view(1, -1, values)
    return x_RMN.as_strided((rows - height + 1, frames, height * values), (values, rows * values, 1))


def _rows_first(z_RHK: Tensor, height: int) -> Tensor:
    """View a result [R, H, K] in the shape of the product of `_windows` and a kernel."""
    return z_RHK.view(1, -1, z_RHK.shape[2]) if height == 1 else z_RHK.transpose(0, 1)


def _max_pool_forward(z_RHK: Tensor, bias_K: Tensor, window: tuple[int, int], dilation: int) -> tuple[Tensor, Tensor]:
    """Add the bias, pool and apply ReLU: [R, H, K] to the pooled values and their winners, [R', H', K] each."""
    (heights, columns), stride = window, _row_stride(window)
    pooled = len(z_RHK) - (columns - 1) * dilation, (z_RHK.shape[1] - heights) // stride + 1, len(bias_K)
    y_RHK, winner_RHK = z_RHK.new_empty(pooled), torch.empty(pooled, dtype=torch.uint8)
    if heights == 1:
        # No pooling over rows: each row and map is treated as one map, which makes the loops' rows longer.
        bias_K = bias_K.repeat(pooled[1])
    z, y, winner = (_as_array(tensor, heights == 1) for tensor in (z_RHK, y_RHK, winner_RHK))
    loops.max_pool_forward(z, bias_K.numpy(), window, stride, dilation, y, winner)
    return y_RHK, winner_RHK


def _max_pool_backward(d_y_RHK: Tensor, winner_RHK: Tensor, layer: Layer, dilation: int, margin: int) -> Tensor:
    """The gradients of the products that were pooled: [R, margin + H + margin, K], zero in the margins."""
    heights, columns = layer.window
    frames = len(d_y_RHK) + (columns - 1) * dilation
    d_z_RLK = d_y_RHK.new_zeros(frames, margin + layer.convolved[0] + margin, d_y_RHK.shape[2])
    d_y, winner, d_z = (_as_array(each, heights == 1 and margin == 0) for each in (d_y_RHK, winner_RHK, d_z_RLK))
    loops.max_pool_backward(d_y, winner, layer.window, _row_stride(layer.window), dilation, margin, d_z)
    return d_z_RLK


def _as_array(tensor_RHK: Tensor, alike: bool) -> Any:
    """The tensor as an array for the loops; with rows and maps in one axis, [R, 1, H * K], if they are alike."""
    return (tensor_RHK.flatten(1).unsqueeze(1) if alike else tensor_RHK).numpy()


def _row_stride(window: tuple[int, int]) -> int:
    """Rows from one pooling window to the next; the stride in time is always 1 here."""
    return POOL_STRIDE if window[0] > 1 else 1
