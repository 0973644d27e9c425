"""Checks that HarmonicRNN gives the authors' numbers in every way it can be run."""

import math

import pytest
import torch
import torch.nn.functional as F

from harmonicrnn.generation.cpu import CPUEngine
from harmonicrnn.generation.engine import PlainEngine
from harmonicrnn.generation.graph_engine import GraphEngine
from harmonicrnn.models import HarmonicRNN, set_slices
from harmonicrnn.parallel import simulated_groups
from tests.harmonicrnn.models.authors import LEVELS, authors_model, authors_results
from tests.helpers import relative_error

LIMIT = 1e-5
BITS = 5e-6

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def net():
    return authors_model()


def bits(logits, classes):
    return F.cross_entropy(logits.flatten(0, 1), classes.flatten()).item() / math.log(2)


def test_initial_weights_are_spread_as_theirs(net):
    """Compares the deviation of each kind of weight, and whether it is truncated, with the authors' file, which has untrained weights."""
    torch.manual_seed(0)
    ours = HarmonicRNN(LEVELS, heads=4)
    kinds = (
        "gate.weight",
        "output.weight",
        "layer.input.weight",
        "projection.weight",
        "gate_weight",
        "gate_bias",
        "down.weight",
        "up.weight",
    )

    def values(model, kind):
        parts = [p.detach() * (p[0].numel() ** 0.5 if p.dim() > 1 else 1) for name, p in model.named_parameters() if name.endswith(kind)]
        return torch.cat([part.flatten() for part in parts])

    for kind in kinds:
        mine, theirs = values(ours, kind), values(net, kind)
        assert mine.std().item() == pytest.approx(theirs.std().item(), rel=0.15), kind
        assert mine.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.35), kind


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[36], [5, 0, 1, 13, 17], [1] * 36], ids=["whole", "uneven", "steps"])
def test_logits_and_loss(net, sizes):
    classes, expected, loss = authors_results()
    state, pieces = None, []
    for piece in classes.split(sizes, dim=1):
        logits, state = net(piece, state)
        pieces.append(logits)
    logits = torch.cat(pieces, dim=1)
    assert relative_error(logits, expected) < LIMIT
    assert abs(bits(logits, classes) - loss) < BITS


@torch.no_grad()
@pytest.mark.parametrize("begin", [0, 7])
@pytest.mark.parametrize("threads", [1, 2])
def test_steps_of_the_compiled_engine(net, threads, begin):
    classes, expected, loss = authors_results()
    engine = CPUEngine(net, threads=threads)
    first, state = net(classes[:, :begin])
    engine.start(state)
    logits, nats = engine.follow(classes[:, begin:])
    assert relative_error(logits, expected[:, begin:]) < LIMIT
    assert abs(bits(torch.cat([first, logits], dim=1), classes) - loss) < BITS
    chosen = -torch.log_softmax(expected.double(), dim=-1).gather(2, classes[..., None])[:, begin:, 0]
    assert relative_error(nats, chosen) < LIMIT


@torch.no_grad()
@pytest.mark.parametrize("begin", [0, 7])
@pytest.mark.parametrize("kind", [PlainEngine, GraphEngine])
def test_steps_of_the_other_engines(net, kind, begin):
    """Each of the authors' classes is drawn by a number in the middle of its part of the authors' distribution."""
    classes, expected, loss = authors_results()
    _, state = net(classes[:, :begin])
    log_p = expected.double().log_softmax(dim=-1)
    chosen = -log_p.gather(2, classes[..., None])[..., 0]
    p = log_p.exp()
    middle = (p.cumsum(dim=-1) - p / 2).gather(2, classes[..., None])[..., 0]
    engine = kind(net)
    engine.start(state)
    drawn, nats = engine.draw(middle[:, begin:], 1.0, 1.0)
    assert torch.equal(drawn, classes[:, begin:])
    assert relative_error(nats, chosen[:, begin:]) < LIMIT
    if begin == 0:
        assert abs(nats.mean().item() / math.log(2) - loss) < BITS


@torch.no_grad()
def test_over_two_ranks(net):
    classes, expected, loss = authors_results()
    pieces, before = [], None
    try:
        for group, half in zip(simulated_groups(2), classes.chunk(2, dim=1), strict=True):
            set_slices(net, group)
            pieces.append(net(half, None, before)[0])
            before = half[:, -1]
    finally:
        set_slices(net, None)
    logits = torch.cat(pieces, dim=1)
    assert relative_error(logits, expected) < LIMIT
    assert abs(bits(logits, classes) - loss) < BITS
