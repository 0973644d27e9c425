"""Run by tests/ops/test_triton.py in a process of its own, in Triton's interpreter: the gated MLP."""

import pytest
import torch

from models import HarmonicRNN, LevelSpec
from ops import gated_mlp
from ops.triton import mlp
from ops.triton.mlp import fused_gated_mlp
from tests.helpers import F64, relative_error
from tests.ops.interpreted.check_neighbours import BF16, LIMITS, compare
from tests.ops.test_neighbours import mlp as mlp_by_parts
from tests.ops.test_neighbours import mlp_inputs, restated_mlp

# Steps: one; one more than two programs take. Width and hidden channels: fewer than a block, several blocks of which the last is not full.
SHAPES = [(1, 1, 1, 3), (2, mlp.ROWS + 1, 18, 2 * mlp.HIDDEN + 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_gated_mlp(dtype, shape):
    # In bfloat16 what lies between two products is cut as outputs are.
    compare(fused_gated_mlp, restated_mlp, mlp_inputs(*shape, dtype), dtype, LIMITS | {torch.bfloat16: (2 * BF16, 2 * BF16)})


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


def test_the_model_takes_it(monkeypatch):
    """In each block, with the gradients of the plain path: in float64 here, for which it is not taken by itself."""
    torch.manual_seed(0)
    classes, results = torch.randint(16, (1, 6)), []
    nets = [HarmonicRNN((LevelSpec(4, 1),), bits=4, heads=1, conv_width=2, scan="reference").double() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net, function in zip(nets, (lambda x, g, i, o, scan: fused_gated_mlp(x, *g, *i, *o), gated_mlp), strict=True):
        monkeypatch.setattr("models.block.gated_mlp", function)
        logits, _ = net(classes)
        results.append((logits, *torch.autograd.grad(logits.square().sum(), list(net.parameters()))))
    for value, reference in zip(*results, strict=True):
        assert relative_error(value, reference) < F64
