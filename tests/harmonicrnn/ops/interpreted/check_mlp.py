"""Run by tests/ops/test_triton.py in a process of its own, in Triton's interpreter: the gated MLP."""

import pytest
import torch

from benchmarks.gpu_neighbours import linear_of
from benchmarks.gpu_neighbours import mlp as mlp_by_parts
from harmonicrnn.models import HarmonicRNN, LevelSpec
from harmonicrnn.ops import gated_mlp
from harmonicrnn.ops.triton import mlp
from harmonicrnn.ops.triton.mlp import fused_gated_mlp
from tests.harmonicrnn.ops.interpreted.check_neighbours import BF16, LIMITS, compare
from tests.harmonicrnn.ops.test_neighbours import mlp_inputs, restated_mlp
from tests.helpers import relative_error

F16 = 2e-3  # two roundings of 4.9e-4 of the value
# Steps: one; one more than two programs take. Width and hidden channels: fewer than a block, several blocks of which the last is not full.
SHAPES = [(1, 1, 1, 3), (2, mlp.ROWS + 1, 18, 2 * mlp.HIDDEN + 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [*LIMITS, torch.float16], ids=str)
def test_gated_mlp(dtype, shape):
    # In 16 bits what lies between two products is cut or rounded as outputs are.
    limits = LIMITS | {torch.bfloat16: (2 * BF16, 2 * BF16), torch.float16: (F16, F16)}
    compare(fused_gated_mlp, restated_mlp, mlp_inputs(*shape, dtype), dtype, limits)


def test_added_to_a_residual():
    """In the kernel where it has the dtype of the result, else after it."""
    for dtype in (torch.bfloat16, torch.float32):
        x, *weights = mlp_inputs(1, 3, 4, 5, torch.bfloat16)
        residual = torch.randn(1, 3, 4, dtype=dtype, requires_grad=True)
        layers = [linear_of(*each) for each in zip(weights[::2], weights[1::2], strict=True)]
        y, plain = (gated_mlp(x, *layers, "triton", r) for r in (residual, None))
        assert y.dtype == dtype
        assert (y.grad_fn.name() == "_GatedMLPBackward") == (dtype == torch.bfloat16)
        assert relative_error(y.float(), residual.float() + plain.float()) < 2 * BF16
        g = torch.randn_like(y)
        found, expected = torch.autograd.grad(y, (residual, x), g), torch.autograd.grad(plain, x, g.bfloat16())
        assert torch.equal(found[0], g)
        assert torch.equal(found[1], expected[0])


def test_layers_that_are_called():
    """With hooks or without biases; layers that do not fit together are refused as torch does."""
    x, called = torch.randn(1, 2, 4, dtype=torch.bfloat16), []
    layers = [torch.nn.Linear(4, 6, dtype=torch.bfloat16), torch.nn.Linear(4, 6, dtype=torch.bfloat16)]
    layers.append(torch.nn.Linear(6, 4, bias=False, dtype=torch.bfloat16))
    layers[0].register_forward_hook(lambda *_: called.append(True))
    y, expected = (gated_mlp(x, *layers, implementation) for implementation in ("triton", "reference"))
    assert relative_error(y.float(), expected.float()) < 2 * BF16
    assert called == [True, True]
    with pytest.raises(RuntimeError):
        gated_mlp(x, layers[1], torch.nn.Linear(4, 5, dtype=torch.bfloat16), layers[2], "triton")


def test_programs_with_less_memory(monkeypatch):
    monkeypatch.setattr(mlp, "sizes_for", lambda x: mlp.SMALL)
    shape = (1, mlp.SMALL[0] + 1, 18, 2 * mlp.SMALL[1] + 5)
    compare(fused_gated_mlp, restated_mlp, mlp_inputs(*shape, torch.float64), torch.float64)


def test_no_steps():
    inputs = mlp_inputs(2, 0, 5, 7, torch.float64)
    y = fused_gated_mlp(*inputs)
    assert y.shape == (2, 0, 5)
    assert not any(g.any() for g in torch.autograd.grad(y.sum(), inputs))


def test_more_channels_than_a_program_holds():
    with pytest.raises(ValueError, match="at most 128 channels, got 129"):
        fused_gated_mlp(*mlp_inputs(1, 1, 129, 3, torch.float64))


@pytest.mark.parametrize("width", [4, 129])
def test_is_taken_for_numbers_of_16_bits(width):
    """By autocast or as they are, where the width allows it; else there are products of torch around the gated GELU."""
    for dtype, autocast in ((torch.bfloat16, False), (torch.float32, True), (torch.float32, False)):
        x, *weights = mlp_inputs(1, 2, width, 3, dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = mlp_by_parts(x, *weights, implementation="triton")
        assert y.dtype == (torch.bfloat16 if autocast else dtype)
        fused = width == 4 and (autocast or dtype == torch.bfloat16)
        assert (y.grad_fn.name() == "_GatedMLPBackward") == fused
        gradients = torch.autograd.grad(y.float().sum(), (x, *weights))
        assert all(g.dtype == dtype and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_model_takes_it(dtype):
    """In all its blocks under autocast, with its own weights; not in float64."""
    torch.manual_seed(0)
    net = HarmonicRNN((LevelSpec(4, 1, 2), LevelSpec(4, 1)), bits=4, heads=1, conv_width=2, scan="triton")
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits, _ = net.to(torch.float32 if dtype == torch.bfloat16 else dtype)(torch.randint(16, (1, 6)))
    nodes, seen, taken = [logits.grad_fn], set(), 0
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            taken += node.name() == "_GatedMLPBackward"
            nodes += [n for n, _ in node.next_functions]
    assert taken == (3 if dtype == torch.bfloat16 else 0)
    gradients = torch.autograd.grad(logits.float().sum(), list(net.parameters()))
    assert all(g.isfinite().all() for g in gradients)
