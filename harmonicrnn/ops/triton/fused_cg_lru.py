"""The fused CG-LRU by Triton kernels: from the input, both gates' pre-activations and both parameters to y.

a and the input's factor exist in registers only and are recomputed in the backward pass. Bytes needed, in units of one (B, T, D) tensor:
forward 3 (x, gates, y), forward + backward 9. The three phases move 5, and 5 + 7.5: x and the gates are read once more for the summaries,
and so are the recurrence gate and the gradient of y.

All tensors are contiguous with T > 0. The chunks' summaries `known` are (2, B, K, W): products and lasts.
"""

import torch
from torch import Tensor

from harmonicrnn.ops.triton.chunks import Steps, adjoint_summaries, carries_into_chunks, gated_backward, scan, summaries, whole
from harmonicrnn.ops.triton.plain_scan import values


def forward(steps: Steps, h0: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns y and the last state."""
    y, last = scan(steps, h0, _pair(known))
    return y, last.clone()


def backward(
    steps: Steps, y: Tensor, h0: Tensor, grad_y: Tensor, grad_last: Tensor, max_root_slope: float, known: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of x, the gates, rates, phases (empty for real units) and h0."""
    carries = carries_into_chunks(steps, grad_y, grad_last, _pair(known))
    grad_gates, grad_x, grad_rates, grad_phases, grad_h0 = gated_backward(steps, y, h0, grad_y, carries, max_root_slope)
    return grad_x, grad_gates, grad_rates, grad_rates.new_empty(0) if grad_phases is None else grad_phases, grad_h0


def summary(steps: Steps, h0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the product of a and the last state from h0, (B, N), and the chunks' summaries."""
    return _from(h0, steps, *summaries(steps))


def adjoint_summary(steps: Steps, grad_y: Tensor, grad_last: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the gradient of h0, (B, N), and the chunks' adjoint summaries, last chunk first."""
    _, carry, known = _from(grad_last, steps, *adjoint_summaries(steps, grad_y))
    return carry, known


def _from(start: Tensor, steps: Steps, products: Tensor, lasts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    product, last, start = (values(t, steps.parts == 2) for t in (*whole(products, lasts, steps.parts), start))
    return product, last + product * start, torch.stack([products, lasts])


def _pair(known: Tensor | None) -> tuple[Tensor, Tensor] | None:
    return None if known is None else (known[0], known[1])
