"""Checks that the baselines keep the same contract: any split of a sequence, no look-ahead, lanes that begin anew."""

import numpy as np
import pytest
import torch

from harmonicrnn.models import ContextCounts, DiagonalRecurrence, WaveNet
from harmonicrnn.models.gru import GRURecurrence
from tests.harmonicrnn.models.test_harmonic_rnn import SPLITS, forward_in_pieces, make_classes, make_model
from tests.helpers import F64, relative_error

KINDS = ["counts", "wavenet", "gru", "lti"]


def make(kind):
    torch.manual_seed(1)
    if kind == "wavenet":
        return WaveNet(width=6, skip=8, cycle=3, cycles=2, bits=5).double()
    if kind == "counts":
        net, classes = ContextCounts(order=2, strength=2.0, bits=5), torch.randint(4, (3, 200))
        net.learn(net.delay(classes, None, None)[0], None, classes, torch.ones_like(classes, dtype=torch.bool))
        return net
    return make_model(recurrence=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_give_what_the_whole_does(kind):
    net, classes = make(kind), make_classes()
    whole, end = net(classes)
    for sizes in SPLITS.values():
        logits, state = forward_in_pieces(net, classes, sizes)
        assert relative_error(logits, whole) < F64
        # And continued from there.
        assert relative_error(net(classes, state)[0], net(classes, end)[0]) < F64


@pytest.mark.parametrize("kind", KINDS)
def test_lanes_that_are_reset_begin_anew(kind):
    net, before, after = make(kind), make_classes(time=12), make_classes(seed=6)
    _, state = net(before)
    logits, _ = net(after, state.reset(torch.tensor([True, False])))
    assert relative_error(logits[0], net(after)[0][0]) < F64
    assert relative_error(logits[1], net(after, state)[0][1]) < F64
    assert relative_error(logits[1], net(after)[0][1]) > 1e-6


@pytest.mark.parametrize("kind", ["wavenet", "gru", "lti"])
def test_no_look_ahead_by_gradient(kind):
    """The embedded samples are delayed by one: the logits at t depend on those up to t and on no later one."""
    net, classes, seen = make(kind), make_classes(batch=1, time=30), []
    net.embedding.register_forward_hook(lambda *args: seen.append(args[2].requires_grad_()) or None)
    logits, _ = net(classes)
    for t in (0, 7, 20, 29):
        gradient = torch.autograd.grad(logits[0, t].square().sum(), seen[0], retain_graph=True)[0][0].abs().sum(dim=1)
        assert not gradient[t + 1 :].any()
        assert gradient[t] > 0
        reach = net.receptive_field if kind == "wavenet" else 31
        assert gradient[max(0, t + 1 - reach) : t].all()
        assert not gradient[: max(0, t + 1 - reach)].any()


def test_counts_do_not_look_ahead():
    net, classes = make("counts"), make_classes(batch=1, time=9, classes=4)
    whole, _ = net(classes)
    for t in range(9):
        changed = classes.clone()
        changed[0, t:] = 31 - changed[0, t:]
        assert torch.equal(net(changed)[0][0, : t + 1], whole[0, : t + 1])


def test_the_time_invariant_recurrence_is_its_convolution():
    torch.manual_seed(0)
    layer, x = DiagonalRecurrence(3).double(), torch.randn(2, 50, 3, dtype=torch.float64)
    y, _ = layer(x)
    # The equations in numpy, from the parameters alone.
    step, rate = layer.log_step.exp().detach().numpy(), -layer.log_rate.exp().detach().numpy() + 1j * layer.frequency.detach().numpy()
    rate, readout = rate.reshape(3, -1), (layer.readout[0] + 1j * layer.readout[1]).detach().numpy()
    a = np.exp(step[:, None] * rate)
    kernel = 2 * (readout * (a - 1) / rate * a ** np.arange(50)[:, None, None]).real.sum(axis=-1)  # (T, D)
    expected = layer.through.detach().numpy() * x.numpy()
    for b in range(2):
        for d in range(3):
            expected[b, :, d] += np.convolve(x[b, :, d].numpy(), kernel[:, d])[:50]
    assert relative_error(y, torch.from_numpy(expected)) < F64


def test_gru_of_nothing_leaves_its_state():
    layer, x = GRURecurrence(4).double(), torch.randn(2, 5, 4, dtype=torch.float64)
    _, state = layer(x)
    y, same = layer(x[:, :0], state)
    assert y.shape == (2, 0, 4)
    assert torch.equal(same.h, state.h)
    assert not same.fresh.any()


def test_counts_by_hand():
    """Samples 5 5 8 5 at 4 bits, after the zero level 8; s = 2.

    Followers: of anything 5 x3, 8 x1; of 8: 5 x2 (at the beginning and after the 8); of 5: 5, 8.
    """
    net, classes = ContextCounts(order=1, strength=2.0, bits=4), torch.tensor([[5, 5, 8, 5]])
    assert torch.equal(net(classes)[0], torch.full((1, 4, 16), 1 / 16, dtype=torch.float64).log())
    valid = torch.ones_like(classes, dtype=torch.bool)
    net.learn(net.delay(classes, None, None)[0], None, classes, valid)
    assert net.counts[0].sum() == 4
    p = net(torch.tensor([[5, 8, 3]]))[0].exp()[0]
    order_0 = {5: (3 + 2 / 16) / 6, 8: (1 + 2 / 16) / 6, 3: (2 / 16) / 6}
    assert p[0, 5].item() == pytest.approx((2 + 2 * order_0[5]) / 4, rel=1e-12)  # after the zero level
    assert p[1, 8].item() == pytest.approx((1 + 2 * order_0[8]) / 4, rel=1e-12)  # after 5
    assert p[2, 3].item() == pytest.approx(2 * order_0[3] / 4, rel=1e-12)  # after 8, never seen
    assert torch.allclose(p.sum(dim=-1), torch.ones(3, dtype=torch.float64), rtol=1e-12)
    # Invalid samples are not counted.
    net.learn(net.delay(classes, None, None)[0], None, classes, ~valid)
    assert net.counts[1].sum() == 4


@pytest.mark.parametrize(("order", "bits"), [(3, 8), (-1, 8), (1, 13)])
def test_counts_out_of_range(order, bits):
    with pytest.raises(ValueError, match=str(order if bits == 8 else bits)):
        ContextCounts(order=order, bits=bits)
