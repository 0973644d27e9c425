"""What stands below the settings that a user gives."""

from cli.first_pass import BASE, default_configs


def test_the_base_comes_first_and_names_are_no_patterns(tmp_path):
    own = tmp_path / "run[1]*.yaml"
    assert default_configs(own) == [str(BASE), f"{tmp_path}/run[[]1][*].yaml"]
    assert BASE.is_file()


def test_a_runs_own_config_is_over_the_base(run, folder, ready, monkeypatch):
    """It is complete, so that the base may change after it."""
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
