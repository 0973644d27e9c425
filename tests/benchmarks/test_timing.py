"""Tests of the functions that the benchmarks share."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from benchmarks import training_speed
from benchmarks.timing import UnequalError, benchmark, by_turns, check, peak_above, ratio, show
from harmonicrnn.errors import UserError
from harmonicrnn.ops.reference import linear_scan_reference


def test_cases_take_turns_after_they_have_warmed_up():
    calls = []
    seconds = by_turns({"a": lambda: calls.append("a") or time.sleep(0.01), "b": lambda: calls.append("b")}, 3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert [len(each) for each in seconds.values()] == [3, 3]
    assert min(seconds["a"]) > 0.009 > max(seconds["b"])


def test_ratio_is_the_median_of_the_turns():
    assert ratio([2.0, 30.0, 8.0], [1.0, 3.0, 2.0]) == 4.0


def test_a_line_has_the_median_the_spread_and_the_notes(capsys):
    assert show("reading", [1500.0, 1000.0, 3000.0], "samples/s", "goal 9", digits=0) == 1500.0
    assert " ".join(capsys.readouterr().out.split()) == "reading 1,500 samples/s (1,000 to 3,000); goal 9"


@pytest.mark.parametrize("wrong", [1.1, float("nan")])
def test_what_differs_is_refused(wrong):
    assert check("x", [torch.ones(2)], [torch.ones(2)], 1e-3) == 0
    with pytest.raises(UnequalError, match="x: value 1 differs from its reference by"):
        check("x", [torch.ones(2), torch.tensor([wrong])], [torch.ones(2), torch.ones(1)], (1.0, 1e-3))


def test_a_number_that_is_too_large_is_told_in_a_line(capsys):
    def fill(samples: int) -> None:
        torch.empty(samples, 4)

    for samples in (10**15, 10**22):
        assert benchmark(fill, args=[str(samples)]) == 2
        assert capsys.readouterr().err.startswith("error: a number is too large for this machine: ")


def test_the_peak_is_of_the_task_alone():
    torch.ones(10_000_000)
    result, peak = peak_above(lambda numbers: torch.ones(numbers).sum().item(), 25_000_000)
    assert result == 25_000_000
    assert 90e6 < peak < 130e6


def test_what_is_wrong_is_told_in_a_line(capsys):
    def measures(size: int = 1) -> None:
        raise UserError(f"{size} is too small")

    assert benchmark(measures, args=["--size", "3"]) == 2
    assert capsys.readouterr().err == "error: 3 is too small\n"
    with pytest.raises(SystemExit):
        benchmark(training_speed.scan, args=["--samples", "0"])
    assert "samples" in capsys.readouterr().err


def test_bandwidths_beside_the_copy(capsys):
    training_speed.scan(samples=200, units=4, repeats=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[3:7]] == ["copy", "forward", "forward + backward", "summary"]
    assert "commit" in lines[1]


def test_no_speed_without_equality(capsys, monkeypatch):
    monkeypatch.setattr(training_speed, "linear_scan_reference", lambda *args: (linear_scan_reference(*args)[0] + 1e-3, None))
    assert benchmark(training_speed.scan, args=["--samples=200", "--units=4", "--repeats=2"]) == 2
    printed = capsys.readouterr()
    assert "the recurrence: value 0 differs" in printed.err
    assert "GB/s" not in printed.out


def test_a_process_that_keeps_a_core_busy_ends_with_its_parent():
    code = f"import os, subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {training_speed.BUSY!r}.format(os.getpid())]).pid)"
    with tempfile.TemporaryFile() as told:
        subprocess.run([sys.executable, "-c", code], stdout=told, check=True)
        told.seek(0)
        pid = int(told.read())
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_how_threads_wait_is_measured_beside_other_work(capsys, monkeypatch):
    monkeypatch.setattr(training_speed, "alone", lambda task, steps: (0.25 * steps, os.environ.get("GOMP_SPINCOUNT") and 1.0))
    assert benchmark(training_speed.waiting, args=["--beside=1", "--steps=2", "--repeats=1"]) == 2
    assert "losses after the same steps differ" in capsys.readouterr().err


@pytest.mark.slow
def test_how_threads_wait(capsys):
    assert benchmark(training_speed.waiting, args=["--steps=1", "--repeats=1"]) == 0
    assert capsys.readouterr().out.count("of the default's") == 3
