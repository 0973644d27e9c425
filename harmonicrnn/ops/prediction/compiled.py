"""Linear prediction on the CPU, sample by sample, compiled by numba."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.machine_code import jit, kept, over_threads
from harmonicrnn.ops.elementary import dot
from harmonicrnn.ops.prediction.predictor import EARLY, Predictor, PredictorState

_EARLY = np.array(EARLY)
PIECE = 1 << 16
"""Samples of a lane that are copied at a time, which bounds memory."""


@jit
def hear(s1: Any, s2: Any, s3: Any, past: Any, q: Any) -> None:
    """Adds a sample to the sums, each (n + 1,); `past` holds it and earlier ones, newest first."""
    x = past[0]
    for k in range(len(s1)):
        first = q * s1[k] + x * past[k]
        second = q * s2[k] + first
        s1[k] = first
        s2[k] = second
        s3[k] = q * s3[k] + second


@jit
def is_due(heard: Any, every: Any) -> Any:
    """As `Predictor.is_due`."""
    if heard <= 0:
        return False
    if heard % every == 0:
        return True
    if heard < every:
        for early in _EARLY:
            if heard == early:
                return True
    return False


@jit
def solve(s2: Any, s3: Any, decay: Any, white: Any, floor: Any, room: Any, found: Any) -> Any:
    """Solves for the filter (n,) by Levinson-Durbin's recursion, in place in `found`. Returns False and keeps `found` if it fails.

    `room` is (5 n,) scratch. Filters are kept in both directions, so that every loop runs over ascending indices.
    """
    n = len(found)
    falling, ahead, behind, ahead_next, behind_next = room[:n], room[n : 2 * n], room[2 * n : 3 * n], room[3 * n : 4 * n], room[4 * n :]
    power = decay
    for k in range(1, n + 1):
        falling[n - k] = power * ((2.0 * s3[k] - s2[k]) + k * s2[k])  # r_k, last lag first
        power *= decay
    error = (2.0 * s3[0] - s2[0]) * (1.0 + white) + floor
    # ahead[j - 1] and behind[n - j] are weight j of the filter of the current order.
    for order in range(n):
        reflection = falling[n - order - 1]
        if order:
            reflection -= dot(ahead[:order], falling[n - order : n])
        if not error > 0.0:
            return False
        reflection /= error
        if not abs(reflection) < 1.0:
            return False
        mirror, source = behind[n - order : n], ahead[:order]
        target, target_mirror = ahead_next[:order], behind_next[n - order : n]
        for j in range(order):
            target[j] = source[j] - reflection * mirror[j]
        for j in range(order):
            target_mirror[j] = mirror[j] - reflection * source[j]
        ahead_next[order] = reflection
        behind_next[n - order - 1] = reflection
        ahead, ahead_next = ahead_next, ahead
        behind, behind_next = behind_next, behind
        error *= 1.0 - reflection * reflection
    for j in range(n):
        found[j] = ahead[j]
    return True


@jit
def prediction(weights: Any, past: Any) -> Any:
    """Returns the prediction of the next sample, clamped to [-1, 1]; `past` holds n samples, newest first."""
    return min(max(dot(weights, past), -1.0), 1.0)


@kept
def _run(
    x: Any,
    history: Any,
    heard: Any,
    sums: Any,
    filters: Any,
    failed: Any,
    p: Any,
    decay: Any,
    every: Any,
    white: Any,
    floor: Any,
    piece: Any,
) -> None:
    time, n = x.shape[1], filters.shape[1]
    past, room = np.empty(min(time, piece) + n), np.empty(5 * n)
    for lane in range(x.shape[0]):
        past[:n] = history[lane, :n]
        s1, s2, s3, weights, count = sums[lane, 0], sums[lane, 1], sums[lane, 2], filters[lane], heard[lane]
        p[lane, 0] = prediction(weights, past[:n])
        start = 0
        while start < time:
            steps = min(piece, time - start)
            for k in range(n - 1, -1, -1):
                past[steps + k] = past[k]
            for t in range(steps):
                past[steps - 1 - t] = x[lane, start + t]
            start += steps
            for newest in range(steps - 1, -1, -1):
                if count >= 0:
                    hear(s1, s2, s3, past[newest : newest + n + 1], decay * decay)
                count += 1
                if is_due(count, every) and not solve(s2, s3, decay, white, floor, room, weights):
                    failed[lane] += 1
                p[lane, start - newest] = prediction(weights, past[newest : newest + n])


def predict(predictor: Predictor, x: Tensor, history: Tensor, heard: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
    """As `predictor.predict` for a whole sequence; lanes run on torch's threads."""
    lanes, time = x.shape
    state = PredictorState(*(t.clone(memory_format=torch.contiguous_format) for t in state))
    p = x.new_empty(lanes, time + 1)
    arrays: list[Any] = [t.contiguous().numpy() for t in (x, history, heard)] + [t.numpy() for t in (*state, p)]
    settings = predictor.decay, predictor.every, predictor.white, predictor.floor, PIECE
    threads = torch.get_num_threads() if time >= 1000 else 1
    over_threads(lambda part, _: _run(*(array[part] for array in arrays), *settings), lanes, threads)
    return p, state
