"""Checks that generation speeds are reported only for correct results."""

import re

import pytest
import torch

from benchmarks import generate
from benchmarks.timing import UnequalError
from harmonicrnn.models import LevelSpec
from tests.harmonicrnn.models.test_harmonic_rnn import make_model


@pytest.fixture
def tiny(monkeypatch):
    net = make_model(levels=(LevelSpec(64, 1, 2), LevelSpec(64, 1)), dtype=torch.float32)
    monkeypatch.setattr(generate, "make_net", lambda preset: net)
    monkeypatch.setattr(generate, "PROMPT_CHUNK", 64)
    monkeypatch.setattr(generate, "STEPS", 160)
    return net


def test_every_row_is_checked_and_has_a_spread(tiny, capsys):
    generate.generate(samples=40, repeats=2, threads=1, prompt=200, plain=10)
    lines = capsys.readouterr().out.splitlines()
    assert sum("logits differ by" in line for line in lines) == 6
    rows = [line for line in lines if "samples/s" in line]
    assert len(rows) == 9
    assert all(re.search(r"samples/s \([\d,]+ to [\d,]+\)", row) for row in rows)


@pytest.mark.parametrize("stored", ["full", "bfloat16", "int8"])
def test_other_weights_than_it_says_are_found(tiny, monkeypatch, stored):
    engine = generate.CPUEngine
    other = "bfloat16" if stored == "full" else "full"
    monkeypatch.setattr(generate, "CPUEngine", lambda net, kept="full", threads=1: engine(net, other if kept == stored else kept, threads))
    with pytest.raises(UnequalError, match=f"the engine with weights in {stored}: value 0 differs"):
        generate.generate(samples=40, repeats=0, threads=1, prompt=20, plain=5)


@pytest.mark.parametrize(("function", "what"), [("read_prompt", "what follows the prompt"), ("PlainEngine", "the plain engine")])
def test_a_wrong_prompt_or_plain_engine_is_found(tiny, monkeypatch, function, what):
    right = getattr(generate, function)
    other = make_model(levels=(LevelSpec(64, 1, 2), LevelSpec(64, 1)), dtype=torch.float32, seed=1)
    monkeypatch.setattr(generate, function, lambda net, *rest: right(other, *rest))
    with pytest.raises(UnequalError, match=f"{what}: value 0 differs"):
        generate.generate(samples=20, repeats=0, threads=1, prompt=200, plain=10)
