"""Tests of the linear scan on the CPU: reference, gradients, summaries, registered operators and tracing."""

from functools import partial

import pytest
import torch

from harmonicrnn.ops import linear_scan
from harmonicrnn.ops.reference import linear_scan_reference
from harmonicrnn.ops.scan import scan, scan_adjoint_summary, scan_backward, scan_summary
from tests.helpers import F32, F32_GRADIENT, F64, relative_error

IMPLEMENTATIONS = {"cpu": linear_scan, "doubling": partial(linear_scan, implementation="reference")}
DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


def make_inputs(batch, time, units, dtype, modulus=(0.0, 0.9999), seed=0):
    """Returns a, x and h0 in double precision; |a| lies in the range `modulus`, and a third of it is 0 if the range begins at 0."""
    g = torch.Generator().manual_seed(seed)
    wide = torch.promote_types(dtype, torch.float64)
    low, high = modulus
    size = torch.rand(batch, time, units, generator=g, dtype=torch.float64) * (high - low) + low
    if low == 0:
        size[..., : units // 3 or 1] = 0
    if dtype.is_complex:
        a = torch.polar(size, torch.rand(batch, time, units, generator=g, dtype=torch.float64) * 6.3)
    else:
        a = size * torch.sign(torch.randn(batch, time, units, generator=g, dtype=torch.float64))
    x, h0 = (torch.randn(*shape, generator=g, dtype=wide) for shape in ((batch, time, units), (batch, units)))
    # Rounded to `dtype` first, so that the reference gets the same numbers as the tested implementation.
    return [t.to(dtype).to(wide) for t in (a, x, h0)]


def run(function, inputs, dtype, seed=1):
    """Returns the outputs, and the gradients of a random linear functional of all outputs."""
    inputs = [t.to(dtype).requires_grad_() for t in inputs]
    h, last = function(*inputs)
    g = torch.Generator().manual_seed(seed)
    loss = 0
    for out in (h, last):
        loss = loss + (out * torch.randn(out.shape, generator=g, dtype=torch.promote_types(dtype, torch.float64)).to(dtype)).sum()
    loss = loss.real if loss.is_complex() else loss
    return [h, last], torch.autograd.grad(loss, inputs)


NARROW_LIMITS = {torch.bfloat16: (8e-3, 1.6e-2), torch.float16: (1e-3, 2e-3)}
"""Bounds for outputs, one rounding that Triton's interpreter truncates, and for the gradients of a, with one more for the states."""


def equal_in_16_bits(function, dtype, batch, time, units, complex_, reference=linear_scan_reference):
    """Asserts that 16-bit numbers are read and written unchanged, with states in float32 or complex64."""
    wide = torch.complex128 if complex_ else torch.float64
    inputs = make_inputs(batch, time, units, wide, (0.5, 1.0))

    def parts(t):
        return torch.view_as_real(t) if t.is_complex() else t

    def outcome(function, a, x, h0):
        given = [t.requires_grad_() for t in (a, x, h0)]
        h, last = function(*given)
        g = torch.Generator().manual_seed(1)
        weights = [torch.randn(parts(t).shape, generator=g).to(dtype).to(parts(t).dtype).to(t.device) for t in (h, last)]
        loss = sum((parts(t) * w).sum() for t, w in zip((h, last), weights, strict=True))
        return [h, last, *torch.autograd.grad(loss, given)]

    narrow = [parts(t).to(dtype) for t in inputs[:2]]
    state = inputs[2].to(torch.complex64 if complex_ else torch.float32)
    given = [torch.view_as_complex(t.double()) if complex_ else t.double() for t in narrow] + [state.to(wide)]
    found = outcome(function, *narrow, state)
    expected = [t if i in (1, 4) else parts(t) for i, t in enumerate(outcome(reference, *given))]
    assert [t.dtype for t in found] == [dtype, state.dtype, dtype, dtype, state.dtype]
    assert relative_error(found[1].to(wide), expected[1]) < F32
    assert relative_error(found[0].double(), expected[0]) < NARROW_LIMITS[dtype][0]
    for value, right in zip(found[2:], expected[2:], strict=True):
        assert relative_error(value.to(right.dtype), right) < NARROW_LIMITS[dtype][1]


@pytest.mark.parametrize("complex_", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("dtype", NARROW_LIMITS, ids=str)
@pytest.mark.parametrize("implementation", ["cpu", "reference"])
def test_numbers_of_16_bits(implementation, dtype, complex_):
    for time in (1, 37):
        equal_in_16_bits(partial(linear_scan, implementation=implementation), dtype, 2, time, 3, complex_)
    a, x, h0 = (
        t.to(torch.complex64 if complex_ else torch.float32) for t in make_inputs(2, 9, 3, torch.complex128 if complex_ else torch.float64)
    )
    a, x = ((torch.view_as_real(t) if complex_ else t).to(dtype) for t in (a, x))
    _, last = linear_scan(a, x, h0, implementation=implementation)
    assert last.dtype == h0.dtype


@pytest.mark.parametrize("modulus", [(0.0, 0.9999), (0.99, 1.0)], ids=["from_zero", "near_one"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 63, 3), (3, 500, 5), (1, 1001, 8)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_equals_the_float64_reference(implementation, dtype, shape, modulus):
    inputs = make_inputs(*shape, dtype, modulus)
    wide = inputs[0].dtype
    outputs, gradients = run(implementation, inputs, dtype)
    expected, expected_gradients = run(linear_scan_reference, inputs, wide)
    single = dtype in (torch.float32, torch.complex64)
    for value, reference in zip(outputs, expected, strict=True):
        assert relative_error(value.to(wide), reference) < (F32 if single else F64)
    for value, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(value.to(wide), reference) < (F32_GRADIENT if single else F64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_gradcheck(implementation, dtype):
    inputs = [t.requires_grad_() for t in make_inputs(2, 5, 3, dtype)]
    assert torch.autograd.gradcheck(implementation, inputs)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_exactly_zero_decay_forgets_exactly(implementation):
    x = torch.randn(1, 7, 2)
    h, last = implementation(torch.zeros_like(x), x, torch.full((1, 2), 1e30))
    assert torch.equal(h, x)
    assert torch.equal(last, x[:, -1])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_no_steps_leave_the_state(implementation):
    h0 = torch.randn(2, 3, requires_grad=True)
    h, last = implementation(torch.zeros(2, 0, 3), torch.zeros(2, 0, 3), h0)
    assert h.shape == (2, 0, 3)
    assert torch.equal(last, h0)
    last.sum().backward()
    assert torch.equal(h0.grad, torch.ones_like(h0))


@pytest.mark.parametrize("time", [16_000, 127_323])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
def test_long_sequences_on_the_cpu(dtype, time):
    """Compares with the tensor operations in float64, which the tests above compare with the equation."""
    inputs = make_inputs(1, time, 2, dtype, (0.99, 1.0))
    wide = inputs[0].dtype
    outputs, gradients = run(linear_scan, inputs, dtype)
    expected, expected_gradients = run(partial(linear_scan, implementation="reference"), inputs, wide)
    for value, reference in zip(outputs, expected, strict=True):
        assert relative_error(value.to(wide), reference) < F32
    for value, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(value.to(wide), reference) < F32_GRADIENT


def test_no_lanes():
    h, last = linear_scan(torch.zeros(0, 4, 3), torch.zeros(0, 4, 3))
    assert h.shape == (0, 4, 3)
    assert last.shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_strided_and_conjugated_inputs(dtype):
    a, x, h0 = make_inputs(2, 20, 4, dtype)
    strided = [t.transpose(0, -1).contiguous().transpose(0, -1).conj() for t in (a, x, h0)]
    h, _ = linear_scan(*strided)
    expected, _ = linear_scan_reference(a.conj(), x.conj(), h0.conj())
    assert relative_error(h, expected) < F64


@pytest.mark.parametrize("time", [0, 1, 37])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_summaries(name, dtype, time):
    """Checks the product and the last state; the adjoint's summary is the gradient of the state before the first step."""
    a, x, h0 = make_inputs(2, time, 4, dtype, (0.5, 1.0))
    grad_h, _, grad_last = make_inputs(2, time, 4, dtype, (0.5, 1.0), seed=5)
    h0.requires_grad_()
    h, last = linear_scan_reference(a, x, h0)
    product, summed = scan_summary(a, x, h0.detach(), name)
    assert relative_error(product, a.prod(dim=1)) < F64
    assert relative_error(summed, last) < F64
    (expected,) = torch.autograd.grad([h, last], h0, [grad_h, grad_last]) if time else (grad_last,)
    assert relative_error(scan_adjoint_summary(a, grad_h, grad_last, name), expected) < F64


def check_operators(name, dtype, time, units=3):
    """Checks the operators with torch.library.opcheck: shapes, strides and dtypes of results, gradients, and no aliases."""
    a, x, h0 = (t.to(dtype) for t in make_inputs(2, time, units, torch.promote_types(dtype, torch.float64)))
    torch.library.opcheck(scan, [*(t.clone().requires_grad_() for t in (a, x, h0)), name])
    torch.library.opcheck(scan, [a.transpose(1, 2).contiguous().transpose(1, 2), x, h0, name])
    torch.library.opcheck(scan_backward, [a, x, h0, x, h0, name])
    torch.library.opcheck(scan_summary, [a, x, h0, name])
    torch.library.opcheck(scan_adjoint_summary, [a, x, h0, name])


@pytest.mark.parametrize(
    ("name", "dtype", "time"),
    [
        ("cpu", torch.float32, 0),
        ("cpu", torch.complex128, 9),
        ("reference", torch.float32, 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("cpu", torch.float32, 9),
                ("cpu", torch.complex128, 1),
                ("reference", torch.complex128, 0),
                ("reference", torch.complex128, 9),
            )
        ),
    ],
    ids=str,
)
def test_operators(name, dtype, time):
    check_operators(name, dtype, time)


@pytest.mark.parametrize("implementation", ["auto", "reference"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.bfloat16], ids=str)
def test_is_traced_as_one_graph(dtype, implementation):
    inputs = make_inputs(2, 20, 3, torch.promote_types(dtype, torch.float64))
    inputs[2] = inputs[2].to(torch.promote_types(dtype, torch.float32))
    inputs[:2] = (t.to(dtype) for t in inputs[:2])

    given = [t.requires_grad_() for t in inputs]
    traced = torch.compile(partial(linear_scan, implementation=implementation), backend="aot_eager", fullgraph=True)
    outcomes = []
    for scanned in (partial(linear_scan, implementation=implementation), traced):
        h, last = scanned(*given)
        outcomes.append((h, last, *torch.autograd.grad((h.abs().sum() + last.abs().sum()), given)))
    assert all(torch.equal(value, reference) for value, reference in zip(*outcomes, strict=True))


def test_a_slice_of_the_summary_is_one_pass():
    a, x, h0 = make_inputs(2, 50, 3, torch.complex128)
    _, expected = linear_scan_reference(a, x, h0)
    product, last = scan_summary(a[:, 20:], x[:, 20:], torch.zeros_like(h0), "cpu")
    _, before = linear_scan(a[:, :20], x[:, :20], h0)
    assert relative_error(product * before + last, expected) < F64


@pytest.mark.parametrize(
    ("a", "x", "h0", "message"),
    [
        (torch.zeros(1, 2, 3), torch.zeros(1, 3, 3), None, "share one shape"),
        (torch.zeros(2, 3), torch.zeros(2, 3), None, "share one shape"),
        (torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.zeros(1, 2), "h0 must have shape"),
        (torch.zeros(1, 2, 3, 2), torch.zeros(1, 2, 3, 2), None, "share one shape"),
        (torch.zeros(1, 2, 3), torch.zeros(1, 2, 3, dtype=torch.float64), None, "share one dtype"),
        (torch.zeros(1, 2, 3).bfloat16(), torch.zeros(1, 2, 3).bfloat16(), torch.zeros(1, 3).bfloat16(), "h0 must be torch.float32"),
    ],
)
def test_refuses_what_does_not_fit(a, x, h0, message):
    with pytest.raises(ValueError, match=message):
        linear_scan(a, x, h0)
