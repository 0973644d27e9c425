"""Run by tests/harmonicrnn/ops/test_triton.py in Triton's interpreter: one pass, summaries and slices of the plain scan."""

from functools import partial

import pytest
import torch

from harmonicrnn.ops import linear_scan
from harmonicrnn.ops.reference import linear_scan_reference
from harmonicrnn.ops.scan import scan_adjoint_summary, scan_summary
from harmonicrnn.ops.triton import chunks
from tests.harmonicrnn.ops.interpreted.thread_ranks import Ranks
from tests.harmonicrnn.ops.test_scan import check_operators, equal_in_16_bits, make_inputs, run
from tests.helpers import F32, F32_GRADIENT, F64, relative_error

CHUNK = 4
LENGTHS = [1, 2, 3 * CHUNK + 1]
triton_scan = partial(linear_scan, implementation="triton")


@pytest.fixture(autouse=True)
def chunk(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", CHUNK)


DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
CASES = [(torch.float32, LENGTHS[2]), (torch.float64, LENGTHS[0]), (torch.complex128, LENGTHS[1]), (torch.complex64, 47)]
CASES += [pytest.param(*case, marks=pytest.mark.slow) for case in ((d, t) for d in DTYPES for t in LENGTHS) if case not in CASES]


@pytest.mark.parametrize(("dtype", "time"), CASES, ids=str)
def test_equals_the_float64_reference(dtype, time, monkeypatch):
    """Includes many steps with moduli near one, where single precision loses most."""
    if time == 47:
        monkeypatch.setattr(chunks, "CHUNK", 16)
    inputs = make_inputs(1 if time == 47 else 2, time, 2, dtype, (0.99, 1.0) if time == 47 else (0.0, 0.9999))
    outputs, gradients = run(triton_scan, inputs, dtype)
    wide = inputs[0].dtype
    expected, expected_gradients = run(linear_scan_reference, inputs, wide)
    single = dtype in (torch.float32, torch.complex64)
    for value, reference in zip(outputs, expected, strict=True):
        assert relative_error(value.to(wide), reference) < (F32 if single else F64)
    for value, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(value.to(wide), reference) < (F32_GRADIENT if single else F64)


@pytest.mark.parametrize("complex_", [pytest.param(False, marks=pytest.mark.slow), True], ids=["real", "complex"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)], ids=str)
def test_numbers_of_16_bits(dtype, complex_):
    for time in (1, 3 * CHUNK + 1):
        equal_in_16_bits(triton_scan, dtype, 2, time, 2, complex_)


@pytest.mark.parametrize("steps", [3, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (1, None))])
def test_any_chunk_and_width(steps, monkeypatch):
    """Tries units that do not fill a block, and the default chunk."""
    monkeypatch.setattr(chunks, "CHUNK", steps)
    inputs = make_inputs(1, 5, 5, torch.complex128)
    outputs, gradients = run(triton_scan, inputs, torch.complex128)
    expected, expected_gradients = run(linear_scan_reference, inputs, torch.complex128)
    for value, reference in zip((*outputs, *gradients), (*expected, *expected_gradients), strict=True):
        assert relative_error(value, reference) < F64


@pytest.fixture
def short_chunks(monkeypatch):
    """Makes chunks of a few steps, on three levels, so that their lengths are chosen for short sequences too."""
    for name, value in {"CHUNK": None, "UNDIVIDED": 3, "MIN_CHUNK": 2, "MAX_CHUNK": 4, "LANES_OF_WORK": 4}.items():
        monkeypatch.setattr(chunks, name, value)


@pytest.mark.parametrize("time", [27, *(pytest.param(time, marks=pytest.mark.slow) for time in (3, 4))])
def test_chosen_chunks(short_chunks, time):
    """27 steps are seven chunks, which are joined to four, and these to two."""
    inputs = make_inputs(1, time, 2, torch.complex128, (0.5, 1.0))
    outputs, gradients = run(triton_scan, inputs, torch.complex128)
    expected, expected_gradients = run(linear_scan_reference, inputs, torch.complex128)
    for value, reference in zip((*outputs, *gradients), (*expected, *expected_gradients), strict=True):
        assert relative_error(value, reference) < F64
    product, last = scan_summary(*inputs, "triton")
    assert relative_error(product, inputs[0].prod(dim=1)) < F64
    assert relative_error(last, expected[1]) < F64


def test_the_lengths_that_are_chosen(monkeypatch):
    """There must be enough chunks to fill a device, and summaries on as few levels as their length allows."""
    assert chunks.joined(59) == CHUNK
    monkeypatch.setattr(chunks, "CHUNK", 1)
    assert chunks.joined(59) == 2
    monkeypatch.setattr(chunks, "CHUNK", None)
    assert chunks.chunk_length(1, 960_000, 64) == 128
    assert chunks.chunk_length(16, 16_000, 64) == 32
    assert chunks.chunk_length(1, 8_000_000, 64) == 1024
    assert chunks.chunk_length(1, 64, 64) == 64
    assert chunks.joined(7500) == 128
    assert chunks.joined(59) == 59


def test_no_steps_leave_the_state():
    h0 = torch.randn(2, 3, dtype=torch.complex64, requires_grad=True)
    nothing = torch.zeros(2, 0, 3, dtype=torch.complex64)
    h, last = triton_scan(nothing, nothing, h0)
    assert h.shape == (2, 0, 3)
    assert torch.equal(last, h0)
    last.sum().real.backward()
    assert torch.equal(h0.grad, torch.ones_like(h0))


@pytest.mark.parametrize(
    ("dtype", "time"),
    [
        (torch.float64, 0),
        (torch.complex128, 10),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((torch.float64, 10), (torch.complex128, 0))),
    ],
    ids=str,
)
def test_summaries(dtype, time):
    a, x, h0 = make_inputs(2, time, 2, dtype, (0.5, 1.0))
    grad_h, _, grad_last = make_inputs(2, time, 2, dtype, (0.5, 1.0), seed=5)
    h0.requires_grad_()
    h, last = linear_scan_reference(a, x, h0)
    product, summed = scan_summary(a, x, h0.detach(), "triton")
    assert relative_error(product, a.prod(dim=1)) < F64
    assert relative_error(summed, last) < F64
    (expected,) = torch.autograd.grad([h, last], h0, [grad_h, grad_last]) if time else (grad_last,)
    assert relative_error(scan_adjoint_summary(a, grad_h, grad_last, "triton"), expected) < F64


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.complex128, marks=pytest.mark.slow)], ids=str)
def test_operators(dtype):
    check_operators("triton", dtype, 2, 1)


def test_slices_equal_one_pass_with_one_exchange_each_way():
    inputs = [t.requires_grad_() for t in make_inputs(2, 12, 2, torch.complex128, (0.5, 1.0))]
    weights = torch.randn(2, 12, 2, dtype=torch.complex128)
    h, last = linear_scan_reference(*inputs)
    expected = torch.autograd.grad(((h * weights).sum() + last.sum()).real, inputs)
    ranks, bounds = Ranks(3), [0, 5, 6, 12]

    def rank(slices):
        part = slice(bounds[slices.rank], bounds[slices.rank + 1])
        mine = [t.detach()[:, part].requires_grad_() for t in inputs[:2]] + [inputs[2].detach().requires_grad_()]
        y, end = triton_scan(*mine, slices)
        loss = (y * weights[:, part]).sum() + (end.sum() if slices.rank == 2 else end.sum() * 0)
        return y, torch.autograd.grad(loss.real, mine)

    results = ranks.run(rank)
    assert ranks.exchanges == [2, 2, 2]
    assert relative_error(torch.cat([y for y, _ in results], dim=1), h) < F64
    for i in range(2):
        assert relative_error(torch.cat([grads[i] for _, grads in results], dim=1), expected[i]) < F64
    assert relative_error(sum(grads[2] for _, grads in results), expected[2]) < F64
