"""Compares the mixture's distribution, compiled and in tensor operations, with plain tensor operations in float64 with autograd."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from harmonicrnn.audio import Quantiser
from harmonicrnn.ops import implementation
from harmonicrnn.ops.prediction import (
    FAR,
    component_log_probabilities,
    mixture,
    mixture_batched,
    mixture_compiled,
    mixture_log_probabilities,
)
from tests.helpers import relative_error

FORMS = pytest.mark.parametrize("form", [mixture_compiled, mixture_batched], ids=["compiled", "batched"])
CELLS = pytest.mark.parametrize(("bits", "law"), [(bits, law) for bits in (4, 8, 12) for law in ("linear", "mu-law")])
SHARE = 0.002
TIME = 20


def limits_of(bits, law):
    _, edges = Quantiser(bits, law).cells()
    return F.pad(F.pad(edges, (1, 0), value=-FAR), (0, 1), value=FAR)


def make_inputs(limits, lanes=2, time=TIME):
    """Returns predictions at limits, in the middle, at the ends of the range and beyond; scales from below the least to the whole range."""
    g = torch.Generator().manual_seed(0)
    p = 2 * torch.rand(lanes, time, 3, generator=g, dtype=torch.float64) - 1
    ends = [1, -1, 1.2, -1.2, 0, limits[1], limits[-2], limits[3], limits[len(limits) // 2], limits[5] * (1 + 1e-15)]
    for t, value in enumerate(ends):
        p[0, 2 * t : 2 * t + 2, t % 3] = value
    s = 10 ** (7 * torch.rand(lanes, time, 3, generator=g, dtype=torch.float64) - 7)
    s[0, 1::7], s[1, 0], s[1, 1], s[1, 2:6] = 2, 1e-7, 1e-5, 0.05
    log_width = torch.tensor([[0.35, 0.7, 1.4, 2.8], [0.3, 0.9, 1.0, 4.0], [0.35, 0.7, 1.4, 2.8]], dtype=torch.float64).log()
    log_weights = (3 * torch.randn(lanes, time, 12, generator=g, dtype=torch.float64)).log_softmax(dim=-1)
    return p, s, log_width, log_weights


def plainly(p, s, log_width, log_weights, limits):
    """Computes log P by the formulas, but for C = sigmoid(b) sigmoid(-a) (1 - exp(a - b)), which loses no digits."""
    scale = (s[..., None] * log_width.exp()).clamp(min=1e-5).flatten(2)[..., None]
    away = limits - p.repeat_interleave(log_width.shape[1], dim=2)[..., None]
    a, b = away[..., :-1] / scale, away[..., 1:] / scale
    cells = torch.sigmoid(b) * torch.sigmoid(-a) * -torch.expm1(-limits.diff() / scale)
    return (log_weights.exp()[..., None] * ((1 - SHARE) * cells + SHARE / cells.shape[-1])).sum(dim=2).log()


def gradients_plainly(inputs, limits, grad):
    leaves = [t.clone().requires_grad_() for t in inputs]
    return torch.autograd.grad(plainly(*leaves, limits), leaves, grad)


# Bounds on the errors of gradients in float32, relative to the largest gradient, two to three times the measured ones: partial sums lose
# digits where cells are narrow.
FLOAT32 = {(4, "linear"): 3e-6, (4, "mu-law"): 4e-6, (8, "linear"): 1e-5, (8, "mu-law"): 4e-4, (12, "linear"): 1.5e-3, (12, "mu-law"): 0.03}


@FORMS
@CELLS
def test_equals_the_formulas(form, bits, law):
    limits = limits_of(bits, law)
    inputs = make_inputs(limits)
    expected = plainly(*inputs, limits)
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected_gradients = gradients_plainly(inputs, limits, grad)
    for dtype in (torch.float64, torch.float32):
        arguments = (*inputs[:2], inputs[2].to(dtype), inputs[3], limits, SHARE)
        found = form.forward(*arguments)
        gradients = form.backward(*arguments, found, grad.to(dtype))
        assert found.dtype == gradients[2].dtype == dtype
        eps = torch.finfo(dtype).eps
        weighted = (found - expected).abs() * expected.exp()
        assert (weighted < 2 * eps).all()
        assert weighted.sum(dim=-1).mean() < (2e-5 if dtype == torch.float32 else 5e-14)
        assert ((found - expected).abs() < (3e-6 if dtype == torch.float32 else 1e-9)).all()
        assert ((found.exp().sum(dim=-1, dtype=torch.float64) - 1).abs() < 5 * eps).all()
        for gradient, wanted in zip(gradients, expected_gradients, strict=True):
            assert relative_error(gradient.double(), wanted) < (FLOAT32[bits, law] if dtype == torch.float32 else 2e-9)


@FORMS
@pytest.mark.parametrize("scale", [1e-9, 1e-5, 1e-3, 1.0, 1e2, 1e4])
def test_probabilities_sum_to_one(form, scale):
    """Tries logistics from narrower than a cell to so wide that almost nothing lies in the range."""
    limits = limits_of(8, "mu-law")
    p, s = torch.tensor([[[-1.0], [1e-3], [0.3], [1.0]]]).double(), torch.full((1, 4, 1), scale, dtype=torch.float64)
    found = form.forward(p, s, torch.zeros(1, 1).double(), torch.zeros(1, 4, 1).double(), limits, SHARE)
    assert ((found.exp().sum(dim=-1) - 1).abs() < 1e-14).all()
    assert (found.exp() > (1 - 1e-13) * SHARE / 256).all()
    if scale <= 1e-5:  # all but the uniform's share lies in the cell of p, or in the two at a limit
        assert torch.equal(found.argmax(dim=-1)[0], torch.bucketize(p[0, :, 0], limits[1:-1]))
    if scale >= 1e2:  # all of it in the outer cells, one half in each
        assert found[..., 0].exp() == pytest.approx(0.999 / 2, abs=0.01)


@FORMS
def test_at_the_least_scale_the_width_has_no_gradient(form):
    limits = limits_of(8, "linear")
    p, _, log_width, log_weights = make_inputs(limits)
    for s, moves in ((1e-6, False), (0.9e-5 / 2.8, False), (1e-4, True)):
        arguments = p, torch.full_like(p, s), log_width.clamp(max=1.029), log_weights, limits, SHARE
        found = form.forward(*arguments)
        grad_p, grad_s, grad_width, grad_weights = form.backward(*arguments, found, torch.randn_like(found))
        assert bool(grad_width.any()) == bool(grad_s.any()) == moves
        assert grad_p.any()
        assert grad_weights.any()


@FORMS
@CELLS
def test_components_are_those_of_the_mixture(form, bits, law):
    """All weight is on one component."""
    limits = limits_of(bits, law)
    p, s, log_width, _ = make_inputs(limits)
    classes = torch.randint(2**bits, p.shape[:2], generator=torch.Generator().manual_seed(3))
    found = component_log_probabilities(classes, p, s, log_width, limits, SHARE)
    assert found.shape == (2, TIME, 12)
    for k in (0, 5, 11):
        alone = torch.full((2, TIME, 12), -torch.inf, dtype=torch.float64)
        alone[..., k] = 0
        whole = form.forward(p, s, log_width, alone, limits, SHARE)
        assert (found[..., k] - whole.gather(2, classes[..., None])[..., 0]).abs().max() < 1e-9


def test_one_component_of_one_sample_in_compiled_code():
    limits = limits_of(8, "mu-law")
    p, s, log_width, _ = make_inputs(limits)
    classes = 6 * torch.arange(2 * TIME).view(2, TIME)
    found = component_log_probabilities(classes, p, s, log_width, limits, SHARE).view(2, TIME, 3, 4)
    for lane, t, i, j in ((0, 0, 0, 0), (0, 3, 1, 2), (1, 0, 2, 3), (1, TIME - 1, 0, 1)):
        lower, upper = (limits[classes[lane, t] + end] - p[lane, t, i] for end in (0, 1))
        scale = s[lane, t, i] * log_width[i, j].exp()
        alone = mixture_compiled.component_log_probability(lower.item(), upper.item(), scale.item(), SHARE, 256)
        assert alone == pytest.approx(found[lane, t, i, j].item(), abs=1e-9)


@FORMS
def test_gradients_by_differences(form, monkeypatch):
    """Takes the gradients through a softmax, as weights must sum to 1."""
    monkeypatch.setattr(mixture, "mixture_kernels", lambda device: form)
    limits = limits_of(4, "mu-law")
    p, s, log_width, log_weights = (t[:1, 8:12] if t.shape[1] == TIME else t for t in make_inputs(limits))
    s = s.clamp(min=1e-3)
    leaves = [t.clone().requires_grad_() for t in (p, s, log_width, log_weights)]
    assert torch.autograd.gradcheck(lambda p, s, w, v: mixture_log_probabilities(p, s, w, v.log_softmax(dim=-1), limits, SHARE), leaves)
    classes = torch.tensor([[0, 7, 8, 15]])
    assert torch.autograd.gradcheck(lambda w: component_log_probabilities(classes, p, s, w, limits, SHARE), leaves[2])


def test_threads_change_nothing():
    """Only the order in which the gradients of widths are summed may differ."""
    limits = limits_of(4, "mu-law")
    inputs = make_inputs(limits, lanes=3, time=300)
    grad, threads, found = torch.randn(3, 300, 16, dtype=torch.float64), torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        logits = mixture_compiled.forward(*inputs, limits, SHARE)
        found.append((logits, *mixture_compiled.backward(*inputs, limits, SHARE, logits, grad)))
    torch.set_num_threads(threads)
    for name, value, again in zip(("logits", "p", "s", "width", "weights"), *found, strict=True):
        assert relative_error(again, value) < 1e-13 if name == "width" else torch.equal(again, value), name


@FORMS
def test_no_samples(form):
    limits = limits_of(4, "linear")
    arguments = (*(t[:, :0] if t.dim() == 3 else t for t in make_inputs(limits)), limits, SHARE)
    found = form.forward(*arguments)
    _, _, grad_width, grad_weights = form.backward(*arguments, found, found)
    assert (found.shape, grad_weights.shape) == ((2, 0, 16), (2, 0, 12))
    assert not grad_width.any()


def test_layout_in_memory_does_not_matter():
    limits = limits_of(4, "linear")
    p, s, log_width, log_weights = make_inputs(limits)
    turned = [t.transpose(0, 1).contiguous().transpose(0, 1) for t in (p, s, log_weights)]
    expected = mixture_compiled.forward(p, s, log_width, log_weights, limits, SHARE)
    arguments = turned[0], turned[1], log_width, turned[2], limits, SHARE
    assert torch.equal(mixture_compiled.forward(*arguments), expected)
    grad = torch.randn_like(expected).transpose(0, 1).contiguous().transpose(0, 1)
    gradients = mixture_compiled.backward(*arguments, expected, grad)
    for value, wanted in zip(gradients, mixture_batched.backward(*arguments, expected, grad), strict=True):
        assert relative_error(value, wanted) < 1e-12


def test_the_form_of_a_device(monkeypatch):
    assert mixture.mixture_kernels(torch.device("cpu")) is mixture_compiled
    assert mixture.mixture_kernels(torch.device("cuda")) is mixture_batched
    monkeypatch.setattr(implementation, "installed", lambda package: package != "numba")
    assert mixture.mixture_kernels(torch.device("cpu")) is mixture_batched


def test_one_least_scale():
    assert mixture.LEAST_SCALE == mixture_compiled.LEAST_SCALE == mixture_batched.LEAST_SCALE


PEAK = """
import sys, torch
from benchmarks.timing import peak_above
from harmonicrnn.ops.prediction import mixture, mixture_batched, mixture_compiled, mixture_log_probabilities
torch.set_num_threads(1)
form = {"batched": mixture_batched, "compiled": mixture_compiled}[sys.argv[1]]
mixture.mixture_kernels, mixture_batched.ROWS = lambda device: form, 512

def leaves(time):
    log_weights = torch.zeros(1, time, 12, dtype=torch.float64).log_softmax(dim=-1)
    p, s = torch.zeros(1, time, 3, dtype=torch.float64), torch.full((1, time, 3), 0.1, dtype=torch.float64)
    return [t.requires_grad_() for t in (p, s, torch.zeros(3, 4), log_weights)]

limits = torch.linspace(-1, 1, 257, dtype=torch.float64)
for time in (1000, 40_000):  # the first loads what is needed
    given = leaves(time)
    found, forward = peak_above(lambda: mixture_log_probabilities(*given, limits, 0.002))
    grad = torch.ones_like(found)
    _, backward = peak_above(lambda: torch.autograd.grad(found, given, grad))
print(forward / found.nbytes, backward / found.nbytes)
"""


@pytest.mark.parametrize("form", ["compiled", "batched"])
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
def test_memory_is_that_of_the_log_probabilities(form):
    """Of a forward pass, result included, and of a backward pass, gradients included, in units of the result (1, 40,000, 256) in float32:
    its twelve components would be twelve."""
    freed_at_once = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", PEAK, form], env=freed_at_once, check=True, capture_output=True, text=True)
    forward, backward = map(float, done.stdout.split())
    assert 0.9 < forward < 1.2
    assert backward < 0.5
