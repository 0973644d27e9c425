"""Run by tests/ops/test_triton.py in a process of its own, in Triton's interpreter: the gates' functions, to rounding."""

import pytest
import torch
import triton
import triton.language as tl

from ops.triton.arithmetic import decay_of, input_power, sigmoid

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


@pytest.mark.parametrize("dtype", EPSILON, ids=str)
def test_gates(dtype):
    """r over all that it can be, |a| from 2^-40 to exactly 1, angles of up to a dozen turns: errors in units of rounding."""
    count, g = 4096, torch.Generator().manual_seed(0)
    pre = torch.linspace(-80, 80, count, dtype=dtype)
    rates = (-40 * torch.rand(count, generator=g).double() ** 8).to(dtype)
    rates[::100] = 0
    phases = (80 * (torch.rand(count, generator=g) - 0.5)).to(dtype)
    out = torch.full((4, count), float("nan"), dtype=dtype)
    gates_kernel[(1,)](pre, rates, phases, out, COUNT=count, ACC=tl.float32 if dtype == torch.float32 else tl.float64)
    r, ar, ai, power = out.double()
    expected = torch.sigmoid(pre.double())
    # An error of the exponent or the angle is one of the value: their own rounding is counted with theirs.
    assert ((r - expected).abs() / expected < 4 * EPSILON[dtype] * (1 + pre.double().abs())).all()
    w, angle = r * rates, r * phases
    a = torch.polar(2**w, angle)
    assert ((torch.complex(ar, ai) - a).abs() / a.abs() < 4 * EPSILON[dtype] * (1 + w.abs() + angle.abs())).all()
    expected = -torch.expm1(2 * w * torch.log(torch.tensor(2.0, dtype=torch.float64)))
    assert ((power - expected).abs() <= 8 * EPSILON[dtype] * expected + torch.finfo(dtype).tiny).all()
    assert (power[::100] == 0).all()
