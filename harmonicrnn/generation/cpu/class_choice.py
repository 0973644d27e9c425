"""Draws a class from logits in compiled code, as `harmonicrnn.generation.engine.choose` does."""

from typing import Any

import numpy as np

from harmonicrnn.generation.cpu.llvm import PANEL, greater
from harmonicrnn.machine_code import jit, jit_sum
from harmonicrnn.ops.elementary import exp_expm1


@jit
def choose(logits: Any, given: Any, uniform: Any, temperature: Any, top_p: Any, weights: Any, order: Any) -> Any:
    """Returns the class drawn, or `given` if that is not negative, and its -ln p at temperature 1 and top_p 1, NaN if the logits are not
    finite; `weights` (q,) float64 and `order` (q,) int64 are scratch."""
    top = _greatest(logits)
    total = _exponentials(logits, top, 1.0, weights)
    # NaN if a logit is not finite: exponentials and comparisons may hide it.
    logarithm = np.log(total) + 0.0 * _sum(logits)
    if given >= 0:
        drawn = given
    elif temperature == 0:
        drawn = _first(logits, top)
    else:
        if temperature != 1:
            total = _exponentials(logits, top, 1 / temperature, weights)
        if top_p < 1:
            total = _keep_most_likely(weights, order, top_p * total)
        drawn = _invert(weights, uniform * total)
    return drawn, logarithm - (np.float64(logits[drawn]) - np.float64(top))


@jit
def _greatest(logits: Any) -> Any:
    top = logits[0]
    for i in range(1, len(logits)):
        top = greater(top, logits[i])
    return top


@jit
def _first(logits: Any, value: Any) -> Any:
    last = len(logits) - 1
    for i in range(last):
        if logits[i] == value:
            return i
    return last


@jit
def _exponentials(logits: Any, top: Any, factor: Any, weights: Any) -> Any:
    for i in range(len(weights)):
        weights[i] = exp_expm1((np.float64(logits[i]) - np.float64(top)) * factor)[0]
    return _sum(weights)


@jit_sum
def _sum(numbers: Any) -> Any:
    total = 0.0
    for i in range(len(numbers)):
        total += numbers[i]
    return total


@jit
def _invert(weights: Any, level: Any) -> Any:
    """Returns the first class with a cumulative weight above `level`; skips whole panels below it."""
    running = 0.0
    for start in range(0, len(weights), PANEL):
        stop = min(start + PANEL, len(weights))
        after = running + _sum(weights[start:stop])
        if after > level:
            for i in range(start, stop):
                running += weights[i]
                if running > level:
                    return i
        running = after
    return _last_possible(weights)


@jit
def _last_possible(weights: Any) -> Any:
    last = len(weights) - 1
    while last > 0 and weights[last] == 0:
        last -= 1
    return last


@jit
def _keep_most_likely(weights: Any, order: Any, enough: Any) -> Any:
    """Sets all but the fewest greatest weights that sum to `enough` to 0; returns their sum."""
    size = len(weights)
    for i in range(size):
        order[i] = i
    # A heap: only few classes are taken, so the rest stays unsorted.
    for i in range(size // 2 - 1, -1, -1):
        _sink(weights, order, i, size)
    total = 0.0
    while size > 0 and total < enough:
        total += weights[order[0]]
        size -= 1
        order[0], order[size] = order[size], order[0]
        _sink(weights, order, np.int64(0), size)  # a literal 0 would compile it once more
    for i in range(size):
        weights[order[i]] = 0.0
    return total


@jit
def _sink(weights: Any, order: Any, i: Any, size: Any) -> None:
    while True:
        greatest = i
        for child in (2 * i + 1, 2 * i + 2):
            if child < size and _before(weights, order[child], order[greatest]):
                greatest = child
        if greatest == i:
            return
        order[i], order[greatest] = order[greatest], order[i]
        i = greatest


@jit
def _before(weights: Any, a: Any, b: Any) -> Any:
    return weights[a] > weights[b] or (weights[a] == weights[b] and a < b)
