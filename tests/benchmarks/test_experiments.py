"""Experiments on tiny models, each run a fork of this process."""

import json

import pytest

from benchmarks.experiments import __main__ as program
from benchmarks.experiments.declare import Experiment, Run
from benchmarks.experiments.registry import EXPERIMENTS
from benchmarks.experiments.report import spread

TINY = {
    "model.levels": [{"width": 8, "depth": 1, "factor": 4}, {"width": 8, "depth": 1}],
    "data.distance": 32,
    "data.pairs": 2,
    "data.recordings": 16,
    "trainer.max_steps": 4,
    "trainer.val_check_interval": 2,
    "trainer.log_every_n_steps": 2,
}


def declare(**changes):
    first = Run(
        "first", "configs/memory.yaml", TINY, {"k": 32, "what": "a"}, tests={"repeat": {}, "cut": {"data.clip_samples": 48}}, sampled=8
    )
    second = Run("second", "configs/memory.yaml", TINY | changes, {"k": 64, "what": "a"}, after="first")
    return Experiment("tiny", "Does it run?", (first, second), curve="k")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the experiment `tiny`, as declared with these changes, and returns the exit status."""
    monkeypatch.chdir(tmp_path)

    def call(*args, **changes):
        monkeypatch.setitem(EXPERIMENTS, "tiny", lambda: declare(**changes))
        return program.main(["--run", "tiny", "--device", "cpu", "--out", "out", *args])

    return call


def results(folder):
    return {path.stem: json.loads(path.read_text()) for path in (folder / "out/results").glob("*.json")}


def test_runs_are_measured_once_and_again_where_what_they_are_told_changes(run, tmp_path, capsys):
    """Five trainings of four steps."""
    assert run() == 0
    found = results(tmp_path)
    first, second = found["first_seed0"], found["second_seed0"]
    assert first["samples_seen"] == first["steps"] * 4 * (2 * (32 + 16) + 16)
    assert [step for step, _ in first["curves"]["val/bits"]] == [2, 4]
    assert first["tests"]["repeat"]["samples"] == first["tests"]["cut"]["samples"] == 2 * 2 * 4
    assert min(first["peak_memory"], first["samples_per_second"], first["sampled_per_second"], first["seconds"]) > 0
    begun = (tmp_path / "out/runs/second_seed0/version_0/config.yaml").read_text()
    assert "runs/first_seed0/version_0/checkpoints/best.ckpt" in begun
    table = (tmp_path / "out/README.md").read_text()
    bits = first["tests"]["cut"]["bits_per_sample"]
    assert f"| 32 | a | {first['tests']['repeat']['bits_per_sample']:.3f} | {bits:.3f} |" in table
    assert (tmp_path / "out/nll_cut.svg").stat().st_size > 0
    capsys.readouterr()
    assert run() == 0
    assert capsys.readouterr().out.count("finished before") == 2
    assert results(tmp_path) == found
    assert run("--seeds", "2", **{"model.optimizer.lr": 1e-3}) == 0
    after = results(tmp_path)
    assert after["first_seed0"] == first
    assert after["second_seed0"]["hash"] != second["hash"]
    assert after["first_seed1"]["tests"] != first["tests"]
    assert " ± " in (tmp_path / "out/README.md").read_text()


def test_a_run_that_was_stopped_goes_on(run, tmp_path, capsys):
    """Four trainings of four steps."""
    stop = {"trainer.callbacks": [{"class_path": "tests.cli.signalled.SignalAt", "init_args": {"step": 3}}]}
    assert run(**stop) == 2
    assert "second_seed0: fit: asked to stop; the same command goes on from there" in capsys.readouterr().err
    assert list(results(tmp_path)) == ["first_seed0"]
    assert run(**stop) == 0
    second = results(tmp_path)["second_seed0"]
    assert (second["steps"], second["went_on"]) == (4, True)


def test_a_run_that_fails_says_why(run, tmp_path, capsys):
    assert run(**{"data.distance": 33}) == 2
    assert "data.distance (33) must be a multiple of data.grid (16)" in capsys.readouterr().err
    assert list(results(tmp_path)) == ["first_seed0"]


def test_list_names_the_runs(capsys):
    assert program.main(["--list"]) == 0
    listed = capsys.readouterr().out
    for name, build in EXPERIMENTS.items():
        assert f"{name}: " in listed
        assert all(f"    {run.name}" in listed for run in build().runs)


def test_what_there_is_not(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert program.main(["--run", "none"]) == 2
    assert "there is no experiment none: choose among memory" in capsys.readouterr().err
    assert program.main(["--report", "memory"]) == 2
    assert "no results of memory yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([Run("a", "configs/memory.yaml"), Run("a", "configs/memory.yaml")], "two runs a"),
        ([Run("a", "configs/memory.yaml", after="b")], "a begins with b, which does not come before it"),
        ([Run("a", "configs/none.yaml")], "there is no configs/none.yaml"),
    ],
)
def test_declarations_that_do_not_fit(runs, message):
    with pytest.raises(ValueError, match=message):
        Experiment("x", "?", tuple(runs))


def test_spread():
    assert spread([1.0, 2.0, 3.0], 2) == "2.00 ± 1.00"
    assert spread([1234.5], 0) == "1,234"
    assert spread([1.0, None], 1) == "-"
