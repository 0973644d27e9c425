"""Tests of the CG-LRU operator: equations, gradients, fresh states and extreme gates."""

import pytest
import torch
import torch.nn.functional as F

from harmonicrnn.ops import cg_lru
from tests.helpers import F32, F32_GRADIENT, F64, relative_error


def restated(x, gates, decay, phase, h0, fresh):
    """Computes the CG-LRU by its equations, step by step, in complex numbers and without care for rounding."""
    units = decay.shape[0]
    recurrence_gate, input_gate = gates.chunk(2, dim=-1)
    h = h0 if phase is None else torch.complex(h0[:, :units], h0[:, units:])
    ys = []
    for t in range(x.shape[1]):
        r, i = torch.sigmoid(recurrence_gate[:, t]), torch.sigmoid(input_gate[:, t])
        modulus = torch.exp(-8 * r * F.softplus(decay))
        factor = torch.sqrt(1 - modulus**2)
        if t == 0:
            factor = torch.where(fresh[:, None], torch.ones_like(factor), factor)
        if phase is None:
            h = modulus * h + factor * i * x[:, t]
            ys.append(h)
        else:
            z = torch.complex(x[:, t, :units], x[:, t, units:])
            h = modulus * torch.exp(1j * r * phase) * h + factor * i * z
            ys.append(torch.cat([h.real, h.imag], dim=-1))
    return torch.stack(ys, dim=1), ys[-1]


def make_inputs(kind, batch=3, time=40, units=5, dtype=torch.float64):
    g = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float32).to(dtype)

    width = 2 * units if kind == "complex" else units
    decay = draw(units) - 3
    phase = draw(units) if kind == "complex" else None
    inputs = [draw(batch, time, width), draw(batch, time, 2 * units), decay, phase, draw(batch, width)]
    return [t if t is None else t.requires_grad_() for t in inputs], torch.tensor([True, False, True])


def run(function, inputs, fresh):
    y, last = function(*inputs, fresh)
    g = torch.Generator().manual_seed(1)
    loss = sum((out * torch.randn(out.shape, generator=g).to(out.dtype)).sum() for out in (y, last))
    return [y, last], torch.autograd.grad(loss, [t for t in inputs if t is not None])


@pytest.mark.parametrize("kind", ["complex", "real"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_equals_the_equations(kind, dtype):
    wide, fresh = make_inputs(kind)
    narrow, _ = make_inputs(kind, dtype=dtype)
    outputs, gradients = run(cg_lru, narrow, fresh)
    expected, expected_gradients = run(restated, wide, fresh)
    single = dtype == torch.float32
    for value, reference in zip(outputs, expected, strict=True):
        assert relative_error(value.double(), reference) < (F32 if single else F64)
    for value, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(value.double(), reference) < (F32_GRADIENT if single else F64)


@pytest.mark.parametrize("kind", ["complex", "real"])
def test_gradcheck(kind):
    inputs, _ = make_inputs(kind, batch=2, time=4, units=2)
    given = [t for t in inputs if t is not None]

    def function(x, gates, decay, *rest):
        phase, h0 = rest if kind == "complex" else (None, rest[0])
        return cg_lru(x, gates, decay, phase, h0, torch.tensor([True, False]))

    assert torch.autograd.gradcheck(function, given)


def test_a_zeroed_state_is_not_a_fresh_one():
    (x, gates, decay, phase, _), _ = make_inputs("complex", batch=1)
    zero = torch.zeros(1, x.shape[2], dtype=x.dtype)
    fresh, _ = cg_lru(x, gates, decay, phase)
    marked, _ = cg_lru(x, gates, decay, phase, zero, torch.tensor([True]))
    zeroed, _ = cg_lru(x, gates, decay, phase, zero, torch.tensor([False]))
    assert torch.equal(fresh, marked)
    assert relative_error(zeroed[:, 0], fresh[:, 0]) > 0.05


@pytest.mark.parametrize("gate", [-200.0, -30.0, 200.0], ids=["modulus_exactly_one", "modulus_near_one", "gate_open"])
def test_extreme_gates_give_finite_gradients_in_bfloat16(gate):
    (x, gates, decay, phase, h0), fresh = make_inputs("complex", dtype=torch.bfloat16)
    gates = torch.cat([torch.full_like(gates[..., :5], gate), gates[..., 5:]], dim=-1).detach().requires_grad_()
    y, last = cg_lru(x, gates, decay, phase, h0.float(), fresh)
    assert y.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    (y.float().sum() + last.sum()).backward()
    for tensor in (x, gates, decay, phase):
        assert tensor.grad.isfinite().all()


def test_half_a_state_is_refused():
    (x, gates, decay, phase, h0), _ = make_inputs("complex")
    with pytest.raises(ValueError, match="together"):
        cg_lru(x, gates, decay, phase, h0)
    with pytest.raises(ValueError, match="does not fit 5 complex units"):
        cg_lru(x[..., :-1], gates, decay, phase)
    with pytest.raises(ValueError, match=r"gates must have shape \(3, 40, 10\)"):
        cg_lru(x, gates[..., :5], decay, phase)
