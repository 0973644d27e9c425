"""Tests of the config of a published table with its own model: 7.4 million parameters, clips of 131,072 samples."""

import json
import resource
from pathlib import Path

import pytest
import soundfile
import yaml

from cli import main
from lightning_modules import read_checkpoint
from tests.audio_files import tone

CONFIG = Path(__file__).parents[2] / "configs/youtubemix.yaml"
CLIP = 131_072
WHOLE_CLIP_MEMORY = 14e9  # bytes of a step with recomputed activations; without recomputation it keeps 211 KB per sample


# Whole clips are slow: the forward pass makes 20,000 samples/s on two cores.
@pytest.mark.slow
@pytest.mark.parametrize("clip", [2048, pytest.param(CLIP, marks=pytest.mark.timeout(1500))])
def test_youtubemix_makes_a_step_and_evaluates_a_clip(tmp_path, monkeypatch, caplog, clip):
    """Uses nine recordings of a clip and a remainder: seven for training, one for validation, one for testing."""
    config = yaml.safe_load(CONFIG.read_text())
    assert config["data"]["init_args"]["clip_samples"] == CLIP
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/youtube_mix").mkdir(parents=True)
    for i in range(9):
        soundfile.write(tmp_path / f"data/youtube_mix/out{i:03}.wav", tone(clip + 1000, i), 16_000)
    whole = clip == CLIP
    small = "--data.batch_size 1 --data.num_workers 0 --trainer.enable_progress_bar false"
    small += "" if whole else f" --data.clip_samples {clip}"
    step = "--trainer.max_steps 1 --trainer.val_check_interval 1 --trainer.limit_val_batches 1 --samples.sample_seconds 0"
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        levels = [level | {"recompute": whole} for level in config["model"]["levels"]]
        assert main([*f"fit --config {CONFIG} {small} {step}".split(), f"--model.levels={json.dumps(levels)}"]) == 0
    if whole:
        assert 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < WHOLE_CLIP_MEMORY
    assert any(line.startswith("Model: 7,412,736 parameters, 8 bits") for line in caplog.messages)
    assert any(line.startswith(f"Step: {clip:,} samples (1 clips") for line in caplog.messages)
    run = tmp_path / "logs/youtubemix/version_0"
    assert read_checkpoint(run / "checkpoints/last.ckpt")["global_step"] == 1

    caplog.clear()
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        assert main(f"test --config {CONFIG} {small}".split()) == 0
    assert any(line.startswith("test: 1 recordings, 1 clips") for line in caplog.messages)
    report = json.loads((run / "nll_test.json").read_text())
    assert (report["samples"], report["clips"]) == (clip, 1)
    assert f"clips of {clip} samples, shorter rests dropped" in report["protocol"]
    # A single warm-up step learns nothing: still about the 8 bits of a uniform guess.
    assert 7 < report["bits_per_sample"] < 9
