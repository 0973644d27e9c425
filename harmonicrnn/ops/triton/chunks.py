"""The recurrence over all chunks of all lanes in parallel: chunk summaries, a scan over these, then each chunk from its initial state.

Deterministic: no program waits for another, and sums have one order. Beside the outputs (B, T, W) memory is a few states per chunk.
Complex numbers are real tensors of twice the width here, W = parts N.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from harmonicrnn.ops.triton.arithmetic import Form
from harmonicrnn.ops.triton.backward_kernels import gated_backward_kernel, scan_backward_kernel
from harmonicrnn.ops.triton.forward_kernels import adjoint_kernel, forward_kernel, summary_kernel

# To tune on a GPU: steps of a program's chunk, lanes of work that fill the device a few times, the length below which one program does all,
# units of a program, and rows that it reads together: for steps computed from gates, for given steps, and backward.
MIN_CHUNK, MAX_CHUNK, LANES_OF_WORK, UNDIVIDED, MAX_BLOCK = 32, 1024, 2**19, 64, 64
FUSED_ROWS, GIVEN_ROWS, BACKWARD_ROWS = 8, 16, 4
CHUNK: int | None = None  # if set, the length of all chunks
ACCUMULATORS = {torch.float32: tl.float32, torch.float64: tl.float64}


def chunk_length(batch: int, time: int, units: int) -> int:
    """Returns the steps of a chunk (a power of two), so that there are a few times as many chunks as run at once."""
    if CHUNK:
        return CHUNK
    if time <= UNDIVIDED:
        return time
    wanted = triton.next_power_of_2(max(1, batch * time * units // LANES_OF_WORK))
    return min(max(wanted, MIN_CHUNK), MAX_CHUNK)


def rows_of(kernel: Any, fused: bool) -> int:
    """Returns the number of rows that a program of a kernel reads together."""
    return BACKWARD_ROWS if kernel in (scan_backward_kernel, gated_backward_kernel) else FUSED_ROWS if fused else GIVEN_ROWS


def joined(chunks: int) -> int:
    """Returns how many chunks are summarised as one: about the square root of their number, or CHUNK if set (at least 2, so that their
    number decreases)."""
    if CHUNK:
        return max(CHUNK, 2)
    return chunks if chunks <= UNDIVIDED else triton.next_power_of_2(math.isqrt(chunks))


@dataclass(frozen=True)
class Steps:
    """The inputs of a recurrence's steps, all contiguous.

    Args:
        a: (B, T, W), or with `rates` the pre-activations of the recurrence gates and then the input gates, (B, T, 2N).
        x: (B, T, W), added to the state, or with `rates` the input of the gated unit.
        parts: 2 for complex units, 1 for real ones.
        interleaved: whether complex units are (N, 2) in a row of a, x, y and their gradients; otherwise real parts come first.
        rates, phases, fresh: (N,), (N,) for complex units, and (B,), of the gated unit.
        chunk: steps of a chunk; None chooses by the size of the work.
    """

    a: Tensor
    x: Tensor
    parts: int
    interleaved: bool = False
    rates: Tensor | None = None
    phases: Tensor | None = None
    fresh: Tensor | None = None
    chunk: int | None = None

    @property
    def units(self) -> int:
        return self.x.shape[2] // self.parts

    @property
    def length(self) -> int:
        return self.chunk or chunk_length(self.x.shape[0], self.x.shape[1], self.units)

    @property
    def chunks(self) -> int:
        return -(-self.x.shape[1] // self.length)

    def launch(self, kernel: Any, *tensors: Tensor | None, **constants: Any) -> None:
        """Runs a kernel for all chunks of all lanes."""
        batch, time = self.x.shape[:2]
        with torch.cuda.device_of(self.x):
            kernel[(batch * self.chunks * -(-self.units // self.form().BLOCK),)](
                # Triton has no null pointers: unused ones are any other tensor.
                *(self.x if t is None else t for t in tensors),
                time,
                self.length,
                self.chunks,
                ROWS=rows_of(kernel, fused=self.rates is not None),
                F=self.form(),
                num_warps=1,
                **constants,
            )

    def form(self) -> Form:
        block = min(triton.next_power_of_2(self.units), MAX_BLOCK)
        dtype = ACCUMULATORS[torch.promote_types(self.x.dtype, torch.float32)]
        return Form(self.units, self.parts == 2, self.rates is not None, self.interleaved, dtype, block)

    def states(self, *shape: int) -> Tensor:
        """Returns an empty tensor in the dtype of states."""
        return self.x.new_empty(shape, dtype=torch.promote_types(self.x.dtype, torch.float32))


def summaries(steps: Steps) -> Tensor:
    """Returns for each chunk the product of its a and its last state from zero, (2, B, K, W)."""
    found = steps.states(2, steps.x.shape[0], steps.chunks, steps.x.shape[2])
    steps.launch(summary_kernel, steps.a, steps.x, steps.rates, steps.phases, steps.fresh, *found)
    return found


def forward(steps: Steps, starts: Tensor, exclusive: bool = False) -> tuple[Tensor, Tensor]:
    """Returns all states y (B, T, W) in x's dtype, and the last one (B, W), from the state before each chunk (B, K, W).

    exclusive: y holds the state before each step instead of the state after it.
    """
    y, last = torch.empty_like(steps.x), steps.states(steps.x.shape[0], steps.x.shape[2])
    inputs = (steps.a, steps.x, steps.rates, steps.phases, steps.fresh)
    steps.launch(forward_kernel, *inputs, starts, y, last, EXCLUSIVE=exclusive)
    return y, last


def adjoint_summaries(steps: Steps, grad: Tensor) -> Tensor:
    """Returns for each chunk, last first, the product of its conj(a) and its gradient of the state before it, (2, B, K, W)."""
    found = steps.states(2, steps.x.shape[0], steps.chunks, steps.x.shape[2])
    steps.launch(adjoint_kernel, steps.a, steps.rates, steps.phases, steps.fresh, grad, *found)
    return found


def scan_backward(steps: Steps, y: Tensor, h0: Tensor, grad: Tensor, carries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns gradients of a, x and h0, laid out as rows; carries (B, K, W) are those of the chunks' last states, last chunk first."""
    grad_a, grad_x, grad_h0 = torch.empty_like(steps.a), torch.empty_like(steps.x), torch.empty_like(h0)
    steps.launch(scan_backward_kernel, steps.a, y, h0, grad, carries, grad_a, grad_x, grad_h0)
    return grad_a, grad_x, grad_h0


def gated_backward(
    steps: Steps, y: Tensor, h0: Tensor, grad: Tensor, carries: Tensor, max_sqrt_derivative: float
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """Returns the gradients of the gates, x, rates, phases and h0; carries as in `scan_backward`."""
    grad_gates, grad_x, grad_h0 = torch.empty_like(steps.a), torch.empty_like(steps.x), torch.empty_like(h0)
    parameters = steps.states(steps.parts, steps.x.shape[0] * steps.chunks, steps.units)
    inputs = (steps.a, steps.x, steps.rates, steps.phases, steps.fresh, y, h0, grad, carries)
    outputs = (grad_gates, grad_x, parameters[0], parameters[-1], grad_h0)
    steps.launch(gated_backward_kernel, *inputs, *outputs, MAX_SQRT_DERIVATIVE=max_sqrt_derivative)
    sums = parameters.sum(dim=1)
    return grad_gates, grad_x, sums[0], sums[1].clone() if steps.parts == 2 else None, grad_h0


def scan(steps: Steps, start: Tensor, known: Tensor | None = None, exclusive: bool = False) -> tuple[Tensor, Tensor]:
    """Returns all states and the last one, from the state (B, W) before the first; `known` are the chunks' `summaries`."""
    if steps.chunks == 1:
        return forward(steps, start[:, None].contiguous(), exclusive)
    return forward(steps, state_before_chunks(summaries(steps) if known is None else known, start, steps.parts), exclusive)


def state_before_chunks(known: Tensor, start: Tensor, parts: int) -> Tensor:
    """Returns the state before each chunk (B, K, W), from that before the first (B, W) and the chunks' summaries."""
    return scan(Steps(known[0], known[1], parts, chunk=joined(known.shape[2])), start, exclusive=True)[0]


def carries_into_chunks(steps: Steps, grad: Tensor, end: Tensor, known: Tensor | None = None) -> Tensor:
    """Returns the gradient of each chunk's last state (B, K, W), last chunk first, from that of the very last state (B, W); `known` are
    the `adjoint_summaries`."""
    if steps.chunks == 1:
        return end[:, None].contiguous()
    return state_before_chunks(adjoint_summaries(steps, grad) if known is None else known, end, steps.parts)


def whole(known: Tensor, parts: int) -> Tensor:
    """Combines the summaries of one or more chunks in order into one, (2, B, W)."""
    while known.shape[2] > 1:
        known = summaries(Steps(known[0], known[1], parts, chunk=joined(known.shape[2])))
    return known[:, :, 0]
