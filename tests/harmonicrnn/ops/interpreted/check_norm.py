"""Run by tests/ops/test_triton.py in a process of its own, in Triton's interpreter: RMSNorm at the head of a residual branch."""

from functools import partial

import pytest
import torch

from harmonicrnn.ops import residual_norm
from harmonicrnn.ops.triton import norm
from tests.harmonicrnn.ops.interpreted.check_neighbours import LIMITS, compare
from tests.harmonicrnn.ops.test_neighbours import norm_inputs, norm_of, restated_norm
from tests.helpers import F64, relative_error


@pytest.fixture(autouse=True)
def small_programs(monkeypatch):
    """16 numbers at a time, two times: the shapes below take several programs, of which the last has nothing for its second turn."""
    monkeypatch.setattr(norm, "NUMBERS", 16)
    monkeypatch.setattr(norm, "TURNS", 2)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 9, 5), (1, 3, 20)], ids=str)
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_residual_norm(dtype, shape):
    # In 16 bits the sum is cut off, and what is normed is that; gradients of the weight are sums of few such.
    limits = LIMITS | {torch.bfloat16: tuple(2 * limit for limit in LIMITS[torch.bfloat16])}
    compare(partial(norm_of, implementation="triton"), restated_norm, norm_inputs(*shape, dtype), dtype, limits)


def test_without_a_sum():
    """The residual path goes on with the very numbers, and its gradient meets that of the branch."""
    x, _, weight = norm_inputs(2, 3, 5, torch.float64)
    layer, g = torch.nn.RMSNorm(5, eps=1e-6).double(), torch.randn(2, 2, 3, 5, dtype=torch.float64)
    layer.weight.data = weight.detach()
    results = []
    for implementation in ("triton", "reference"):
        total, y = residual_norm(x, None, layer, implementation)
        assert torch.equal(total, x)
        results.append((y, *torch.autograd.grad((g[0] * total + g[1] * y).sum(), (x, layer.weight))))
    for value, reference in zip(*results, strict=True):
        assert relative_error(value, reference) < F64


def test_layers_that_are_called():
    """With hooks, another shape to norm, another dtype to add, or none to scale by: as without the kernel."""
    x, delta, called = torch.randn(2, 3, 4), torch.randn(2, 3, 4), []
    hooked = torch.nn.RMSNorm(4, eps=1e-6)
    hooked.register_forward_hook(lambda *_: called.append(True))
    cases = [(hooked, delta), (torch.nn.RMSNorm((3, 4), eps=1e-6), delta), (torch.nn.RMSNorm(4, eps=1e-6), delta.double())]
    cases += [(torch.nn.RMSNorm(4, eps=1e-6, elementwise_affine=False), delta), (torch.nn.RMSNorm(4, eps=1e-6), delta[:1])]
    for layer, added in cases:
        results = [residual_norm(x, added, layer, implementation) for implementation in ("triton", "reference")]
        for value, reference in zip(*results, strict=True):
            assert torch.equal(value, reference)
    assert called == [True, True]


def test_an_epsilon_of_zero():
    """Steps that are not there are not normed."""
    x, delta, _ = norm_inputs(1, 3, 5, torch.float64)
    layer = torch.nn.RMSNorm(5, eps=0.0).double()
    grads = [torch.autograd.grad(residual_norm(x, delta, layer, i)[1].square().sum(), layer.weight)[0] for i in ("triton", "reference")]
    assert relative_error(*grads) < F64


def test_no_steps():
    inputs = norm_inputs(2, 0, 5, torch.float64)
    y = norm_of(*inputs, implementation="triton")
    assert y.shape == (2, 0, 10)
    assert not any(g.any() for g in torch.autograd.grad(y.sum(), inputs))
