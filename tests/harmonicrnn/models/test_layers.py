"""Tests of the model's layers: convolution, pooling, gates, recurrence, embedding, norms and initialisation."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from harmonicrnn.models import CausalConv, DownPool, GatedRecurrence, HarmonicRNN, LevelSpec, ResidualBlock, UpPool
from harmonicrnn.models.block import BlockPlace, make_norm
from harmonicrnn.models.embedding import ClassEmbedding, sinusoidal_table
from harmonicrnn.models.initialisation import CUT_STD
from harmonicrnn.models.presets import PRESETS
from harmonicrnn.models.recurrence import RecurrenceState
from tests.helpers import F64, relative_error

GRIFFIN = PRESETS["griffin"]


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
    # Ours is (G, p D_in/G, D_out/G), torch's (D_out, D_in/G, p).
    kernel = down.weight.unflatten(1, (factor, -1)).permute(0, 3, 2, 1).flatten(0, 1)
    assert relative_error(down(x), F.conv1d(x.mT, kernel, down.bias, stride=factor, groups=groups).mT) < F64
    up = randomised(UpPool(inputs, outputs, factor, groups))
    # Ours is (G, D_in/G, p D_out/G), torch's (D_in, D_out/G, p).
    kernel = up.weight.unflatten(2, (factor, -1)).permute(0, 1, 3, 2).flatten(0, 1)
    assert relative_error(up(x), F.conv_transpose1d(x.mT, kernel, up.bias, stride=factor, groups=groups).mT) < F64


def test_gates_are_block_diagonal():
    """The gates of a head see only its own channels, and each gate has its own weights."""
    layer, x = randomised(GatedRecurrence(12, replace(GRIFFIN, heads=3), "complex")), torch.randn(1, 2, 12, dtype=torch.float64)
    recurrence_gate, input_gate = layer._gates(x).chunk(2, dim=-1)
    for head in range(3):
        block = x[..., 4 * head : 4 * head + 4] @ layer.gate_weight[head] + layer.gate_bias[head]
        assert relative_error(recurrence_gate[..., 2 * head : 2 * head + 2], block[..., :2]) < F64
        assert relative_error(input_gate[..., 2 * head : 2 * head + 2], block[..., 2:]) < F64


def test_initial_decay_and_phase():
    torch.manual_seed(0)
    layer = GatedRecurrence(4096, GRIFFIN, "complex")
    modulus = torch.exp(-F.softplus(layer.decay))
    assert modulus.min() >= 0.9 - 1e-5
    assert modulus.max() <= 0.999 + 1e-5
    squared = modulus**2
    assert math.isclose(squared.mean().item(), (0.9**2 + 0.999**2) / 2, abs_tol=0.005)
    assert layer.phase.min() >= 0
    assert layer.phase.max() <= 0.1 * math.pi
    assert math.isclose(layer.phase.mean().item(), 0.05 * math.pi, abs_tol=0.01)


def test_modulus_and_angle_are_those_of_the_recurrence():
    layer = GatedRecurrence(8, replace(GRIFFIN, heads=2), "complex")
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


def test_the_projected_embedding_is_the_projected_table():
    embedding = ClassEmbedding(32, 6, "projected")
    classes = torch.randint(32, (2, 7))
    assert relative_error(embedding(classes), embedding.projection(embedding.table[classes])) < 1e-5
    assert [name for name, _ in embedding.named_parameters()] == ["projection.weight", "projection.bias"]


def spreads(block):
    """Returns variances of a block's weights: of linear maps, and of those onto the residual path, each times its fan-in; of the gates."""
    mixer, mlp, layer = block.mixer, block.mlp, block.mixer.layer
    inner = [mixer.gate, layer.input, mlp.gate, mlp.layer, *([layer.projection] if layer.projection else [])]
    gates = layer.recurrence.gate_weight, layer.recurrence.gate_bias
    return (
        [linear.weight.var().item() * linear.in_features for linear in inner],
        [linear.weight.var().item() * linear.in_features for linear in (mixer.output, mlp.output)],
        [values.var().item() for values in gates],
    )


def test_initial_spread_of_the_weights():
    """Griffin's variances: 1/fan-in everywhere, times 2/blocks before the residual path; small kernels."""
    torch.manual_seed(0)
    block = ResidualBlock(BlockPlace(256, 2 / 10), GRIFFIN)
    inner, onto_residual, (weight, bias) = spreads(block)
    assert inner == pytest.approx([1] * 4, rel=0.1)
    assert onto_residual == pytest.approx([0.2] * 2, rel=0.1)
    assert weight == pytest.approx(1 / 32, rel=0.1)
    assert bias == 0
    assert block.mixer.layer.conv.kernel.var().item() == pytest.approx(0.01 / 4, rel=0.2)
    assert DownPool(256, 256, 4, 4).weight.var().item() == pytest.approx(1 / 256, rel=0.1)
    assert UpPool(256, 256, 4, 4).weight.var().item() == pytest.approx(1 / 64, rel=0.1)
    for layer in (block.mixer.layer.conv, block.mixer.output):
        assert not layer.bias.any()


def test_initial_spread_of_the_papers_weights():
    """lecun_normal of Flax, cut at two deviations, for the gates over all inputs of all blocks; output maps and up-pooling by level."""
    torch.manual_seed(0)
    block = ResidualBlock(BlockPlace(256, 1 / 17), PRESETS["paper"])
    inner, onto_residual, (weight, bias) = spreads(block)
    assert inner == pytest.approx([1] * 5, rel=0.1)
    assert onto_residual == pytest.approx([1 / 17] * 2, rel=0.1)
    assert weight == pytest.approx(1 / 512, rel=0.1)
    assert bias == pytest.approx(1 / 32, rel=0.1)
    gate = block.mixer.gate.weight
    assert gate.abs().max() <= 2 / CUT_STD / 16 + 1e-6
    assert block.mixer.output.weight.abs().max() > 2.2 * (1 / 17 / 256) ** 0.5
    assert UpPool(512, 512, 4, 0, "paper", 1 / 17).weight.var().item() == pytest.approx(1 / 17 / 4, rel=0.1)
    levels = HarmonicRNN((LevelSpec(32, 3, 2), LevelSpec(32, 2))).levels
    assert levels.pre.blocks[0].mlp.output.weight.var().item() * 64 == pytest.approx(1 / 13, rel=0.2)
    assert levels.inner.blocks[0].mlp.output.weight.var().item() * 64 == pytest.approx(1 / 4, rel=0.2)


def test_the_phase_grows_with_the_pooling():
    levels = HarmonicRNN((LevelSpec(32, 1, 4), LevelSpec(32, 1, 5), LevelSpec(32, 1)), phase_grows=True, phase=(0.1, 0.2)).levels
    for pooled, stack in ((1, levels.pre), (4, levels.inner.post), (20, levels.inner.inner)):
        phase = stack.blocks[0].mixer.layer.recurrence.phase
        assert (phase >= 0.1 * pooled).all()
        assert (phase <= 0.2 * pooled).all()


def test_without_a_unit_first_step_no_step_is_another():
    """A fresh lane then equals one whose state was zero."""
    layer = GatedRecurrence(8, replace(PRESETS["paper"], heads=2), "complex").double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    rested = RecurrenceState(torch.zeros(2, 8, dtype=torch.float64), torch.zeros(2, dtype=torch.bool))
    assert torch.equal(layer(x)[0], layer(x, rested)[0])
    other = GatedRecurrence(8, replace(GRIFFIN, heads=2), "complex").double()
    assert not torch.allclose(other(x)[0], other(x, rested)[0])


def test_layer_norm_under_autocast_keeps_the_dtype():
    x = torch.randn(2, 3, 8)
    norm = make_norm("layer", 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(x).dtype == torch.float32
        assert norm(x.bfloat16()).dtype == torch.bfloat16
    assert relative_error(norm(x), F.layer_norm(x, (8,), eps=1e-6)) < 1e-6
