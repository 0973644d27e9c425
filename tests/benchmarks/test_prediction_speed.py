"""Checks that the speeds of linear prediction are reported only for correct results."""

import re
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks import prediction_speed
from benchmarks.timing import UnequalError
from harmonicrnn.generation.cpu import CPUEngine
from harmonicrnn.models import LevelSpec, Prediction
from harmonicrnn.ops.prediction import definition, mixture_batched


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    net = prediction_speed.HarmonicRNN

    def small(levels=None, prediction=None, **_):
        return net([LevelSpec(8, 1)], preset="griffin", heads=2, prediction=prediction)

    gate = Prediction(input=False, floor=1e-4, gate=True)
    monkeypatch.setattr(prediction_speed, "HarmonicRNN", small)
    monkeypatch.setattr(prediction_speed, "load", lambda name: SimpleNamespace(net=small(prediction=gate).eval()))
    monkeypatch.setattr(prediction_speed, "CHECKED", 120)


def test_every_row_has_a_spread_and_prediction_its_ratio(capsys):
    prediction_speed.prediction(samples=200, repeats=2, singles=30)
    lines = capsys.readouterr().out.splitlines()
    assert sum(bool(re.search(r"samples/s \([\d,]+ to [\d,]+\)", line)) for line in lines) == 9
    assert sum(bool(re.search(r"ms \([\d,.]+ to [\d,.]+\)", line)) for line in lines) == 8
    ratios = [float(line.split()[1]) for line in lines if line.startswith("ratio")]
    assert len(ratios) == 2
    assert min(ratios) > 0
    goals = [match[1] for line in lines if (match := re.match(r"goal     (.*): (met|missed)$", line))]
    equal = "0.0001 nats on average, 0.005 at worst"
    stream = [equal, equal, "16,000 samples/s", "20,800 samples/s", "at most 5 ms", "at most 5 ms"]
    assert goals == ["300,000 samples/s", "at most 1.5 of it", "at most 1.15 of it", *stream, *stream]


def test_a_single_late_sample_misses_the_goal(monkeypatch, capsys):
    class Slow(CPUEngine):
        drawn = 0

        def draw(self, uniforms, temperature, top_p):
            self.drawn += uniforms.shape[1]
            until = time.process_time() + 0.02 * (self.drawn == 17)
            while time.process_time() < until:
                pass
            return super().draw(uniforms, temperature, top_p)

    def last(engine):
        monkeypatch.setattr(prediction_speed, "CPUEngine", engine)
        prediction_speed.one_stream("a model", prediction_speed.HarmonicRNN(prediction=Prediction()).eval(), 4, 1, 30)
        return capsys.readouterr().out.splitlines()[-1]

    assert last(CPUEngine) == "goal     at most 5 ms: met"
    assert last(Slow) == "goal     at most 5 ms: missed"


def test_likelihoods_that_are_off_miss_their_goal(monkeypatch, capsys):
    class Off(CPUEngine):
        def follow(self, classes):
            logits, nats = super().follow(classes)
            nats[:, -1] += 0.01
            return logits, nats

    monkeypatch.setattr(prediction_speed, "CPUEngine", Off)
    prediction_speed.one_stream("a model", prediction_speed.HarmonicRNN(prediction=Prediction()).eval(), 4, 1, 30)
    goals = [line for line in capsys.readouterr().out.splitlines() if line.startswith("goal     0.0001 nats")]
    assert [line.rsplit(": ", 1)[1] for line in goals] == ["missed", "missed"]


@pytest.mark.parametrize(("times", "told"), [(0.1, "met"), (3.0, "missed")])
def test_a_long_step_misses_its_goal(times, told, monkeypatch, capsys):
    monkeypatch.setattr(prediction_speed, "ratio", lambda *_: times)
    prediction_speed.training_steps(torch.zeros(1, 20, dtype=torch.long), 1)
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines() if line.startswith("goal")] == [told, told]


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
