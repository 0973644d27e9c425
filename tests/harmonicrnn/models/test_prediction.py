"""Tests of linear prediction as a layer and in HarmonicRNN."""

import math
from bisect import bisect_left as bisect
from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F

from harmonicrnn.audio import Quantiser
from harmonicrnn.models import HarmonicRNN, LevelSpec, Prediction, sample_nats
from harmonicrnn.models.carried_states import CarriedStates
from harmonicrnn.models.prediction import DEFAULT_PREDICTORS, LinearPrediction
from harmonicrnn.ops.prediction import Predictor, definition
from harmonicrnn.parallel.slice_check import check_knows_slices
from tests.harmonicrnn.models.test_harmonic_rnn import forward_in_pieces
from tests.harmonicrnn.parallel.test_slices import simulate, weights_like
from tests.helpers import F64, relative_error

SPLITS = {"single": [1] * 14, "uneven": [5, 0, 1, 6, 0, 2], "none first": [0, 14, 0]}
PREDICTORS = (Predictor(3, 0.9, 4), Predictor(20, 0.97, 7))
SETTINGS = Prediction(PREDICTORS, widths=(0.5, 1.5), share=0.01)
FLOOR = replace(SETTINGS, input=False, floor=0.05)
GATE = replace(FLOOR, gate=True)
CELLS = pytest.mark.parametrize(("bits", "law"), [(4, "linear"), (4, "mu-law"), (8, "mu-law"), (12, "linear"), (12, "mu-law")])


def make_layer(settings=SETTINGS, bits=4, law="mu-law"):
    """Returns a layer in float64 whose widths and first weights differ from one another, as after training."""
    layer = LinearPrediction(settings, 2**bits).double()
    layer.set_cells(*Quantiser(bits, law).cells())
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.log_width += 0.3 * torch.randn(layer.log_width.shape, generator=g, dtype=torch.float64)
        layer.first_log_weights += torch.randn(layer.first_log_weights.shape, generator=g, dtype=torch.float64)
    return layer


def make_net(settings=SETTINGS, bits=4, law="mu-law", **changes):
    torch.manual_seed(0)
    levels = (LevelSpec(8, 1, 2), LevelSpec(12, 1, 3), LevelSpec(8, 1))
    net = HarmonicRNN(**{"levels": levels, "bits": bits, "preset": "griffin", "heads": 2, "groups": 2, "prediction": settings} | changes)
    net.set_cells(*Quantiser(bits, law).cells())
    return net.double()


def with_a_head(net):
    """Gives the head, steering and gate random weights, as after training; they start at zero."""
    torch.nn.init.normal_(net.head.weight, std=0.3)
    if net.steering is not None:
        torch.nn.init.normal_(net.steering.weight, std=0.3)
    if net.gate is not None:
        torch.nn.init.normal_(net.gate.out.weight, std=0.3)
        net.requires_grad_()  # also the network, which is frozen by default
    return net


def make_classes(batch=2, time=41, classes=16, seed=5):
    """Returns classes (batch, time) of a tone with noise, which can be predicted."""
    g, t = torch.Generator().manual_seed(seed), torch.arange(time)
    tone = torch.sin(0.3 * t + torch.arange(batch)[:, None]) + 0.2 * torch.randn(batch, time, generator=g)
    return ((0.35 * tone + 0.5) * classes).long().clamp(0, classes - 1)


def delayed(classes, q):
    return F.pad(classes, (1, 0), value=q // 2)[:, :-1]


def log_probabilities(layer, classes, state=None):
    """Returns log P (B, T, q) of the sample after each input, and the final state; `classes` are the samples delayed by one."""
    predicted, state = layer(classes, state)
    return layer.log_probabilities(predicted), state


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def directly(layer, classes):
    """Returns log P (T, q) of one clip, by the formulas, in loops."""
    settings, q = layer.settings, layer.classes
    centres, limits = layer.centres.tolist(), layer.limits.tolist()
    widths, log_weights = layer.log_width.exp().flatten().tolist(), layer.first_log_weights.tolist()
    x = [centres[c] for c in classes]
    predictions = [definition.predict(predictor, torch.tensor(x, dtype=torch.float64)).tolist() for predictor in layer.predictors]
    scales, found = [settings.first_scale] * len(layer.predictors), []
    each = len(widths) // len(layer.predictors)
    for t, sample in enumerate(classes):
        components = []
        for k, width in enumerate(widths):
            p = predictions[k // each][t]
            cell = min(max(bisect(limits, p) - 1, 1), q - 2)  # outer cells count as wide as their neighbours
            scale = max(width * max(scales[k // each], settings.cell_floor * (limits[cell + 1] - limits[cell])), 1e-5)
            edges = [(e - p) / scale for e in limits]
            cells = [sigmoid(b) * sigmoid(-a) * -math.expm1(a - b) for a, b in pairwise(edges)]
            components.append([(1 - settings.share) * cell + settings.share / q for cell in cells])
        weights = [math.exp(settings.weight_decay * weight) for weight in log_weights]
        found.append([math.log(sum(w * c[j] for w, c in zip(weights, components, strict=True)) / sum(weights)) for j in range(q)])
        log_weights = [settings.weight_decay * w + math.log(c[sample]) for w, c in zip(log_weights, components, strict=True)]
        b = 0.8 if t < 20 else settings.scale_decay
        scales = [b * s + (1 - b) * abs(x[t] - p[t]) + 1e-7 for s, p in zip(scales, predictions, strict=True)]
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize(("bits", "law"), [(4, "linear"), (4, "mu-law"), (6, "mu-law")])
def test_the_layer_computes_what_it_says(bits, law):
    layer, classes = make_layer(bits=bits, law=law), make_classes(time=60, classes=2**bits)
    found, _ = log_probabilities(layer, delayed(classes, 2**bits))
    for lane, expected in zip(found, (directly(layer, clip) for clip in classes.tolist()), strict=True):
        assert (lane - expected).abs().max() < 1e-9


@CELLS
def test_an_untrained_model_is_the_mixture(bits, law):
    """Tries set predictors, and unset ones, which are the default's three."""
    for settings in (SETTINGS, replace(SETTINGS, predictors=None), replace(SETTINGS, input=False)):
        net, classes = make_net(settings, bits, law), make_classes(classes=2**bits)
        logits, _ = net(classes)
        expected, _ = log_probabilities(net.prediction, delayed(classes, net.classes))
        assert logits.shape == (2, 41, 2**bits)
        assert (logits.log_softmax(dim=-1) - expected).abs().max() < 1e-9
    assert make_net(Prediction()).prediction.predictors == DEFAULT_PREDICTORS


def test_a_tone_is_soon_predicted():
    """Checks the bits of an 8-bit sample without any training; noise of a few classes remains."""
    t = torch.arange(600)
    samples = 0.4 * torch.sin(0.3 * t) + 0.3 * torch.sin(0.71 * t + 1)
    classes = Quantiser(8, "linear").encode((samples + 1) / 2).long()[None]
    net = make_net(Prediction(), 8, "linear")
    nats = F.cross_entropy(net(classes)[0][0], classes[0], reduction="none") / math.log(2)
    assert nats[:3].mean() > 5
    assert nats[300:].mean() < 2


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, replace(SETTINGS, input=False), replace(SETTINGS, logits=False), FLOOR, GATE],
    ids=["both", "logits", "input", "product", "gate"],
)
def test_causal(settings):
    """The prediction of a sample depends on earlier samples, not on it or on later ones."""
    net, classes = with_a_head(make_net(settings)), make_classes(batch=1)
    for place in (0, 1, 17, 39):
        changed = classes.clone()
        changed[0, place] = (changed[0, place] + 5) % 16
        difference = (net(changed)[0] - net(classes)[0]).abs().amax(dim=(0, 2))
        assert (difference[: place + 1] == 0).all()
        assert (difference[place + 1 :] > 0).all()


@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, logits=False), GATE], ids=["both", "input", "gate"])
def test_any_split_equals_one_pass(settings, sizes):
    net, classes = with_a_head(make_net(settings)), make_classes(time=14)
    weight = weights_like(net(classes)[0])[0]
    parameters = [p for p in net.parameters() if p.requires_grad]
    whole, end = net(classes)
    pieces, piecewise_end = forward_in_pieces(net, classes, sizes)
    assert (pieces - whole).abs().max() < 1e-12
    for value, expected in zip(*(torch.autograd.grad(y, parameters, weight) for y in (pieces, whole)), strict=True):
        assert relative_error(value, expected) < F64
    future = make_classes(time=17, seed=6)
    assert (net(future, piecewise_end)[0] - net(future, end)[0]).abs().max() < 1e-12


def test_no_samples_leave_the_state_unchanged():
    net, classes = make_net(), make_classes()
    for heard in (0, 6):
        _, state = net(classes[:, :heard])
        logits, same = net(classes[:, :0], state)
        assert logits.shape == (2, 0, 16)
        (logits, _), (again, _) = (net(classes[:, heard:], s) for s in (state, same))
        assert torch.equal(logits, again)


def test_fresh_lanes_beside_others():
    """Lanes that begin in the middle, at different times, equal separate runs."""
    net, clips = with_a_head(make_net()), [make_classes(batch=3, time=12, seed=seed) for seed in range(4)]
    state, found = None, []
    for i, clip in enumerate(clips):
        logits, state = net(clip, state)
        found.append(logits)
        if i < 2:
            state = state.reset(torch.arange(3) == i)  # lane 0 begins anew after the first clip, lane 1 after the second
    for lane, begins in enumerate((1, 2, 0)):
        alone = net(torch.cat(clips[begins:], dim=1)[lane : lane + 1])[0]
        together = torch.cat(found[begins:], dim=1)[lane : lane + 1]
        assert (together - alone).abs().max() < 1e-12
    state = net(clips[0])[1].reset(torch.ones(3, dtype=torch.bool))
    assert torch.equal(net(clips[1], state)[0], net(clips[1])[0])


def test_what_enters_where():
    both, logits, inputs = (make_net(s) for s in (SETTINGS, replace(SETTINGS, input=False), replace(SETTINGS, logits=False)))
    classes = make_classes()
    assert logits.features is None
    assert not both.head.weight.any()
    assert inputs.head.weight.any()
    # Without the distribution its parameters are not trained: other ranks would wait for their gradients.
    assert not any(p.requires_grad for p in inputs.prediction.parameters())
    assert all(p.requires_grad for p in both.parameters())
    for net in (both, logits, inputs):
        loss = F.cross_entropy(with_a_head(net)(classes)[0].flatten(0, 1), classes.flatten())
        trained = [p for p in net.parameters() if p.requires_grad]
        assert all(grad is not None and grad.any() for grad in torch.autograd.grad(loss, trained))
    # The input has an effect beyond that of the distribution.
    base, _ = inputs(classes)
    with torch.no_grad():
        inputs.features.numbers.weight += 1
    assert (inputs(classes)[0] - base).abs().max() > 1e-3


@pytest.mark.parametrize(("bits", "law"), [(4, "linear"), (4, "mu-law")])
def test_gradients_by_differences(bits, law):
    """Checks the gradients of learned widths and first weights through the whole layer, also through a state."""
    layer, classes = make_layer(bits=bits, law=law), make_classes(batch=1, time=7)
    names = ["log_width", "first_log_weights"]
    values = tuple(getattr(layer, name).detach().clone().requires_grad_() for name in names)

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, first, second):
            found, state = log_probabilities(self.layer, first)
            return torch.cat([found, log_probabilities(self.layer, second, state)[0]], dim=1)

    whole = Whole()

    def function(*values):
        named = {f"layer.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(whole, named, (classes[:, :3], classes[:, 3:]))

    assert torch.autograd.gradcheck(function, values)


def test_cells_survive():
    """They are kept by a checkpoint, and by changes of the weights' dtype."""
    layer = make_layer(bits=8)
    centres, limits = layer.centres.clone(), layer.limits.clone()
    assert centres[128] == 0  # silence
    assert centres.dtype == limits.dtype == torch.float64
    other = LinearPrediction(SETTINGS, 256)
    assert not torch.equal(other.limits, limits)
    other.load_state_dict(layer.state_dict())
    for change in (lambda n: n, lambda n: n.float(), lambda n: n.to(torch.bfloat16), lambda n: n.half(), lambda n: n.double()):
        other = change(other)
        assert torch.equal(other.centres, centres)
        assert torch.equal(other.limits, limits)
        assert {"centres", "limits"} <= other.state_dict().keys()


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-4), (torch.bfloat16, 0.05)], ids=str)
def test_narrow_weights(dtype, bound):
    """The mixture is computed in float32 or wider; widths and first weights stay as they were rounded."""
    layer, classes = make_layer(), make_classes(time=200)
    expected, _ = log_probabilities(layer, delayed(classes, 16))
    found, state = log_probabilities(layer.to(dtype), delayed(classes, 16))
    assert (found.dtype, state.log_weights.dtype) == (torch.float32, torch.float64)
    assert (found - expected).abs().max() < bound
    assert layer(classes[:, :0])[1].log_weights.dtype == torch.float64


def test_cells_of_a_model_that_was_not_told():
    layer = LinearPrediction(SETTINGS, 16)
    assert torch.allclose(layer.centres, (torch.arange(16).double() - 8) / 8)
    assert torch.allclose(layer.limits[1:-1], (torch.arange(1, 16).double() - 8.5) / 8)
    assert torch.equal(layer.predicted_classes(layer(torch.full((1, 3), 8))[0]), torch.full((1, 3, 2), 8))


VARIANTS = {
    "both": SETTINGS,
    "logits alone": replace(SETTINGS, input=False),
    "gate": GATE,
    "a solution at each sample": replace(SETTINGS, predictors=(Predictor(6, 0.9, 1), Predictor(31, 0.95, 25))),
}


SLICED = [(3, "both", False), *((2, variant, True) for variant in VARIANTS)]
OTHERS = [case for case in product((2, 3), VARIANTS, (False, True)) if case not in SLICED]


@pytest.mark.parametrize(("size", "variant", "carried"), [*SLICED, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)])
def test_slices_equal_the_whole(size, variant, carried):
    """Slices of 12 are shorter than the order and no multiples of `every`; they start from a state, in which one lane begins."""
    net = with_a_head(make_net(VARIANTS[variant]))
    state = None
    if carried:
        with torch.no_grad():
            _, state = net(make_classes(batch=3, time=30))
        state = state.reset(torch.tensor([False, True, False]))
    classes = make_classes(batch=3, time=12 * size, seed=8)
    logits, after = net(classes, state)
    (weight,) = weights_like(logits)
    expected = torch.autograd.grad(logits, list(net.parameters()), weight)
    split, grads, split_after = simulate(net, classes, size, weight, state)
    assert relative_error(split, logits) < F64
    for (name, _), grad, whole in zip(net.named_parameters(), grads, expected, strict=True):
        assert relative_error(grad, whole) < F64, name
    future = make_classes(batch=3, time=17, seed=6)
    assert relative_error(net(future, split_after)[0], net(future, after)[0]) < F64


def test_slices_of_one_window():
    """Slices of six samples each, shorter than most halos."""
    net, classes = with_a_head(make_net()), make_classes(batch=2, time=30)
    logits, _ = net(classes)
    (weight,) = weights_like(logits)
    assert relative_error(simulate(net, classes, 5, weight)[0], logits) < F64


def test_it_is_known_to_know_slices():
    for settings in VARIANTS.values():
        check_knows_slices(make_net(settings))


def test_a_network_steers_weights_scales_and_centres():
    layer, classes = make_layer(), make_classes(time=9)
    predicted, _ = layer(delayed(classes, 16))
    g = torch.Generator().manual_seed(0)
    by = torch.randn(2, 9, 4 + 2 + 2, generator=g, dtype=torch.float64)
    found = layer.steered(predicted, by)
    for lane, t in ((0, 0), (1, 5), (0, 8)):
        one = by[lane, t].tolist()
        weights = [math.exp(w + d) for w, d in zip(predicted.log_weights[lane, t].tolist(), one[:4], strict=True)]
        assert found.log_weights[lane, t].exp().tolist() == pytest.approx([w / sum(weights) for w in weights])
        for i in range(2):
            p, s = predicted.p[lane, t, i].item(), predicted.s[lane, t, i].item()
            assert found.s[lane, t, i].item() == pytest.approx(s * math.exp(4 * math.tanh(one[4 + i] / 4)))
            assert found.p[lane, t, i].item() == pytest.approx(min(max(p + s * one[6 + i], -2), 2))
    assert layer.steered(predicted, 1e6 * by).p.abs().max() == 2
    for name in ("p", "s", "log_weights"):
        assert relative_error(getattr(layer.steered(predicted, 0 * by), name), getattr(predicted, name)) < 1e-14


def test_a_model_mixes_its_own_distribution_with_that_of_the_predictors():
    """Compares with the formula; with a share of 1 for either, the result is that one alone."""
    layer, classes = make_layer(), make_classes(time=9)
    predicted, _ = layer(delayed(classes, 16))
    g = torch.Generator().manual_seed(0)
    by, own = (torch.randn(2, 9, n, generator=g, dtype=torch.float64) for n in (layer.steered_by, 16))
    by[..., -1] *= 4  # so that shares of both kinds are large and small
    moved = layer.steered(predicted, by[..., :-1])
    found, mixture = layer.joined(predicted, by, own).softmax(dim=-1), layer.log_probabilities(moved)
    uniform = SETTINGS.share / 16
    pure = (mixture.exp() - uniform) / (1 - SETTINGS.share)
    scale = 16 * (1 - SETTINGS.share) / SETTINGS.share * by[..., -1:].exp()
    share = own.exp().sum(dim=-1, keepdim=True) / (own.exp().sum(dim=-1, keepdim=True) + scale)
    assert share.min() < 0.01
    assert share.max() > 0.8
    assert relative_error(found, share * own.softmax(dim=-1) + (1 - share) * pure) < 1e-9
    for extreme, alone in ((-100.0, own.softmax(dim=-1)), (100.0, pure)):
        by[..., -1] = extreme
        assert relative_error(layer.joined(predicted, by, own).softmax(dim=-1), alone) < 1e-9


@pytest.mark.parametrize("carried", [False, True])
def test_nats_are_those_of_the_logits(carried):
    """Compares the gradients too."""
    net, classes = with_a_head(make_net()), make_classes()
    with torch.no_grad():
        state = net(make_classes(time=18, seed=6))[1] if carried else None
    logits, expected_state = net(classes, state)
    expected = sample_nats(logits, classes)
    found, found_state = net.nats(classes, state)
    assert relative_error(found, expected) < 1e-10
    assert relative_error(found_state.levels.prediction.scale, expected_state.levels.prediction.scale) < 1e-12
    used = [p for p in net.parameters() if p.requires_grad]
    for one, other in zip(*(torch.autograd.grad(n.sum(), used) for n in (found, expected)), strict=True):
        assert relative_error(one, other) < 1e-8


def test_a_model_multiplies_its_own_distribution_with_that_of_the_predictors():
    """Compares with the formula above the floor; the weights, and the output in training, are those of a model without predictors."""
    net, plain, classes = with_a_head(make_net(FLOOR)), make_net(None), make_classes()
    plain.load_state_dict(net.state_dict())
    assert net.unseen_in_weights == plain.unseen_in_weights
    with torch.no_grad():
        own = plain(classes)[0].softmax(dim=-1)
        pure = (log_probabilities(net.prediction, delayed(classes, 16))[0].exp() - SETTINGS.share / 16) / (1 - SETTINGS.share)
        q = pure / (FLOOR.floor + pure)
        possible, both = own * q, own * q * pure
        expected = own - possible + both * (possible.sum(dim=-1, keepdim=True) / both.sum(dim=-1, keepdim=True))
        logits, _ = net.eval()(classes)
        assert relative_error(logits.softmax(dim=-1), expected) < 1e-9
        assert relative_error(net.nats(classes)[0], sample_nats(logits, classes)) < 1e-12
    first, state = net.train().nats(classes[:, :18])
    second, _ = net.nats(classes[:, 18:], state)
    nats, _ = plain.nats(classes)
    assert relative_error(torch.cat([first, second], dim=1), nats) < 1e-12
    torch.autograd.backward(first.sum())  # reaches all trained parameters
    assert all(p.grad is not None for p in net.parameters())


def test_a_gate_corrects_the_odds_of_what_the_predictors_hold_impossible():
    """Compares with the formula. An untrained gate changes nothing, and only the gate is trained."""
    net, product, classes = make_net(GATE), with_a_head(make_net(FLOOR)).eval(), make_classes()
    net.load_state_dict(product.state_dict(), strict=False)
    assert {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad} == {"gate"}
    with torch.no_grad():
        without = product(classes)[0].softmax(dim=-1)
        assert relative_error(net(classes)[0].softmax(dim=-1), without) < 1e-12
        with_a_head(net).gate.out.bias.fill_(-1)
        y, predicted, _ = net._read(delayed(classes, 16), None)
        own = net.head(y).softmax(dim=-1)
        pure = (log_probabilities(net.prediction, delayed(classes, 16))[0].exp() - SETTINGS.share / 16) / (1 - SETTINGS.share)
        q = pure / (GATE.floor + pure)
        struck, ringing = own * (1 - q), own * q * pure
        odds = struck.sum(dim=-1).log() - (own * q).sum(dim=-1).log()
        numbers = torch.cat([predicted.s.log(), predicted.missed.asinh(), predicted.log_weights, odds[..., None]], dim=-1) / 2
        assert numbers.abs().max() < 6  # within bounds
        inner = y @ net.gate.state.weight.T + net.gate.state.bias + numbers @ net.gate.errors.weight.T
        for net.gate.kept in (0.3, 0):
            gated = (odds + inner.clamp(min=0) @ net.gate.out.weight[0] - 1).exp() + net.gate.kept * odds.exp()
            struck_by = (gated / (1 + gated))[..., None]
            expected = struck_by * struck / struck.sum(dim=-1, keepdim=True) + (1 - struck_by) * ringing / ringing.sum(dim=-1, keepdim=True)
            logits, _ = net(classes)
            assert relative_error(logits.softmax(dim=-1), expected) < 1e-9
            assert (expected - without).abs().max() > 0.01
    for each in (net.train(), net.eval()):
        assert relative_error(each.nats(classes)[0], sample_nats(logits, classes)) < 1e-12


@pytest.mark.parametrize("settings", [None, SETTINGS, FLOOR], ids=["plain", "mixture", "product"])
def test_nats_of_classes_after_another_past(settings):
    """Each sample follows those of `heard`; the state too must be equal."""
    net, classes, heard = with_a_head(make_net(settings)).eval(), make_classes(), make_classes(seed=6)
    with torch.no_grad():
        logits, expected_state = net(heard)
        found, state = net.nats(classes, heard=heard)
        assert relative_error(found, sample_nats(logits, classes)) < 1e-10
        follow = make_classes(time=5, seed=7)
        assert relative_error(net(follow, state)[0], net(follow, expected_state)[0]) < 1e-10


def test_a_model_at_rest_does_not_stay_there():
    """Other classes keep a share of the probability, however long it hears one class."""
    loud, left = torch.full((1, 4000), 230), []
    for floor in (0.0, 0.3):
        logits, _ = make_net(Prediction(cell_floor=floor), bits=8)(loud)
        left.append(1 - logits[0, -1].softmax(dim=-1)[230].item())
    assert left[0] < 0.003  # the uniform's
    assert left[1] > 0.01


def test_settings_that_no_weight_shows():
    shown = make_net().unseen_in_weights
    assert shown["shift"] == "tight"
    for changes in (
        {"share": 0.02},
        {"weight_decay": 0.9},
        {"cell_floor": 0.0},
        {"predictors": (PREDICTORS[0], replace(PREDICTORS[1], order=21))},
    ):
        assert make_net(replace(SETTINGS, **changes)).unseen_in_weights != shown
    assert make_net(replace(SETTINGS, predictors=list(PREDICTORS), widths=[0.6, 1.5])).unseen_in_weights == shown
    assert "prediction" not in make_net(None).unseen_in_weights


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictors": ()}, "needs at least one predictor"),
        ({"widths": ()}, "needs finite widths above 0"),
        ({"widths": (1.0, 0.0)}, "needs finite widths above 0"),
        ({"widths": (math.nan,)}, "needs finite widths above 0"),
        ({"first_scale": 0}, "needs a finite first_scale above 0, got 0"),
        ({"first_scale": math.inf}, "needs a finite first_scale above 0"),
        ({"scale_decay": 1.0}, "needs a scale_decay above 0 and below 1"),
        ({"weight_decay": 1.0}, "needs a weight_decay of at least 0 and below 1"),
        ({"weight_decay": math.nan}, "needs a weight_decay of at least 0 and below 1"),
        ({"cell_floor": -0.1}, "needs a cell_floor of at least 0, got -0.1"),
        ({"share": 0}, "needs a share above 0 and below 1"),
        ({"input": False, "floor": 0}, "needs a finite floor above 0, or null, got 0"),
        ({"floor": 0.1}, "with a floor has a network that is trained without predictors: set input to false"),
        ({"kept": math.nan}, "needs a finite kept of at least 0, got nan"),
        ({"kept": 0.1}, "has kept, which goes with a gate"),
        ({"gate": True}, "has a gate, which goes with a floor: set one"),
        ({"input": False, "logits": False}, "enters neither the input nor the logits"),
    ],
)
def test_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=f"prediction {message}"):
        Prediction(**changes)


@pytest.mark.parametrize("settings", [None, SETTINGS, FLOOR], ids=["plain", "mixture", "product"])
def test_carried_states_of_training_are_saved_and_restored(settings):
    net, classes = with_a_head(make_net(settings)).train(), make_classes(time=12)
    before, after = CarriedStates(), CarriedStates()
    _, state = net.nats(classes, before.take("train", torch.zeros(2, dtype=torch.long), net))
    before.put("train", state)
    after.restore(before.to_save(lambda tensor: tensor[None]), 0)
    context = torch.full((2,), 12)
    found, expected = (net.nats(classes, states.take("train", context, net))[0] for states in (after, before))
    assert torch.equal(found, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: prediction on a GPU is not tested")
@pytest.mark.parametrize("settings", [SETTINGS, FLOOR, GATE], ids=["mixture", "product", "gate"])
def test_a_gpu_computes_what_the_cpu_does(settings):
    nets = [with_a_head(make_net(settings)).to(device) for device in ("cpu", "cuda")]
    classes, found = make_classes(), []
    for net in nets:
        logits, state = net(classes.to(net.head.weight.device))
        parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(sample_nats(logits, classes.to(logits.device)).sum(), parameters, allow_unused=True)
        found.append([t.cpu() for t in (logits, *state.tensors(), *gradients) if t is not None])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-7, atol=1e-9)
