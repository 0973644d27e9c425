"""Models with a layer that mixes time on its own are refused before training, and the layer is named."""

import pytest
import torch
from torch import nn

from harmonicrnn.errors import UserError
from harmonicrnn.models import ContextCounts, HarmonicRNN, LevelSpec, WaveNet
from harmonicrnn.parallel.slice_check import check_knows_slices
from tests.harmonicrnn.parallel.fits import Recorded, make_data, make_trainer
from tests.harmonicrnn.parallel.test_slices import VARIANTS, make_net


class TimeNorm(nn.Module):
    """Normalises over time."""

    def forward(self, x):
        return x / x.std(dim=1, keepdim=True)


class CumulativeSum(nn.Sequential):
    """Has a layer that is known, and a sum over time outside of any layer."""

    def forward(self, x):
        return super().forward(x).cumsum(dim=1)


class Lstm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.LSTM(width, width, batch_first=True)

    def forward(self, x):
        return self.inner(x)[0]


class Convolution(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x):
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


class BatchNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.BatchNorm1d(width)

    def forward(self, x):
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


def with_layer(layer):
    """Puts another layer before the MLP of the second level's block and returns the model."""
    net = make_net()
    block = net.levels.inner.pre.blocks[0]
    block.mlp.norm = nn.Sequential(block.mlp.norm, layer)
    return net


PLACE = "levels.inner.pre.blocks.0.mlp.norm.1"


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Lstm, f"{PLACE}.inner (LSTM)"),
        (Convolution, f"{PLACE}.inner (Conv1d)"),
        (BatchNorm, f"{PLACE}.inner (BatchNorm1d)"),
        (lambda width: TimeNorm(), f"{PLACE} (TimeNorm)"),
        (lambda width: nn.LayerNorm((6, width)), f"{PLACE} (LayerNorm)"),
        (lambda width: CumulativeSum(nn.Linear(width, width)), f"{PLACE} mixes time"),
    ],
    ids=["lstm", "convolution", "batch_norm", "norm over time", "layer_norm", "cumulative sum"],
)
def test_is_refused_by_name(make, name):
    net = with_layer(make(12).double())
    with pytest.raises(UserError) as error:
        check_knows_slices(net)
    assert str(error.value).startswith(name)


def test_what_lies_about_being_point_wise_is_found_by_trying():
    layer = TimeNorm()
    layer.point_wise_in_time = True
    with pytest.raises(UserError, match=f"^{PLACE} mixes time"):
        check_knows_slices(with_layer(layer))


def test_what_says_truly_that_it_is_point_wise_is_let_through():
    layer = nn.Softsign()
    with pytest.raises(UserError, match="Softsign"):
        check_knows_slices(with_layer(layer))
    layer.point_wise_in_time = True
    check_knows_slices(with_layer(layer))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_models_here_pass(variant):
    check_knows_slices(make_net(**VARIANTS[variant]))


def test_a_stack_of_convolutions_passes():
    """Its dilations span several slices."""
    check_knows_slices(WaveNet(width=4, skip=4, cycle=5, cycles=2, bits=5))


@pytest.mark.parametrize(
    ("net", "name"),
    [
        (make_net(recurrence="gru"), "levels.pre.blocks.0.mixer.layer.recurrence.gru (GRU)"),
        (ContextCounts(bits=4), "counts (ParameterList)"),
    ],
    ids=["gru", "counts"],
)
def test_baselines_that_cannot_be_split(net, name):
    with pytest.raises(UserError) as error:
        check_knows_slices(net)
    assert str(error.value).startswith(name)


def test_leaves_the_model_and_the_random_numbers_as_they_were():
    net = HarmonicRNN((LevelSpec(8, 1, 2), LevelSpec(8, 1)), preset="griffin", heads=2, groups=2)
    before, state = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    check_knows_slices(net)
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    assert net.slices is None
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(layer._forward_hooks for layer in net.modules())


def test_a_forced_scan_that_the_probe_cannot_use():
    check_knows_slices(make_net(scan="triton"))


class WithLayer(Recorded):
    """Contains a layer that mixes time."""

    def __init__(self):
        super().__init__(False, False)
        self.net = with_layer(TimeNorm())


def refused_fit(folder):
    try:
        make_trainer(folder, 2).fit(WithLayer(), datamodule=make_data(folder))
    except UserError as error:
        return str(error)
    return ""


def test_is_refused_when_a_run_starts(ranks, folder):
    for message in ranks.run(2, refused_fit, folder):
        assert message.startswith(f"{PLACE} (TimeNorm)")
