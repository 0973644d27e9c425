"""Tests of the benchmark of a voice's first sound."""

import re

import pytest

from benchmarks import first_sound
from benchmarks.timing import benchmark
from harmonicrnn import load


@pytest.mark.slow
def test_the_voice_is_timed(capsys):
    assert benchmark(first_sound.first_sound, args=["--seconds", "0.5", "--repeats", "1"]) == 0
    told = capsys.readouterr().out
    times = [float(found) for found in re.findall(r"first sound with(?:out)? compiled code +([\d.]+) s \(", told)]
    assert len(times) == 2
    assert times[0] > times[1] > 0
    assert told.count("goal     ") == 2


def test_a_process_that_fails_is_told_of(tmp_path, capsys):
    load("bach").save(tmp_path / "voice")
    (tmp_path / "voice/config.json").unlink()
    assert benchmark(first_sound.first_sound, args=["--voice", str(tmp_path / "voice")]) == 2
    assert "config.json: there is no such file" in capsys.readouterr().err
    with pytest.raises(first_sound.UserError, match=r"ended with status 2: error: .*config\.json"):
        first_sound.heard(str(tmp_path / "voice"), 1.0, tmp_path)


def test_different_samples_are_refused(monkeypatch, capsys):
    drawn = iter([b"ab", b"ab", b"ac"])
    monkeypatch.setattr(first_sound, "heard", lambda *args: (1.0, 1.0, next(drawn)))
    assert benchmark(first_sound.first_sound, args=["--repeats", "2"]) == 2
    told = capsys.readouterr()
    assert "drew different samples" in told.err
    assert "first sound" not in told.out
