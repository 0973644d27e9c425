"""Reference implementation of the linear recurrence: step by step, differentiated by autograd.

Slow, but works in any dtype; tests compare every other implementation with it in float64.
"""

import torch
from torch import Tensor


def linear_scan_reference(a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    """Computes h_t = a_t h_{t-1} + x_t.

    Args:
        a: (B, T, N), real or complex.
        x: (B, T, N), same dtype.
        h0: (B, N), the state before the first step.

    Returns:
        h (B, T, N), and the last state (B, N), which is h0 if T = 0.
    """
    h, steps = h0, []
    for a_t, x_t in zip(a.unbind(1), x.unbind(1), strict=True):
        h = a_t * h + x_t
        steps.append(h)
    return (torch.stack(steps, dim=1) if steps else x), h
