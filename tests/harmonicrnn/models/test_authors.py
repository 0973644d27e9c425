"""HarmonicRNN gives the authors' numbers, in every way in which it is run."""

import math

import pytest
import torch
import torch.nn.functional as F

from harmonicrnn.generation.cpu import CPUEngine
from harmonicrnn.generation.engine import PlainEngine
from harmonicrnn.generation.graph_engine import GraphEngine
from harmonicrnn.models import set_slices
from harmonicrnn.parallel import simulated_groups
from tests.harmonicrnn.models.authors import authors_model, authors_results
from tests.helpers import relative_error

LIMIT = 1e-5
BITS = 5e-6

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def net():
    return authors_model()


def bits(logits, classes):
    return F.cross_entropy(logits.flatten(0, 1), classes.flatten()).item() / math.log(2)


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
@pytest.mark.parametrize("kind", [PlainEngine, GraphEngine])
def test_what_the_other_engines_draw_has_the_likelihood_of_the_authors_model(net, kind):
    """Greedy draws from the middle of a window; the class of the highest of their logits is drawn first."""
    classes, expected, _ = authors_results()
    _, state = net(classes[:, :20])
    engine = kind(net)
    engine.start(state)
    drawn, nats = engine.draw(torch.zeros(2, 14, dtype=torch.float64), 0.0, 1.0)
    assert torch.equal(drawn[:, 0], expected[:, 20].argmax(dim=-1))
    assert relative_error(nats[:, 0], -expected[:, 20].double().log_softmax(dim=-1).amax(dim=-1)) < LIMIT
    logits, _ = net(torch.cat([classes[:, :20], drawn], dim=1))
    chosen = -logits[:, 20:].double().log_softmax(dim=-1).gather(2, drawn[..., None])[..., 0]
    assert relative_error(nats, chosen) < LIMIT


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
