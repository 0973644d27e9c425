"""Compares the recurrence without a phase gate with its equation, computed in a loop."""

import pytest
import torch

from benchmarks.experiments.ungated_phase import UngatedPhase, UngatedPhaseModule
from harmonicrnn.models import LevelSpec
from harmonicrnn.models.presets import PRESETS
from harmonicrnn.models.recurrence import GatedRecurrence
from tests.helpers import relative_error


def make_layer():
    torch.manual_seed(0)
    layer = GatedRecurrence(16, PRESETS["griffin"], "complex").double()
    layer.__class__ = UngatedPhase
    with torch.no_grad():
        layer.phase.mul_(5)
    return layer


def test_equals_its_equation():
    layer, x = make_layer(), torch.randn(2, 30, 16, dtype=torch.float64)
    modulus, _ = layer.modulus_and_angle(x)
    a = torch.polar(modulus.double(), layer.phase.expand_as(modulus).double())
    gate = torch.sigmoid(layer._gates(x)[..., layer.units :])
    z, h, found = torch.complex(*x.chunk(2, dim=-1)), 0, []
    for t in range(30):
        root = 1 if t == 0 and layer.unit_first_step else (1 - modulus[:, t] ** 2).sqrt()
        h = a[:, t] * h + root * gate[:, t] * z[:, t]
        found.append(torch.cat([h.real, h.imag], dim=-1))
    assert relative_error(layer(x)[0], torch.stack(found, dim=1)) < 1e-6  # decays are computed in float32
    first, state = layer(x[:, :13])
    rest, end = layer(x[:, 13:], state)
    assert relative_error(torch.cat([first, rest], dim=1), layer(x)[0]) < 1e-6
    assert relative_error(end.h, layer(x)[1].h) < 1e-6


def test_it_takes_the_place_of_each_recurrence():
    module = UngatedPhaseModule(levels=[LevelSpec(8, 1, 2), LevelSpec(8, 1)], preset="griffin", heads=2, groups=2)
    layers = [layer for layer in module.net.modules() if isinstance(layer, GatedRecurrence)]
    assert len(layers) == 3
    assert all(isinstance(layer, UngatedPhase) for layer in layers)
    layers[0].slices = object()
    with pytest.raises(ValueError, match="on one rank alone"):
        layers[0](torch.zeros(1, 4, 8))
