"""Run by tests/harmonicrnn/ops/test_triton.py in a process of its own, in Triton's interpreter: the gates' functions, to rounding."""

import pytest
import torch
import triton
import triton.language as tl

from harmonicrnn.ops.triton.arithmetic import decay_of, input_power, sigmoid

EPSILON = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}


@triton.jit
def gates_kernel(pre, rates, phases, out, COUNT: tl.constexpr, ACC: tl.constexpr):
    n = tl.arange(0, COUNT)
    r = sigmoid(tl.load(pre + n))
    ar, ai, w, squared = decay_of(r, tl.load(rates + n), tl.load(phases + n), True, ACC)
    tl.store(out + n, r)
    tl.store(out + COUNT + n, ar)
    tl.store(out + 2 * COUNT + n, ai)
    tl.store(out + 3 * COUNT + n, input_power(w, squared, ACC))


def gates(pre, rates, phases):
    """Returns r, the real and imaginary part of a, and 1 - |a|^2, in float64: (4, N)."""
    out = torch.full((4, len(pre)), float("nan"), dtype=pre.dtype, device=pre.device)
    gates_kernel[(1,)](pre, rates, phases, out, COUNT=len(pre), ACC=tl.float32 if pre.dtype == torch.float32 else tl.float64)
    return out.double()


def gates_are_right_to_rounding(dtype, device, factor=1):
    """Covers all values of r, |a| from 2^-40 to exactly 1, and angles of up to a dozen turns; errors are in units of rounding."""
    count, g = 4096, torch.Generator().manual_seed(0)
    pre = torch.linspace(-80, 80, count, dtype=dtype)
    rates = (-40 * torch.rand(count, generator=g).double() ** 8).to(dtype)
    rates[::100] = 0
    phases = (80 * (torch.rand(count, generator=g) - 0.5)).to(dtype)
    r, ar, ai, power = gates(*(t.to(device) for t in (pre, rates, phases))).cpu()
    unit = factor * EPSILON[dtype]
    expected = torch.sigmoid(pre.double())
    # Errors of the exponent and the angle carry over to the value; their own rounding is included.
    assert ((r - expected).abs() / expected < 4 * unit * (1 + pre.double().abs())).all()
    w, angle = r * rates, r * phases
    a = torch.polar(2**w, angle)
    assert ((torch.complex(ar, ai) - a).abs() / a.abs() < 4 * unit * (1 + w.abs() + angle.abs())).all()
    expected = -torch.expm1(2 * w * torch.log(torch.tensor(2.0, dtype=torch.float64)))
    assert ((power - expected).abs() <= 8 * unit * expected + torch.finfo(dtype).tiny).all()
    assert (power[::100] == 0).all()


def moduli_near_one_have_no_bias(dtype, device):
    """A bias would add up over thousands of steps: the mean error must be less than half a rounding."""
    count = 4096
    rates = torch.linspace(-2e-4, 0, count, dtype=dtype).to(device)
    r, ar, ai, _ = gates(torch.zeros_like(rates), rates, torch.zeros_like(rates))
    exact = 2 ** (r * rates)
    assert ((torch.hypot(ar, ai) - exact) / exact).mean().abs() < 0.5 * EPSILON[dtype]


@pytest.mark.parametrize("dtype", EPSILON, ids=str)
def test_gates(dtype):
    gates_are_right_to_rounding(dtype, "cpu")
    moduli_near_one_have_no_bias(dtype, "cpu")
