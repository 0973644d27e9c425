"""Tests of the folders of `generate` and `evaluate`: one process writes into each, and finished output is replaced only on request."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cli import main
from harmonicrnn.evaluation.evaluator import Evaluator
from tests.audio_files import make_folder
from tests.cli.test_bad_input import expect_error
from tests.forking import in_child, status_of

GENERATE = "generate --seconds 0.001"
EVALUATE = "evaluate one --against two --seconds 0.5 --cache kept --examples 0"


@pytest.fixture
def sounds(tmp_path, monkeypatch):
    """Enters a working directory with two folders of audio; returns a function that runs the command line."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("one", "two")):
        make_folder(tmp_path / name, 2 + seed, samples=20_000)
    return lambda command: main(command.split())


@pytest.fixture
def no_page(monkeypatch):
    monkeypatch.setattr("cli.evaluate_command.write_page", lambda path, *_: path.touch())


def waiting_in(target, command, output):
    """Starts a command in a child that waits for a file `go` in the method `target`; returns the child's process id."""

    def wait(*_, **__):
        Path("begun").touch()
        deadline = time.monotonic() + 60
        while not Path("go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, wait)
        pid = in_child(lambda: main(command.split()), output)
    while not Path("begun").exists():
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), output.read_text()
        time.sleep(0.01)
    return pid


def end(pid):
    Path("go").touch()
    assert status_of(pid) != 0


@pytest.mark.parametrize("place", ["", "--out clips --overwrite"])
def test_two_that_generate_at_once_do_not_share_a_folder(run, ready, folder, tmp_path, capsys, place):
    target = "harmonicrnn.cli.generating.Generated.begin"
    pid = waiting_in(target, f"{GENERATE} {place}", tmp_path / "output.txt")
    if place:
        expect_error(run, capsys, f"{GENERATE} {place}", "clips: another `generate` writes there", "--out")
    else:
        assert run(GENERATE) == 0
        assert [path.parent.name for path in ready.glob("generated_*/manifest.json")] == ["generated_1"]
    end(pid)
    # The process that was ended before its first file left nothing.
    assert not Path("clips").exists()
    assert not (ready / "generated_0").exists()
    assert run(f"{GENERATE} {place}") == 0
    assert {path.name for path in (Path("clips") if place else ready / "generated_0").iterdir()} == {
        "clip_0000.npy", "clip_0000.wav", "manifest.json",
    }  # fmt: skip


@pytest.mark.usefixtures("no_page")
def test_two_evaluations_at_once_do_not_share_a_folder(run, ready, folder, tmp_path, capsys):
    command = "evaluate --clips 2 --examples 0 --cache kept"
    pid = waiting_in("cli.evaluate_command.Evaluator.run", command, tmp_path / "output.txt")
    first = ready / "evaluation_0"
    assert (first / "settings.json").is_file()
    expect_error(run, capsys, f"{command} --out {first}", "evaluation_0: another `evaluate` writes there", "--out")
    assert run(command) == 0  # the other process's evaluation was not interrupted yet
    assert [path.parent.name for path in ready.glob("evaluation_*/report.json")] == ["evaluation_1"]
    end(pid)
    assert run(f"{command} --out {first}") == 0  # now it was
    assert (first / "report.json").is_file()


@pytest.mark.parametrize("changed", ["--seed 5", "--extrapolate", "--embeddings logmel --examples 1"])
@pytest.mark.usefixtures("no_page")
def test_a_finished_report_of_other_settings_is_not_replaced(sounds, capsys, monkeypatch, changed):
    assert sounds(f"{EVALUATE} --out ev") == 0
    before = Path("ev/report.json").read_bytes()
    option = changed.split()[-2 if changed[-1].isdigit() else -1].removeprefix("--")
    expect_error(sounds, capsys, f"{EVALUATE} {changed} --out ev", f"other settings ({option})", "--overwrite")
    assert Path("ev/report.json").read_bytes() == before
    there = []
    monkeypatch.setattr(
        Evaluator, "run", lambda self, command: there.extend(path.name for path in self.out.glob("report.*")) or pytest.fail("begun")
    )
    with pytest.raises(pytest.fail.Exception, match="begun"):
        sounds(f"{EVALUATE} {changed} --out ev --overwrite")
    assert there == []


def test_a_page_does_not_stand_beside_the_report_of_another_measurement(sounds, monkeypatch):
    """The same command measures again, but is interrupted while it writes the page, or cannot write it."""
    monkeypatch.setattr("cli.evaluate_command.write_page", lambda path, *_: path.write_text("first"))
    assert sounds(f"{EVALUATE} --out ev") == 0

    def cut_short(path, *_):
        path.write_text("second")
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.evaluate_command.write_page", cut_short)
    with pytest.raises(KeyboardInterrupt):
        sounds(f"{EVALUATE} --out ev")
    assert not Path("ev/report.json").exists()
    monkeypatch.setattr("cli.evaluate_command.write_page", lambda *_: 1 / 0)
    with pytest.warns(UserWarning, match=r"report\.html: left out"):
        assert sounds(f"{EVALUATE} --out ev") == 0
    assert json.loads(Path("ev/report.json").read_text())["subjects"][0]["path"] == "one"
    assert not Path("ev/report.html").exists()


@pytest.mark.parametrize(("part", "named"), [("subjects", "one"), ("real", "two")])
@pytest.mark.usefixtures("no_page")
def test_a_number_that_is_not_finite_is_an_error_that_names_what_was_measured(sounds, capsys, monkeypatch, part, named):
    measured = Evaluator.run

    def spoilt(self, command):
        report, examples = measured(self, command)
        row = getattr(report, part)[0]
        title, cell = next(iter(row.values.items()))
        row.values[title] = replace(cell, value=float("nan"))
        return report, examples

    monkeypatch.setattr(Evaluator, "run", spoilt)
    expect_error(sounds, capsys, f"{EVALUATE} --out ev", f"error: {named}: ", "not finite")
    assert not list(Path("ev").glob("report.*"))
