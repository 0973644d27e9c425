"""What an implementation of the linear recurrence provides: four plain functions, from which `ops/scan.py` makes one with gradients.

Forward:   h_t = a_t h_{t-1} + x_t,                     t = 1..T, h_0 given.
Backward:  d_t = g_t + conj(a_{t+1}) d_{t+1}            the adjoint scan, from the end to the start; its boundary value, in the
                                                        place of conj(a_{T+1}) d_{T+1}, is the gradient of the last state,
           dx_t = d_t,   da_t = d_t conj(h_{t-1}),   dh_0 = conj(a_1) d_1.

Conjugates follow autograd's convention for complex numbers. Nothing divides by a, so a = 0 is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Kernels:
    """One way to compute the recurrence. a, x, h, grad_h are (B, T, N), states (B, N), all of one dtype; T may be 0.

    Args:
        forward: (a, x, h0) -> (h, last state).
        backward: (a, h, h0, grad_h, grad_last) -> (grad_a, grad_x, grad_h0).
        summary: (a, x, h0) -> (product, last): prod_t a_t, and the last state from h0.
        adjoint_summary: (a, grad_h, grad_last) -> grad_h0.
        narrow: whether a, x, h, grad_h may be numbers of 16 bits, complex ones as (B, T, N, 2), with states in float32 or complex64.
    """

    forward: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    backward: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    summary: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    adjoint_summary: Callable[[Tensor, Tensor, Tensor], Tensor]
    narrow: bool = False


def last_state(h: Tensor, h0: Tensor) -> Tensor:
    """The state (B, N) after all steps, a tensor of its own, from all states (B, T, N) and the one before."""
    return (h[:, -1] if h.shape[1] else h0).clone()
