"""The compiled loop over samples, without allocations or calls into Python."""

from typing import Any

import numpy as np

from harmonicrnn.generation.cpu.class_choice import choose, nats
from harmonicrnn.generation.cpu.layers import KINDS
from harmonicrnn.generation.cpu.llvm import view
from harmonicrnn.machine_code import jit, kept


def _step_of_any_kind() -> Any:
    """Returns the function that dispatches on an operation's kind, as a chain of comparisons; generated as one function, since numba
    recompiles nested functions each time."""
    cases = [f"    if kind == {number}:\n        return step_{number}(tag, at, me)" for number in range(len(KINDS))]
    names: dict[str, Any] = {f"step_{number}": kind.step for number, kind in enumerate(KINDS)}
    exec("\n".join(["def step(kind, tag, at, me):", *cases]), names)
    return jit(names["step"])


step = _step_of_any_kind()


@kept
def run(
    tag: Any, program: Any, worker: Any, last: Any, uniforms: Any, temperature: Any, top_p: Any, classes: Any, likelihoods: Any,
    forced: Any, all_logits: Any, weights: Any, order: Any,
) -> None:  # fmt: skip
    """Runs one worker through as many samples as `classes` has columns.

    Args:
        tag: any number of the type of the activations.
        program: (operations, 2) int64, the index of each one's kind and the address of its record.
        worker: (1,) of `operation.WORKER`.
        last: (lanes,) int64, the class before the first; updated.
        uniforms: (lanes, n) float64.
        classes: (lanes, n) int64; written, or read if `forced`.
        likelihoods: (lanes, n) float64, the nats; written.
        all_logits: (lanes, n, q) for the logits, or with n = 0 to drop them.
        weights, order: (q,) float64 and int64, scratch for the choice.
    """
    me = worker[0]
    for t in range(classes.shape[1]):
        i = np.int64(0)
        while i < len(program):
            i += 1 + step(program[i, 0], tag, program[i, 1], me)
        for lane in range(me.lanes):
            logits = view(me.logits, lane * me.logits_stride, me.classes, tag)
            if forced:
                likelihoods[lane, t] = nats(logits, classes[lane, t], weights)
            else:
                classes[lane, t], likelihoods[lane, t] = choose(logits, uniforms[lane, t], temperature, top_p, weights, order)
            last[lane] = classes[lane, t]
            if all_logits.shape[1]:
                for c in range(len(logits)):
                    all_logits[lane, t, c] = logits[c]
