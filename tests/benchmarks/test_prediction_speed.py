"""Checks that the speeds of linear prediction are reported only for correct results."""

import re

import pytest

from benchmarks import prediction_speed
from benchmarks.timing import UnequalError
from harmonicrnn.models import LevelSpec
from harmonicrnn.ops.prediction import definition, mixture_batched


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    net = prediction_speed.HarmonicRNN

    def small(levels=None, prediction=None, **_):
        return net([LevelSpec(8, 1)], preset="griffin", heads=2, prediction=prediction)

    monkeypatch.setattr(prediction_speed, "HarmonicRNN", small)
    monkeypatch.setattr(prediction_speed, "CHECKED", 120)


def test_every_row_has_a_spread_and_prediction_its_ratio(capsys):
    prediction_speed.prediction(samples=200, repeats=2)
    lines = capsys.readouterr().out.splitlines()
    assert sum(bool(re.search(r"samples/s \([\d,]+ to [\d,]+\)", line)) for line in lines) == 7
    assert sum(bool(re.search(r"ms \([\d,.]+ to [\d,.]+\)", line)) for line in lines) == 4
    ratios = [float(line.split()[1]) for line in lines if line.startswith("ratio")]
    assert len(ratios) == 2
    assert min(ratios) > 0
    goals = [match[1] for line in lines if (match := re.match(r"goal     ([\d,]+) samples/s: (met|missed)$", line))]
    assert goals == ["300,000", "16,000", "20,800"]


def test_wrong_predictors_are_found(monkeypatch, capsys):
    right = definition.predict
    monkeypatch.setattr(definition, "predict", lambda predictor, x: right(predictor, x) + 1e-6 * (predictor.order == 256))
    with pytest.raises(UnequalError, match="the predictor of order 256: value 0 differs"):
        prediction_speed.prediction(samples=200, repeats=1)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("name", "message"), [("forward", "the mixture: value 0"), ("backward", "the mixture's gradients: value 2")])
def test_a_wrong_mixture_is_found(monkeypatch, capsys, name, message):
    right = getattr(mixture_batched, name)

    def wrong(*arguments):
        found = right(*arguments)
        return found * (1 + 1e-6) if name == "forward" else (*found[:2], found[2] + 1e-3, found[3])

    monkeypatch.setattr(mixture_batched, name, wrong)
    with pytest.raises(UnequalError, match=message):
        prediction_speed.prediction(samples=200, repeats=1)
    assert not capsys.readouterr().out
