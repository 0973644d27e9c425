"""The compiled loop over samples, without allocations or calls into Python."""

from typing import Any

import numpy as np

from harmonicrnn.generation.cpu.addresses import WORKER
from harmonicrnn.generation.cpu.class_choice import choose, nats
from harmonicrnn.generation.cpu.llvm import call_step, record, view
from harmonicrnn.machine_code import kept


@kept
def run(
    tag: Any, program: Any, worker: Any, last: Any, uniforms: Any, temperature: Any, top_p: Any, classes: Any, likelihoods: Any,
    forced: Any, all_logits: Any, weights: Any, order: Any,
) -> None:  # fmt: skip
    """Runs one worker through as many samples as `classes` has columns.

    Args:
        tag: any number of the type of the activations.
        program: (operations, 2) int64, the addresses of each one's code and of its record.
        worker: the address of a WORKER.
        last: (lanes,) int64, the class before the first; updated.
        uniforms: (lanes, n) float64.
        classes: (lanes, n) int64; written, or read if `forced`.
        likelihoods: (lanes, n) float64, the nats; written.
        all_logits: (lanes, n, q) for the logits, or with n = 0 to drop them.
        weights, order: (q,) float64 and int64, scratch for the choice.
    """
    me = record(worker, WORKER)
    for t in range(classes.shape[1]):
        i = np.int64(0)
        while i < len(program):
            i += 1 + call_step(program[i, 0], tag, program[i, 1], worker)  # type: ignore[call-arg]
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
