"""The fused CG-LRU by Triton kernels, as torch operators with gradients, for whole sequences and slices; see `harmonicrnn.ops.cg_lru`.

a and the input's factor exist in registers only and are recomputed in the backward pass. Bytes needed, in units of one (B, T, D) tensor:
forward 3 (x, gates, y), forward + backward 9. The three phases move 5, and 5 + 7.5: x and the gates are read once more for the summaries,
and so are the recurrence gate and the gradient of y.

Parameters are rates (N,), log|a| at an open gate, and phases (N,) or None, in the dtype of states. States are laid out as y, (B, D).
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harmonicrnn.ops.operators import differentiable, new, operator
from harmonicrnn.ops.slices import Slices, gradient_after, state_before


def _of_units(state: Tensor, phases: Tensor | None) -> Tensor:
    """Returns an empty tensor (B, N), complex for complex units."""
    dtype = state.dtype if phases is None else torch.promote_types(state.dtype, torch.complex32)
    return state.new_empty(state.shape[0], state.shape[1] // (1 if phases is None else 2), dtype=dtype)


def _of_chunks(state: Tensor) -> Tensor:
    """Returns an empty tensor (2, B, K, W); the number of chunks K is known to the kernels only."""
    return state.new_empty(2, state.shape[0], torch.library.get_ctx().new_dynamic_size(), state.shape[1])


def _steps(x: Tensor, gates: Tensor, rates: Tensor, phases: Tensor | None, fresh: Tensor) -> tuple[ModuleType, Any]:
    """Returns the module of the kernels, and the steps as they take them."""
    from harmonicrnn.ops.triton import chunks  # here, so that triton is imported only when used

    x, gates, rates, fresh = (t.detach().contiguous() for t in (x, gates, rates, fresh))
    phases = None if phases is None else phases.detach().contiguous()
    return chunks, chunks.Steps(gates, x, 1 if phases is None else 2, rates=rates, phases=phases, fresh=fresh)


@operator(fake=lambda x, gates, rates, phases, h0, fresh, max_root_slope, known=None: new(x, h0))
def cg_lru(
    x: Tensor,
    gates: Tensor,
    rates: Tensor,
    phases: Tensor | None,
    h0: Tensor,
    fresh: Tensor,
    max_root_slope: float,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns y (B, T, D) and the last state (B, D); `known` are the chunks' summaries from `cg_lru_summary`."""
    if not x.numel():
        return x.new_empty(x.shape), h0.clone()
    kernels, steps = _steps(x, gates, rates, phases, fresh)
    y, last = kernels.scan(steps, h0.detach().contiguous(), known)
    return y, last.clone()


@operator(
    fake=lambda x, gates, rates, phases, h0, fresh, y, *_: (
        *new(x, gates, rates),
        rates.new_empty(0) if phases is None else phases.new_empty(phases.shape),
        *new(h0),
    )
)
def cg_lru_backward(
    x: Tensor,
    gates: Tensor,
    rates: Tensor,
    phases: Tensor | None,
    h0: Tensor,
    fresh: Tensor,
    y: Tensor,
    grad_y: Tensor,
    grad_last: Tensor,
    max_root_slope: float,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns gradients of the first five (empty for no phases); `known` are summaries from `cg_lru_adjoint_summary`."""
    if not x.numel():
        grad_x, grad_gates = new(x, gates)
        return grad_x, grad_gates, torch.zeros_like(rates), torch.zeros_like(rates[:0] if phases is None else phases), grad_last.clone()
    kernels, steps = _steps(x, gates, rates, phases, fresh)
    y, h0, grad_y, grad_last = (t.detach().contiguous() for t in (y, h0, grad_y, grad_last))
    carries = kernels.carries_into_chunks(steps, grad_y, grad_last, known)
    grad_gates, grad_x, grad_rates, grad_phases, grad_h0 = kernels.gated_backward(steps, y, h0, grad_y, carries, max_root_slope)
    return grad_x, grad_gates, grad_rates, grad_rates.new_empty(0) if grad_phases is None else grad_phases, grad_h0


@operator(fake=lambda x, gates, rates, phases, h0, fresh: (_of_units(h0, phases), _of_units(h0, phases), _of_chunks(h0)))
def cg_lru_summary(
    x: Tensor, gates: Tensor, rates: Tensor, phases: Tensor | None, h0: Tensor, fresh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the product of a and the last state from h0, (B, N), complex for complex units, and the chunks' summaries."""
    if not x.numel():
        last = as_complex(h0) if phases is not None else h0.clone()
        return torch.ones_like(last), last, h0.new_empty(2, h0.shape[0], 0, h0.shape[1])
    kernels, steps = _steps(x, gates, rates, phases, fresh)
    known = kernels.summaries(steps)
    return *_from(h0, known, phases, kernels), known


@operator(fake=lambda x, gates, rates, phases, fresh, grad_y, grad_last: (_of_units(grad_last, phases), _of_chunks(grad_last)))
def cg_lru_adjoint_summary(
    x: Tensor, gates: Tensor, rates: Tensor, phases: Tensor | None, fresh: Tensor, grad_y: Tensor, grad_last: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the gradient of h0, (B, N), complex for complex units, and the chunks' adjoint summaries."""
    if not x.numel():
        carry = as_complex(grad_last) if phases is not None else grad_last.clone()
        return carry, grad_last.new_empty(2, grad_last.shape[0], 0, grad_last.shape[1])
    kernels, steps = _steps(x, gates, rates, phases, fresh)
    known = kernels.adjoint_summaries(steps, grad_y.detach().contiguous())
    return _from(grad_last, known, phases, kernels)[1], known


def _from(start: Tensor, known: Tensor, phases: Tensor | None, kernels: ModuleType) -> tuple[Tensor, Tensor]:
    """Returns the product of a and the last state from `start`, (B, N), by the chunks' summaries."""
    parts = 1 if phases is None else 2
    product, last, start = (as_complex(t) if parts == 2 else t.clone() for t in (*kernels.whole(known, parts), start.detach()))
    return product, last + product * start


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.max_root_slope = inputs[6]
    ctx.save_for_backward(*inputs[:6], output[0])


@once_differentiable
def _backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    return *_gradients(ctx.saved_tensors, grad_y, grad_last, ctx.max_root_slope), None, None, None


def _gradients(
    saved: tuple[Tensor, ...], grad_y: Tensor, grad_last: Tensor, max_root_slope: float, known: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """Returns the gradients of the first five arguments."""
    grad_x, grad_gates, grad_rates, grad_phases, grad_h0 = cg_lru_backward(*saved, grad_y, grad_last, max_root_slope, known)
    return grad_x, grad_gates, grad_rates, None if saved[3] is None else grad_phases, grad_h0


differentiable(cg_lru, _keep, _backward)


class SlicedCGLRU(torch.autograd.Function):
    """`cg_lru` of a slice, with an exchange each way, which operators cannot do."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gates: Tensor,
        rates: Tensor,
        phases: Tensor | None,
        h0: Tensor,
        fresh: Tensor,
        max_root_slope: float,
        slices: Slices,
    ) -> tuple[Tensor, Tensor]:
        before = h0 if slices.rank == 0 else torch.zeros_like(h0)
        ctx.product, last, known = cg_lru_summary(x, gates, rates, phases, before, fresh)
        ctx.slices, h0 = slices, as_halves(state_before(slices, ctx.product, last, h0))
        inputs = x, gates, rates, phases, h0, fresh, max_root_slope
        output: tuple[Tensor, Tensor] = cg_lru(*inputs, known)
        _keep(ctx, inputs, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # read once: with recomputation saved tensors can be read only once
        x, gates, rates, phases, _, fresh, _ = saved
        carry, known = cg_lru_adjoint_summary(x, gates, rates, phases, fresh, grad_y, grad_last)
        end = as_complex(grad_last) if phases is not None else grad_last
        grad_last = as_halves(gradient_after(ctx.slices, ctx.product, carry, end))
        *grads, grad_h0 = _gradients(saved, grad_y, grad_last, ctx.max_root_slope, known)
        return *grads, grad_h0 if ctx.slices.rank == 0 else torch.zeros_like(grad_h0), None, None, None


def as_complex(halves: Tensor) -> Tensor:
    """Converts (..., 2N), real parts first, to complex numbers (..., N)."""
    real, imaginary = halves.chunk(2, dim=-1)
    return torch.complex(real, imaginary)


def as_halves(values: Tensor) -> Tensor:
    """Inverse of `as_complex`; real numbers are returned as they are."""
    return torch.cat([values.real, values.imag], dim=-1) if values.is_complex() else values
