"""Tests of the plain engine and of sampling with temperature and top-p."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from harmonicrnn.errors import UserError
from harmonicrnn.generation import PlainEngine, make_engine
from harmonicrnn.generation.engine import choose
from harmonicrnn.generation.sampler import read_prompt, spread
from tests.harmonicrnn.models.test_harmonic_rnn import make_model


def engine_with(logits):
    """Returns an engine whose model always gives these logits."""
    net = make_model(dtype=torch.float32)
    torch.nn.init.zeros_(net.head.weight)
    net.head.bias.data = logits.float()
    return net, PlainEngine(net)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.6), (1.7, 0.3)])
def test_draws_follow_the_distribution(temperature, top_p):
    logits = torch.randn(32, generator=torch.Generator().manual_seed(1))
    net, engine = engine_with(logits)
    engine.start(spread(read_prompt(net, []), 2000))
    uniforms = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    classes, nats = engine.draw(uniforms, temperature, top_p)
    expected = torch.softmax(logits.double() / temperature, dim=0).numpy()
    likeliest = np.argsort(-expected, kind="stable")
    kept = likeliest[: np.searchsorted(np.cumsum(expected[likeliest]), top_p) + 1] if top_p < 1 else likeliest
    counts = np.bincount(classes.flatten().numpy(), minlength=32)
    assert counts.sum() == counts[kept].sum() == 4000
    assert stats.chisquare(counts[kept], expected[kept] / expected[kept].sum() * 4000).pvalue > 1e-3
    # The likelihood is the model's own, at temperature 1 and top_p 1.
    torch.testing.assert_close(nats, -torch.log_softmax(logits.double(), dim=0)[classes], rtol=1e-6, atol=0)


def test_of_equally_likely_classes_the_lower_are_kept():
    logits = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0]).double()
    uniforms = torch.linspace(0, 0.999, 50, dtype=torch.float64)
    kept = choose(logits.expand(50, -1), uniforms, 1.0, 0.4).unique().tolist()
    assert kept == [1, 2]
    assert choose(logits.expand(50, -1), uniforms, 1.0, 1e-9).unique().tolist() == [1]


def test_a_number_on_a_border_belongs_to_the_class_above():
    logits = torch.zeros(4, 4).double()
    assert choose(logits, torch.tensor([0.0, 0.25, 0.75, 1 - 2**-53]), 1.0, 1.0).tolist() == [0, 1, 3, 3]


def test_an_engine_goes_on_from_call_to_call_and_starts_anew_when_told():
    net = make_model()
    uniforms = torch.rand(2, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = spread(read_prompt(net, []), 2)
    engine = PlainEngine(net)
    engine.start(state)
    whole = engine.draw(uniforms, 1.0, 1.0)
    engine.start(state)
    pieces = [engine.draw(piece, 1.0, 1.0) for piece in uniforms.split([7, 1, 22], dim=1)]
    for field in (0, 1):
        assert torch.equal(torch.cat([piece[field] for piece in pieces], dim=1), whole[field])


def test_a_device_without_float64_is_refused():
    net = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device("mps"))]))
    with pytest.raises(UserError, match=r"device mps: has no float64, .* use cpu"):
        make_engine(net)
