"""Beethoven and YouTubeMix: splits and chunks against a plain re-statement of the protocols."""

import re

import pytest
import soundfile

from datamodules import Beethoven, YouTubeMix
from harmonicrnn.errors import UserError
from tests.audio_files import tone


def restated_splits(names):
    names = sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
    n = len(names)
    first, second = int(0.88 * n), int((0.88 + (1 - 0.88) / 2) * n)
    return {"train": names[:first], "validation": names[first:second], "test": names[second:]}


@pytest.mark.parametrize("dataset", [Beethoven, YouTubeMix])
@pytest.mark.parametrize("count", [9, 26])
def test_splits_and_chunks(tmp_path, dataset, count):
    lengths = {f"out{i}.wav": 250 + 137 * i % 700 for i in range(count)}
    for name, length in lengths.items():
        soundfile.write(tmp_path / name, tone(length, 0), 16_000)
    data = dataset(tmp_path, clip_samples=200, batch_size=1, num_workers=0)
    expected = restated_splits(lengths)
    assert {split: [path.name for path in paths] for split, paths in data.files().items()} == expected
    data.setup("fit")
    data.setup("test")
    for split, names in expected.items():
        assert len(data._table(split)) == sum(lengths[name] // 200 for name in names)  # tails dropped
        assert data.clip(split, 0).valid.all()


@pytest.mark.parametrize(("dataset", "name"), [(Beethoven, "krandiash/beethoven"), (YouTubeMix, "krandiash/youtubemix")])
def test_a_missing_folder_says_where_to_get_it(tmp_path, dataset, name):
    with pytest.raises(UserError, match=f"no WAV files.*{name}.*--data.root"):
        dataset(tmp_path / "none").setup("fit")
