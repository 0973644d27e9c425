"""Tests of trainings that start from the weights of a voice."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from harmonicrnn import load
from tests.cli.test_bad_input import expect_error
from tests.cli.test_train_and_evaluate import FIT

QUICK = f"{FIT} --samples.sample_seconds 0 --trainer.limit_val_batches 1 --trainer.max_steps 1 --model.optimizer.lr 1e-12"


@pytest.fixture
def tiny(ready, folder):
    load(ready).save(folder / "tiny")
    return folder / "tiny"


def weights(version):
    return torch.load(Path(version) / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_training_begins_with_a_voice_and_goes_on_without_it(run, folder, tiny, monkeypatch):
    monkeypatch.setattr("harmonicrnn.runs.VOICES", folder / "shipped")
    tiny.rename(folder / "moved")
    (folder / "shipped").mkdir()
    (folder / "moved").rename(folder / "shipped/tiny")
    before = load("tiny").net.state_dict()
    assert run(f"{QUICK} --model.init_from tiny --seed_everything 9") == 0
    version = folder / "logs/tiny/version_1"
    assert all(torch.allclose(value, before[name.removeprefix("net.")], atol=1e-6) for name, value in weights(version).items())
    config = yaml.safe_load((version / "config.yaml").read_text())
    assert config["model"]["init_from"] == "tiny"
    (folder / "shipped/tiny/config.json").unlink()
    assert run(f"{QUICK} --model.init_from tiny --seed_everything 9 --ckpt_path last --trainer.max_steps 2") == 0
    assert yaml.safe_load((version / "config.yaml").read_text())["model"]["init_from"] == "tiny"
    assert run("validate") == 0
    load(version).save(folder / "tuned")
    assert json.loads((folder / "tuned/config.json").read_text())["about"]["init_from"] == "tiny"


def test_predictors_above_a_floor_are_put_on_and_taken_off_again(run, folder, tiny):
    """The weights are the same; the likelihoods differ."""
    floor = "--model.prediction.input false --model.prediction.floor 0.1"
    assert run(f"{QUICK} --model.init_from {tiny} {floor}") == 0
    with_it = folder / "logs/tiny/version_1"
    assert weights(with_it).keys() == {f"net.{name}" for name in load(tiny).net.state_dict()}
    assert run(f"{QUICK} --model.init_from {with_it}/checkpoints/last.ckpt") == 0
    clip = torch.zeros(64).numpy()
    likelihoods = [load(folder / "logs/tiny" / version).nll(clip, 16_000) for version in ("version_0", "version_1", "version_2")]
    assert likelihoods[2] == pytest.approx(likelihoods[0], rel=1e-4)
    assert abs(likelihoods[1] - likelihoods[0]) > 0.01


def test_a_gate_is_trained_on_a_network_that_is_kept_and_can_be_taken_off(run, folder, tiny):
    floor = "--model.prediction.input false --model.prediction.floor 0.1"
    assert run(f"{QUICK} --model.init_from {tiny} {floor} --model.prediction.gate true --model.optimizer.lr 0.1") == 0
    gated = folder / "logs/tiny/version_1"
    kept, before = weights(gated), {f"net.{name}": value for name, value in load(tiny).net.state_dict().items()}
    assert {name for name in kept if name not in before} == {
        f"net.gate.{name}" for name in ("state.weight", "state.bias", "errors.weight", "out.weight", "out.bias")
    }
    assert all(torch.equal(kept[name], before[name]) for name in before)
    assert kept["net.gate.out.weight"].abs().max() > 0
    assert load(gated).generate(0.01).shape == (1, 160)
    assert run(f"{QUICK} --model.init_from {gated} {floor} --model.prediction.gate true --model.prediction.kept 0.1") == 0
    again = weights(folder / "logs/tiny/version_2")
    assert all(torch.allclose(value, kept[name], atol=1e-9) for name, value in again.items())
    assert run(f"{QUICK} {floor} --model.prediction.gate true --ckpt_path {gated}/checkpoints/last.ckpt --trainer.max_steps 2") == 0
    with pytest.warns(UserWarning, match="its gate is left out, as the network is trained"):
        assert run(f"{QUICK} --model.init_from {gated} {floor}") == 0
    off = weights(folder / "logs/tiny/version_3")
    assert off.keys() == before.keys()
    assert all(torch.allclose(value, before[name], atol=1e-6) for name, value in off.items())


def test_what_a_gate_is_not_trained_on(run, folder, tiny, capsys):
    gate = "--model.prediction.input false --model.prediction.floor 0.1 --model.prediction.gate true"
    expect_error(run, capsys, f"{QUICK} {gate}", "a network that was trained before: name it with --model.init_from")
    gate += f" --model.init_from {tiny}"
    expect_error(run, capsys, f"{QUICK} {gate} --model.history_noise -12", "model.history_noise is for the network")
    expect_error(run, capsys, f"{QUICK} {gate} --model.dropout 0.1", "model.dropout is for the network")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--model.expansion 2", ["mlp.layer.weight has shape (24, 8), the model's (16, 8); ", " more: initial weights must be of"]),
        ("--data.sample_rate 8000", ["was trained with sample_rate 16000, configured is 8000", "set model and data as in the config"]),
    ],
)
def test_a_voice_of_another_shape(run, folder, tiny, capsys, arguments, parts):
    expect_error(run, capsys, f"{QUICK} --model.init_from {tiny} {arguments}", "tiny/model.safetensors", *parts)
    assert not (folder / "logs/tiny/version_1").exists()
