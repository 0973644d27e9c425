"""Tests of predictors as models of their own: equal to their equations, in any chunks, and causal."""

import math
from bisect import bisect_left

import pytest
import torch

from harmonicrnn.audio import Quantiser
from harmonicrnn.models import Prediction, PredictorsAlone, sample_nats
from harmonicrnn.ops.prediction import Predictor, definition
from tests.helpers import F64, relative_error

QUANTISER = Quantiser(5, "mu-law")
ADAPTIVE = Prediction([Predictor(7, 0.95, 4), Predictor(30, 0.99, 16)], widths=(0.5, 2.0))
FILTERS = [Prediction(), ADAPTIVE, (1.0,), (2.0, -1.0)]


def make(filters):
    net = PredictorsAlone(5, filters)
    net.set_cells(*QUANTISER.cells())
    return net.double().eval()


def make_classes(time=300, lanes=2):
    t = torch.arange(time)
    tones = torch.stack([torch.sin(0.05 * (lane + 1) * t) * (0.6 + 0.3 * torch.sin(0.013 * t)) for lane in range(lanes)])
    return QUANTISER.encode((tones + 1) / 2)


def nats_by_definition(filters, classes):
    """Computes the nats sample by sample in plain arithmetic, by the equations of `harmonicrnn.models.prediction`."""
    net = PredictorsAlone(5, filters)
    centres, edges = (each.tolist() for each in QUANTISER.cells())
    zero, settings, widths = centres[16], net.prediction.settings, net.prediction.log_width.double().exp().tolist()
    x = [centres[j] - zero for j in classes.tolist()]
    if isinstance(filters, Prediction):
        p = [definition.predict(predictor, torch.tensor(x, dtype=torch.float64)).tolist() for predictor in net.prediction.predictors]
    else:
        padded = [0.0] * len(filters) + x
        ahead = [sum(w * padded[t + len(filters) - k] for k, w in enumerate(filters, start=1)) for t in range(len(x))]
        p = [[min(max(value, -1.0), 1.0) for value in ahead]]
    limits = [-math.inf, *(edge - zero for edge in edges), math.inf]
    s, log_weights, found = [settings.first_scale] * len(p), [0.0] * (len(p) * len(widths[0])), []
    for t, j in enumerate(classes.tolist()):
        each = []
        for i in range(len(p)):
            cell = min(max(bisect_left(limits, p[i][t]) - 1, 1), 30)  # outer cells count as wide as their neighbours
            read = max(s[i], settings.cell_floor * (limits[cell + 1] - limits[cell]))
            for width in widths[i]:
                below, above = (1 / (1 + math.exp(-(limits[j + side] - p[i][t]) / (width * read))) for side in (0, 1))
                each.append((1 - settings.share) * (above - below) + settings.share / 32)
        powers = [math.exp(settings.weight_decay * weight) for weight in log_weights]
        found.append(-math.log(sum(a * b for a, b in zip(powers, each, strict=True)) / sum(powers)))
        log_weights = [settings.weight_decay * a + math.log(b) for a, b in zip(log_weights, each, strict=True)]
        decay = 0.8 if t < 20 else settings.scale_decay
        s = [decay * old + (1 - decay) * abs(x[t] - of[t]) + 1e-7 for old, of in zip(s, p, strict=True)]
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("filters", FILTERS)
def test_logits_and_nats_are_those_of_the_equations(filters):
    net, classes = make(filters), make_classes(120)
    wanted = torch.stack([nats_by_definition(filters, lane) for lane in classes])
    logits, _ = net(classes)
    assert relative_error(sample_nats(logits, classes), wanted) < F64
    assert relative_error(net.nats(classes)[0], wanted) < F64
    assert relative_error(logits.exp().sum(dim=-1), torch.ones(2, 120, dtype=torch.float64)) < F64


@pytest.mark.parametrize("filters", FILTERS)
def test_pieces_give_what_the_whole_does(filters):
    net, classes = make(filters), make_classes()
    whole, state = net.nats(classes)[0], None
    found = []
    for piece in classes.split([1, 0, 2, 97, 200], dim=1):
        nats, state = net.nats(piece, state)
        found.append(nats)
    assert relative_error(torch.cat(found, dim=1), whole) < F64
    # A fresh lane begins anew, the other one continues.
    again, _ = net.nats(classes, state.reset(torch.tensor([True, False])))
    assert relative_error(again[0], whole[0]) < F64
    assert relative_error(again[1], net.nats(classes, state)[0][1]) < F64
    assert relative_error(again[1], whole[1]) > 1e-6


@pytest.mark.parametrize("filters", FILTERS)
def test_no_look_ahead(filters):
    net, classes = make(filters), make_classes(60)
    other = classes.clone()
    other[:, 30:] = 31 - other[:, 30:]
    assert torch.equal(net(classes)[0][:, :31], net(other)[0][:, :31])
    assert not torch.equal(net(classes)[0][:, 31:], net(other)[0][:, 31:])


def test_filters_that_adapt_know_a_tone_better():
    adaptive, _, last, line = (make(filters).nats(make_classes())[0].mean().item() for filters in FILTERS)
    assert adaptive < 0.8 * min(last, line)
    assert len({str(make(filters).unseen_in_weights) for filters in FILTERS}) == 4
