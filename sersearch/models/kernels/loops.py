"""Loops over numbers, compiled for the machine's processor at their first call.

What is compiled is kept in the user's private folder of this machine, by the name of the processor: on a disk that
machines share, processors of different kinds would meet.

Shapes: T frames, B utterances, H cells of a direction, G = 4 * H gates in the order input, forget, cell, output, S
steps.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - the products inside loops; loaded here, to be limited by one_thread
import torch
from llvmlite.binding import get_host_cpu_name
from numba.core.caching import FunctionCache
from numba.extending import overload
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sersearch.durable import private_folder

Array = NDArray[Any]
Loop = TypeVar("Loop", bound=Callable[..., Any])
# A product and a sum may be rounded once, and zeros have no sign; everything else is as IEEE 754 has it.
FLOATS = {"contract", "nsz"}
# Steps from one kept state of a recurrence to the next.
KEPT = 16
# Of what no element of a pooling window is.
RECTIFIED = 255


class _Kept(FunctionCache):
    """What was compiled earlier; where that is damaged or there is no room for it, it is compiled again."""

    def load_overload(self, *signature: Any) -> Any:
        try:
            return super().load_overload(*signature)
        except Exception:
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, *compiled: Any) -> None:
        with suppress(Exception):
            super().save_overload(*compiled)


def _compiled(loop: Loop) -> Loop:
    compiled = numba.njit(nogil=True, fastmath=FLOATS, error_model="numpy")(loop)
    given, folder = numba.config.CACHE_DIR, private_folder()
    try:
        if given or folder:
            numba.config.CACHE_DIR = given or str(folder / get_host_cpu_name())
            compiled._cache = _Kept(loop)
    except (OSError, RuntimeError):
        pass  # nowhere to keep it
    finally:
        numba.config.CACHE_DIR = given
    return cast(Loop, compiled)


def one_thread() -> None:
    """Have products run on one thread in this process, torch's and the loops'.

    It makes the same bits whatever the machine's load, and trials side by side don't get in each other's way.
    """
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")


def tanh(x: Any) -> Any:
    """Hyperbolic tangent inside compiled loops: in float64 the C library's, in float32 one that vectorises."""
    return math.tanh(x)


@overload(tanh, jit_options={"fastmath": FLOATS})
def _tanh(x):  # type: ignore[no-untyped-def]
    if x != numba.float32:
        return lambda x: math.tanh(x)
    # A quotient of polynomials (coefficients: Eigen's); beyond the end, tanh is 1 in float32.
    end = np.float32(7.90531110763549805)
    a1, a3, a5, a7, a9, a11, a13 = np.array(
        [
            4.89352455891786e-03,
            6.37261928875436e-04,
            1.48572235717979e-05,
            5.12229709037114e-08,
            -8.60467152213735e-11,
            2.00018790482477e-13,
            -2.76076847742355e-16,
        ],
        np.float32,
    )
    b0, b2, b4, b6 = np.array(
        [4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06], np.float32
    )

    def quotient(x):  # type: ignore[no-untyped-def]
        x = -end if x < -end else end if x > end else x
        s = x * x
        odd = x * ((((((a13 * s + a11) * s + a9) * s + a7) * s + a5) * s + a3) * s + a1)
        return odd / (((b6 * s + b4) * s + b2) * s + b0)

    return quotient


# Loops over a row: compilers vectorise what they see by itself.


@_compiled
def activate_gates(x: Array, recurrent: Array, bias: Array, scale: Array) -> None:
    """Activations of the gates from their inputs, in place."""
    # A logistic function is (1 + tanh(x / 2)) / 2, the cell's input tanh(x).
    one = x.dtype.type(1)
    for k in range(len(x)):
        x[k] = scale[k] * tanh(scale[k] * (x[k] + recurrent[k] + bias[k])) + (one - scale[k])


@_compiled
def update_cell(i: Array, f: Array, g: Array, before: Array, cell: Array) -> None:
    """The cell after a step (eq. 9): what the forget gate keeps plus what the input gate lets in."""
    for h in range(len(cell)):
        cell[h] = f[h] * before[h] + i[h] * g[h]


@_compiled
def emit_hidden(o: Array, cell: Array, hidden: Array, y: Array) -> None:
    """The hidden state (eq. 11), kept for the next step and given out."""
    for h in range(len(y)):
        hidden[h] = o[h] * tanh(cell[h])
        y[h] = hidden[h]


@_compiled
def _show_back(d_y: Array, d_hidden: Array, o: Array, shown: Array, d_o: Array, d_cell: Array) -> None:
    one = o.dtype.type(1)
    for h in range(len(o)):
        d = d_y[h] + d_hidden[h]
        d_o[h] = d * shown[h] * (o[h] - o[h] * o[h])
        d_cell[h] += d * o[h] * (one - shown[h] * shown[h])


@_compiled
def _logistic_back(d_cell: Array, factor: Array, gate: Array, d_gate: Array) -> None:
    for h in range(len(gate)):
        d_gate[h] = d_cell[h] * factor[h] * (gate[h] - gate[h] * gate[h])


@_compiled
def _tanh_back(d_cell: Array, factor: Array, gate: Array, d_gate: Array) -> None:
    one = gate.dtype.type(1)
    for h in range(len(gate)):
        d_gate[h] = d_cell[h] * factor[h] * (one - gate[h] * gate[h])


@_compiled
def _scale(d_cell: Array, f: Array) -> None:
    for h in range(len(f)):
        d_cell[h] *= f[h]


@_compiled
def _tanh_of(x: Array, y: Array) -> None:
    for h in range(len(x)):
        y[h] = tanh(x[h])


@_compiled
def _product(x: Array, y: Array, z: Array) -> None:
    for h in range(len(x)):
        z[h] = x[h] * y[h]


@_compiled
def _add(x: Array, y: Array) -> None:
    for k in range(len(x)):
        y[k] += x[k]


@_compiled
def _copy(x: Array, y: Array) -> None:
    for k in range(len(x)):
        y[k] = x[k]


@_compiled
def lstm_forward(
    gate_TB2G: Array, weight_2HG: Array, bias_2G: Array, lengths_B: Array, kept_N2BH: Array, y_TB2H: Array
) -> None:
    """Run both directions of an LSTM, the second from each sequence's last frame. All arrays are contiguous.

    Args:
        gate_TB2G: [T, B, 2, G], kernel times input; becomes what the gates let through.
        weight_2HG: [2, H, G].
        bias_2G: [2, G].
        lengths_B: frames of each sequence; what lies behind them is neither read nor written.
        kept_N2BH: [N, 2, B, H], N = ceil(T / KEPT); becomes the cells' states before every KEPT-th step.
        y_TB2H: [T, B, 2, H], becomes the hidden states, zero behind a sequence's last frame.
    """
    steps, batch, _, cells = y_TB2H.shape
    recurrent_BG = np.empty((batch, 4 * cells), y_TB2H.dtype)
    scale_G = np.full(4 * cells, y_TB2H.dtype.type(0.5))
    scale_G[2 * cells : 3 * cells] = 1
    for way in range(2):
        hidden_BH = np.zeros((batch, cells), y_TB2H.dtype)
        cell_BH = np.zeros((batch, cells), y_TB2H.dtype)
        for step in range(steps):
            t = step if way == 0 else steps - 1 - step
            if step % KEPT == 0:
                kept_N2BH[step // KEPT, way] = cell_BH
            np.dot(hidden_BH, weight_2HG[way], recurrent_BG)
            for b in range(batch):
                if t >= lengths_B[b]:
                    y_TB2H[t, b, way] = 0
                    continue
                gate, cell = gate_TB2G[t, b, way], cell_BH[b]
                activate_gates(gate, recurrent_BG[b], bias_2G[way], scale_G)
                update_cell(gate[:cells], gate[cells : 2 * cells], gate[2 * cells : 3 * cells], cell, cell)
                emit_hidden(gate[3 * cells :], cell, hidden_BH[b], y_TB2H[t, b, way])


@_compiled
def lstm_backward(
    d_y_TB2H: Array,
    gate_TB2G: Array,
    recurrent_2GH: Array,
    lengths_B: Array,
    kept_N2BH: Array,
    d_recurrent_2HG: Array,
    d_bias_2G: Array,
) -> None:
    """Gradients of `lstm_forward`. States that were not kept are found again, KEPT steps at a time.

    Args:
        d_y_TB2H: [T, B, 2, H], gradients of the hidden states; or [1, B, 2, H], if each step's are the same. Behind a
            sequence's last frame they are not read.
        gate_TB2G: [T, B, 2, G], what `lstm_forward` left; becomes the gradients of what it was given.
        recurrent_2GH: [2, G, H].
        lengths_B: frames of each sequence.
        kept_N2BH: [N, 2, B, H], what `lstm_forward` left.
        d_recurrent_2HG: [2, H, G], zeros before.
        d_bias_2G: [2, G], zeros before.
    """
    steps, batch, _, gates = gate_TB2G.shape
    cells, dtype = gates // 4, gate_TB2G.dtype
    cell_SBH = np.empty((KEPT + 1, batch, cells), dtype)
    shown_SBH, hidden_SBH = np.empty_like(cell_SBH), np.empty_like(cell_SBH)
    d_gate_SBG = np.empty((KEPT, batch, gates), dtype)
    d_weight_HG = np.empty((cells, gates), dtype)
    for way in range(2):
        d_hidden_BH = np.zeros((batch, cells), dtype)
        d_cell_BH = np.zeros((batch, cells), dtype)
        for n in range(len(kept_N2BH) - 1, -1, -1):
            first, some = n * KEPT, min(KEPT, steps - n * KEPT)
            cell_SBH[0] = kept_N2BH[n, way]
            recompute_states(gate_TB2G, lengths_B, way, first, some, cell_SBH, shown_SBH, hidden_SBH)
            for s in range(some - 1, -1, -1):
                t = first + s if way == 0 else steps - 1 - first - s
                for b in range(batch):
                    gate, d_gate, d_cell = gate_TB2G[t, b, way], d_gate_SBG[s, b], d_cell_BH[b]
                    if t < lengths_B[b]:
                        i, f = gate[:cells], gate[cells : 2 * cells]
                        g, o = gate[2 * cells : 3 * cells], gate[3 * cells :]
                        d_y = d_y_TB2H[t if len(d_y_TB2H) > 1 else 0, b, way]
                        _show_back(d_y, d_hidden_BH[b], o, shown_SBH[s + 1, b], d_gate[3 * cells :], d_cell)
                        _logistic_back(d_cell, g, i, d_gate[:cells])
                        _logistic_back(d_cell, cell_SBH[s, b], f, d_gate[cells : 2 * cells])
                        _tanh_back(d_cell, i, g, d_gate[2 * cells : 3 * cells])
                        _scale(d_cell, f)
                        _add(d_gate, d_bias_2G[way])
                    else:
                        d_gate[:] = 0
                    _copy(d_gate, gate)
                np.dot(d_gate_SBG[s], recurrent_2GH[way], d_hidden_BH)
            hidden_NH = hidden_SBH[:some].reshape(some * batch, cells)
            np.dot(hidden_NH.T, d_gate_SBG[:some].reshape(some * batch, gates), d_weight_HG)
            _add(d_weight_HG.ravel(), d_recurrent_2HG[way].ravel())


@_compiled
def recompute_states(
    gate_TB2G: Array,
    lengths_B: Array,
    way: int,
    first: int,
    some: int,
    cell_SBH: Array,
    shown_SBH: Array,
    hidden_SBH: Array,
) -> None:
    """Find again what was before some steps and, in the row behind them, after the last.

    Args:
        gate_TB2G: what `lstm_forward` left.
        lengths_B: frames of each sequence.
        way: which direction.
        first: its first step of these.
        some: how many.
        cell_SBH: the cells' states, the first of which is known.
        shown_SBH: their tanh.
        hidden_SBH: the hidden states; after the last step there is none.
    """
    steps, batch, _, gates = gate_TB2G.shape
    cells = gates // 4
    for s in range(some + 1):
        t = first + s if way == 0 else steps - 1 - first - s
        before = t - 1 if way == 0 else t + 1
        for b in range(batch):
            cell, shown = cell_SBH[s, b], shown_SBH[s, b]
            _tanh_of(cell, shown)
            if s == some:
                continue
            if 0 <= before < lengths_B[b]:
                _product(gate_TB2G[before, b, way, 3 * cells :], shown, hidden_SBH[s, b])
            else:
                hidden_SBH[s, b] = 0
            if t < lengths_B[b]:
                gate = gate_TB2G[t, b, way]
                i, f, g = gate[:cells], gate[cells : 2 * cells], gate[2 * cells : 3 * cells]
                update_cell(i, f, g, cell, cell_SBH[s + 1, b])
            else:
                _copy(cell, cell_SBH[s + 1, b])


@_compiled
def pool(
    z_RHK: Array, bias_K: Array, window: tuple[int, int], stride: int, dilation: int, y_RHK: Array, winner_RHK: Array
) -> None:
    """Add a bias, take the largest of each window, rectify.

    Args:
        z_RHK: [R, H, K].
        bias_K: [K].
        window: rows of H and, `dilation` rows of R from each other, columns.
        stride: rows of H from window to window.
        dilation: see `window`.
        y_RHK: [R', H', K], what comes of it.
        winner_RHK: [R', H', K], bytes: which element of the window it was, the first of equals, counted by rows within
            columns; RECTIFIED where y is 0.
    """
    heights, columns = window
    frames, rows, _ = y_RHK.shape
    for r in range(frames):
        for h in range(rows):
            y, winner = y_RHK[r, h], winner_RHK[r, h]
            _copy(z_RHK[r, stride * h], y)
            winner[:] = 0
            for n in range(1, heights * columns):
                max_pool_step(z_RHK[r + n // heights * dilation, stride * h + n % heights], n, y, winner)
            _rectify(bias_K, y, winner)


@_compiled
def max_pool_step(z: Array, number: int, y: Array, winner: Array) -> None:
    """Take one more value of a pooling window, and note its number where it is the largest so far."""
    n = winner.dtype.type(number)
    for k in range(len(y)):
        wins = z[k] > y[k] or z[k] != z[k]
        y[k] = z[k] if wins else y[k]
        winner[k] = n if wins else winner[k]


@_compiled
def _rectify(bias: Array, y: Array, winner: Array) -> None:
    zero, rectified = y.dtype.type(0), winner.dtype.type(RECTIFIED)
    for k in range(len(y)):
        with_bias = y[k] + bias[k]
        below = with_bias <= zero
        y[k] = zero if below else with_bias
        winner[k] = rectified if below else winner[k]


@_compiled
def pool_back(
    d_y_RHK: Array,
    winner_RHK: Array,
    window: tuple[int, int],
    stride: int,
    dilation: int,
    margin: int,
    d_z_RLK: Array,
) -> None:
    """The way back through `pool`: adds each gradient of y to that of its winner.

    Args:
        d_y_RHK: [R', H', K].
        winner_RHK: [R', H', K], from `pool`.
        window: as there.
        stride: as there.
        dilation: as there.
        margin: rows before and behind those that were pooled.
        d_z_RLK: [R, margin + H + margin, K], zeros before.
    """
    heights, columns = window
    frames, rows, _ = d_y_RHK.shape
    for r in range(frames):
        for h in range(rows):
            for n in range(heights * columns):
                d_z = d_z_RLK[r + n // heights * dilation, margin + stride * h + n % heights]
                route_gradient(d_y_RHK[r, h], winner_RHK[r, h], n, d_z)


@_compiled
def route_gradient(d_y: Array, winner: Array, number: int, d_z: Array) -> None:
    """Add a pooled value's gradient to the value of the window that was the largest."""
    zero, n = d_y.dtype.type(0), winner.dtype.type(number)
    for k in range(len(d_y)):
        d_z[k] += d_y[k] if winner[k] == n else zero
