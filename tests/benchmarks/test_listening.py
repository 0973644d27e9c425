"""Tests of the measures of what a listener gets, on one untrained model."""

import csv

import pytest
import torch

from benchmarks.experiments.listening import MEASURES, compared, listening, rows_of
from benchmarks.experiments.results import number
from benchmarks.timing import benchmark
from tests.audio_files import make_folder
from tests.benchmarks.conftest import RATE

GENERATOR = torch.Generator().manual_seed(0)
NOISE = 0.1 * torch.randn(4, 2 * RATE, generator=GENERATOR)


@pytest.fixture
def experiment(run, tmp_path):
    """Returns an experiment whose run `a` has its checkpoint and whose run `b` has none, beside recordings of two seconds."""
    folder = tmp_path / "experiment"
    (folder / "runs/a_seed0").mkdir(parents=True)
    run.rename(folder / "runs/a_seed0/version_0")
    (folder / "results.csv").write_text("run,seed\na,0\nb,0\n")
    make_folder(tmp_path / "music/test", files=2, samples=2 * RATE, rate=RATE)
    return folder


def listened(folder, *options):
    return benchmark(listening, args=[str(folder), "--recordings", str(folder.parent / "music"), "--seconds=0.5", "--clips=2", *options])


def test_a_row_for_each_run_with_a_checkpoint(experiment, capsys):
    assert listened(experiment) == 0
    printed = capsys.readouterr().out
    scale, row = rows_of(experiment / "listening.csv")
    assert [(each["run"], each["seed"], each["clips"], each["seconds"]) for each in (scale, row)] == [
        ("other excerpts, 2 of 0.5 s", "", "2", "0.5"),
        ("a", "0", "2", "0.5"),
    ]
    assert all(number(row, column) is not None for column in MEASURES)
    assert number(scale, "fad") < number(row, "fad")
    assert scale["bits"] == ""
    assert f"| a | 0 | 2 of 0.5 s | {number(row, 'level'):+.1f} | {number(row, 'flatness'):+.1f} |" in printed
    assert "b_seed0: left out: " in printed


def test_a_run_that_is_measured_again_replaces_its_row_alone(experiment):
    with (experiment / "listening.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("run", "seed", "clips", "seconds", "fad"), ("a", "0", "2", "9", "1.5"), ("b", "0", "2", "9", "2.5")])
    assert listened(experiment, "--only=[a]") == 0
    rows = {row["run"]: row for row in rows_of(experiment / "listening.csv")}
    assert rows["b"]["fad"] == "2.5"
    assert (rows["a"]["seconds"], rows["a"]["fad"] != "1.5") == ("0.5", True)


def test_a_run_that_cannot_be_drawn_is_left_out_and_others_are_measured(experiment, capsys):
    assert listened(experiment, "--clips=200") == 2
    told = capsys.readouterr()
    assert "a_seed0: left out: the test split holds 8 excerpts of 0.5 s, 400 are needed" in told.out
    assert "no run was measured" in told.err


def test_rows_of_before_are_no_measurement(experiment, capsys):
    (experiment / "listening.csv").write_text("run,seed,clips,seconds,fad\nb,0,2,9,2.5\n")
    assert listened(experiment, "--only=[b]") == 2
    assert "no run was measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only=[c]"], "--only: no finished run c in "),
        (["--only=[b]"], "no run was measured"),
        (["--clips=1"], "--clips must be at least 2, got 1"),
        (["--recordings=nowhere"], "nowhere/test: there are no recordings"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(experiment, capsys, options, message):
    assert listened(experiment, *options) == 2
    assert message in capsys.readouterr().err


def test_an_experiment_without_results(tmp_path, capsys):
    assert listened(tmp_path) == 2
    assert "results.csv: there are no results" in capsys.readouterr().err


def test_the_measures_are_differences_from_the_excerpts():
    """Noise does not differ from itself; at half the amplitude it differs in level, and in the embedding."""
    same = compared(NOISE, [3.0] * 4, NOISE, [3.0] * 4, RATE)
    assert [same[name] for name in ("level", "flatness", "spectrum", "bits", "pitches")] == [0] * 5
    assert same["fad"] == pytest.approx(0, abs=1e-4)
    assert same["onsets"] == 5
    softer = compared(NOISE / 2, [2.5] * 4, NOISE, [3.0] * 4, RATE)
    assert softer["level"] == pytest.approx(-6.02, abs=0.01)
    assert softer["bits"] == pytest.approx(-0.5)
    assert softer["flatness"] == pytest.approx(0, abs=0.01)
    assert softer["fad"] > 1
    assert softer["onsets"] < softer["excerpts_onsets"] == 5
