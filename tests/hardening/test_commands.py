"""Tests of the script that runs the commands of the pages."""

import os
import re

import pytest

from tests.hardening.commands import DEMO, LEFT_OUT, PAGES, Command, commands, fault, run, run_all


def test_reasons_and_commands_are_those_of_the_pages():
    texts = [command.text for command in commands(PAGES)]
    assert len(texts) > 50
    for pattern in LEFT_OUT:
        assert any(re.search(pattern, text) for text in texts), pattern
    kept = [command.text for command in commands(PAGES) if command.left_out is None]
    assert "python -m harmonicrnn generate --voice bach --seconds 10" in kept
    assert "python train.py evaluate --clips 32" in kept
    assert not [text for text in kept if not re.match(r"(python|tensorboard) ", text)]


def test_lines_that_go_on_are_one_command_and_scripts_are_none(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```bash\npython a.py \\\n    --b 1\n\npython c.py\n```\n```bash\n#!/bin/bash\nsrun x\n```\n```python\nd()\n```\n")
    assert commands([page]) == [Command("page.md", "python a.py --b 1"), Command("page.md", "python c.py")]


def test_a_long_training_is_begun_on_the_demo_s_recordings():
    command = Command("page.md", "python train.py fit --config configs/audio_folder_cpu.yaml --data.root DIR")
    assert command.runs_as.startswith("python train.py fit --config configs/audio_folder_cpu.yaml --data.root demo --trainer.max_steps 2 ")


@pytest.mark.parametrize(("text", "wrong"), [("true", ""), ("false | cat", "status 1: "), ("echo why; exit 3", "status 3: why\n")])
def test_what_fails_is_told_with_its_output(text, wrong, tmp_path):
    ((command, found, _),) = run_all([Command("page.md", text)] * 2, tmp_path, dict(os.environ))
    assert (command.text, found) == (text, wrong)


def test_the_demo_s_output_is_read():
    good = "clip_0000.wav: passes\nDone:   x and sampled in 1.8 min; listen\nResult: 2.25 bits/sample, 0.07 below the 2.32\nNext:   y\n"
    demo = Command("Makefile", DEMO)
    assert not fault(demo, 0, good)
    assert fault(demo, 0, good.replace("below", "above")) == "wanted:  below the "
    assert fault(demo, 0, good.replace("below", "not below")) == "wanted: no  not below the "
    assert fault(demo, 0, good.replace("1.8", "5.1")) == "wanted: at most 5 minutes"
    assert fault(demo, 0, f"UserWarning: z\n{good}") == "wanted: no warn"
    assert fault(demo, 0, f"clip_0001.wav: fails\n{good}") == "clip_0001.wav: fails"


def test_a_server_that_ends_by_itself_has_failed(tmp_path):
    (tmp_path / "tensorboard").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "tensorboard").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert run("tensorboard --logdir logs", tmp_path, environment)[0] == 1


def test_a_command_that_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.hardening.commands.LONGEST", 0.2)
    ((_, found, seconds),) = run_all([Command("page.md", "echo begun; sleep 60")], tmp_path, dict(os.environ))
    assert found == "did not end within 0.2 s: begun\n"
    assert seconds < 40
