"""Tests of the choice of the LightningModule: HarmonicModule by default, another one by class_path and init_args."""

import pytest
import torch
import yaml

from harmonicrnn import load
from harmonicrnn.errors import UserError
from lightning_modules import HarmonicModule, load_module

QUICK = "--samples.sample_seconds 0 --trainer.limit_val_batches 1"
FIT = f"fit --config tiny.yaml {QUICK}"
NAMED = "model:\n  class_path: lightning_modules.HarmonicModule\n  init_args:\n"


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_the_same_module_named_and_not(run, folder, capsys):
    """Trains one run with settings in init_args and one without: the weights are equal, and all commands accept both."""
    flat, named = (folder / "tiny.yaml").read_text(), folder / "named.yaml"
    head, rest = flat.split("model:\n")
    settings, data = rest.split("data:\n")
    named.write_text(head + NAMED + "".join(f"  {line}\n" for line in settings.splitlines()) + f"data:\n{data.replace('tiny', 'named')}")
    changes = "--data.bits 5 --model.recurrence real --model.optimizer.lr 0.01"
    assert run(f"{FIT} {changes}") == 0
    assert run(f"fit --config named.yaml {QUICK} {changes}") == 0
    paths = [folder / f"logs/{name}/version_0/checkpoints/last.ckpt" for name in ("tiny", "named")]
    first, second = (weights(path) for path in paths)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for path in paths:
        assert type(load_module(path)) is HarmonicModule
        assert load(path).net.bits == 5
    assert run(f"test --ckpt_path {paths[1]}") == 0
    assert run(f"fit --config named.yaml {QUICK} {changes} --ckpt_path last --model.init_from {paths[0]} --trainer.max_steps 5") == 0
    assert run(f"test --ckpt_path {paths[1]} --model.shift frame") == 2
    assert "with shift tight, configured is frame" in capsys.readouterr().err


def test_references_within_the_models_settings(run, folder):
    """References are resolved from the top of the file, whether or not the class is named."""
    settings = yaml.safe_load((folder / "tiny.yaml").read_text().replace("heads: 2", "heads: ${data.init_args.batch_size}"))
    for name in ("flat", "named"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
        assert run(f"fit --config {name}.yaml --data.batch_size 2 --trainer.max_steps 1 --trainer.limit_val_batches 0") == 0
        settings["model"] = {"class_path": "lightning_modules.HarmonicModule", "init_args": settings["model"]}
    for version in (0, 1):
        assert load(folder / f"logs/tiny/version_{version}").net.levels.pre.blocks[0].mixer.layer.recurrence.heads == 2


@pytest.mark.parametrize("name", [pytest.param("tests.cli.classifier.Parity", marks=pytest.mark.slow), "Parity"])
def test_a_module_that_is_no_autoregressive_model(run, folder, capsys, name):
    """Settings of HarmonicRNN in the same file are ignored, and so is all that applies only to likelihoods."""
    import tests.cli.classifier  # noqa: F401 - a class can be given by its name alone once it is imported

    assert run(f"{FIT} --model {name} --model.lr 0.2 --data.bits 5 --ema.decay 0.5 --fad.clips 2") == 0
    version = folder / "logs/tiny/version_0"
    assert yaml.safe_load((version / "config.yaml").read_text())["model"]["init_args"] == {"lr": 0.2}
    best = torch.load(version / "checkpoints/best.ckpt", weights_only=True)
    assert best["hyper_parameters"]["bits"] == 5
    monitored = [state["monitor"] for key, state in best["callbacks"].items() if "val/accuracy" in key]
    assert monitored == ["val/accuracy"]
    assert not (version / "samples").exists()
    capsys.readouterr()
    assert run("test") == 0
    assert "test/accuracy" in capsys.readouterr().out
    assert run(f"{FIT} --model {name} --data.bits 5 --ema.decay 0.5 --ckpt_path last --trainer.max_steps 6") == 0
    assert torch.load(version / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 6
    with pytest.raises(UserError, match=r"Parity.*no autoregressive model"):
        load(version)
    assert run("generate") == 2
    assert run(f"{FIT} --model {name} --trainer.devices 1 --trainer.strategy context_parallel") == 2
    assert "which Parity is not" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part"), [("--model Nope", "Nope"), ("--model lightning_modules.HarmonicModule --model.headz 2", "headz")]
)
def test_what_is_no_module(run, capsys, arguments, part):
    assert run(f"{FIT} {arguments}") == 2
    assert part in capsys.readouterr().err
