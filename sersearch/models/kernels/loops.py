"""Loops over numbers, compiled by numba for this machine's processor at their first call.

The compiled code is cached on disk, in the user's private folder on this machine. The folder's name contains the
processor's name, because machines with different processors may share a disk.

Shapes: T frames; B utterances; H cells of one direction; G = 4 * H gates in the order input, forget, cell, output; S
steps, KEEP_EVERY and one more; N states that are kept. An axis of length 2 is the LSTM's direction, forward in time and
then backward. Pooling: R columns of the convolution's output, of all utterances together; H rows; K maps; L rows with
margins of zeros above and below.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - computes np.dot in loops; loaded first, so that one_thread limits it
import torch
from llvmlite.binding import get_host_cpu_name
from numba.core.caching import FunctionCache
from numba.extending import overload
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sersearch.durable import private_folder

Array = NDArray[Any]
Loop = TypeVar("Loop", bound=Callable[..., Any])
# A product and the sum that it enters may be rounded together, and the sign of a zero may be lost. All other operations
# follow IEEE 754.
FLOATS = {"contract", "nsz"}
# Steps of an LSTM from one kept cell state to the next. The states between them are recomputed for the gradients.
KEEP_EVERY = 16
# The winner's number where ReLU made the output zero: no element of a pooling window has this number.
RECTIFIED = 255


class _CompiledCode(FunctionCache):
    """Numba's cache on disk, except that damaged files and a full disk lead to compiling again and not to an error."""

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


def _inlined(loop: Loop) -> Loop:
    """Compile a loop as a part of each loop that calls it, because a call costs as much as 100 numbers."""
    return cast(Loop, numba.njit(inline="always")(loop))


def _compiled(loop: Loop) -> Loop:
    """Compile a loop at its first call, with the cache in the user's private folder unless NUMBA_CACHE_DIR is set."""
    compiled = numba.njit(nogil=True, fastmath=FLOATS, error_model="numpy")(loop)
    configured, folder = numba.config.CACHE_DIR, private_folder()
    try:
        if configured or folder:
            # A cache reads the setting when it is created, and only then.
            numba.config.CACHE_DIR = configured or str(folder / get_host_cpu_name())
            compiled._cache = _CompiledCode(loop)
    except (OSError, RuntimeError):
        pass  # The folder can't be written: the loop is compiled in each process.
    finally:
        numba.config.CACHE_DIR = configured
    return cast(Loop, compiled)


def one_thread() -> None:
    """Limit torch and the loops' matrix products to one thread, for the rest of this process.

    With one thread the results have the same bits on every run, and trials that run side by side do not slow each other
    down.
    """
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")


def tanh(x: Any) -> Any:
    """Hyperbolic tangent inside compiled loops: the C library's in float64, one that vectorises in float32."""
    return math.tanh(x)


@overload(tanh, jit_options={"fastmath": FLOATS})
def _tanh(x):  # type: ignore[no-untyped-def]
    if x != numba.float32:
        return lambda x: math.tanh(x)
    # A quotient of two polynomials with the coefficients of the Eigen library. Beyond `end`, tanh is 1 in float32.
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


# Each of these is one loop over a row. The compiler vectorises it; of a loop that computed all of them it would not.


@_inlined
def activate_gates(x: Array, recurrent: Array, bias: Array, scale: Array) -> None:
    """Eq. 6-9: turn the gates' inputs x into the gates' values, in place.

    A sigmoid is (1 + tanh(x / 2)) / 2, so all gates are scale * tanh(scale * x) + 1 - scale, with a scale of 0.5 for
    the sigmoid gates and of 1 for the cell input, which is tanh(x).
    """
    one = x.dtype.type(1)
    for k in range(len(x)):
        x[k] = scale[k] * tanh(scale[k] * (x[k] + recurrent[k] + bias[k])) + (one - scale[k])


@_inlined
def update_cell(i: Array, f: Array, g: Array, before: Array, cell: Array) -> None:
    """Eq. 10: the cell's state after a step from the state before it."""
    for h in range(len(cell)):
        cell[h] = f[h] * before[h] + i[h] * g[h]


@_inlined
def emit_hidden(o: Array, cell: Array, hidden: Array, y: Array) -> None:
    """Eq. 11: the hidden state, written to the recurrent state and to the output."""
    for h in range(len(y)):
        hidden[h] = o[h] * tanh(cell[h])
        y[h] = hidden[h]


@_inlined
def emit_hidden_backward(d_y: Array, d_hidden: Array, o: Array, tanh_cell: Array, d_o: Array, d_cell: Array) -> None:
    """Gradients through eq. 11: set those of the output gate's input, add those of the cell's state."""
    one = o.dtype.type(1)
    for h in range(len(o)):
        d = d_y[h] + d_hidden[h]
        d_o[h] = d * tanh_cell[h] * (o[h] - o[h] * o[h])
        d_cell[h] += d * o[h] * (one - tanh_cell[h] * tanh_cell[h])


@_inlined
def sigmoid_backward(d_cell: Array, factor: Array, gate: Array, d_gate: Array) -> None:
    """Gradients of a sigmoid gate's input, where the gate multiplies `factor` in the cell's state."""
    for h in range(len(gate)):
        d_gate[h] = d_cell[h] * factor[h] * (gate[h] - gate[h] * gate[h])


@_inlined
def tanh_backward(d_cell: Array, factor: Array, gate: Array, d_gate: Array) -> None:
    """Gradients of the cell input before its tanh, where it multiplies `factor` in the cell's state."""
    one = gate.dtype.type(1)
    for h in range(len(gate)):
        d_gate[h] = d_cell[h] * factor[h] * (one - gate[h] * gate[h])


@_inlined
def multiply_in_place(d_cell: Array, f: Array) -> None:
    """Multiply the cell's gradients by the forget gate, which gives those of the state before the step."""
    for h in range(len(f)):
        d_cell[h] *= f[h]


@_inlined
def tanh_row(x: Array, y: Array) -> None:
    """Set y to tanh(x)."""
    for h in range(len(x)):
        y[h] = tanh(x[h])


@_inlined
def multiply(x: Array, y: Array, z: Array) -> None:
    """Set z to the products x * y."""
    for h in range(len(x)):
        z[h] = x[h] * y[h]


@_inlined
def add_in_place(x: Array, y: Array) -> None:
    """Add x to y."""
    for k in range(len(x)):
        y[k] += x[k]


@_inlined
def copy(x: Array, y: Array) -> None:
    """Set y to x."""
    for k in range(len(x)):
        y[k] = x[k]


@_compiled
def lstm_forward(
    gate_TB2G: Array, weight_2HG: Array, bias_2G: Array, lengths_B: Array, kept_N2BH: Array, y_TB2H: Array
) -> None:
    """Run both directions of an LSTM (eq. 6-11); the backward one starts at each sequence's last frame.

    All arrays are contiguous.

    Args:
        gate_TB2G: [T, B, 2, G], kernel times input; overwritten by the gates' values.
        weight_2HG: [2, H, G], the recurrent weights.
        bias_2G: [2, G].
        lengths_B: frames of each sequence; gates behind the last frame are neither read nor written.
        kept_N2BH: [N, 2, B, H], N = ceil(T / KEEP_EVERY); overwritten by the cells' states before every KEEP_EVERY-th
            step.
        y_TB2H: [T, B, 2, H], overwritten by the hidden states, zero behind a sequence's last frame.
    """
    steps, batch, _, cells = y_TB2H.shape
    recurrent_BG = np.empty((batch, 4 * cells), y_TB2H.dtype)
    scale_G = np.full(4 * cells, y_TB2H.dtype.type(0.5))
    scale_G[2 * cells : 3 * cells] = 1  # The cell input's tanh; the other gates are sigmoids.
    for direction in range(2):
        hidden_BH = np.zeros((batch, cells), y_TB2H.dtype)
        cell_BH = np.zeros((batch, cells), y_TB2H.dtype)
        for step in range(steps):
            t = step if direction == 0 else steps - 1 - step
            if step % KEEP_EVERY == 0:
                kept_N2BH[step // KEEP_EVERY, direction] = cell_BH
            np.dot(hidden_BH, weight_2HG[direction], recurrent_BG)
            for b in range(batch):
                if t >= lengths_B[b]:
                    y_TB2H[t, b, direction] = 0
                    continue
                gate, cell = gate_TB2G[t, b, direction], cell_BH[b]
                activate_gates(gate, recurrent_BG[b], bias_2G[direction], scale_G)
                update_cell(gate[:cells], gate[cells : 2 * cells], gate[2 * cells : 3 * cells], cell, cell)
                emit_hidden(gate[3 * cells :], cell, hidden_BH[b], y_TB2H[t, b, direction])


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
    """Compute the gradients of `lstm_forward`. States that were not kept are recomputed, KEEP_EVERY steps at a time.

    Args:
        d_y_TB2H: [T, B, 2, H], gradients of the hidden states; or [1, B, 2, H] if they are the same at each step. Those
            behind a sequence's last frame are not read.
        gate_TB2G: [T, B, 2, G], the gates' values from `lstm_forward`; overwritten by the gradients of the gates'
            inputs.
        recurrent_2GH: [2, G, H], the recurrent weights.
        lengths_B: frames of each sequence.
        kept_N2BH: [N, 2, B, H], the cells' states from `lstm_forward`.
        d_recurrent_2HG: [2, H, G], zeros; overwritten by the gradients of the recurrent weights.
        d_bias_2G: [2, G], zeros; overwritten by the gradients of the biases.
    """
    steps, batch, _, gates = gate_TB2G.shape
    cells, dtype = gates // 4, gate_TB2G.dtype
    cell_SBH = np.empty((KEEP_EVERY + 1, batch, cells), dtype)
    tanh_cell_SBH, hidden_SBH = np.empty_like(cell_SBH), np.empty_like(cell_SBH)
    d_gate_SBG = np.empty((KEEP_EVERY, batch, gates), dtype)
    d_weight_HG = np.empty((cells, gates), dtype)
    for direction in range(2):
        d_hidden_BH = np.zeros((batch, cells), dtype)
        d_cell_BH = np.zeros((batch, cells), dtype)
        for n in range(len(kept_N2BH) - 1, -1, -1):
            first, count = n * KEEP_EVERY, min(KEEP_EVERY, steps - n * KEEP_EVERY)
            cell_SBH[0] = kept_N2BH[n, direction]
            recompute_states(gate_TB2G, lengths_B, direction, first, count, cell_SBH, tanh_cell_SBH, hidden_SBH)
            for s in range(count - 1, -1, -1):
                t = first + s if direction == 0 else steps - 1 - first - s
                for b in range(batch):
                    gate, d_gate, d_cell = gate_TB2G[t, b, direction], d_gate_SBG[s, b], d_cell_BH[b]
                    if t < lengths_B[b]:
                        i, f = gate[:cells], gate[cells : 2 * cells]
                        g, o = gate[2 * cells : 3 * cells], gate[3 * cells :]
                        d_y = d_y_TB2H[t if len(d_y_TB2H) > 1 else 0, b, direction]
                        emit_hidden_backward(
                            d_y, d_hidden_BH[b], o, tanh_cell_SBH[s + 1, b], d_gate[3 * cells :], d_cell
                        )
                        sigmoid_backward(d_cell, g, i, d_gate[:cells])
                        sigmoid_backward(d_cell, cell_SBH[s, b], f, d_gate[cells : 2 * cells])
                        tanh_backward(d_cell, i, g, d_gate[2 * cells : 3 * cells])
                        multiply_in_place(d_cell, f)
                        add_in_place(d_gate, d_bias_2G[direction])
                    else:
                        d_gate[:] = 0
                    copy(d_gate, gate)
                np.dot(d_gate_SBG[s], recurrent_2GH[direction], d_hidden_BH)
            hidden_NH = hidden_SBH[:count].reshape(count * batch, cells)
            np.dot(hidden_NH.T, d_gate_SBG[:count].reshape(count * batch, gates), d_weight_HG)
            add_in_place(d_weight_HG.ravel(), d_recurrent_2HG[direction].ravel())


@_compiled
def recompute_states(
    gate_TB2G: Array,
    lengths_B: Array,
    direction: int,
    first: int,
    count: int,
    cell_SBH: Array,
    tanh_cell_SBH: Array,
    hidden_SBH: Array,
) -> None:
    """Recompute the states before each of some steps and the cells' state after the last of them.

    Args:
        gate_TB2G: [T, B, 2, G], the gates' values from `lstm_forward`.
        lengths_B: frames of each sequence.
        direction: 0 for forward in time, 1 for backward.
        first: the first of the steps, counted in the direction.
        count: how many steps, at most KEEP_EVERY.
        cell_SBH: [S, B, H]; row 0 holds the cells' states before the first step, rows 1 to `count` are overwritten.
        tanh_cell_SBH: [S, B, H], overwritten by tanh of the cells' states.
        hidden_SBH: [S, B, H], overwritten by the hidden states before each step; row `count` is not written.
    """
    steps, batch, _, gates = gate_TB2G.shape
    cells = gates // 4
    for s in range(count + 1):
        t = first + s if direction == 0 else steps - 1 - first - s
        before = t - 1 if direction == 0 else t + 1
        for b in range(batch):
            cell, tanh_cell = cell_SBH[s, b], tanh_cell_SBH[s, b]
            tanh_row(cell, tanh_cell)
            if s == count:
                continue
            if 0 <= before < lengths_B[b]:
                multiply(gate_TB2G[before, b, direction, 3 * cells :], tanh_cell, hidden_SBH[s, b])
            else:
                hidden_SBH[s, b] = 0
            if t < lengths_B[b]:
                gate = gate_TB2G[t, b, direction]
                i, f, g = gate[:cells], gate[cells : 2 * cells], gate[2 * cells : 3 * cells]
                update_cell(i, f, g, cell, cell_SBH[s + 1, b])
            else:
                copy(cell, cell_SBH[s + 1, b])


@_inlined
def max_pool_step(z: Array, number: int, y: Array, winner: Array) -> None:
    """Let the window's element of a number win where it is larger than the largest so far, or not a number."""
    n = winner.dtype.type(number)
    for k in range(len(y)):
        wins = z[k] > y[k] or z[k] != z[k]
        y[k] = z[k] if wins else y[k]
        winner[k] = n if wins else winner[k]


@_inlined
def add_bias_and_rectify(bias: Array, y: Array, winner: Array) -> None:
    """Add the bias and apply ReLU in place; mark the winners that ReLU makes zero."""
    zero, rectified = y.dtype.type(0), winner.dtype.type(RECTIFIED)
    for k in range(len(y)):
        with_bias = y[k] + bias[k]
        below = with_bias <= zero
        y[k] = zero if below else with_bias
        winner[k] = rectified if below else winner[k]


@_compiled
def max_pool_forward(
    z_RHK: Array, bias_K: Array, window: tuple[int, int], stride: int, dilation: int, y_RHK: Array, winner_RHK: Array
) -> None:
    """Take the largest value of each window, add the bias, apply ReLU (eq. 2 and 3).

    ReLU and the bias come after the maximum, which gives the same numbers as before it and costs less.

    Args:
        z_RHK: [R, H, K], products of the convolution.
        bias_K: [K].
        window: the rows and the columns of a window.
        stride: rows from one window to the next; the next window in time is one column further.
        dilation: distance in R between two neighbouring columns of a window.
        y_RHK: [R', H', K], overwritten by the pooled values.
        winner_RHK: [R', H', K] bytes, overwritten by the number of the window's largest element, on a tie the first;
            elements are counted by rows within columns. RECTIFIED where y is 0.
    """
    heights, columns = window
    frames, rows, _ = y_RHK.shape
    for r in range(frames):
        for h in range(rows):
            copy(z_RHK[r, stride * h], y_RHK[r, h])
        winner_RHK[r] = 0
        # One element of all windows before the next, because successive steps on one window would wait for each other.
        for n in range(1, heights * columns):
            for h in range(rows):
                z = z_RHK[r + n // heights * dilation, stride * h + n % heights]
                max_pool_step(z, n, y_RHK[r, h], winner_RHK[r, h])
        for h in range(rows):
            add_bias_and_rectify(bias_K, y_RHK[r, h], winner_RHK[r, h])


@_inlined
def route_gradient(d_y: Array, winner: Array, number: int, d_z: Array) -> None:
    """Add the gradient of each pooled value to the window's element of a number, where that element won."""
    zero, n = d_y.dtype.type(0), winner.dtype.type(number)
    for k in range(len(d_y)):
        d_z[k] += d_y[k] if winner[k] == n else zero


@_compiled
def max_pool_backward(
    d_y_RHK: Array,
    winner_RHK: Array,
    window: tuple[int, int],
    stride: int,
    dilation: int,
    margin: int,
    d_z_RLK: Array,
) -> None:
    """Compute the gradients of `max_pool_forward`: add the gradient of each pooled value to that of its winner.

    Args:
        d_y_RHK: [R', H', K], gradients of the pooled values.
        winner_RHK: [R', H', K], the winners from `max_pool_forward`.
        window: the rows and the columns of a window.
        stride: rows from one window to the next.
        dilation: distance in R between two neighbouring columns of a window.
        margin: rows of zeros above and below those that were pooled.
        d_z_RLK: [R, margin + H + margin, K], zeros; overwritten by the gradients of the products.
    """
    heights, columns = window
    frames, rows, _ = d_y_RHK.shape
    for r in range(frames):
        for n in range(heights * columns):
            for h in range(rows):
                d_z = d_z_RLK[r + n // heights * dilation, margin + stride * h + n % heights]
                route_gradient(d_y_RHK[r, h], winner_RHK[r, h], n, d_z)
