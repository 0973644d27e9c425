"""Tests of layers that mix time, on slices: equal to one pass over the whole sequence, forward and backward, within one process."""

from dataclasses import replace

import pytest
import torch

from harmonicrnn.models import CausalConv, DropoutPlace, HarmonicRNN, LevelSpec, set_dropout_place, set_slices
from harmonicrnn.ops import linear_scan
from harmonicrnn.ops.reference import linear_scan_reference
from harmonicrnn.parallel import simulated_groups
from tests.harmonicrnn.ops.test_scan import make_inputs
from tests.helpers import F64, relative_error

LEVELS = (LevelSpec(8, 1, 2), LevelSpec(12, 1, 3), LevelSpec(8, 2))
PRODUCT = 6
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def weights_like(*tensors, seed=9):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, generator=g, dtype=t.dtype).to(t.device) for t in tensors]


@pytest.mark.parametrize("modulus", [(0.0, 0.0), (0.0, 0.9), (0.9, 1.0), (1.0, 1.0)], ids=str)
@pytest.mark.parametrize("implementation", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_scan(size, dtype, implementation, modulus):
    """Checks the scan, and the gradients through the last state of each slice."""
    time = 7
    a, x, h0 = (t.requires_grad_() for t in make_inputs(2, size * time, 3, dtype, modulus))
    h, _ = linear_scan_reference(a, x, h0)
    lasts = [h[:, (rank + 1) * time - 1] for rank in range(size)]
    weight_h, *weight_lasts = weights_like(h, *lasts)
    expected = torch.autograd.grad([h, *lasts], [a, x, h0], [weight_h, *weight_lasts])

    def part(tensor, rank):
        return tensor[:, rank * time : (rank + 1) * time].detach().clone()

    passes = []
    for rank, group in enumerate(simulated_groups(size)):
        # The state before the sequence is ignored on other ranks.
        start = h0.detach().clone() if rank == 0 else torch.full_like(h0.detach(), 1e6)
        inputs = [t.requires_grad_() for t in (part(a, rank), part(x, rank), start)]
        passes.append((inputs, linear_scan(*inputs, group, implementation)))
    for rank in reversed(range(size)):
        inputs, (h_slice, last) = passes[rank]
        assert relative_error(h_slice, part(h, rank)) < F64
        assert relative_error(last, lasts[rank]) < F64
        grads = torch.autograd.grad([h_slice, last], inputs, [part(weight_h, rank), weight_lasts[rank]])
        for grad, whole in zip(grads[:2], expected[:2], strict=True):
            assert relative_error(grad, part(whole, rank)) < F64
        assert relative_error(grads[2], expected[2] if rank == 0 else torch.zeros_like(expected[2])) < F64


@pytest.mark.parametrize(("width", "time"), [(1, 4), (4, 3), (4, 1), (4, 8)])
def test_convolution(width, time):
    conv = CausalConv(3, width).double()
    x = torch.randn(2, 4 * time, 3, dtype=torch.float64)
    expected, _ = conv(x)
    for rank, group in enumerate(simulated_groups(4)):
        set_slices(conv, group)
        y, _ = conv(x[:, rank * time : (rank + 1) * time])
        assert relative_error(y, expected[:, rank * time : (rank + 1) * time]) < F64


VARIANTS = {
    "default": {},
    "real": {"recurrence": "real"},
    "none": {"recurrence": "none"},
    "lti": {"recurrence": "lti"},
    "frame": {"shift": "frame"},
    "wide convolution": {"conv_width": 9},
    "no convolution": {"conv_width": 1},
    "learned": {"embedding": "learned"},
    "centre alone": {"levels": (LevelSpec(8, 2),)},
    "paper": {"preset": "paper", "dropout": 0.0, "groups": 4},
}


def make_net(**options):
    torch.manual_seed(0)
    return HarmonicRNN(**{"preset": "griffin", "levels": LEVELS, "bits": 4, "heads": 2, "groups": 2} | options).double()


def simulate(net, classes, size, weight, state=None):
    """Returns logits and all parameters' gradients as computed jointly by the ranks of one group, and the last rank's state."""
    time = classes.shape[1] // size
    passes = []
    for rank, group in enumerate(simulated_groups(size)):
        set_slices(net, group)
        before = classes[:, rank * time - 1] if rank else None
        passes.append(net(classes[:, rank * time : (rank + 1) * time], state, before))
    grads = [torch.zeros_like(p) for p in net.parameters()]
    for rank in reversed(range(size)):
        own = torch.autograd.grad(passes[rank][0], list(net.parameters()), weight[:, rank * time : (rank + 1) * time])
        grads = [total + grad for total, grad in zip(grads, own, strict=True)]
    set_slices(net, None)
    return torch.cat([logits for logits, _ in passes], dim=1), grads, passes[-1][1]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [2, 4])
def test_model(size, variant, device):
    net = make_net(**VARIANTS[variant]).to(device)
    classes = torch.randint(16, (3, size * 2 * PRODUCT), device=device)
    logits, state = net(classes)
    (weight,) = weights_like(logits)
    expected = torch.autograd.grad(logits, list(net.parameters()), weight)
    split, grads, split_state = simulate(net, classes, size, weight)
    assert relative_error(split, logits) < F64
    for (name, _), grad, whole in zip(net.named_parameters(), grads, expected, strict=True):
        assert relative_error(grad, whole) < F64, name
    # After its last slice the sequence continues as after one pass.
    following = torch.randint(16, (3, 11), device=device)
    assert relative_error(net(following, split_state)[0], net(following, state)[0]) < F64


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("size", [2, 4])
def test_dropout_is_that_of_one_pass(size, recompute):
    """Checks consecutive chunks of the sequence too, and blocks recomputed in the backward pass."""
    levels = (LevelSpec(8, 1, 2), LevelSpec(8, 2, 3), LevelSpec(8, 2))
    net, again = (
        make_net(preset="paper", groups=0, dropout=0.3, levels=[replace(s, recompute=r) for s in levels]) for r in (False, recompute)
    )
    clips = torch.tensor([7, 2**40, 0])
    classes = torch.randint(16, (3, size * 2 * PRODUCT))

    def place(start):
        return DropoutPlace.of(net, 1, 5, clips, torch.full((3,), 3 * PRODUCT + start))

    set_dropout_place(net, place(0))
    logits, _ = net(classes)
    (weight,) = weights_like(logits)
    expected = torch.autograd.grad(logits, list(net.parameters()), weight)
    time, passes, state, chunks = classes.shape[1] // size, [], None, []
    for rank, group in enumerate(simulated_groups(size)):
        begin, piece = rank * time, classes[:, rank * time : (rank + 1) * time]
        set_dropout_place(again, place(begin))
        chunk, state = again(piece, state)
        chunks.append(chunk)
        set_slices(again, group)
        passes.append(again(piece, None, classes[:, begin - 1] if rank else None)[0])
        set_slices(again, None)
    set_dropout_place(again, None)  # the recomputation in the backward pass does not use it
    assert relative_error(torch.cat(passes, dim=1), logits) < F64
    assert relative_error(torch.cat(chunks, dim=1), logits) < F64
    found = torch.autograd.grad(chunks, list(again.parameters()), weight.split(time, dim=1))
    for grad, whole in zip(found, expected, strict=True):
        assert relative_error(grad, whole) < F64
    assert relative_error(net.eval()(classes)[0], logits) > 0.1


def test_model_that_carries_a_state_in():
    """The first rank gets a state in which some lanes have begun and one has not."""
    net = make_net()
    with torch.no_grad():
        _, state = net(torch.randint(16, (3, 5 * PRODUCT)))
    state = state.reset(torch.tensor([False, True, False]))
    classes = torch.randint(16, (3, 4 * PRODUCT))
    logits, _ = net(classes, state)
    (weight,) = weights_like(logits)
    expected = torch.autograd.grad(logits, list(net.parameters()), weight)
    split, grads, _ = simulate(net, classes, 2, weight, state)
    assert relative_error(split, logits) < F64
    for grad, whole in zip(grads, expected, strict=True):
        assert relative_error(grad, whole) < F64


def test_what_is_no_slice():
    net = make_net()
    first, second = simulated_groups(2)
    set_slices(net, first)
    with pytest.raises(ValueError, match="whole pooling windows of 2 steps; got 7"):
        net(torch.zeros(1, 7, dtype=torch.long))
    set_slices(net, second)
    with pytest.raises(ValueError, match="needs the sample before it"):
        net(torch.zeros(1, 6, dtype=torch.long))
