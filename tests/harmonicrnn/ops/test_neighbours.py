from functools import partial

import pytest
import torch

from benchmarks.gpu_neighbours import mlp
from harmonicrnn.models import HarmonicRNN, LevelSpec
from harmonicrnn.ops import causal_convolution, gated_gelu, gated_mlp, residual_norm
from tests.helpers import F32, F32_GRADIENT, F64, relative_error


def restated_gelu(gate, x):
    return gate / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (gate + 0.044715 * gate**3))) * x


def restated_convolution(x, before, kernel, bias):
    """Step by step, as it is defined."""
    taps, ys = kernel.shape[0], []
    for t in range(x.shape[1]):
        y = bias.expand(x.shape[0], -1)
        for k in range(taps):
            s = t - (taps - 1) + k
            y = y + kernel[k] * (x[:, s] if s >= 0 else before[:, s])
        ys.append(y)
    return torch.stack(ys, dim=1)


def restated_mlp(x, gate_weight, gate_bias, input_weight, input_bias, output_weight, output_bias):
    return restated_gelu(x @ gate_weight.T + gate_bias, x @ input_weight.T + input_bias) @ output_weight.T + output_bias


def restated_norm(x, delta, weight):
    """Both results side by side."""
    total = x + delta
    return torch.cat([total, total / torch.sqrt((total**2).mean(dim=-1, keepdim=True) + 1e-6) * weight], dim=-1)


def norm_of(x, delta, weight, implementation="auto"):
    layer = torch.nn.RMSNorm(x.shape[-1], eps=1e-6)
    del layer.weight
    layer.weight = weight
    return torch.cat(residual_norm(x, delta, layer, implementation), dim=-1)


def norm_inputs(batch, time, width, dtype):
    g = torch.Generator().manual_seed(0)
    x, delta, weight = (torch.randn(shape, generator=g) for shape in ((batch, time, width), (batch, time, width), (width,)))
    return [t.to(dtype).requires_grad_() for t in (x, delta, 1 + 0.3 * weight)]


def gelu_inputs(shape, dtype):
    g = torch.Generator().manual_seed(0)
    gate, x = (torch.randn(shape, generator=g) for _ in range(2))
    return [t.to(dtype).requires_grad_() for t in (3 * gate, x)]


def mlp_inputs(batch, time, width, hidden, dtype):
    """x, and weights and biases of gate, input and output."""
    g, shapes = torch.Generator().manual_seed(0), ((hidden, width), (hidden, width), (width, hidden))
    tensors = [torch.randn(batch, time, width, generator=g)]
    for outputs, inputs in shapes:
        tensors += [torch.randn(outputs, inputs, generator=g) / inputs**0.5, torch.randn(outputs, generator=g)]
    return [t.to(dtype).requires_grad_() for t in tensors]


def convolution_inputs(batch, time, channels, taps, dtype):
    """x and what precedes it; kernel and bias in the dtype of parameters."""
    g, wide = torch.Generator().manual_seed(0), torch.promote_types(dtype, torch.float32)
    x, before = (torch.randn(batch, steps, channels, generator=g).to(dtype) for steps in (time, taps - 1))
    kernel, bias = torch.randn(taps, channels, generator=g).to(wide), torch.randn(channels, generator=g).to(wide)
    return [t.requires_grad_() for t in (x, before, kernel, bias)]


def outcome(function, inputs):
    """y, and the gradients of a random linear functional of it, the same numbers in all dtypes."""
    y = function(*inputs)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(y)
    return y, torch.autograd.grad(y, inputs, weights, materialize_grads=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("implementation", ["auto", "reference"])
def test_equal_their_definitions(implementation, dtype):
    convolutions = [convolution_inputs(2, time, 3, taps, dtype) for time, taps in ((1, 4), (2, 4), (9, 4), (5, 1))]
    cases = [(gated_gelu, restated_gelu, gelu_inputs((2, 9, 3), dtype))]
    cases.append((mlp, restated_mlp, mlp_inputs(2, 9, 3, 7, dtype)))
    cases.append((norm_of, restated_norm, norm_inputs(2, 9, 5, dtype)))
    cases += [(causal_convolution, restated_convolution, inputs) for inputs in convolutions]
    for function, restated, inputs in cases:
        y, gradients = outcome(partial(function, implementation=implementation), inputs)
        expected, expected_gradients = outcome(restated, [t.detach().double().requires_grad_() for t in inputs])
        assert relative_error(y.double(), expected) < (F64 if dtype == torch.float64 else F32)
        for value, reference in zip(gradients, expected_gradients, strict=True):
            assert relative_error(value.double(), reference) < (F64 if dtype == torch.float64 else F32_GRADIENT)


def test_kernels_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="needs a CUDA device"):
        gated_gelu(torch.zeros(1), torch.zeros(1), implementation="triton")


def test_layers_of_the_mlp_are_called():
    """Whatever they are, and with their hooks."""
    x, called = torch.randn(2, 3, 4), []
    layers = [torch.nn.Linear(4, 6), torch.nn.Sequential(torch.nn.Linear(4, 6)), torch.nn.Linear(6, 4)]
    layers[0].register_forward_hook(lambda *_: called.append("gate"))
    y = gated_mlp(x, *layers)
    assert called == ["gate"]
    assert torch.equal(y, layers[2](gated_gelu(layers[0](x), layers[1](x))))


def test_what_is_added():
    """A residual to the MLP's result; nothing before a norm."""
    x, residual = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    layers = torch.nn.Linear(4, 6), torch.nn.Linear(4, 6), torch.nn.Linear(6, 4)
    assert torch.equal(gated_mlp(x, *layers, residual=residual), residual + gated_mlp(x, *layers))
    total, y = residual_norm(x, None, torch.nn.LayerNorm(4))
    assert total is x
    assert torch.equal(y, torch.nn.functional.layer_norm(x, (4,)))


def test_a_model_on_meta_tensors_computes_nothing():
    net = HarmonicRNN((LevelSpec(8, 1),), heads=2).to("meta")
    logits, _ = net(torch.zeros(1, 5, dtype=torch.long, device="meta"))
    assert logits.is_meta
