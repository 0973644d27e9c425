"""What a run gives to loggers, of whatever kind, and where it writes without any; and that docs/loggers.md is true."""

import csv
import inspect
import re
import shlex

import numpy as np
import pytest
import soundfile
import yaml
from lightning.pytorch import loggers

from harmonicrnn.evaluation.figures import mel_figure, position_figure, waveform_figure
from tests.callbacks.stand_in_logger import StandIn
from tests.cli.conftest import REPOSITORY, folder, run, trained  # noqa: F401 - fixtures

PAGE = (REPOSITORY / "docs/loggers.md").read_text()
STAND_IN = "tests.callbacks.stand_in_logger.StandIn"
FIT = "fit --config tiny.yaml"
CLIPS = ("reference", "generated", "continuation")
VERSION = "logs/tiny/version_0"


@pytest.fixture(autouse=True)
def _forget():
    StandIn.made.clear()


def table(path):
    """The rows of a CSV file, of each those columns that are not empty."""
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def test_a_logger_that_takes_audio_and_pictures_gets_them(run, folder, caplog, monkeypatch):  # noqa: F811
    for function in (mel_figure, waveform_figure):
        monkeypatch.setattr(f"callbacks.audio_samples.{function.__name__}", function)
    monkeypatch.setattr("callbacks.nll_report.position_figure", position_figure)
    with caplog.at_level("INFO"):
        assert run(f"{FIT} --trainer.logger {STAND_IN} --trainer.logger.project music") == 0
    (logger,) = StandIn.made
    assert logger.settings == {"name": "tiny", "save_dir": "logs/tiny", "offline": False, "project": "music"}
    audio = {(key, step): (items, options) for kind, key, step, items, options in (g for g in logger.given if g[0] == "audio")}
    assert set(audio) == {(f"audio/{name}", step) for name in CLIPS for step in (2, 4)}
    for (key, step), ((samples,), options) in audio.items():
        assert options == {"sample_rate": [16_000]}
        written, _ = soundfile.read(folder / VERSION / f"samples/step_{step:07d}/{key.removeprefix('audio/')}.wav")
        np.testing.assert_allclose(samples, written, atol=1 / 32768)
    pictures = {(given[1], given[2]): given[3] for given in logger.given if given[0] == "image"}
    tags = [f"{kind}/{name}" for kind in ("waveform", "mel") for name in CLIPS] + ["val/bits_by_position"]
    assert set(pictures) == {(tag, step) for tag in tags for step in (2, 4)}
    for (pixels,) in pictures.values():
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert pixels.std() > 5
    curves = {given[1] for given in logger.given if given[0] == "curve"}
    assert {"train/bits", "val/bits", "val/bits_of_last_sample", "train/samples_per_second", "epoch", "lr-AdamW/pg1"} <= curves
    assert told(caplog) == [f"StandIn takes no histograms; generated clips are in {VERSION}/samples"]
    assert (folder / VERSION / "checkpoints/best.ckpt").is_file()
    assert not list((folder / VERSION).rglob("*tfevents*"))
    assert run("test") == 0
    assert (folder / VERSION / "nll_test.json").is_file()


def told(caplog):
    return [record.getMessage() for record in caplog.records if "takes no" in record.getMessage()]


@pytest.mark.parametrize("method", ["log_audio", "log_image"])
def test_the_stand_in_is_called_as_lightnings_wandb_logger_is(method):
    real, ours = (list(inspect.signature(getattr(kind, method)).parameters) for kind in (loggers.WandbLogger, StandIn))
    assert real == ours


def test_weights_and_biases_offline(run, folder, monkeypatch):  # noqa: F811
    pytest.importorskip("wandb", reason="comes with frechet-audio-distance")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert run(f"{FIT} --trainer.logger WandbLogger --trainer.logger.offline true --trainer.max_steps 2") == 0
    (files,) = folder.glob("logs/tiny/wandb/offline-run-*/files")
    assert {path.name.split("_")[0] for path in (files / "media/audio/audio").iterdir()} == set(CLIPS)
    assert {path.name for path in (files / "media/images").iterdir()} == {"waveform", "mel", "val"}


def test_a_logger_that_fails_costs_a_warning(run, folder):  # noqa: F811
    with pytest.warns(UserWarning, match="left out") as warned:
        assert run(f"{FIT} --trainer.logger {STAND_IN.replace('StandIn', 'Failing')} --trainer.max_steps 2") == 0
    assert "Failing: audio/reference: left out: no route to host" in {str(warning.message) for warning in warned}
    assert {path.stem for path in (folder / VERSION / "samples/step_0000002").iterdir()} == set(CLIPS)


def test_a_table_goes_on_with_its_run(run, folder, caplog):  # noqa: F811
    with caplog.at_level("INFO"):
        assert run(f"{FIT} --trainer.logger CSVLogger --trainer.max_steps 2") == 0
    assert told(caplog) == [f"CSVLogger takes no audio, pictures, histograms; generated clips are in {VERSION}/samples"]
    first = table(folder / VERSION / "metrics.csv")
    # One more column.
    assert run(f"{FIT} --trainer.logger CSVLogger --ckpt_path last --fad.clips 2 --fad.cache cache") == 0
    rows = table(folder / VERSION / "metrics.csv")
    assert rows[: len(first)] == first
    assert [row["step"] for row in rows if "train/bits" in row] == [0, 1, 2, 3]
    assert len([row for row in rows if "val/fad_logmel" in row]) == 1
    assert [path.name for path in (folder / "logs/tiny").iterdir()] == ["version_0"]


def test_a_run_goes_on_with_another_logger(run, folder):  # noqa: F811
    assert run(f"{FIT} --trainer.logger false --trainer.max_steps 2") == 0
    assert {path.name for path in (folder / VERSION).iterdir()} == {"checkpoints", "config.yaml", "lock", "run.json", "samples"}
    assert run(f"{FIT} --ckpt_path last --samples.sample_seconds 0") == 0
    assert {"training", "validation", "linear_predictors"} <= {path.name for path in (folder / VERSION).iterdir()}
    saved = yaml.safe_load((folder / VERSION / "config.yaml").read_text())
    assert saved["trainer"]["default_root_dir"] == "logs/tiny"
    (folder / "again.yaml").write_text((folder / VERSION / "config.yaml").read_text())
    again = "--trainer.max_steps 1 --trainer.limit_val_batches 0 --trainer.default_root_dir logs/other"
    assert run(f"fit --config again.yaml {again}") == 0
    assert (folder / "logs/other/version_0/config.yaml").is_file()
    assert [path.name for path in (folder / "logs/tiny").iterdir()] == ["version_0"]


COMMANDS = re.findall(r"^python train\.py (.*)$", PAGE, re.MULTILINE)


def test_the_page_has_each_kind():
    assert [line.partition("--trainer.logger")[2].split()[0] for line in COMMANDS] == [
        "CSVLogger",
        '"[TensorBoardLogger,',
        "false",
        "WandbLogger",
    ]


# Single loggers are used in the tests above.
@pytest.mark.parametrize("line", [line if "[" in line else pytest.param(line, marks=pytest.mark.slow) for line in COMMANDS])
def test_the_commands_of_the_page(run, folder, line):  # noqa: F811
    """On tiny audio, with the stand-in for Weights & Biases."""
    from cli import main

    words = shlex.split(line.replace("configs/melody_demo.yaml", "tiny.yaml").replace("WandbLogger", STAND_IN))
    assert main([*words, "--trainer.max_steps", "2", "--samples.sample_seconds", "0", "--trainer.limit_val_batches", "1"]) == 0
    left = {path.name for path in (folder / VERSION).iterdir()}
    assert ("metrics.csv" in left) == ("CSVLogger" in line)
    assert any("tfevents" in name for name in left) == ("TensorBoardLogger" in line)
    assert [logger.settings["project"] for logger in StandIn.made] == (["music"] if "WandbLogger" in line else [])


def test_the_config_of_the_page(run, folder):  # noqa: F811
    config = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]
    (folder / "loggers.yaml").write_text(config.replace("WandbLogger", STAND_IN))
    assert run(f"{FIT} --config loggers.yaml --trainer.max_steps 2") == 0
    place = yaml.safe_load(config)["trainer"]["default_root_dir"]
    assert list((folder / place / "version_0").glob("*tfevents*"))
    (logger,) = StandIn.made
    assert logger.settings == {"name": "piano", "save_dir": "logs/piano", "offline": True, "project": "music"}
    assert any(given[0] == "audio" for given in logger.given)


def test_the_tags_of_the_page(trained):  # noqa: F811
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(trained / VERSION)).Reload().Tags()
    found = {tag for kind in ("scalars", "images", "histograms", "audio") for tag in found[kind]}
    found |= set(EventAccumulator(str(trained / VERSION / "training")).Reload().Tags()["scalars"])
    named = set(re.findall(r"`((?:at_a_glance|train|val|recurrence|audio|waveform|mel|z_schedule)/\w+(?:/\w+)*)`", PAGE))
    named = {tag.replace("level_K", "level_0") for tag in named}
    assert len(named) > 10
    assert named <= found
