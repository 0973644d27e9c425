"""Tests of the settings that the user's override: the base and a run's config."""

import pytest
from jsonargparse import ArgumentParser

from cli.first_pass import BASE, add_training_options, default_configs, log_folder, runs_folder


def test_the_base_comes_first_and_names_are_no_patterns(tmp_path):
    own = tmp_path / "run[1]*.yaml"
    assert default_configs(own) == [str(BASE), f"{tmp_path}/run[[]1][*].yaml"]
    assert BASE.is_file()


def test_a_runs_own_config_is_over_the_base(run, folder, ready, monkeypatch):
    """The run's config is complete, so that the base may change after it."""
    base = folder / "base.yaml"
    base.write_text(
        BASE.read_text().replace("prompt_seconds: 0.5", "prompt_seconds: 7").replace("precision: 32-true", "precision: 64-true")
    )
    monkeypatch.setattr("cli.first_pass.BASE", base)
    taken = []
    monkeypatch.setattr("cli.training_cli.HarmonicCLI._run_subcommand", lambda self, name: taken.append(self.config[name]))
    assert run("test") == 0
    assert run("fit --config tiny.yaml") == 0
    assert [config.trainer.precision for config in taken] == ["32-true", "64-true"]


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ("", "logs"),
        ("--config run.yaml", "logs/demo"),
        ("--config run.yaml --trainer.default_root_dir other/place", "other/place"),
        ("--config run.yaml --trainer.logger.name x", "logs/x"),
        ("--config run.yaml --trainer.logger.init_args.save_dir other", "other/demo"),
        ("--trainer.logger.init_args.save_dir other", "other"),
        ("--config before.yaml", "other/x"),
        ("--config run.yaml --config before.yaml", "other/x"),
        ("--config before.yaml --trainer.logger WandbLogger", "logs"),
        ("--config run.yaml --trainer.logger WandbLogger --trainer.logger.name x", "logs/demo"),
        ("--config run.yaml --config several.yaml", "logs/demo"),
        ("--config run.yaml --trainer.logger false", "logs/demo"),
    ],
)
def test_where_runs_lie(tmp_path, monkeypatch, options, folder):
    """The folder of a TensorBoardLogger or CSVLogger, as older configs set it, overrides the trainer's; other loggers' folders do not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("trainer: {default_root_dir: logs/demo}")
    (tmp_path / "before.yaml").write_text("trainer: {logger: {init_args: {save_dir: other, name: x}}}")
    (tmp_path / "several.yaml").write_text("trainer: {logger: [{class_path: CSVLogger, init_args: {save_dir: x}}]}")
    parser = ArgumentParser(add_help=False)
    add_training_options(parser)
    assert str(log_folder(parser.parse_args(options.split()))) == folder


def test_a_new_run_has_a_name():
    assert str(runs_folder({}, "run")) == "logs/run"
    assert str(runs_folder({"save_dir": "x", "name": "lightning_logs"}, "run")) == "x/run"
    assert str(runs_folder({"default_root_dir": "~/x"})).endswith("/x")
    assert "~" not in str(runs_folder({"default_root_dir": "~/x"}))
