"""What context is worth: one model trained on clips of three lengths, and its likelihood against the samples before, up to minutes.

Each step has as many samples. Tests carry the state through whole recordings.
"""

from benchmarks.experiments.comparisons import CONFIG, levels
from benchmarks.experiments.declare import Experiment, Run, Settings

RATE = 8000
SAMPLES = 4 * RATE
"""In a step."""
MODEL: Settings = {**levels((32, 1, 4), (32, 1, 4), (48, 1, 4), (64, 1, 1)), "model.modulus": [0.9, 0.9999]}
"""At a gate of one half the longest memory of the centre, one step of which is 8 ms, is 20 s."""


def context() -> Experiment:
    """Clips of 0.25, 1 and 4 s of the piano at 8 kHz."""
    runs = []
    for seconds in (0.25, 1, 4):
        clip = int(seconds * RATE)
        data: Settings = {
            "data.root": "data/piano",
            "data.sample_rate": RATE,
            "data.clip_samples": clip,
            "data.batch_size": SAMPLES // clip,
        }
        steps: Settings = {"trainer.max_steps": 1000, "trainer.val_check_interval": 500}
        whole: Settings = {"data.eval_context": "file", "data.eval_clips": None, "data.clip_samples": SAMPLES, "data.batch_size": 1}
        runs.append(Run(f"clips_{seconds:g}s", CONFIG, {**MODEL, **data, **steps}, {"clip, s": seconds}, tests={"whole": whole}))
    quick: Settings = {"data.eval_clips": 2, "trainer.max_steps": 2, "trainer.val_check_interval": 2, "trainer.log_every_n_steps": 1}
    return Experiment("context", "What is context worth?", tuple(runs), quick=quick, positions=True)
