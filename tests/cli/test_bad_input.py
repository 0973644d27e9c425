"""Tests of wrong input: one or two lines name the cause, the exit status is 2, and no partial output remains."""

import pickle

import numpy as np
import pytest
import soundfile
import torch
from jsonargparse import Namespace

from cli.training_cli import check_trainer
from harmonicrnn.errors import UserError
from tests.audio_files import tone

FIT = "fit --config tiny.yaml"


def expect_error(run, capsys, command, *parts):
    capsys.readouterr()
    assert run(command) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:") or told_on(line)]
    message = "\n".join(told)
    assert message.startswith("error: ")
    assert len(told) <= 2, message
    for part in parts:
        assert part in message, message


def told_on(line):
    """Returns True if a line continues an error (jsonargparse indents its second line)."""
    return line.startswith("  Expected")


def replace_clip(folder, make):
    path = sorted((folder / "data" / "three").glob("*.wav"))[0]
    make(path)
    return path


def with_nan(path):
    samples = tone(320, 0)
    samples[7] = np.nan
    soundfile.write(path, samples, 16_000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("not audio"), "cannot be read as audio"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "cut short"),
        (with_nan, "NaN or infinite samples"),
    ],
    ids=["text", "truncated", "nan"],
)
def test_files(run, folder, capsys, make, message):
    """Other faults of files are tested in tests/harmonicrnn/audio/test_reading.py."""
    path = replace_clip(folder, make)
    expect_error(run, capsys, FIT, str(path), message)
    assert not (folder / "logs/tiny").exists()


# Each has a similar case in the list below.
OF_THE_SAME_KIND = [
    ("--data AudioFolder --data.root nowhere", ["nowhere: there is no such folder"]),
    ("--trainer.default_root_dir tiny.yaml/logs", ["tiny.yaml/logs", "cannot be written"]),
    ("--trainer.logger.init_args.save_dir . --trainer.logger.init_args.name tiny.yaml", ["tiny.yaml", "cannot be written"]),
    ("--config broken.yaml --ckpt_path last", ["broken.yaml", "is not YAML"]),
    ("--samples.prompt_seconds .nan", ["samples.prompt_seconds (nan)"]),
    ("--model.headz 2", ["--model.headz"]),
    ("--trainer.max_st 3", ["--trainer.max_st"]),
    ("--ckpt_path best", ["no run with a checkpoint"]),
]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--data.root missing", ["missing: there is no such folder"]),
        ("--data AudioFolder --data.root empty", ["empty: no audio files (.wav, .flac, .ogg, .opus, .mp3 and others)"]),
        ("--model.levels=[{'width':9,'depth':1}] --model.heads 1", ["even width", "9"]),
        ("--model.heads 3", ["heads (3)", "width (8)"]),
        ("--data.bits 13", ["bits", "4 and 12", "13"]),
        ("--model.bits 9", ["model.bits"]),
        ("--data.sample_rate 7.5", ["sample_rate", "'int'", "7.5"]),
        ("--data Nope", ["data", "Nope"]),
        ("--model.recurrence quantum", ["model.recurrence", "quantum"]),
        ("--model.scan triton", ["model.scan", "triton is not available", "needs a CUDA device", "set scan to auto"]),
        ("--config unknown_key.yaml", ["hedas"]),
        ("--config not_there.yaml", ["not_there.yaml"]),
        ("--data.batch_size 21", ["batch_size (21)", "20 clips"]),
        ("--data.batch_size 0", ["data.batch_size", "0"]),
        ("--data.clip_samples 9000000000000", ["data.clip_samples (9000000000000)", "a batch of 4 clips alone takes", "this machine has"]),
        ("--model.optimizer.lr 0", ["lr (0"]),
        ("--model.optimizer.lr .nan", ["lr (nan"]),
        ("--model.optimizer.weight_decay .inf", ["weight_decay (inf"]),
        ("--model.groups 5", ["groups (5)", "8 and 16"]),
        ("--model.optimizer.betas=[0.9,1.5]", ["betas [0.9, 1.5]"]),
        ("--ema.decay 1.5", ["ema.decay", "1.5"]),
        ("--samples.sample_seconds -1", ["samples.sample_seconds"]),
        ("--trainer.max_steps -1 --trainer.max_epochs -1", ["max_steps", "max_epochs"]),
        ("--trainer.logger.init_args.save_dir tiny.yaml/logs", ["tiny.yaml/logs", "cannot be written"]),
        ("--ckpt_path nothing.ckpt", ["nothing.ckpt", "no such file"]),
        ("--trainer.accelerator gpu", ["gpu"]),
        ("--trainer.gradient_clip_val -1", ["trainer.gradient_clip_val must be 0 or more"]),
        ("--trainer.max_time 00:00:01:00 --trainer.max_steps -1", ["needs an end", "max_steps"]),
        ("--config broken.yaml", ["broken.yaml", "is not YAML"]),
        ("--config goes_on.yaml", ["nothing.ckpt", "no such file"]),
        ("--model.init_from nothing.ckpt", ["nothing.ckpt", "no such checkpoint"]),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in OF_THE_SAME_KIND),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings(run, folder, capsys, arguments, parts):
    (folder / "empty").mkdir()
    (folder / "broken.yaml").write_text("model: {levels: [\n")
    (folder / "goes_on.yaml").write_text("ckpt_path: nothing.ckpt\n")
    (folder / "unknown_key.yaml").write_text("model: {hedas: 2}\n")
    expect_error(run, capsys, f"{FIT} {arguments}", *parts)
    assert not list(folder.glob("logs/**/*.tfevents*"))


TRAINER = {  # values of a valid configuration
    "accelerator": "auto",
    "overfit_batches": 0.0,
    "fast_dev_run": False,
    "barebones": False,
    "use_distributed_sampler": False,
    "reload_dataloaders_every_n_epochs": 0,
    "log_every_n_steps": None,
    "val_check_interval": None,
    "check_val_every_n_epoch": None,
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "max_steps": 4,
    "min_steps": None,
    "limit_train_batches": None,
}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("val_check_interval", 0, "must be above 0"),
        ("check_val_every_n_epoch", 0, "must be at least 1"),
        ("log_every_n_steps", -1, "must be at least 1, or 0"),
        ("accumulate_grad_batches", 0, "must be at least 1"),
        ("gradient_clip_val", -1, "must be 0 or more"),
        ("gradient_clip_val", float("nan"), "must be 0 or more"),
        ("overfit_batches", 1, "is not supported"),
        ("fast_dev_run", True, "is not supported: set trainer.max_steps"),
        ("barebones", True, "is not supported"),
        ("use_distributed_sampler", True, "must be false"),
        ("reload_dataloaders_every_n_epochs", 1, "must be 0"),
        ("accelerator", "mps", "must be cpu or auto"),
        ("max_steps", 0, "must be above 0"),
        ("limit_train_batches", 0, "must be above 0"),
        ("min_steps", 5, "must be at most trainer.max_steps, 4"),
    ],
)
def test_settings_of_the_trainer(key, value, message):
    """One of these settings is also tried on the command line above."""
    check_trainer(Namespace(TRAINER))
    with pytest.raises(UserError, match=rf"trainer\.{key} {message}.*, got {value}"):
        check_trainer(Namespace(TRAINER | {key: value}))


def test_a_step_that_does_not_fit_into_memory(run, folder, capsys, monkeypatch):
    monkeypatch.setattr("callbacks.run_summary.MEMORY", 2**20)
    expect_error(run, capsys, FIT, "data.clip_samples (320)", "a step takes more than", "recompute")
    assert not list(folder.glob("logs/**/*.ckpt"))


def test_a_file_without_a_run_around_it(run, folder, capsys):
    expect_error(run, capsys, "test --ckpt_path tiny.yaml", "tiny.yaml: its training settings are unknown", "name a config with --config")


def test_no_run_to_test(run, capsys):
    expect_error(run, capsys, "test", "no run with a checkpoint", "train first")


@pytest.fixture
def checkpoint(ready):
    return ready / "checkpoints/best.ckpt"


class Code:
    def __reduce__(self):
        return (open, ("carried_code_was_run", "w"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-5000]), "cut short or damaged"),
        pytest.param(lambda path: path.write_bytes(b""), "cut short or damaged", marks=pytest.mark.slow),
        pytest.param(lambda path: path.write_bytes(b"broken"), "cut short or damaged", marks=pytest.mark.slow),
        (lambda path: torch.save({"state_dict": Code()}, path), "more than numbers and names"),
        (lambda path: path.write_bytes(pickle.dumps(Code())), "more than numbers and names"),
        (lambda path: torch.save({"state_dict": {}}, path), "is not a checkpoint of this project"),
        (lambda path: torch.save({"state_dict": {}, "harmonicrnn": {"format": 2}}, path), "has format 2"),
    ],
    ids=["truncated", "empty", "garbage", "code", "pickle", "foreign", "newer_format"],
)
def test_checkpoints(run, folder, capsys, checkpoint, damage, message):
    damage(checkpoint)
    expect_error(run, capsys, "test", "best.ckpt", message)
    assert not (folder / "carried_code_was_run").exists()


def test_a_checkpoint_that_training_begins_with_or_goes_on_from(run, folder, capsys, checkpoint):
    torch.save({"state_dict": Code()}, checkpoint)
    for option in ("--ckpt_path", "--model.init_from"):
        expect_error(run, capsys, f"{FIT} {option} {checkpoint}", "best.ckpt", "more than numbers and names")
    assert not (folder / "carried_code_was_run").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("--model.recurrence real", "levels.pre.blocks.0.mixer.layer.recurrence"),
        pytest.param("--data.bits 5", "head", marks=pytest.mark.slow),
        ("--model.expansion 2", "has shape"),
        pytest.param("--model.shift frame", "with shift tight, configured is frame", marks=pytest.mark.slow),
        pytest.param("--data.law linear", "with law mu-law, configured is linear", marks=pytest.mark.slow),
        ("--data.sample_rate 8000", "with sample_rate 16000, configured is 8000"),
    ],
)
def test_a_checkpoint_of_another_architecture(run, capsys, checkpoint, arguments, part):
    expect_error(run, capsys, f"test {arguments}", "best.ckpt", part, "architecture differs")
    if "recurrence" in arguments:
        expect_error(run, capsys, f"{FIT} --ckpt_path best {arguments}", "architecture differs")


def test_a_run_that_cannot_be_continued(run, capsys, checkpoint):
    longer = f"{FIT} --ckpt_path last --trainer.max_steps 6"
    expect_error(run, capsys, f"{FIT} --ckpt_path last", "is at step 4 of trainer.max_steps (4)")
    expect_error(run, capsys, f"{longer} --ema.decay 0.9", "trained with no averaged weights", "ema.decay")
    assert run(f"{FIT} --ema.decay 0.9 --trainer.limit_val_batches 1 --trainer.max_steps 2 --samples.sample_seconds 0") == 0
    expect_error(run, capsys, longer, "trained with averaged weights", "ema.decay")
    assert run(f"{longer} --ema.decay 0.9 --trainer.max_steps 3 --trainer.limit_val_batches 1 --samples.sample_seconds 0") == 0


def test_a_download_that_fails(run, folder, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.utils.http_backoff", fail)
    expect_error(run, capsys, f"{FIT} --data.root new --data.download true", "tar.gz: could not be downloaded", "no route to host")
    assert not list(folder.glob("new*"))


def test_a_bad_file_of_the_test_split_is_found_before_training(run, folder, capsys):
    name = (folder / "data/testing_list.txt").read_text().split()[0]
    (folder / "data" / name).write_text("not audio")
    expect_error(run, capsys, FIT, name, "cannot be read as audio")
    assert not (folder / "logs/tiny").exists()


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_good_checkpoint(run, folder, capsys):
    poison = "--trainer.callbacks+=tests.cli.run_callbacks.PoisonAt"
    expect_error(run, capsys, f"{FIT} {poison}", "loss is nan at step 3", "net.levels.pre.blocks.0.mlp", "lower model.optimizer.lr")
    kept = torch.load(folder / "logs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    assert kept["global_step"] == 2
    assert all(value.isfinite().all() for value in kept["state_dict"].values())
    assert run("test") == 0


def test_a_gradient_that_is_not_a_number_stops_the_run(run, capsys):
    poison = "--trainer.callbacks+=tests.cli.run_callbacks.PoisonGradientAt"
    expect_error(run, capsys, f"{FIT} {poison}", "gradient is not finite at step 3", "net.head.weight")


def test_constant_recordings_are_legal(run, folder):
    for path in sorted((folder / "data").glob("*/*.wav"))[:10]:
        soundfile.write(path, np.zeros(320), 16_000)
    with pytest.warns(UserWarning, match="clips of the train split are constant"):
        assert run(f"{FIT} --trainer.max_steps 2 --samples.sample_seconds 0") == 0
    assert run("test") == 0
