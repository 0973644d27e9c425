import numpy as np
import pytest
import soundfile
import torch

from datamodules import AudioFolder, YouTubeMix
from harmonicrnn.audio import Quantiser, extremes, read_mono, scale
from harmonicrnn.errors import UserError
from tests.audio_files import make_folder, tone
from tests.datamodules.test_audio_datamodule import ready


def test_splits_in_natural_order(tmp_path):
    files = AudioFolder(make_folder(tmp_path, 25)).files()
    names = [path.stem for split in ("train", "validation", "test") for path in files[split]]
    assert names == [f"take{i}" for i in range(25)]
    assert [len(files[split]) for split in ("train", "validation", "test")] == [22, 1, 2]


def test_splits_by_folders(tmp_path):
    for split, count in (("train", 2), ("validation", 1), ("test", 3)):
        make_folder(tmp_path / split, count)
    assert {split: len(paths) for split, paths in AudioFolder(tmp_path).files().items()} == {"train": 2, "validation": 1, "test": 3}


def test_any_rate_format_and_channel_count(tmp_path):
    for i, (suffix, rate, channels) in enumerate([("wav", 48_000, 2), ("flac", 8000, 1), ("ogg", 44_100, 5), ("WAV", 11_025, 1)] * 5):
        mono = tone(rate // 4, i, rate)
        soundfile.write(tmp_path / f"{i}.{suffix}", np.stack([mono] * channels, axis=1), rate)
    data = ready(AudioFolder(tmp_path, clip_samples=1500, batch_size=2, num_workers=0), "fit")
    # Each quarter of a second is 4,000 samples: three clips, the last of them padded.
    assert len(data._table("train")) == 17 * 3
    assert data.clip("train", 2).valid.sum() == pytest.approx(1000, abs=1)


@pytest.mark.parametrize("files", [0, 1, 8])
def test_too_few_files(tmp_path, files):
    with pytest.raises(UserError, match=r"files in it or below it" if not files else f"{files} recordings are too few"):
        AudioFolder(make_folder(tmp_path / "x", files)).setup("fit")


def test_hidden_files_are_left_out(tmp_path):
    expected = AudioFolder(make_folder(tmp_path, 9)).files()
    for name in ("._take0.wav", ".trash/old.wav", "__MACOSX/._take1.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert AudioFolder(tmp_path).files() == expected
    assert YouTubeMix(tmp_path).files() == expected
    assert not YouTubeMix.holds_data(tmp_path / "__MACOSX")


def test_an_empty_split_folder(tmp_path):
    make_folder(tmp_path / "train", 2)
    with pytest.raises(UserError, match=r"validation: no \.wav"):
        AudioFolder(tmp_path).setup("fit")


def test_a_bad_file_is_named(tmp_path):
    make_folder(tmp_path, 20)
    (tmp_path / "take3.wav").write_text("not audio")
    with pytest.raises(UserError, match=r"take3\.wav: cannot be read as audio"):
        AudioFolder(tmp_path).setup("fit")


def test_constant_files_are_legal_and_counted(tmp_path):
    make_folder(tmp_path, 20)
    for i, value in ((2, 0.0), (5, 0.25)):
        soundfile.write(tmp_path / f"take{i}.wav", np.full(1000, value), 16_000)
    data = AudioFolder(tmp_path, clip_samples=1000, batch_size=2, num_workers=0)
    with pytest.warns(UserWarning, match="2 of 17 clips of the train split are constant"):
        data.setup("fit")
    assert (data.clip("train", 2).classes == 0).all()


def test_overshoots_are_clipped_and_counted(tmp_path):
    make_folder(tmp_path, 20)
    soundfile.write(tmp_path / "take1.wav", np.array([0.5, 1.5, -1.5, 0.2]), 16_000, subtype="FLOAT")
    with pytest.warns(UserWarning, match="2 samples of the train split"):
        AudioFolder(tmp_path, batch_size=2).setup("fit")


@pytest.mark.parametrize("scaling", ["clip", "file", "none"])
def test_scaling(tmp_path, scaling):
    make_folder(tmp_path, 20)
    data = ready(AudioFolder(tmp_path, clip_samples=400, scaling=scaling, num_workers=0), "fit")
    whole = torch.from_numpy(read_mono(tmp_path / "take0.wav", 16_000))
    span = {"clip": extremes(whole[400:800]), "file": extremes(whole), "none": None}[scaling]
    assert torch.equal(data.clip("train", 1).classes, Quantiser().encode(scale(whole[400:800], span)))
    assert f"scaling {scaling}" in data.protocol
