"""What several tests of the benchmarks share."""

import json

import pytest

from harmonicrnn.models import LevelSpec, Prediction
from harmonicrnn.ops.prediction import Predictor
from lightning_modules import HarmonicModule
from tests.audio_files import make_folder
from tests.harmonicrnn.test_checkpoints import save

RATE = 8000


@pytest.fixture
def run(tmp_path):
    """A run of an untrained model with prediction, and a folder of recordings of 2 seconds."""
    prediction = Prediction((Predictor(5, 0.9, 4),), widths=(0.5, 2.0))
    module = HarmonicModule(levels=[LevelSpec(8, 1)], preset="griffin", heads=2, bits=6, prediction=prediction, sample_rate=RATE)
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    save(folder / "checkpoints/best.ckpt", module)
    (folder / "config.yaml").write_text(json.dumps({"data": {"init_args": {"scaling": "none"}}}))
    make_folder(tmp_path / "data/test", files=3, samples=4000, rate=RATE)
    return folder
