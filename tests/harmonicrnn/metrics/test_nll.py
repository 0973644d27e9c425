"""Tests of the negative log-likelihood metric: padding, batches, ranks, bins of the context position and memory."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from harmonicrnn.metrics import NegativeLogLikelihood
from harmonicrnn.models import HarmonicRNN, LevelSpec, sample_nats
from tests.helpers import F64, relative_error


def measure(nats, valid, sizes):
    metric = NegativeLogLikelihood()
    for n, v in zip(nats.split(sizes), valid.split(sizes), strict=True):
        metric.update(n, v)
    return vars(metric.likelihood())


@pytest.mark.parametrize("sizes", [[7], [1] * 7, [3, 4], [6, 1]], ids=str)
def test_is_exact_over_any_batches(sizes):
    g = torch.Generator().manual_seed(0)
    nats, valid = torch.rand(7, 50, generator=g), torch.rand(7, 50, generator=g) > 0.3
    valid[4] = False
    expected = nats[valid].double().sum().item() / valid.sum().item() / math.log(2)
    measured = measure(nats, valid, sizes)
    assert measured["bits_per_sample"] == pytest.approx(expected, rel=1e-12)
    assert measured["samples"] == valid.sum()
    assert measured["clips"] == 6


def test_padding_never_counts_even_where_it_is_not_a_number():
    nats, valid = torch.ones(2, 3), torch.tensor([[True, True, False], [True, False, False]])
    nats[~valid] = float("nan")
    assert measure(nats, valid, [2])["bits_per_sample"] == pytest.approx(1 / math.log(2))


def test_a_model_of_known_output():
    """The head's weights are zero, so the likelihood is that of the distribution of its bias."""
    net = HarmonicRNN((LevelSpec(8, 1),), preset="griffin", bits=4, heads=2)
    torch.nn.init.zeros_(net.head.weight)
    probabilities = torch.softmax(torch.randn(16), dim=0)
    net.head.bias.data = probabilities.log()
    classes = torch.randint(16, (3, 40))
    nats = sample_nats(net(classes)[0], classes)
    measured = measure(nats, torch.ones_like(classes, dtype=torch.bool), [3])["bits_per_sample"]
    assert measured == pytest.approx(-probabilities.log2()[classes].mean().item(), rel=1e-5)


def test_bins_of_the_context_position():
    nats = torch.rand(3, 40, generator=torch.Generator().manual_seed(0))
    valid = torch.rand(3, 40, generator=torch.Generator().manual_seed(1)) > 0.2
    context = torch.tensor([0, 40, 1_000_000])
    metric = NegativeLogLikelihood()
    metric.update(nats[:2, :20], valid[:2, :20], context[:2])
    metric.update(nats[:2, 20:], valid[:2, 20:], context[:2] + 20)
    metric.update(nats[2:], valid[2:], context[2:])
    edges = [0, *NegativeLogLikelihood.edges().tolist()]
    assert edges[:8] == [0, 1, 2, 2, 3, 4, 6, 8]
    sums, counts = {}, {}
    for lane in range(3):
        for t in range(40):
            if valid[lane, t]:
                position = int(context[lane]) + t
                bin_ = max(i for i, edge in enumerate(edges) if edge <= position)
                sums[bin_] = sums.get(bin_, 0) + nats[lane, t].double().item()
                counts[bin_] = counts.get(bin_, 0) + 1
    assert [(row["from"], row["samples"]) for row in metric.likelihood().by_position] == [(edges[i], counts[i]) for i in sorted(counts)]
    for row, i in zip(metric.likelihood().by_position, sorted(counts), strict=True):
        assert row["bits_per_sample"] == pytest.approx(sums[i] / counts[i] / math.log(2), rel=1e-12)


def measure_part():
    """Measures on a rank whose batches differ from the other's in number, size and values."""
    metric, number = NegativeLogLikelihood(), torch.distributed.get_rank() + 1
    for _ in range(number):
        metric.update(torch.full((number, 5), float(number)), torch.ones(number, 5, dtype=torch.bool))
    return vars(metric.likelihood())


def test_is_exact_over_two_ranks(ranks):
    for measured in ranks.run(2, measure_part):
        assert measured["bits_per_sample"] == pytest.approx((5 * 1 + 20 * 2) / 25 / math.log(2), rel=1e-12)
        assert (measured["samples"], measured["clips"]) == (25, 5)


class LargestFloats(TorchDispatchMode):
    """Records the number of elements of the largest float32 tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float32:
            self.largest = max(self.largest, out.numel())
        return out


@pytest.mark.parametrize("time", [0, 1, 7, 12])
def test_nats_by_parts_are_cross_entropy(monkeypatch, time):
    """Computes parts of 5 rows, with gradients, and with logits of -inf for other classes."""
    monkeypatch.setattr("harmonicrnn.models.sample_likelihood.ROWS", 5)
    logits = torch.randn(2, time, 6, dtype=torch.float64)
    logits[..., 5] = -math.inf
    logits.requires_grad_()
    classes, weights = torch.randint(5, (2, time)), torch.randn(2, time, dtype=torch.float64)
    nats = sample_nats(logits, classes)
    expected = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view(2, time)
    assert nats.dtype == torch.float64
    assert relative_error(nats, expected) < F64
    gradients = [torch.autograd.grad((out * weights).sum(), logits)[0] for out in (nats, expected)]
    assert relative_error(*gradients) < F64


def test_nats_of_bfloat16_make_no_float32_logits_of_all_samples(monkeypatch):
    monkeypatch.setattr("harmonicrnn.models.sample_likelihood.ROWS", 100)
    logits = torch.randn(1, 1000, 16, dtype=torch.bfloat16, requires_grad=True)
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel() * t.element_size()) or t, lambda t: t)
    with LargestFloats() as floats, hooks:
        nats = sample_nats(logits, torch.randint(16, (1, 1000)))
        nats.sum().backward()
    assert nats.dtype == torch.float32
    assert floats.largest == 100 * 16
    assert sum(kept) == 1000 * 16 * 2 + 1000 * 8
