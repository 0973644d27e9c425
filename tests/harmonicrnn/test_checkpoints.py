"""Checkpoints are read without Lightning, and nothing that they name is imported or executed."""

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
    """Writes a checkpoint as Lightning and `callbacks.RunRecord` do, with the entries that are read."""
    content = {"state_dict": module.state_dict(), "hyper_parameters": {**module.hparams, **hyper_parameters}}
    content |= {KEY: {"format": FORMAT}, UNSEEN: module.unseen_in_weights, "pytorch-lightning_version": lightning.__version__}
    torch.save(content, path)
    return path


LEVELS = [LevelSpec(16, 1, 4), LevelSpec(16, 1)]


@pytest.fixture
def built_by_hand(tmp_path, monkeypatch):
    """Makes checkpoints with dataclass records among the hyperparameters, of the current version and from before 0.2."""
    now, before, records = tmp_path / "now.ckpt", tmp_path / "before.ckpt", {"optimizer": OptimizerConfig(lr=1e-3), "levels": LEVELS}
    save(now, HarmonicModule(**records, heads=2, groups=2, sample_rate=8000))
    monkeypatch.setitem(sys.modules, "models", harmonicrnn.models)
    monkeypatch.setitem(sys.modules, "models.skip_block", harmonicrnn.models.skip_block)
    monkeypatch.setattr(LevelSpec, "__module__", "models.skip_block")
    content = torch.load(RUN / "checkpoints/best.ckpt", weights_only=True)
    content["hyper_parameters"] = {"heads": 2, "groups": 2, "sample_rate": 8000, "law": "mu-law", **records}
    torch.save(content, before)
    monkeypatch.undo()
    return now, before


def test_records_of_modules_built_by_hand_are_read_without_the_experiment(built_by_hand):
    code = f"""
import sys
from harmonicrnn import load
for path in {[str(path) for path in built_by_hand]}:
    print(load(path).net.levels.factor)
assert not {{"lightning_modules", "lightning", "models"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "4\n4\n"


@pytest.mark.parametrize("which", [0, 1], ids=["now", "before version 0.2"])
def test_records_of_modules_built_by_hand_are_read_by_lightning(built_by_hand, which):
    path = built_by_hand[which]
    module = load_module(path)
    assert (module.optimizer.lr, module.hparams.levels) == (1e-3, LEVELS)
    assert all(torch.equal(value, module.net.state_dict()[name]) for name, value in load(path).net.state_dict().items())


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
    for levels in ([{"width": 16, "depths": 1}], 3, [], [{"width": 100_000, "depth": 1}], [{"width": 16, "depth": 10**9}]):
        content["hyper_parameters"]["levels"] = levels
        torch.save(content, tmp_path / "a.ckpt")
        with pytest.raises(UserError, match=r"a\.ckpt: its hyperparameters describe no HarmonicRNN: "):
            load(tmp_path / "a.ckpt")
    del content["hyper_parameters"]["law"]
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"a\.ckpt: is of lightning_modules\.HarmonicModule, which is no autoregressive model"):
        load(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, value) for key in ("hyper_parameters", "state_dict", KEY, UNSEEN) for value in (3, [], "x", {1: 2})),
        *(("state_dict", {"net.w": value}) for value in (1, {})),
        *((KEY, {"format": value}) for value in (None, "1", torch.zeros(0))),
        *(("hyper_parameters", {"law": torch.zeros(2)}), (UNSEEN, {"law": torch.zeros(2)}), ("current_model_state", [1])),
    ],
)
def test_what_is_not_of_its_kind(tmp_path, key, value):
    content = torch.load(RUN / "checkpoints/best.ckpt", weights_only=True)
    torch.save(content | {key: value}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"a\.ckpt: is damaged: it has entries of the wrong type"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_weights_of_the_model_alone():
    names = net_weights(read_checkpoint(RUN / "checkpoints/best.ckpt"))
    assert names.keys() == load(RUN).net.state_dict().keys()
