"""Writing audio files."""

from pathlib import Path

import numpy as np
import soundfile


def write_wav(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write samples in [-1, 1] (float32, mono) as a 16-bit WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Rounded here: libsndfile truncates floats, which would cost a class now and then.
    pcm = np.clip(np.rint(np.asarray(samples, dtype=np.float64) * 32768), -32768, 32767).astype(np.int16)
    soundfile.write(path, pcm, sample_rate, subtype="PCM_16")
