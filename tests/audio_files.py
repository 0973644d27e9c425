"""Writes small folders of recordings for the tests."""

from pathlib import Path

import numpy as np
import soundfile

from datamodules.sc09 import DIGITS


def tone(samples: int, seed: int, rate: int = 16_000) -> np.ndarray:
    """Returns a decaying tone (samples,) whose pitch depends on the seed, with a little noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / rate
    return 0.5 * np.sin(2 * np.pi * rng.uniform(100, 400) * t) * np.exp(-3 * t) + rng.normal(0, 0.005, samples)


def make_sc09(root: Path, samples: int = 320, train: int = 20) -> Path:
    """Writes the layout of SC09: `train` training clips, 3 for validation, 2 for testing; the last one is shorter."""
    names = [f"{DIGITS[i % 10]}/{i:08x}_nohash_0.wav" for i in range(train + 5)]
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, tone(samples - (100 if i == train + 4 else 0), i), 16_000)
    (root / "validation_list.txt").write_text("\n".join(names[train : train + 3]) + "\nbed/other_word_nohash_0.wav\n")
    (root / "testing_list.txt").write_text("\n".join(names[train + 3 :]) + "\n")
    return root


def make_folder(root: Path, files: int, samples: int = 1000, rate: int = 16_000) -> Path:
    """Writes `take0.wav` to `takeN.wav`."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        soundfile.write(root / f"take{i}.wav", tone(samples, i, rate), rate)
    return root
