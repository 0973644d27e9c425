"""The loop over samples, in compiled code: nothing is allocated in it, and Python is not seen again before its end."""

from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numba.core.caching import FunctionCache

from harmonicrnn.files import side_product
from harmonicrnn.generation.cpu import layers
from harmonicrnn.generation.cpu.class_choice import choose, nats
from harmonicrnn.generation.cpu.layers import began, block, enter, leave, meet, merge, normalise, product
from harmonicrnn.generation.cpu.llvm import jit, view


@jit
def _embed(tag: Any, me: Any, last: Any) -> None:
    width = me[layers.FIRST_WIDTH]
    for lane in range(me[layers.LANES_HERE]):
        x, row = (
            view(me[layers.FIRST_X], lane * me[layers.FIRST_STRIDE], width, tag),
            view(me[layers.EMBEDDING], last[lane] * width, width, tag),
        )
        for j in range(width):
            x[j] = row[j]


@jit
def _levels(tag: Any, operations: Any, products: Any, me: Any, phases: Any) -> None:
    i = np.int64(0)
    while i < len(operations):
        what, level = operations[i, layers.KIND], operations[i, layers.LEVEL]
        if what == layers.BLOCK:
            block(tag, operations, i, products, me)
        elif what == layers.ENTER:
            if not enter(tag, operations, i, products, me, phases[level]):
                i = operations[i, layers.AFTER]
                continue
        elif what == layers.LEAVE:
            leave(tag, operations, i, products, me)
        else:
            following = (phases[level] + 1) % operations[i, layers.FACTOR]
            if not operations[i, layers.FRAME]:
                merge(tag, operations, i, me, following)
            phases[level] = following
        i += 1
    began(tag, me[layers.FIRST_FRESH], me)


@jit
def _head(tag: Any, products: Any, me: Any) -> None:
    """Logits of all lanes, after the whole team has computed its rows of them."""
    lanes, q, zero = me[layers.LANES_HERE], me[layers.CLASSES], np.int64(0)
    normalise(tag, me[layers.FIRST_X], me[layers.FIRST_STRIDE], me[layers.FIRST_WIDTH], me)
    product(tag, products, me[layers.HEAD], me[layers.U], zero, me[layers.ROOM], me[layers.V], zero, me[layers.ROOM], me)
    for lane in range(lanes):
        own, shared = (
            view(me[layers.V], lane * me[layers.ROOM], me[layers.LOGIT_COUNT], tag),
            view(me[layers.LOGITS], lane * q + me[layers.LOGIT], me[layers.LOGIT_COUNT], tag),
        )
        for j in range(len(own)):
            shared[j] = own[j]
    meet(me)


def _sources() -> str:
    """A digest of the code that is compiled."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class _Kept(FunctionCache):
    """Machine code on disk, which may not be what was written, or not be writable."""

    def load_overload(self, *args: Any) -> Any:
        with suppress(Exception):  # whatever a damaged file makes the reader raise
            return super().load_overload(*args)
        return None

    def save_overload(self, *args: Any) -> None:
        with side_product(f"{self.cache_path}: compiled code"):
            super().save_overload(*args)


def _kept(function: Any) -> Any:
    """The function compiled, once for all processes where there is a folder for it."""
    compiled = jit(function)
    with side_product("keeping compiled code, for which each start compiles anew (NUMBA_CACHE_DIR can name a folder for it)"):
        compiled._cache = _Kept(function)
    return compiled


def _entry(sources: str) -> Any:
    """The loop, compiled once and kept: numba looks at this file alone for changes, so all of the code is named in the function itself."""

    @_kept
    def run(
        tag: Any, operations: Any, products: Any, me: Any, phases: Any, last: Any, uniforms: Any, temperature: Any, top_p: Any,
        classes: Any, likelihoods: Any, forced: Any, kept: Any, weights: Any, order: Any,
    ) -> None:  # fmt: skip
        """Step through as many samples as `classes` has columns, as one worker.

        Args:
            tag: any number of the type of the activations.
            operations, products, me: the worker's tables, see `layers`.
            phases: (levels,) int64, steps into the open pooling window of each; moved on.
            last: (lanes,) int64, the class before the first; moved on.
            uniforms: (lanes, n) float64.
            classes: (lanes, n) int64; written, or read where `forced`.
            likelihoods: (lanes, n) float64, the nats; written.
            kept: (lanes, n, q) for the logits, or with n = 0 where they are not kept.
            weights, order: (q,) float64 and int64, room for the choice.
        """
        lanes, q, _ = me[layers.LANES_HERE], me[layers.CLASSES], sources
        for t in range(classes.shape[1]):
            _embed(tag, me, last)
            _levels(tag, operations, products, me, phases)
            _head(tag, products, me)
            for lane in range(lanes):
                logits = view(me[layers.LOGITS], lane * q, q, tag)
                if forced:
                    likelihoods[lane, t] = nats(logits, classes[lane, t], weights)
                else:
                    classes[lane, t], likelihoods[lane, t] = choose(logits, uniforms[lane, t], temperature, top_p, weights, order)
                last[lane] = classes[lane, t]
                if kept.shape[1]:
                    for c in range(q):
                        kept[lane, t, c] = logits[c]

    return run


run = _entry(_sources())
