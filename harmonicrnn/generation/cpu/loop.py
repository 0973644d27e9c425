"""The loop over samples, in compiled code: nothing is allocated in it, and Python is not seen again before its end."""

from typing import Any

import numpy as np

from harmonicrnn.generation.cpu.class_choice import choose, nats
from harmonicrnn.generation.cpu.layers import KINDS
from harmonicrnn.generation.cpu.llvm import view
from harmonicrnn.machine_code import jit, kept


def _step_of_any_kind() -> Any:
    """The step of an operation by the number of its kind: one comparison after the other, written out as numba compiles functions within
    functions anew for each."""
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
    """Step through as many samples as `classes` has columns, as one worker.

    Args:
        tag: any number of the type of the activations.
        program: (operations, 2) int64, the number of each one's kind and the address of its record.
        worker: (1,) of `operation.WORKER`.
        last: (lanes,) int64, the class before the first; moved on.
        uniforms: (lanes, n) float64.
        classes: (lanes, n) int64; written, or read where `forced`.
        likelihoods: (lanes, n) float64, the nats; written.
        all_logits: (lanes, n, q) for the logits, or with n = 0 where they are not kept.
        weights, order: (q,) float64 and int64, room for the choice.
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
