"""Fixtures for tests of context parallelism."""

import numpy as np
import pytest
import soundfile

LENGTHS = {"train": [130, 97, 47, 201, 40, 160], "validation": [90], "test": [121, 33]}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Makes recordings in `music/` whose lengths divide evenly by nothing."""
    folder = tmp_path_factory.mktemp("split")
    rng = np.random.default_rng(0)
    for split, lengths in LENGTHS.items():
        (folder / "music" / split).mkdir(parents=True)
        for i, length in enumerate(lengths):
            soundfile.write(folder / "music" / split / f"{i}.wav", rng.uniform(-1, 1, length), 16_000, subtype="PCM_16")
    return folder
