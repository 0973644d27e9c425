"""Tests of the exponential moving average of the weights."""

import pytest
import torch

from callbacks.ema import EMA


def test_decay_grows_to_its_value():
    """The first update copies the weights (torch); from then on the decay is (1 + n)/(10 + n), at most the configured value."""
    weight = torch.nn.Linear(1, 1, bias=False)
    callback = EMA(0.5)
    averaged = torch.optim.swa_utils.AveragedModel(weight, **callback._kwargs)
    expected, values = None, torch.rand(20)
    for n, value in enumerate(values):
        weight.weight.data.fill_(value)
        averaged.update_parameters(weight)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = value if n == 0 else decay * expected + (1 - decay) * value
        assert averaged.module.weight.item() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_refuses_a_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=r"ema\.decay"):
        EMA(decay)
