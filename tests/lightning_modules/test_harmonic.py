"""Tests of HarmonicModule: loss over valid samples, checkpoints, settings out of range and bits per sample."""

import math

import lightning as L
import pytest
import torch

from datamodules import Batch
from harmonicrnn.checkpoints import check_fits, read_checkpoint
from harmonicrnn.models import LevelSpec
from lightning_modules import HarmonicModule, OptimizerConfig
from tests.helpers import F64, relative_error

LEVELS = [LevelSpec(8, 1, 2), LevelSpec(8, 1)]


def make_module(**changes):
    torch.manual_seed(0)
    return HarmonicModule(OptimizerConfig(lr=1e-3), preset="griffin", levels=LEVELS, heads=2, groups=2, bits=5, **changes)


def test_the_loss_is_the_mean_over_valid_samples_whatever_the_padding_holds(monkeypatch):
    module = make_module().double()
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    module.trainer = L.Trainer(logger=False, enable_checkpointing=False, max_steps=1, accelerator="cpu")
    classes = torch.randint(32, (3, 20))
    valid = torch.arange(20) < torch.tensor([[20], [13], [1]])
    logits, _ = module.net(classes)
    nats = -torch.log_softmax(logits, dim=-1).gather(-1, classes[..., None])[..., 0]
    expected = nats[valid].mean()
    for padding in (16, 3):
        padded = torch.where(valid, classes, padding)
        loss = module.training_step(Batch(padded, valid, torch.arange(3)))
        assert relative_error(loss, expected) < 1e-6  # nats are computed in float32
    gradient = torch.autograd.grad(loss, module.net.head.weight)[0]
    assert relative_error(gradient, torch.autograd.grad(expected, module.net.head.weight)[0]) < 1e-6


def test_a_batch_in_which_no_sample_counts_teaches_nothing(monkeypatch):
    module, logged = make_module(), []
    monkeypatch.setattr(module, "log", lambda name, *args, **kwargs: logged.append(name))
    module.trainer = L.Trainer(logger=False, enable_checkpointing=False, max_steps=1, accelerator="cpu")
    module.training_step(Batch(torch.randint(32, (2, 8)), torch.zeros(2, 8, dtype=torch.bool), torch.arange(2))).backward()
    assert not logged
    assert all(not p.grad.any() for p in module.parameters() if p.grad is not None)


def test_a_checkpoint_of_a_module_built_by_hand_loads_without_running_code(tmp_path):
    module = make_module(law="linear", sample_rate=8000)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, max_steps=1, accelerator="cpu", default_root_dir=tmp_path)
    trainer.strategy.connect(module)
    module.trainer = trainer
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=True)
    checkpoint["harmonicrnn"] = {"format": 1}
    torch.save(checkpoint, tmp_path / "a.ckpt")
    check_fits(read_checkpoint(tmp_path / "a.ckpt"), module, tmp_path / "a.ckpt")
    loaded = HarmonicModule.load_from_checkpoint(tmp_path / "a.ckpt")
    classes = torch.randint(32, (2, 15))
    assert relative_error(loaded(classes)[0], module(classes)[0]) < F64
    assert (loaded.quantiser.law, loaded.sample_rate, loaded.optimizer.lr) == ("linear", 8000, 1e-3)


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"lr": 1e-3, "warmup": 1.0}, {"lr": 1e-3, "weight_decay": -1.0}])
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match=r"model\.optimizer"):
        OptimizerConfig(**settings)


def test_bits_of_a_uniform_model():
    module = make_module()
    torch.nn.init.zeros_(module.net.head.weight)
    torch.nn.init.zeros_(module.net.head.bias)
    nats = module.validation_step(Batch(torch.randint(32, (2, 9)), torch.ones(2, 9, dtype=torch.bool), torch.arange(2)))
    assert (nats / math.log(2)).mean().item() == pytest.approx(5, rel=1e-6)
