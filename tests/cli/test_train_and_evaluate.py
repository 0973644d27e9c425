"""Tests of `train.py fit`, `validate` and `test`: whole runs, resuming, initial weights, EMA, two ranks and config references."""

import json
import re
import shutil

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harmonicrnn.evaluation.untrained import UNIGRAM, measure_untrained
from harmonicrnn.metrics import NegativeLogLikelihood
from harmonicrnn.models import sample_nats
from harmonicrnn.models.predictors_alone import FILTERS
from lightning_modules import HarmonicModule, read_checkpoint
from tests.cli.conftest import as_program, as_two_ranks, copied

FIT = "fit --config tiny.yaml"
QUICK = "--samples.sample_seconds 0 --trainer.limit_val_batches 1"
RANKS = "--trainer.devices 2 --trainer.accelerator cpu --trainer.strategy ddp"


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_from_fit_to_test(run, folder, capsys, caplog):
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        assert run(FIT) == 0
    version = folder / "logs/tiny/version_0"
    told = [line.split(":")[0] for line in caplog.messages]
    assert [name for name in told if name in ("Model", "Data", "Step", "Memory", "Time")] == ["Model", "Data", "Step", "Memory", "Time"]
    assert caplog.messages.count("Recurrence: cpu (the tensors are on cpu)") == 1
    assert "Step: 1,280 samples (4 clips of 320)" in caplog.messages
    untrained = [line.split(",")[0] for line in caplog.messages if line.startswith("Without training: ")]
    assert untrained == [f"Without training: {name}" for name in (*FILTERS, UNIGRAM)]
    assert {p.name for p in (version / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}

    record = json.loads((version / "run.json").read_text())
    assert record["seed"] == 1
    assert record["libraries"]["torch"] == torch.__version__.split("+")[0]
    checkpoint = read_checkpoint(version / "checkpoints/last.ckpt")
    assert checkpoint["harmonicrnn"] == record
    assert record["format"] == 1

    # `test` without arguments finds the run; its likelihood equals one computed here from the checkpoint.
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        assert run("test") == 0
    assert any("logs/tiny/version_0/checkpoints/best.ckpt" in line for line in caplog.messages)
    report = json.loads((version / "nll_test.json").read_text())
    module = HarmonicModule.load_from_checkpoint(version / "checkpoints/best.ckpt")
    metric = NegativeLogLikelihood()
    for batch in datamodule(folder, "test").test_dataloader():
        with torch.no_grad():
            metric.update(sample_nats(module.net(batch.classes)[0], batch.classes), batch.valid)
    expected = metric.compute()
    assert report["bits_per_sample"] == pytest.approx(expected["bits_per_sample"].item(), abs=1e-6)
    assert (report["samples"], report["clips"]) == (320 + 220, 2)
    assert "SC09: mu-law 8 bit, scaling clip" in report["protocol"]
    told = capsys.readouterr().out
    assert f"{report['bits_per_sample']:.4f}" in told

    # Below it are the likelihoods without training, of the same samples.
    data = datamodule(folder, "test")
    data.read("train")
    untrained = measure_untrained(data, "test", folder / "none", training=data)
    assert [each["name"] for each in report["untrained"]] == [*FILTERS, UNIGRAM]
    for each, wanted in zip(report["untrained"], untrained, strict=True):
        assert each["bits_per_sample"] == pytest.approx(wanted.bits_per_sample, abs=1e-9)
        assert (each["samples"], each["clips"]) == (report["samples"], report["clips"])
        assert re.search(rf"{wanted.name}\s.*{wanted.bits_per_sample:.4f}", told)
    assert "The model is worse than linear predictors without any training" in told
    shutil.rmtree(folder / "none")

    # Nothing was written beside the run, and its config is unchanged.
    assert sorted(p.name for p in (folder / "logs/tiny").iterdir()) == ["version_0"]
    assert run("validate") == 0
    assert json.loads((version / "nll_validation.json").read_text())["samples"] == 3 * 320
    assert sorted(p.name for p in folder.iterdir()) == ["data", "logs", "tiny.yaml"]


def datamodule(folder, stage):
    from datamodules import SC09

    data = SC09(folder / "data", clip_samples=320, batch_size=2, num_workers=0)
    data.setup(stage)
    return data


def test_test_takes_the_newest_run_with_a_checkpoint_its_config_and_what_overrides_it(run, folder, ready, capsys):
    assert run(f"{FIT} {QUICK} --model.recurrence real --data.bits 5 --trainer.logger.init_args.name other") == 0
    (folder / "logs/other/version_1/checkpoints").mkdir(parents=True)  # has no checkpoint
    assert run("test") == 0
    assert (folder / "logs/other/version_0/nll_test.json").is_file()
    assert run("test --config tiny.yaml") == 0
    assert (folder / "logs/tiny/version_0/nll_test.json").is_file()
    last = "logs/other/version_0/checkpoints/last.ckpt"
    assert run(f"test --ckpt_path {last}") == 0
    assert json.loads((folder / "logs/other/version_0/nll_test.json").read_text())["checkpoint"] == last
    assert run("test --ckpt_path last --data.batch_size 1") == 0
    assert "mu-law 5 bit" in json.loads((folder / "logs/other/version_0/nll_test.json").read_text())["protocol"]


def test_a_continued_run_stays_in_its_folder_and_ends_as_if_it_had_not_stopped(run, folder):
    settings = f"--ema.decay 0.9 {QUICK}"
    assert run(f"{FIT} {settings}") == 0
    whole = folder / "logs/tiny/version_0/checkpoints/last.ckpt"
    assert run(f"{FIT} {settings} --trainer.callbacks+=tests.cli.run_callbacks.StopAt") == 0
    half = folder / "logs/tiny/version_1/checkpoints/last.ckpt"
    assert torch.load(half, weights_only=True)["global_step"] == 2
    assert run(f"{FIT} {settings} --ckpt_path last") == 0
    assert sorted(p.name for p in (folder / "logs/tiny").iterdir()) == ["version_0", "version_1"]
    assert torch.load(half, weights_only=True)["global_step"] == 4
    for key in ("state_dict", "current_model_state"):
        a, b = (torch.load(path, weights_only=True)[key] for path in (half, whole))
        assert all(torch.allclose(a[name], b[name], rtol=1e-5, atol=1e-7) for name in a)
    assert "ckpt_path: null" in (half.parents[1] / "config.yaml").read_text()


@pytest.mark.parametrize("spelling", ["last", "{folder}/logs/tiny/version_0/checkpoints/last.ckpt"])
def test_the_best_of_a_continued_run_is_the_best_of_all_of_it(run, folder, begun, monkeypatch, spelling):
    """The second half has a rate that ruins the weights, so best.ckpt stays that of the first half."""
    best = begun / "checkpoints/best.ckpt"
    monkeypatch.setattr("lightning_modules.optimizer.rate_factor", lambda *_: 1e3)
    assert run(f"{FIT} --samples.sample_seconds 0 --ckpt_path {spelling.format(folder=folder)}") == 0
    assert torch.load(best, weights_only=True)["global_step"] == 2
    assert torch.load(best.with_name("last.ckpt"), weights_only=True)["global_step"] == 4


def test_killed_between_its_first_two_checkpoints_a_run_goes_on_from_the_one(run, folder, ready, halted):
    whole = ready / "checkpoints/last.ckpt"
    half = copied(halted, folder, version=1) / "checkpoints/last.ckpt"
    half.unlink()
    assert run(f"{FIT} --samples.sample_seconds 0 --ckpt_path last") == 0
    assert sorted(p.name for p in (folder / "logs/tiny").iterdir()) == ["version_0", "version_1"]
    assert torch.load(half, weights_only=True)["global_step"] == 4
    assert same(weights(half), weights(whole))


def test_init_from_takes_the_weights_alone(run, folder, ready):
    first = ready / "checkpoints/last.ckpt"
    assert run(f"{FIT} {QUICK} --model.init_from {first} --model.optimizer.lr 1e-12 --seed_everything 9") == 0
    second = folder / "logs/tiny/version_1/checkpoints/last.ckpt"
    assert all(torch.allclose(weights(second)[name], value, atol=1e-6) for name, value in weights(first).items())
    assert torch.load(second, weights_only=True)["global_step"] == 4
    # The run no longer needs the one that it began from.
    first.unlink()
    first.with_name("best.ckpt").unlink()
    assert run("test") == 0


def test_the_average_is_what_is_evaluated_and_kept(run, folder):
    assert run(f"{FIT} --ema.decay 0.9 --samples.sample_seconds 0") == 0
    checkpoint = torch.load(folder / "logs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    assert not same(checkpoint["state_dict"], checkpoint["current_model_state"])
    assert run("validate --ckpt_path last") == 0
    report = json.loads((folder / "logs/tiny/version_0/nll_validation.json").read_text())
    events = EventAccumulator(str(folder / "logs/tiny/version_0"))
    events.Reload()
    assert report["bits_per_sample"] == pytest.approx(events.Scalars("val/bits")[-1].value, abs=1e-5)


WAYS = {  # options and the number of steps that they take
    "--trainer.precision bf16-mixed": 4,
    "--trainer.accumulate_grad_batches 2": 4,
    "--trainer.max_steps -1 --trainer.max_epochs 1": 5,
    "--data.clip_samples 1 --trainer.limit_val_batches 2": 4,
}


def test_other_ways_to_train(run, folder, ready):
    """Each option must give finite weights that differ from the default's."""
    plain = weights(ready / "checkpoints/last.ckpt")
    for version, (extra, steps) in enumerate(WAYS.items(), start=1):
        assert run(f"{FIT} --samples.sample_seconds 0 {extra}") == 0, extra
        checkpoint = torch.load(folder / f"logs/tiny/version_{version}/checkpoints/last.ckpt", weights_only=True)
        assert checkpoint["global_step"] == steps, extra
        assert all(value.isfinite().all() for value in checkpoint["state_dict"].values()), extra
        assert not same(checkpoint["state_dict"], plain), extra


@pytest.mark.slow
@pytest.mark.parametrize("command", [FIT, "validate", "test"])
def test_as_a_program(folder, request, command):
    """Starts each subcommand as a program, which has to import everything."""
    if not command.startswith("fit"):
        request.getfixturevalue("ready")
    process = as_program(folder, command)
    assert process.returncode == 0, process.stderr
    if not command.startswith("fit"):
        assert "bits/sample" in process.stdout


def as_one_program(folder, command):
    """Starts one program, whose second process Lightning starts; returns the exit status for both ranks, and the standard error."""
    process = as_program(folder, f"{command} {RANKS}")
    return [process.returncode] * 2, process.stderr


@pytest.mark.parametrize("start", [as_two_ranks, pytest.param(as_one_program, marks=pytest.mark.slow)])
def test_two_ranks_train_and_measure_what_one_does(run, folder, start):
    ends, told = start(folder, f"{FIT} --data.batch_size 2 --samples.sample_seconds 0")
    assert ends == [0, 0], told
    two = folder / "logs/tiny/version_0/checkpoints/last.ckpt"
    assert run(f"{FIT} --data.batch_size 2 --samples.sample_seconds 0 --trainer.logger.init_args.name alone") == 0
    one = folder / "logs/alone/version_0/checkpoints/last.ckpt"
    # All clips are equally long, so the mean of the ranks' means is the mean over all.
    assert all(torch.allclose(weights(two)[name], value, rtol=1e-4, atol=1e-6) for name, value in weights(one).items())
    # On one device in this process, although the run's own config asks for two.
    assert run(f"test --ckpt_path {two} --trainer.devices 1 --trainer.strategy auto") == 0
    path = folder / "logs/tiny/version_0/nll_test.json"
    alone = json.loads(path.read_text())
    ends, told = as_two_ranks(folder, f"test --ckpt_path {two}")
    assert ends == [0, 0], told
    together = json.loads(path.read_text())
    assert together["bits_per_sample"] == pytest.approx(alone["bits_per_sample"], abs=1e-6)
    assert (together["samples"], together["clips"]) == (alone["samples"], alone["clips"])


def test_a_config_that_names_no_folder(run, folder):
    (folder / "plain.yaml").write_text((folder / "tiny.yaml").read_text().replace("  default_root_dir: logs/tiny\n", ""))
    assert run(f"fit --config plain.yaml {QUICK} --trainer.max_steps 2") == 0
    assert run("test --config plain.yaml") == 0
    assert (folder / "logs/run/version_0/nll_test.json").is_file()


def test_gradients_are_clipped_by_default(run, folder, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def watch(optimizer, closure=None):
        result = step(optimizer, closure)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    monkeypatch.setattr("harmonicrnn.models.autoregressive_net.sample_nats", lambda *args: 100 * sample_nats(*args))
    assert run(f"{FIT} --samples.sample_seconds 0") == 0
    assert norms == pytest.approx([1.0] * 4, rel=1e-3)


@pytest.mark.parametrize(("extra", "steps"), [("", [1, 3]), ("--data.batch_size 1", [0, 1, 2, 3])])
def test_keys_can_refer_to_one_another(run, folder, extra, steps):
    """References are resolved last, after the command line."""
    text = (folder / "tiny.yaml").read_text().replace("batch_size: 4", "batch_size: 2")
    text = text.replace("val_check_interval: 2", "val_check_interval: ${data.init_args.batch_size}")
    (folder / "refers.yaml").write_text(text)
    assert run(f"fit --config refers.yaml --samples.sample_seconds 0 {extra}") == 0
    events = EventAccumulator(str(folder / "logs/tiny/version_0"))
    events.Reload()
    assert [event.step for event in events.Scalars("val/bits")] == steps


def test_an_apple_machine_trains_on_its_cpu(run, folder, monkeypatch):
    """Lightning would take the GPU, which has no float64; the run's configuration names no device."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert run(f"{FIT} --trainer.max_steps 1 --trainer.limit_val_batches 0") == 0
    assert yaml.safe_load((folder / "logs/tiny/version_0/config.yaml").read_text())["trainer"]["accelerator"] == "auto"


def test_lightning_advertises_nothing(run, folder, caplog):
    with caplog.at_level("INFO"):
        assert run(f"{FIT} {QUICK} --trainer.max_steps 1") == 0
    assert "Recurrence: " in caplog.text
    assert "Tip" not in caplog.text
