"""Run by tests/ops/test_triton.py in a process of its own, in Triton's interpreter: the gated GELU and the causal convolution."""

from functools import partial

import pytest
import torch

from harmonicrnn.models import HarmonicRNN, LevelSpec
from harmonicrnn.ops import block_diagonal_gates, causal_convolution, gated_gelu
from harmonicrnn.ops.triton.neighbour_launches import fused_causal_convolution
from tests.harmonicrnn.ops.test_neighbours import convolution_inputs, gelu_inputs, outcome, restated_convolution, restated_gelu
from tests.helpers import F32, F32_GRADIENT, F64, relative_error

STEPS = 4
BF16 = 8e-3  # the interpreter cuts bits off, up to 7.8e-3 of the value, where a GPU rounds
LIMITS = {torch.float64: (F64, F64), torch.float32: (F32, F32_GRADIENT), torch.bfloat16: (BF16, BF16)}


def compare(function, restated, inputs, dtype, limits=LIMITS):
    wide = [t.detach().double().requires_grad_() for t in inputs]
    y, gradients = outcome(function, inputs)
    expected, expected_gradients = outcome(restated, wide)
    assert y.dtype == dtype
    assert [g.dtype for g in gradients] == [t.dtype for t in inputs]
    assert relative_error(y.double(), expected) < limits[dtype][0]
    for value, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(value.double(), reference) < limits[dtype][1]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 25, 42)], ids=str)
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_gated_gelu(dtype, shape):
    """Of one program, and of two of which the last is not full; gates from where GELU is 0 to where it is the identity."""
    compare(partial(gated_gelu, implementation="triton"), restated_gelu, gelu_inputs(shape, dtype), dtype)


SHAPES = [(4, 1), (4, 2), (4, 3 * STEPS + 1), (4, 63), (1, 5), (9, 5)]


@pytest.mark.parametrize(
    ("dtype", "taps", "time"), [*((torch.float64, *s) for s in SHAPES), *((d, *SHAPES[2]) for d in LIMITS if d != torch.float64)], ids=str
)
def test_causal_convolution(dtype, taps, time):
    function = partial(fused_causal_convolution, steps=32 if time == 63 else STEPS)
    compare(function, restated_convolution, convolution_inputs(2, time, 2, taps, dtype), dtype)


def test_channels_of_several_blocks():
    compare(fused_causal_convolution, restated_convolution, convolution_inputs(1, 3, 70, 2, torch.float64), torch.float64)


def test_gates_by_one_dense_product():
    """Those of the batched product, of each head alone, and their gradients."""
    g = torch.Generator().manual_seed(0)
    shapes = (2, 5, 12), (3, 4, 4), (3, 4)
    inputs = [torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_() for shape in shapes]
    results = [outcome(partial(block_diagonal_gates, implementation=i), inputs) for i in ("triton", "reference")]
    for value, reference in zip(*([y, *gradients] for y, gradients in results), strict=True):
        assert relative_error(value, reference) < F64


def test_no_steps():
    x, before, kernel, bias = convolution_inputs(2, 0, 3, 4, torch.float64)
    y, gradients = outcome(partial(causal_convolution, implementation="triton"), (x, before, kernel, bias))
    assert y.shape == (2, 0, 3)
    assert not any(g.any() for g in gradients)


def test_the_model_takes_them():
    """In all its blocks, with the gradients of the plain path."""
    torch.manual_seed(0)
    classes, results = torch.randint(16, (1, 6)), []
    nets = [HarmonicRNN((LevelSpec(4, 1),), bits=4, heads=1, conv_width=2, scan=scan).double() for scan in ("triton", "reference")]
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        logits, _ = net(classes)
        results.append((logits, *torch.autograd.grad(logits.square().sum(), list(net.parameters()))))
        names, nodes, seen = [], [logits.grad_fn], set()
        while nodes:
            node = nodes.pop()
            if node is not None and node not in seen:
                seen.add(node)
                names.append(node.name())
                nodes += [n for n, _ in node.next_functions]
        counts = [sum(name == f"_{kind}Backward" for name in names) for kind in ("GatedGELU", "CausalConvolution", "ResidualNorm")]
        assert counts == ([2, 1, 3] if net.scan == "triton" else [0, 0, 0])
    for value, reference in zip(*results, strict=True):
        assert relative_error(value, reference) < F64
