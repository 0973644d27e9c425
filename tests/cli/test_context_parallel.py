"""One waveform over two processes, as a user starts it."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import as_program


@pytest.mark.slow
def test_fit_and_test_over_two_processes(folder, run):
    """Four programs that import everything take their time. Splits of other shapes are tested in tests/parallel."""
    split = "--trainer.strategy context_parallel --trainer.devices 2 --trainer.accelerator cpu"
    fitted = as_program(folder, f"fit --config tiny.yaml --trainer.max_steps 2 --samples.sample_seconds 0.001 {split}")
    assert fitted.returncode == 0, fitted.stderr
    tested = as_program(folder, "test")  # by the run's own config, on two processes again
    assert tested.returncode == 0, tested.stderr
    report = Path("logs/tiny/version_0/nll_test.json")
    measured = json.loads(report.read_text())
    assert run("test --trainer.strategy auto --trainer.devices 1") == 0
    alone = json.loads(report.read_text())
    assert measured["bits_per_sample"] == pytest.approx(alone["bits_per_sample"], abs=1e-5)  # float32
    assert (measured["samples"], measured["clips"]) == (alone["samples"], alone["clips"])


def test_what_cannot_be_split_is_said_before_training(folder, run, capsys):
    split = "--trainer.strategy context_parallel --trainer.devices 2 --trainer.accelerator cpu"
    assert run(f"fit --config tiny.yaml {split} --data.clip_samples 3") == 2
    assert "data.clip_samples (3) must be at least 4" in capsys.readouterr().err
    wrong = "--trainer.strategy parallel.ContextParallelStrategy --trainer.strategy.context_size 3 --trainer.strategy.timeout 0:00:20"
    wrong += " --trainer.strategy.process_group_backend gloo"
    assert run(f"fit --config tiny.yaml --trainer.devices 2 --trainer.accelerator cpu {wrong}") == 2
    assert "context_size (3) must divide the number of ranks (2" in capsys.readouterr().err
    assert not Path("logs").exists()
