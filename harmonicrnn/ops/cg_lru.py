"""The complex-gated linear recurrent unit (CG-LRU) and its real form (RG-LRU).

Source: RG-LRU of Griffin (De et al., arXiv 2402.19427, section 2.4), with the complex option of google-deepmind/recurrentgemma.

    r_t = sigmoid(recurrence gate),  i_t = sigmoid(input gate)
    log|a_t| = -c r_t softplus(decay),  arg a_t = r_t phase,  c = 8
    h_t = a_t h_{t-1} + sqrt(1 - |a_t|^2) i_t z_t           z_t: x_t, its halves as real and imaginary parts
    y_t = [Re h_t, Im h_t]

At the first step of a fresh lane the factor sqrt(1 - |a|^2) is 1. Without a phase everything is real, with z = x and y = h.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonicrnn.ops import fused
from harmonicrnn.ops.fused import as_complex, as_halves
from harmonicrnn.ops.implementation import Implementation, choose
from harmonicrnn.ops.scan import linear_scan
from harmonicrnn.ops.slices import Slices

C = 8.0
MAX_ROOT_SLOPE = 1000.0


class _BoundedSqrt(torch.autograd.Function):
    """sqrt with a clipped derivative, which is infinite at |a| = 1 and would give NaN in low precision."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, max_slope: float) -> Tensor:
        root = u.sqrt()
        ctx.save_for_backward(root)
        ctx.max_slope = max_slope
        return root

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (root,) = ctx.saved_tensors
        return grad * (0.5 / root).clamp(max=ctx.max_slope), None


def decay_and_phase(recurrence_gate: Tensor, decay: Tensor, phase: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Returns log|a_t| and arg a_t (None for the real unit), each (B, T, N), from the gate's pre-activation and the parameters."""
    r = torch.sigmoid(recurrence_gate)
    return r * (-C * F.softplus(decay)), None if phase is None else r * phase


def cg_lru(
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    phase: Tensor | None,
    h0: Tensor | None = None,
    fresh: Tensor | None = None,
    slices: Slices | None = None,
    implementation: Implementation = "auto",
    max_root_slope: float = MAX_ROOT_SLOPE,
    unit_first_step: bool = True,
) -> tuple[Tensor, Tensor]:
    """Computes the gated recurrence from gate pre-activations, with gradients for every floating-point argument.

    Computes in float32, or float64 for float64 inputs.

    Args:
        x: (B, T, D), the input; for the complex unit D = 2N, real parts first.
        gates: (B, T, 2N), before the sigmoid: the recurrence gates, then the input gates.
        decay: (N,), the parameter L of log|a| = -c r softplus(L).
        phase: (N,) in radians, or None for the real unit (then D = N).
        h0: (B, D), the initial state, laid out as y; None is zero.
        fresh: (B,) bool, lanes whose first step is the first of x; None, only with h0 None, means all.
        slices: if x is one rank's slice of a longer sequence, which begins with rank 0's h0 and fresh.
        implementation: see `harmonicrnn/ops/implementation.py`.
        max_root_slope: bound of the derivative of sqrt(1 - |a|^2) with respect to 1 - |a|^2.
        unit_first_step: whether the input factor of a fresh lane's first step is 1.

    Returns:
        y (B, T, D) in x's dtype, and the last state (B, D) in float32 or float64.

    Raises:
        ValueError: only one of h0 and fresh is given, widths do not fit the units, or the implementation is not available.
    """
    h0, fresh = _begin(x, gates, decay, phase, h0, fresh)
    if not unit_first_step or (slices is not None and slices.rank > 0):
        fresh = torch.zeros_like(fresh)
    inputs = x, gates, *_parameters(decay, phase, h0.dtype)
    if choose(implementation, x.device).name == "triton":
        given = *inputs, h0, fresh, max_root_slope
        y, last = fused.cg_lru(*given) if slices is None else fused.SlicedCGLRU.apply(*given, slices)
        return y, last
    return plain(*inputs, h0, fresh if unit_first_step else None, max_root_slope, slices, implementation)


def _parameters(decay: Tensor, phase: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Returns log|a| at an open gate, and the phase, in the dtype of states."""
    return -C * F.softplus(decay.to(dtype)), None if phase is None else phase.to(dtype)


def _begin(x: Tensor, gates: Tensor, decay: Tensor, phase: Tensor | None, h0: Tensor | None, fresh: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns h0 in the dtype of states and fresh, with defaults for None; raises ValueError if arguments do not fit."""
    if (h0 is None) != (fresh is None):
        raise ValueError("h0 and fresh are given together or not at all")
    units, kind = decay.shape[0], "real" if phase is None else "complex"
    if x.shape[-1] != (units if phase is None else 2 * units):
        raise ValueError(f"x has {x.shape[-1]} channels, which does not fit {units} {kind} units")
    if gates.shape != (*x.shape[:2], 2 * units):
        raise ValueError(f"gates must have shape {(*x.shape[:2], 2 * units)} for {units} {kind} units; got {tuple(gates.shape)}")
    dtype = torch.promote_types(x.dtype, torch.float32)
    if h0 is None or fresh is None:
        return x.new_zeros(x.shape[0], x.shape[2], dtype=dtype), torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    return h0.to(dtype), fresh


def plain(
    x: Tensor,
    gates: Tensor,
    rates: Tensor,
    phases: Tensor | None,
    h0: Tensor,
    fresh: Tensor | None,
    max_slope: float = MAX_ROOT_SLOPE,
    slices: Slices | None = None,
    implementation: Implementation = "reference",
) -> tuple[Tensor, Tensor]:
    """Computes `cg_lru` by tensor operations and a scan, with the arguments of `harmonicrnn/ops/fused.py`."""
    a, added = _steps(x, gates, rates, phases, fresh, max_slope)
    h, last = linear_scan(a, added, h0 if phases is None else as_complex(h0), slices, implementation)
    return as_halves(h).to(x.dtype), as_halves(last)


def _steps(
    x: Tensor, gates: Tensor, rates: Tensor, phases: Tensor | None, fresh: Tensor | None, max_slope: float = MAX_ROOT_SLOPE
) -> tuple[Tensor, Tensor]:
    """Returns a and the gated input of each step, (B, T, N), complex if there are phases."""
    recurrence_gate, input_gate = gates.to(rates.dtype).chunk(2, dim=-1)
    r, z = torch.sigmoid(recurrence_gate), x.to(rates.dtype)
    log_modulus = r * rates
    factor = _BoundedSqrt.apply(-torch.expm1(2 * log_modulus), max_slope)
    if x.shape[1] and fresh is not None:
        first = torch.where(fresh[:, None, None], torch.ones_like(factor[:, :1]), factor[:, :1])
        factor = torch.cat([first, factor[:, 1:]], dim=1)
    gated, modulus = factor * torch.sigmoid(input_gate), log_modulus.exp()
    if phases is None:
        return modulus, gated * z
    units = rates.shape[0]
    return torch.polar(modulus, r * phases), torch.complex(gated * z[..., :units], gated * z[..., units:])
