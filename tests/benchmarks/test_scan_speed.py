import pytest

from benchmarks import scan_speed, training_speed
from harmonicrnn.ops.reference import linear_scan_reference


def test_prints_bandwidths_beside_the_copy(capsys):
    scan_speed.main(samples=200, units=4, repeats=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[3:7]] == ["copy", "forward", "forward + backward", "summary"]
    assert "commit" in lines[1]


def test_no_speed_without_equality(capsys, monkeypatch):
    monkeypatch.setattr(training_speed, "linear_scan_reference", lambda *args: (linear_scan_reference(*args)[0] + 1e-3, None))
    with pytest.raises(SystemExit, match="no speed is reported"):
        scan_speed.main(samples=200, units=4, repeats=2)
    assert "GB/s" not in capsys.readouterr().out
