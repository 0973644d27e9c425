"""The mixture's distribution on the CPU, compiled by numba, with one vectorised exponential per component and limit."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.machine_code import jit, kept, over_threads
from harmonicrnn.ops.elementary import dot, exp_expm1, like

LEAST_SCALE = 1e-5  # as in mixture.py


# numpy's searchsorted takes a second to compile.
@jit
def place_among(limits: Any, p: Any) -> Any:
    """Returns the index of the first limit >= p, or their number."""
    first, end = 0, len(limits)
    while first < end:
        middle = (first + end) // 2
        if limits[middle] < p:
            first = middle + 1
        else:
            end = middle
    return first


# Separate loops, since LLVM vectorises each but not their fusion.
@jit
def tails(limits: Any, p: Any, scale: Any, away: Any, tail: Any) -> Any:
    """Computes |z| and sigmoid(-|z|), z = (e - p) / scale, at each limit e (n + 1,); returns the index of the first limit >= p."""
    over, one = 1.0 / scale, like(1, tail[0])
    for e in range(len(away)):
        away[e] = abs(like((limits[e] - p) * over, one))
    for e in range(len(tail)):
        tail[e] = exp_expm1(-away[e])[0]
    for e in range(len(tail)):
        tail[e] = tail[e] / (one + tail[e])
    return place_among(limits, p)


# sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^(a - b)), without cancellation in narrow cells.
@jit
def add_cells(limits: Any, scale: Any, tail: Any, middle: Any, weight: Any, inside: Any, found: Any) -> None:
    """Adds the probabilities of the cells (n,) between limits (n + 1,), times a weight; `tail` and `middle` are from `tails` for this
    scale, `inside` (n,) is scratch."""
    n, one, over = len(found), like(1, weight), 1.0 / scale
    for j in range(len(inside)):
        inside[j] = like((limits[j] - limits[j + 1]) * over, one)
    for j in range(len(inside)):
        inside[j] = -weight * exp_expm1(inside[j])[1]
    rising = min(max(middle - 1, 0), n)
    _add_rising(tail[1 : rising + 1], tail[:rising], inside[:rising], found[:rising])
    if 0 < middle <= n:
        found[middle - 1] += inside[middle - 1] * (one - tail[middle - 1]) * (one - tail[middle])
    _add_rising(tail[middle:n], tail[middle + 1 :], inside[middle:], found[middle:])


@jit
def _add_rising(near: Any, far: Any, inside: Any, found: Any) -> None:
    """Adds cells on one side of p, between limits with tails `near` and, further from p, `far`."""
    for j in range(len(found)):
        found[j] += inside[j] * near[j] * (like(1, near[j]) - far[j])


@jit
def component_log_probability(lower: Any, upper: Any, scale: Any, share: Any, classes: Any) -> Any:
    """As `mixture.component_log_probabilities`, for one sample in float64; the limits of its cell are relative to p."""
    over = 1.0 / max(scale, LEAST_SCALE)
    b, minus_a = 1.0 / (1.0 + np.exp(-upper * over)), 1.0 / (1.0 + np.exp(lower * over))
    return np.log((1.0 - share) * (b * minus_a * -np.expm1((lower - upper) * over)) + share / classes)


@jit
def mix(p: Any, s: Any, widths: Any, weights: Any, limits: Any, share: Any, classes: Any, away: Any, tail: Any, found: Any) -> None:
    """Writes P(j) of the classes between limits (n + 1,) to found (n,); p, s (P,), widths and weights (K,), pi, are float64; away and tail
    (n + 1,) are scratch in the dtype of `found`."""
    for j in range(len(found)):
        found[j] = 0
    for k in range(len(widths)):
        i = k * len(p) // len(widths)
        scale = max(widths[k] * s[i], LEAST_SCALE)
        middle = tails(limits, p[i], scale, away, tail)
        add_cells(limits, scale, tail, middle, like(weights[k], tail[0]), away[: len(found)], found)
    most, each = like(1.0 - share, tail[0]), like(share / classes, tail[0])
    for j in range(len(found)):
        found[j] = most * found[j] + each


@kept
def _forward(p: Any, s: Any, widths: Any, weights: Any, limits: Any, share: Any, found: Any) -> None:
    room, classes = np.empty((2, len(limits)), found.dtype), found.shape[1]
    for row in range(len(p)):
        mix(p[row], s[row], widths, weights[row], limits, share, classes, room[0], room[1], found[row])


@kept
def _backward(
    p: Any,
    s: Any,
    widths: Any,
    weights: Any,
    limits: Any,
    share: Any,
    found: Any,
    grad: Any,
    grad_p: Any,
    grad_s: Any,
    grad_width: Any,
    grad_weights: Any,
) -> None:
    q = found.shape[1]
    room = np.empty((4, q + 1), found.dtype)
    away, tail, ratio, fall = room[0], room[1], room[2, :q], room[3]
    one = like(1, found[0, 0])
    for row in range(len(p)):
        for j in range(q):
            ratio[j] = exp_expm1(-found[row, j])[0]
        total = dot(ratio, grad[row])
        for j in range(q):
            ratio[j] *= grad[row, j]
        fall[0], fall[q] = -ratio[0], ratio[q - 1]
        for e in range(1, q):
            fall[e] = ratio[e - 1] - ratio[e]
        for k in range(len(widths)):
            i = k * p.shape[1] // len(widths)
            scale = widths[k] * s[row, i]
            m = tails(limits, p[row, i], max(scale, LEAST_SCALE), away, tail)
            # The sums of ratio times the cells, and of ratio times their derivatives, by summation by parts.
            held = ratio[m - 1] + dot(tail[:m], fall[:m]) - dot(tail[m:], fall[m:])
            grad_weights[row, k] = weights[row, k] * ((1.0 - share) * held + share / q * total)
            # d sigmoid(z) / dz, with z = (e - p) / (m s); the derivative with respect to log m has the factor -z.
            for e in range(q + 1):
                tail[e] = tail[e] * (one - tail[e])
            weight = (1.0 - share) * weights[row, k]
            grad_p[row, i] -= weight * dot(tail, fall) / max(scale, LEAST_SCALE)
            if scale >= LEAST_SCALE:
                for e in range(q + 1):
                    away[e] *= tail[e]
                wider = weight * (dot(away[:m], fall[:m]) - dot(away[m:], fall[m:]))
                grad_width[k] += wider
                grad_s[row, i] += wider / s[row, i]


def _threads(rows: int) -> int:
    return min(torch.get_num_threads(), max(1, rows // 256))


def _rows(p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    per_row = [t.detach().flatten(0, -2).contiguous().numpy() for t in (p, s, log_weights.exp())]
    return per_row, log_width.detach().double().exp().flatten().numpy(), limits.contiguous().numpy()


def forward(p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float) -> Tensor:
    """Returns log P(j), (B, T, q); arguments as for `mixture.mixture_log_probabilities`. Rows run on torch's threads."""
    (p_rows, s_rows, weights), widths, cells = _rows(p, s, log_width, log_weights, limits)
    found = log_width.new_empty(*p.shape[:-1], len(limits) - 1)
    rows = found.view(-1, found.shape[-1]).numpy()

    def work(part: slice, _: int) -> None:
        _forward(p_rows[part], s_rows[part], widths, weights[part], cells, share, rows[part])

    over_threads(work, len(rows), _threads(len(rows)))
    return found.log_()


def backward(
    p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float, found: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of p, s (B, T, P), log_width (P, W) and log_weights (B, T, K) from that of `found` (B, T, q)."""
    (p_rows, s_rows, weights), widths, cells = _rows(p, s, log_width, log_weights, limits)
    found_rows, grads = (t.flatten(0, -2).contiguous().numpy() for t in (found, grad))
    made = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (p, s, log_weights)]
    into = [t.view(-1, t.shape[-1]).numpy() for t in made]
    sums = np.zeros((torch.get_num_threads(), log_width.numel()))

    def work(part: slice, thread: int) -> None:
        to_p, to_s, to_weights = (array[part] for array in into)
        given = p_rows[part], s_rows[part], widths, weights[part], cells, share, found_rows[part], grads[part]
        _backward(*given, to_p, to_s, sums[thread], to_weights)

    over_threads(work, len(found_rows), _threads(len(found_rows)))
    grad_p, grad_s, grad_weights = made
    return grad_p, grad_s, torch.from_numpy(sums.sum(axis=0)).view_as(log_width).to(log_width.dtype), grad_weights
