import math

import pytest
import torch
import torch.nn.functional as F

from harmonicrnn.models import CausalConv, DownPool, GatedRecurrence, ResidualBlock, UpPool
from harmonicrnn.models.embedding import ClassEmbedding, sinusoidal_table
from tests.helpers import F64, relative_error


def randomised(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module.double()


def test_causal_conv_equals_torch():
    conv, x = randomised(CausalConv(6, 4)), torch.randn(2, 11, 6, dtype=torch.float64)
    y, _ = conv(x)
    expected = F.conv1d(F.pad(x.mT, (3, 0)), conv.kernel.T[:, None], conv.bias, groups=6).mT
    assert relative_error(y, expected) < F64


@pytest.mark.parametrize(("groups", "inputs", "outputs"), [(1, 4, 8), (2, 4, 8), (4, 8, 4), (8, 8, 8)])
@pytest.mark.parametrize("factor", [2, 5])
def test_pooling_equals_torch(factor, groups, inputs, outputs):
    x = torch.randn(3, 4 * factor, inputs, dtype=torch.float64)
    down = randomised(DownPool(inputs, outputs, factor, groups))
    # Ours (G, p D_in/G, D_out/G); torch's (D_out, D_in/G, p).
    kernel = down.weight.unflatten(1, (factor, -1)).permute(0, 3, 2, 1).flatten(0, 1)
    assert relative_error(down(x), F.conv1d(x.mT, kernel, down.bias, stride=factor, groups=groups).mT) < F64
    up = randomised(UpPool(inputs, outputs, factor, groups))
    # Ours (G, D_in/G, p D_out/G); torch's (D_in, D_out/G, p).
    kernel = up.weight.unflatten(2, (factor, -1)).permute(0, 1, 3, 2).flatten(0, 1)
    assert relative_error(up(x), F.conv_transpose1d(x.mT, kernel, up.bias, stride=factor, groups=groups).mT) < F64


def test_gates_are_block_diagonal():
    """A head's gates see the channels of that head alone, and each gate has its own weights."""
    layer, x = randomised(GatedRecurrence(12, 3, "complex")), torch.randn(1, 2, 12, dtype=torch.float64)
    recurrence_gate, input_gate = layer._gates(x).chunk(2, dim=-1)
    for head in range(3):
        block = x[..., 4 * head : 4 * head + 4] @ layer.gate_weight[head] + layer.gate_bias[head]
        assert relative_error(recurrence_gate[..., 2 * head : 2 * head + 2], block[..., :2]) < F64
        assert relative_error(input_gate[..., 2 * head : 2 * head + 2], block[..., 2:]) < F64


def test_initial_decay_and_phase():
    torch.manual_seed(0)
    layer = GatedRecurrence(4096, 8, "complex")
    modulus = torch.exp(-F.softplus(layer.decay))
    assert modulus.min() >= 0.9 - 1e-5
    assert modulus.max() <= 0.999 + 1e-5
    squared = modulus**2
    assert math.isclose(squared.mean().item(), (0.9**2 + 0.999**2) / 2, abs_tol=0.005)
    assert layer.phase.min() >= 0
    assert layer.phase.max() <= 0.1 * math.pi
    assert math.isclose(layer.phase.mean().item(), 0.05 * math.pi, abs_tol=0.01)


def test_modulus_and_angle_are_those_of_the_recurrence():
    layer = GatedRecurrence(8, 2, "complex")
    x = torch.randn(1, 5, 8)
    modulus, angle = layer.modulus_and_angle(x)
    r = torch.sigmoid(layer._gates(x)[..., :4])
    assert relative_error(modulus, torch.exp(-8 * r * F.softplus(layer.decay))) < 1e-5
    assert relative_error(angle, r * layer.phase) < 1e-5


def test_sinusoidal_table():
    table = sinusoidal_table(256, 8)
    for v in (0, 1, 100, 255):
        for k in range(4):
            angle = v * 10_000 ** (-2 * k / 8)
            assert math.isclose(table[v, k].item(), math.sin(angle), abs_tol=1e-6)
            assert math.isclose(table[v, 4 + k].item(), math.cos(angle), abs_tol=1e-6)


def test_the_sinusoidal_embedding_is_the_projected_table():
    embedding = ClassEmbedding(32, 6, "sinusoidal")
    classes = torch.randint(32, (2, 7))
    assert relative_error(embedding(classes), embedding.projection(embedding.table[classes])) < 1e-5
    assert [name for name, _ in embedding.named_parameters()] == ["projection.weight", "projection.bias"]


def test_initial_spread_of_the_weights():
    """Griffin's: fan-in everywhere, 2 / blocks in front of the residual path, small kernels."""
    torch.manual_seed(0)
    block = ResidualBlock(256, blocks=10)

    def spread(weight):
        return weight.std().item()

    for weight, variance in (
        (block.gate.weight, 1 / 256),
        (block.input.weight, 1 / 256),
        (block.output.weight, 2 / 10 / 256),
        (block.mlp.gate.weight, 1 / 256),
        (block.mlp.input.weight, 1 / 256),
        (block.mlp.output.weight, 2 / 10 / 768),
        (block.conv.kernel, 0.01 / 4),
        (block.recurrence.gate_weight, 1 / 32),
        (DownPool(256, 256, 4, 4).weight, 1 / 256),
        (UpPool(256, 256, 4, 4).weight, 1 / 64),
    ):
        assert spread(weight) == pytest.approx(variance**0.5, rel=0.1)
    assert not block.conv.bias.any()
    assert not block.recurrence.gate_bias.any()
    assert not block.output.bias.any()
