"""What the training data of a run usually sounds like, measured once."""

import json

import pytest

from cli.detector_reference import detector_reference
from datamodules import SC09
from harmonicrnn.generation.detectors import KEPT
from tests.audio_files import make_sc09


def test_it_is_measured_once(tmp_path, monkeypatch):
    make_sc09(tmp_path / "data", samples=8000)
    data = SC09(tmp_path / "data", clip_samples=8000, batch_size=2, num_workers=0)
    first = detector_reference(data, data.quantiser, tmp_path)
    assert first.source == data.protocol
    assert first.level[0] < first.level[1] < first.level[2] < 0
    monkeypatch.setattr(data, "setup", lambda stage: pytest.fail("read again"))
    assert detector_reference(data, data.quantiser, tmp_path) == first
    monkeypatch.undo()
    kept = tmp_path / KEPT
    for broken in (kept.read_text()[:40], "[1]", '{"sauce": 1}'):
        kept.write_text(broken)
        assert detector_reference(data, data.quantiser, tmp_path) == first
        assert json.loads(kept.read_text())["source"] == data.protocol
    gone = SC09(tmp_path / "gone", num_workers=0)
    assert detector_reference(gone, data.quantiser, tmp_path).source == "defaults"
