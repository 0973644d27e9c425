"""Run by tests/harmonicrnn/ops/test_triton.py in a process of its own, in Triton's interpreter: the fused CG-LRU."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from harmonicrnn.ops import cg_lru
from harmonicrnn.ops import fused as operators
from harmonicrnn.ops.cg_lru import MAX_ROOT_SLOPE, C, _parameters, _steps
from harmonicrnn.ops.scan import scan_summary
from harmonicrnn.ops.triton import chunks
from tests.harmonicrnn.ops.interpreted.thread_ranks import Ranks, Slice
from tests.harmonicrnn.ops.test_cg_lru import make_inputs, restated, run
from tests.helpers import F32, F32_GRADIENT, F64, relative_error

CHUNK = 4
LENGTHS = [1, 2, 3 * CHUNK + 1, 47]
BF16 = 8e-3  # the interpreter truncates, with errors of up to 7.8e-3 of the value, where a GPU rounds


@pytest.fixture(autouse=True)
def chunk(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", CHUNK)


fused = partial(cg_lru, implementation="triton")

# The interpreter takes milliseconds per step: the quick suite tries one length, which is no whole number of chunks.
CASES = [(torch.float64, "complex", LENGTHS[2]), (torch.bfloat16, "real", LENGTHS[2])]
OTHERS = [(torch.float64, "complex", time) for time in LENGTHS if time != LENGTHS[2]]
OTHERS += [(torch.float64, "real", time) for time in LENGTHS]
OTHERS += [(dtype, "complex", LENGTHS[2]) for dtype in (torch.float32, torch.bfloat16, torch.float16)]
CASES += [pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS]


@pytest.mark.parametrize(("dtype", "kind", "time"), CASES, ids=str)
def test_equals_the_equations(dtype, kind, time, monkeypatch):
    if time == 47:
        monkeypatch.setattr(chunks, "CHUNK", 16)
    batch = 1 if time == 47 else 2
    narrow, fresh = make_inputs(kind, batch, time, 2, dtype)
    fresh = fresh[:batch]
    wide = [t if t is None else t.detach().double().requires_grad_() for t in narrow]
    outputs, gradients = run(fused, narrow, fresh)
    expected, expected_gradients = run(restated, wide, fresh)
    assert [out.dtype for out in outputs] == [dtype, torch.promote_types(dtype, torch.float32)]
    limits = {
        torch.float64: (F64, F64),
        torch.float32: (F32, F32_GRADIENT),
        torch.bfloat16: (BF16, 3 * BF16),
        torch.float16: (BF16 / 8, 3 * BF16 / 8),
    }[dtype]
    for value, reference in zip(outputs, expected, strict=True):
        assert relative_error(value.double(), reference) < limits[0]
    for value, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(value.double(), reference) < limits[1]


@pytest.mark.parametrize("gate", [-200.0, -30.0, 200.0], ids=["modulus_exactly_one", "modulus_near_one", "gate_open"])
def test_extreme_gates_equal_the_plain_path(gate):
    """Both bound the derivative of sqrt(1 - |a|^2) in the same way where the root is 0 or nearly so."""
    inputs, fresh = make_inputs("complex", 2, 3, 2, torch.float32)
    fresh = fresh[:2]
    inputs[1] = torch.cat([torch.full_like(inputs[1][..., :2], gate), inputs[1][..., 2:]], dim=-1).detach().requires_grad_()
    outputs, gradients = run(fused, inputs, fresh)
    expected, expected_gradients = run(partial(cg_lru, implementation="reference"), inputs, fresh)
    for value, reference in zip((*outputs, *gradients), (*expected, *expected_gradients), strict=True):
        assert value.isfinite().all()
        assert relative_error(value, reference) < F32_GRADIENT


@pytest.mark.parametrize(
    ("kind", "time"),
    [("complex", 10), ("real", 0), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("complex", 0), ("real", 10)))],
)
def test_summary(kind, time):
    (x, gates, decay, phase, h0), fresh = make_inputs(kind, 2, time, 2)
    inputs, fresh = (x, gates, *_parameters(decay, phase, h0.dtype)), fresh[:2]
    *got, _ = operators.cg_lru_summary(*inputs, h0, fresh)
    expected = scan_summary(*_steps(*inputs, fresh), h0 if phase is None else operators.as_complex(h0), "reference")
    for value, reference in zip(got, expected, strict=True):
        assert relative_error(value, reference) < F64


@pytest.mark.parametrize(("kind", "bounds"), [("complex", [0, 5, 6, 12]), ("real", [0, 6, 6, 12])], ids=["uneven", "an_empty_one"])
def test_slices_equal_one_pass_with_one_exchange_each_way(kind, bounds):
    inputs, fresh = make_inputs(kind, 2, 12, 2)
    fresh = fresh[:2]
    given = [t for t in inputs if t is not None]
    weights = torch.randn_like(inputs[0])
    y, last = restated(*inputs, fresh)
    expected = torch.autograd.grad((y * weights).sum() + last.sum(), given)
    ranks = Ranks(3)

    def rank(slices):
        part = slice(bounds[slices.rank], bounds[slices.rank + 1])
        mine = [t if t is None else t.detach() for t in inputs]
        mine[:2] = [t[:, part] for t in mine[:2]]
        mine = [t if t is None else t.requires_grad_() for t in mine]
        part_y, end = fused(*mine, fresh if slices.rank == 0 else torch.zeros_like(fresh), slices)
        loss = (part_y * weights[:, part]).sum() + end.sum() * (slices.rank == 2)
        return part_y, end, torch.autograd.grad(loss, [t for t in mine if t is not None])

    results = ranks.run(rank)
    assert ranks.exchanges == [2, 2, 2]
    assert relative_error(torch.cat([part for part, _, _ in results], dim=1), y) < F64
    assert relative_error(results[-1][1], last) < F64
    for i, reference in enumerate(expected):
        mine = [grads[i] for _, _, grads in results]
        assert relative_error(torch.cat(mine, dim=1) if i < 2 else sum(mine), reference) < F64


def test_chosen_chunks_and_the_rows_that_are_read_together(monkeypatch):
    """Chunks are chosen as on a GPU, but begin after a few steps, on three levels."""
    for name, value in {
        "CHUNK": None,
        "UNDIVIDED": 3,
        "MIN_CHUNK": 2,
        "MAX_CHUNK": 16,
        "LANES_OF_WORK": 4,
        "FUSED_ROWS": 8,
        "BACKWARD_ROWS": 4,
    }.items():
        monkeypatch.setattr(chunks, name, value)
    monkeypatch.setattr(chunks, "GIVEN_ROWS", 16)
    inputs, fresh = make_inputs("complex", 1, 75, 2)
    results = [run(partial(cg_lru, implementation=implementation), inputs, fresh[:1]) for implementation in ("triton", "reference")]
    for value, reference in zip(*([*outputs, *gradients] for outputs, gradients in results), strict=True):
        assert relative_error(value, reference) < F64


@pytest.mark.parametrize(
    ("kind", "time"),
    [("complex", 0), ("real", 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("real", 0), ("complex", 2)))],
)
def test_operators(kind, time):
    """Tries very few steps, as opcheck runs each about thirty times."""
    (x, gates, decay, phase, h0), fresh = make_inputs(kind, 1, time, 1, torch.float32)
    fresh = fresh[:1]
    given = [t if t is None else t.detach() for t in (x, gates, -C * F.softplus(decay), phase, h0)]
    x, h0 = given[0], given[4]
    differentiated = [t if t is None else t.clone().requires_grad_() for t in given]
    torch.library.opcheck(operators.cg_lru, [*differentiated, fresh, MAX_ROOT_SLOPE])
    _, _, known = operators.cg_lru_summary(*given, fresh)
    torch.library.opcheck(operators.cg_lru, [*given, fresh, MAX_ROOT_SLOPE, known])
    torch.library.opcheck(operators.cg_lru_backward, [*given, fresh, x, x, h0, MAX_ROOT_SLOPE])
    torch.library.opcheck(operators.cg_lru_summary, [*given, fresh])
    torch.library.opcheck(operators.cg_lru_adjoint_summary, [*given[:4], fresh, x, h0])


@pytest.mark.slow
def test_is_traced_as_one_graph():
    inputs, fresh = make_inputs("complex", 2, 5, 1)
    traced = torch.compile(fused, backend="aot_eager", fullgraph=True)
    results = [run(function, inputs, fresh[:2]) for function in (traced, fused)]
    for value, reference in zip(*([*outputs, *gradients] for outputs, gradients in results), strict=True):
        assert relative_error(value, reference) < 1e-14


@pytest.mark.parametrize("slices", [None, Slice(Ranks(1), 0)], ids=["whole", "sliced"])
def test_gradients_where_it_is_computed_again(slices):
    """The tensors kept for the backward pass can be read only once."""
    (*inputs, h0), fresh = make_inputs("complex", 2, 3, 1)
    state = h0, fresh[:2], slices

    def again(*given):
        return checkpoint(fused, *given[:5], *state[1:], use_reentrant=False)

    slices and slices.ranks.turn.acquire()
    outcomes = [run(function, [*inputs, h0], fresh[:2]) for function in (again, fused)]
    for value, reference in zip(*([*outputs, *gradients] for outputs, gradients in outcomes), strict=True):
        assert torch.equal(value, reference)


def test_the_public_function_takes_the_fused_path():
    inputs, fresh = make_inputs("complex", 1, CHUNK + 1, 2)
    y, last = cg_lru(*inputs, fresh[:1], implementation="triton")
    assert "harmonicrnn_cg_lru" in y.grad_fn.name()
    expected, expected_last = cg_lru(*inputs, fresh[:1], implementation="reference")
    assert relative_error(y, expected) < F64
    assert relative_error(last, expected_last) < F64
