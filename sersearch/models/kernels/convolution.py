"""Convolution over spliced frames, computed once per utterance (Section 3.1).

A splice is a window of W frames around each frame, and neighbouring splices share all but one column. A valid
convolution over the edge-padded utterance gives each column's value once; stride-1 pooling in time followed by a
second layer with time dilation 2 gives, at the right offsets, exactly what the layers would give on each splice
alone. The splices themselves are never built.

Frames come first and maps last, so that a shift in time is a view and a convolution a matrix product.

Shapes: P padded frames, B utterances, C input maps, K maps, M rows, H rows left, W columns of a splice, V = K * H;
inside the layers R = P * b for b utterances together, and N values of one column and all maps.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sersearch.models.kernels import loops
from sersearch.models.kernels.gpu import Form
from sersearch.study.configuration.network import NetworkConfiguration, pools
from sersearch.study.configuration.shapes import POOL_STRIDE, Layer

# Numbers in a layer's maps of the utterances that are convolved together: 512 KiB in float32.
TOGETHER = 2**17
# Columns of no more numbers than this are gathered: products that add so few don't pay.
GATHERED = 12


def edge_pad(x_BTF: Tensor, lengths_B: Tensor, left: int, right: int) -> Tensor:
    """Repeat each utterance's first frame `left` times before it and its last frame `right` times after it.

    Args:
        x_BTF: frames, padded at the end to a common T with anything.
        lengths_B: real frames of each utterance, at least 1.
        left: context before a frame.
        right: context after a frame.

    Returns:
        [P, B, F], P = left + T + right; position p of an utterance of n frames holds frame clamp(p - left, 0, n - 1).
    """
    steps = x_BTF.shape[1]
    position_P = torch.arange(-left, steps + right, device=x_BTF.device)
    frame_PB = position_P.clamp(min=0).unsqueeze(1).minimum(lengths_B - 1)
    return x_BTF.transpose(0, 1).gather(0, frame_PB.unsqueeze(2).expand(-1, -1, x_BTF.shape[2]))


class Convolutions(nn.Module):
    """The convolutional layers of a configuration over edge-padded utterances; for the LDNN there are none.

    Attributes:
        columns: how many columns of a splice are left after the last layer.
        dilation: how many frames lie between them.
    """

    def __init__(self, configuration: NetworkConfiguration, form: Form = "loops") -> None:
        """Make the layers; parameters are not initialised.

        Args:
            configuration: a feasible configuration.
            form: of the kernels; "cudnn" on a GPU.
        """
        super().__init__()
        shapes = configuration.shapes
        assert shapes.feasible, shapes.reason
        self.form = form
        self.geometry: tuple[Layer, ...] = shapes.layers
        maps = configuration.maps
        self.kernels = nn.ParameterList(torch.empty(maps, layer.channels, *layer.kernel) for layer in shapes.layers)
        self.biases = nn.ParameterList(torch.empty(maps) for _ in shapes.layers)
        last = shapes.layers[-1] if shapes.layers else None
        self.columns = last.pooled[1] if last else configuration.columns
        self._stride = POOL_STRIDE if pools(configuration.model)[1] else 1
        self.dilation = self._stride ** len(shapes.layers)

    def forward(self, x_PBCM: Tensor) -> Tensor:
        """Convolve, pool and rectify: [P, B, C, M] to [P', B, V], P' as many frames as the last splice needs.

        Column j of the splice of frame t lies at position t + j * dilation. It computes in the precision of its inputs.
        """
        if self.form == "cudnn":
            return self._whole_tensors(x_PBCM)
        if not self.geometry:
            return x_PBCM.flatten(2)
        weights_WNK = [kernel.permute(3, 2, 1, 0).flatten(1, 2) for kernel in self.kernels]
        if self.geometry[0].channels * self.geometry[0].kernel[0] <= GATHERED:
            weights_WNK[0] = self.kernels[0].permute(2, 3, 1, 0).flatten(0, 2).unsqueeze(0)
        y_PBV: Tensor = _Layers.apply(x_PBCM, self.geometry, self._stride, *weights_WNK, *self.biases)  # type: ignore[no-untyped-call]
        return y_PBV

    def _whole_tensors(self, x_PBCM: Tensor) -> Tensor:
        x_BKMP = x_PBCM.permute(1, 2, 3, 0)
        dilation = 1
        for layer, kernel, bias in zip(self.geometry, self.kernels, self.biases, strict=True):
            weights = kernel.to(x_BKMP.dtype), bias.to(x_BKMP.dtype)
            x_BKMP = functional.conv2d(x_BKMP, *weights, dilation=(1, dilation))
            stride = _stride(layer.window), 1
            x_BKMP = functional.max_pool2d(x_BKMP, layer.window, stride, dilation=(1, dilation)).relu()
            dilation *= self._stride
        return x_BKMP.permute(3, 0, 1, 2).flatten(2)


class _Layers(torch.autograd.Function):
    """Convolution, bias, max pooling and ReLU, layer after layer, for as many utterances at a time as a cache holds.

    A convolution is a product over overlapping views for each column of its kernel, or one for all columns of the
    first layer's, if they are short. Pooling is one pass over what comes of it, which leaves the output and a byte for
    each of its values: what was pooled is not kept. Of equal values the first takes the gradient.
    """

    @staticmethod
    def forward(ctx: Any, x_PBCM: Tensor, geometry: tuple[Layer, ...], stride: int, *parameters: Tensor) -> Tensor:
        assert not x_PBCM.requires_grad, "frames take no gradient"
        weights_WNK, biases = parameters[: len(geometry)], parameters[len(geometry) :]
        rows, maps = geometry[-1].pooled[0], len(biases[-1])
        together = max(1, TOGETHER // (len(x_PBCM) * geometry[0].convolved[0] * maps))
        reach = sum((layer.kernel[1] + layer.window[1] - 2) * stride**n for n, layer in enumerate(geometry))
        y_PBKH = x_PBCM.new_empty(len(x_PBCM) - reach, x_PBCM.shape[1], maps, rows)
        ctx.groups = []
        for x_PbCM, y_PbKH in zip(*(torch.split(each, together, dim=1) for each in (x_PBCM, y_PBKH)), strict=True):
            batch, kept = x_PbCM.shape[1], []
            x_RMC = x_PbCM.flatten(0, 1).transpose(1, 2).contiguous()
            for n, (layer, weight_WNK, bias_K) in enumerate(zip(geometry, weights_WNK, biases, strict=True)):
                # One row of R is one frame of one utterance, so a frame later is `batch` rows later.
                dilation = batch * stride**n
                z_RHK = _convolve(_under(x_RMC, layer, weight_WNK, dilation), weight_WNK, layer.kernel[0], dilation)
                y_RHK, winner_RHK = _pool(z_RHK, bias_K, layer.window, dilation)
                kept.append((x_RMC, winner_RHK))
                x_RMC = y_RHK
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
            d_y_RHK = d_y_PbKH.transpose(2, 3).contiguous().view(-1, rows, maps)
            for n in reversed(range(len(geometry))):
                layer, (x_RMC, winner_RHK), dilation = geometry[n], kept[n], batch * ctx.stride**n
                # Rows of zeros above and below are for the way back to the inputs.
                margin = layer.kernel[0] - 1 if n > 0 else 0
                d_z_RLK = _pool_back(d_y_RHK, winner_RHK, layer, dilation, margin)
                d_biases[n] += d_z_RLK.sum((0, 1))
                d_z = d_z_RLK[:, margin : margin + layer.convolved[0]]
                seen_RMC = _under(x_RMC, layer, weights_WNK[n], dilation)
                _weights_back(seen_RMC, d_z, layer.kernel[0], dilation, d_weights_WNK[n])
                if n > 0:
                    d_y_RHK = _inputs_back(d_z_RLK, weights_WNK[n], layer.kernel[0], dilation, x_RMC.shape)
        return None, None, None, *d_weights_WNK, *d_biases


def _under(x_RMC: Tensor, layer: Layer, weight_WNK: Tensor, dilation: int) -> Tensor:
    """What a product sees: if it is one for all columns, [R', M, w * C] of [R, M, C], else that itself."""
    width = layer.kernel[1]
    if len(weight_WNK) == width:
        return x_RMC
    rows = len(x_RMC) - (width - 1) * dilation
    x_RMwC = x_RMC.new_empty(rows, x_RMC.shape[1], width, x_RMC.shape[2])
    for w in range(width):
        x_RMwC[:, :, w].copy_(x_RMC[w * dilation :][:rows])
    return x_RMwC.flatten(2)


def _convolve(x_RMC: Tensor, weight_WNK: Tensor, height: int, dilation: int) -> Tensor:
    """[R, M, C] to [R', H, K]."""
    frames = len(x_RMC) - (len(weight_WNK) - 1) * dilation
    z_RHK = x_RMC.new_empty(frames, x_RMC.shape[1] - height + 1, weight_WNK.shape[2])
    for w, weight_NK in enumerate(weight_WNK):
        windows = _windows(x_RMC[w * dilation :][:frames], height)
        _by_row(z_RHK, height).baddbmm_(windows, weight_NK.expand(len(windows), -1, -1), beta=int(w > 0))
    return z_RHK


def _weights_back(x_RMC: Tensor, d_z_RHK: Tensor, height: int, dilation: int, d_weight_WNK: Tensor) -> None:
    """Add what the weights of a convolution get."""
    for w, d_weight_NK in enumerate(d_weight_WNK):
        windows = _windows(x_RMC[w * dilation :][: len(d_z_RHK)], height)
        d_weight_NK += (windows.transpose(1, 2) @ _by_row(d_z_RHK, height)).sum(0)


def _inputs_back(d_z_RLK: Tensor, weight_WNK: Tensor, height: int, dilation: int, shape: torch.Size) -> Tensor:
    """What the inputs of a convolution get, [R, M, C], of that shape: a convolution too, with L = M + height - 1."""
    back_WNC = weight_WNK.unflatten(1, (height, -1)).flip(1).transpose(2, 3).flatten(1, 2)  # type: ignore[no-untyped-call]
    windows, frames = _windows(d_z_RLK, height), len(d_z_RLK)
    d_x_RMC = d_z_RLK.new_empty(shape)
    d_x_RMC[frames:] = 0
    for w, back_NC in enumerate(back_WNC):
        d_x = _by_row(d_x_RMC[w * dilation :][:frames], height)
        d_x.baddbmm_(windows, back_NC.expand(len(windows), -1, -1), beta=int(w > 0))
    return d_x_RMC


def _windows(x_RMN: Tensor, height: int) -> Tensor:
    """What lies under a kernel at each of its heights, as a view: [R, M, N] to [H, R, height * N]."""
    frames, rows, values = x_RMN.shape
    if height == 1:
        return x_RMN.view(1, -1, values)
    return x_RMN.as_strided((rows - height + 1, frames, height * values), (values, rows * values, 1))


def _by_row(z_RHK: Tensor, height: int) -> Tensor:
    """The product of `_windows` and a kernel, as a view of its result."""
    return z_RHK.view(1, -1, z_RHK.shape[2]) if height == 1 else z_RHK.transpose(0, 1)


def _pool(z_RHK: Tensor, bias_K: Tensor, window: tuple[int, int], dilation: int) -> tuple[Tensor, Tensor]:
    """[R, H, K] to [R', H', K], and the winners."""
    (heights, columns), stride = window, _stride(window)
    pooled = len(z_RHK) - (columns - 1) * dilation, (z_RHK.shape[1] - heights) // stride + 1, len(bias_K)
    y_RHK, winner_RHK = z_RHK.new_empty(pooled), torch.empty(pooled, dtype=torch.uint8)
    if heights == 1:
        # A row's values are like as many maps.
        bias_K = bias_K.repeat(pooled[1])
    z, y, winner = (_as_maps(tensor, heights == 1) for tensor in (z_RHK, y_RHK, winner_RHK))
    loops.pool(z, bias_K.numpy(), window, stride, dilation, y, winner)
    return y_RHK, winner_RHK


def _pool_back(d_y_RHK: Tensor, winner_RHK: Tensor, layer: Layer, dilation: int, margin: int) -> Tensor:
    """Gradients of what was pooled: [R, margin + H + margin, K], zero in the margins."""
    heights, columns = layer.window
    frames = len(d_y_RHK) + (columns - 1) * dilation
    d_z_RLK = d_y_RHK.new_zeros(frames, margin + layer.convolved[0] + margin, d_y_RHK.shape[2])
    d_y, winner, d_z = (_as_maps(each, heights == 1 and margin == 0) for each in (d_y_RHK, winner_RHK, d_z_RLK))
    loops.pool_back(d_y, winner, layer.window, _stride(layer.window), dilation, margin, d_z)
    return d_z_RLK


def _as_maps(tensor_RHK: Tensor, alike: bool) -> Any:
    """An array for the loops."""
    return (tensor_RHK.flatten(1).unsqueeze(1) if alike else tensor_RHK).numpy()


def _stride(window: tuple[int, int]) -> int:
    """Rows from one pooling window to the next; in time it is 1."""
    return POOL_STRIDE if window[0] > 1 else 1
