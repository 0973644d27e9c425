"""Checks that the baselines work with the same training, likelihood and generation as HarmonicRNN."""

import json

import numpy as np
import pytest
import torch
import yaml

from benchmarks.experiments.comparisons import MODELS, baselines
from benchmarks.experiments.declare import ROOT
from benchmarks.experiments.ungated_phase import UngatedPhaseModule
from harmonicrnn import load
from harmonicrnn.models import LevelSpec, Prediction
from lightning_modules import HarmonicModule, WaveNetModule, load_module

UNGATED = "benchmarks.experiments.ungated_phase.UngatedPhaseModule"
SETTINGS = {
    "WaveNetModule": "--model.width 8 --model.skip 8 --model.cycle 3",
    "CountsModule": "--model.order 1",
    "HarmonicModule": "--model.recurrence lti",
}


# tests/cli/test_generate.py covers HarmonicModule too; generation with `lti` compiles the engine again.
@pytest.mark.parametrize("name", ["WaveNetModule", "CountsModule", pytest.param("HarmonicModule", marks=pytest.mark.slow)])
def test_from_fit_to_generate(run, folder, name):
    assert run(f"fit --config tiny.yaml --model lightning_modules.{name} {SETTINGS[name]} --data.bits 5") == 0
    version = folder / "logs/tiny/version_0"
    module = load_module(version / "checkpoints/last.ckpt")
    assert type(module).__name__ == name
    assert torch.load(version / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    assert (version / "samples").is_dir()
    if name == "CountsModule":  # four steps of four clips of 320 samples, some of them shorter
        assert 15 * 320 <= module.net.counts[0].sum() <= 16 * 320
    assert run("test") == 0
    report = json.loads((version / "nll_test.json").read_text())
    assert 0 < report["bits_per_sample"] < 6
    assert load(version, net=module.net).nll(np.zeros(100, dtype=np.float32), 16_000) > 0
    assert run("generate --seconds 0.002 --clips 1 --out clips") == 0
    assert np.load(folder / "clips/clip_0000.npy").shape == (32,)


def test_counts_are_neither_averaged_nor_trained_on_several_devices(run, capsys):
    assert run("fit --config tiny.yaml --model lightning_modules.CountsModule --ema.decay 0.9") == 2
    assert "counts have no moving average" in capsys.readouterr().err


def test_equal_parameters_within_five_percent():
    """Compares each run of the experiment, with its own settings, with its baseline."""

    def parameters(run):
        settings = {key.removeprefix("model."): value for key, value in run.settings.items() if key.startswith("model.")}
        if run.settings.get("model") != "lightning_modules.WaveNetModule":
            settings = yaml.safe_load((ROOT / run.config).read_text())["model"] | settings
        settings = {key: value for key, value in settings.items() if not key.startswith("optimizer")}
        if "levels" in settings:
            settings["levels"] = [LevelSpec(**level) for level in settings["levels"]]
        if "prediction" in settings:
            settings["prediction"] = Prediction(**settings["prediction"])
        modules = {"lightning_modules.WaveNetModule": WaveNetModule, UNGATED: UngatedPhaseModule}
        module = modules.get(run.settings.get("model"), HarmonicModule)(**settings)
        return sum(parameter.numel() for parameter in module.parameters())

    found = {run.name: parameters(run) for run in baselines().runs}
    assert {name.removesuffix("_2M") for name in found} >= set(MODELS)
    for name, count in found.items():
        assert abs(count / found["harmonic_2M"] - 1) < 0.05, name
