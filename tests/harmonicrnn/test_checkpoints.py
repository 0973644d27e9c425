"""Checkpoints are read without Lightning, and nothing that they name is imported or run."""

import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch

import harmonicrnn.models.skip_block
from harmonicrnn import load
from harmonicrnn.checkpoints import FORMAT, KEY, UNSEEN, net_weights, read_checkpoint
from harmonicrnn.errors import UserError
from harmonicrnn.models import LevelSpec
from lightning_modules import HarmonicModule, OptimizerConfig, load_module

ROOT = Path(__file__).parents[2]
RUN = ROOT / "tests/fixtures/run_of_version_0.1"


def save(path, module, **hyper_parameters):
    """As Lightning and `callbacks.RunRecord` write it, as far as it is read."""
    content = {"state_dict": module.state_dict(), "hyper_parameters": {**module.hparams, **hyper_parameters}}
    content |= {KEY: {"format": FORMAT}, UNSEEN: module.unseen_in_weights, "pytorch-lightning_version": lightning.__version__}
    torch.save(content, path)
    return path


@pytest.fixture(params=["harmonicrnn.models.skip_block", "models.skip_block"])
def built_by_hand(request, tmp_path, monkeypatch):
    """A checkpoint with records among its hyperparameters, under their names of today or of before version 0.2."""
    monkeypatch.setitem(sys.modules, "models", harmonicrnn.models)
    monkeypatch.setitem(sys.modules, request.param, harmonicrnn.models.skip_block)
    monkeypatch.setattr(LevelSpec, "__module__", request.param)
    module = HarmonicModule(OptimizerConfig(lr=1e-3), levels=[LevelSpec(8, 1, 2), LevelSpec(8, 1)], heads=2, groups=2, bits=5)
    path = save(tmp_path / "a.ckpt", module)
    monkeypatch.undo()
    return path


def test_records_of_modules_built_by_hand_are_read_without_the_experiment(built_by_hand):
    assert load(built_by_hand).net.levels.factor == 2
    code = f"""
import sys
from harmonicrnn import load
print(load({str(built_by_hand)!r}).net.bits)
assert not {{"lightning_modules", "lightning", "models"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "5\n"


def test_records_of_modules_built_by_hand_are_read_by_lightning(built_by_hand):
    module = load_module(built_by_hand)
    assert (module.optimizer.lr, module.hparams.levels) == (1e-3, [LevelSpec(8, 1, 2), LevelSpec(8, 1)])


@pytest.mark.parametrize("place", ["poison", "lightning_modules.poison", "models.poison", "harmonicrnn.poison"])
def test_nothing_is_imported_because_a_checkpoint_says_so(place, tmp_path, monkeypatch):
    marker = tmp_path / "imported"
    (tmp_path / "poison.py").write_text(f"open({str(marker)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    content = torch.load(RUN / "checkpoints/best.ckpt", weights_only=True)
    content["hyper_parameters"]["_class_path"] = f"{place}.OwnModule"
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"is of \S+\.OwnModule, .* load\(path, net=\.\.\.\)"):
        load(tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"is of \S+\.OwnModule, .* must be imported first"):
        load_module(tmp_path / "a.ckpt")
    assert not marker.exists()


def test_hyperparameters_that_describe_no_model(tmp_path):
    content = torch.load(RUN / "checkpoints/best.ckpt", weights_only=True)
    for levels in ([{"width": 16, "depths": 1}], 3, []):
        content["hyper_parameters"]["levels"] = levels
        torch.save(content, tmp_path / "a.ckpt")
        with pytest.raises(UserError, match=r"a\.ckpt: its hyperparameters describe no HarmonicRNN: "):
            load(tmp_path / "a.ckpt")
    del content["hyper_parameters"]["law"]
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"a\.ckpt: is of lightning_modules\.HarmonicModule, which is no autoregressive model"):
        load(tmp_path / "a.ckpt")


def test_weights_of_the_model_alone():
    names = net_weights(read_checkpoint(RUN / "checkpoints/best.ckpt"))
    assert names.keys() == load(RUN).net.state_dict().keys()
