"""Tests of the optimizer: weight decay, the learning rate schedule and the paper's recipe."""

import itertools
from pathlib import Path

import pytest
import torch
import yaml

from harmonicrnn.models import HarmonicRNN, LevelSpec
from lightning_modules import OptimizerConfig
from lightning_modules.optimizer import make_optimizer, rate_factor


@pytest.mark.parametrize("recurrence", ["complex", "real"])
def test_decays_weights_alone(recurrence):
    net = HarmonicRNN((LevelSpec(8, 1, 2), LevelSpec(8, 1)), preset="griffin", heads=2, groups=2, recurrence=recurrence)
    optimizer, _ = make_optimizer(net, OptimizerConfig(), 10)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, p in net.named_parameters() if id(p) in decayed}
    assert {name.rsplit(".", 1)[1] for name in names} == {"weight", "gate_weight", "kernel"}
    assert not any("norm" in name for name in names)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(net.parameters()))
    assert optimizer.defaults["betas"] == (0.9, 0.95)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1, 0.0}


def test_schedule():
    factors = [rate_factor(step, 1000, 100) for step in range(1001)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[99] == 1
    assert factors[550] == pytest.approx(0.5)
    assert factors[1000] == pytest.approx(0, abs=1e-12)
    assert all(b > a for a, b in itertools.pairwise(factors[:100]))
    assert all(b <= a for a, b in itertools.pairwise(factors[99:]))


def test_the_schedule_reaches_the_optimiser():
    optimizer, schedule = make_optimizer(torch.nn.Linear(2, 2), OptimizerConfig(lr=0.5, warmup=0.0), 4)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.5, 0.5 * (1 + 0.5**0.5) / 2, 0.25, 0.5 * (1 - 0.5**0.5) / 2])


def test_the_papers_recipe():
    """Weight decay on everything, 1,000 steps of warm-up, then a constant rate."""
    net = HarmonicRNN((LevelSpec(32, 1, 2), LevelSpec(32, 1)))
    config = OptimizerConfig(betas=(0.9, 0.999), weight_decay=1e-4, decayed="all", warmup_steps=1000, schedule="constant")
    optimizer, schedule = make_optimizer(net, config, 5000)
    (group,) = optimizer.param_groups
    assert (group["weight_decay"], group["betas"], len(group["params"])) == (1e-4, (0.9, 0.999), len(list(net.parameters())))
    (factor,) = schedule.lr_lambdas
    assert [factor(step) for step in (0, 499, 999, 1000, 4999)] == pytest.approx([1e-3, 0.5, 1, 1, 1])


@pytest.mark.parametrize("name", ["sc09", "beethoven", "youtubemix"])
def test_the_papers_configs_are_the_papers(name):
    config = yaml.safe_load((Path(__file__).parents[2] / f"configs/paper/{name}.yaml").read_text())
    model = config["model"]
    optimizer, levels = model.pop("optimizer"), [LevelSpec(**level) for level in model.pop("levels")]
    for groups, size in ((model["groups"], 7_272_704), (4, 7_391_744)):
        net = HarmonicRNN(levels, **model | {"groups": groups})
        assert sum(p.numel() for p in net.parameters()) == size
    assert net.parts.dropout == 0.2
    found = OptimizerConfig(**optimizer | {"betas": tuple(optimizer["betas"])})
    assert (found.lr, found.betas, found.weight_decay, found.decayed) == (2e-3, (0.9, 0.999), 1e-4, "all")
    assert (found.warmup_steps, found.schedule, found.skip_above, found.most_skips) == (1000, "constant", 1000, 50)
    assert (config["ema"]["decay"], config["trainer"]["gradient_clip_val"]) == (0.999, 200)
    assert "scaling" not in config["data"]["init_args"]  # clip unless set otherwise


@pytest.mark.parametrize("warmup", [0.0, 0.001])
def test_short_schedules(warmup):
    assert rate_factor(0, 1, warmup) == pytest.approx(1)
