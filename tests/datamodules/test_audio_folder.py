"""Tests of the audio folder data module: splits, formats, links, duplicates, bad files and scaling."""

import os
import shutil

import numpy as np
import pytest
import soundfile
import torch

from datamodules import AudioFolder, YouTubeMix
from harmonicrnn.audio import Quantiser, extremes, read_mono, scale
from harmonicrnn.audio.folders import find_recordings
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
    with pytest.raises(UserError, match=r"and others\) in it or below it" if not files else f"{files} recordings of .* are too short"):
        AudioFolder(make_folder(tmp_path / "x", files)).setup("fit")


@pytest.mark.parametrize("seconds", [[6.0], [100.0], [2, 3, 4, 0.5], [30, 0.01, 1, 0.9, 10, 2, 2.2, 7]])
def test_few_recordings_are_cut_by_their_time(tmp_path, seconds):
    """Each sample is in exactly one split."""
    rng = np.random.default_rng(0)
    wholes = [rng.integers(-9000, 9000, round(length * 8000)).astype(np.int16) for length in seconds]
    for i, whole in enumerate(wholes):
        soundfile.write(tmp_path / f"take{i}.wav", whole, 8000)
    data = AudioFolder(tmp_path, sample_rate=8000, clip_samples=1000, batch_size=1, num_workers=0, scaling="file")
    ready(data)
    told = np.concatenate([np.concatenate(recordings_of(data, split)) for split in ("train", "validation", "test")])
    assert np.array_equal(told, np.concatenate(wholes))
    lengths = [sum(data.datasets[split].source.lengths) / 8000 for split in ("train", "validation", "test")]
    assert lengths[1:] == pytest.approx([max(2, 0.06 * sum(seconds))] * 2, abs=1e-3)
    assert data.checksum("train") != data.checksum("test")
    source = data.datasets["test"].source
    part = recordings_of(data, "test")[0]
    for start, stop in ((0, len(part)), (5, len(part) - 3), (7, 8)):
        assert source.extremes(0, start, stop) == (part[start:stop].min() / 32768, part[start:stop].max() / 32768)


def recordings_of(data, split):
    source = data.datasets[split].source
    return [source.read(i, 0, length) for i, length in enumerate(source.lengths)]


def test_a_long_last_recording_stays_whole(tmp_path):
    """It becomes the test split; validation takes short ones from training."""
    make_folder(tmp_path, 10, samples=4000, rate=8000)
    soundfile.write(tmp_path / "z.wav", np.zeros(48_000, dtype=np.int16), 8000)
    data = ready(AudioFolder(tmp_path, sample_rate=8000, clip_samples=800))
    assert [len(data.datasets[split].source.lengths) for split in ("train", "validation", "test")] == [6, 4, 1]
    assert data.datasets["test"].source.lengths == [48_000]


def test_of_many_short_recordings_more_are_held_out(tmp_path):
    """The usual shares would leave less than 2 s for testing, but there are 6 s in all."""
    data = ready(AudioFolder(make_folder(tmp_path / "flat", 10, samples=8000, rate=8000), sample_rate=8000, clip_samples=800))
    assert [sum(data.datasets[split].source.lengths) for split in ("train", "validation", "test")] == [48_000, 16_000, 16_000]
    for split, files in (("train", 8), ("validation", 1), ("test", 1)):
        make_folder(tmp_path / "split" / split, files, samples=8000, rate=8000)
    data = AudioFolder(tmp_path / "split", sample_rate=8000, clip_samples=800)  # the user's own splits are kept
    with pytest.warns(UserWarning, match="the validation split is 1 s, too little"):
        ready(data, "fit")
    assert sum(data.datasets["validation"].source.lengths) == 8000


def test_held_out_splits_of_less_than_two_seconds_are_told_of(tmp_path):
    with pytest.warns(UserWarning, match=r"the test split is 0\.12 s, too little"):
        ready(AudioFolder(make_folder(tmp_path, 20), batch_size=2), "fit")


def test_hidden_files_are_left_out(tmp_path):
    expected = AudioFolder(make_folder(tmp_path, 9)).files()
    for name in ("._take0.wav", ".trash/old.wav", "__MACOSX/._take1.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert AudioFolder(tmp_path).files() == expected
    assert YouTubeMix(tmp_path).files() == expected
    assert not YouTubeMix.holds_data(tmp_path / "__MACOSX")


@pytest.mark.parametrize(
    "names",
    [
        *(("Train", "Validation", "Test"), ("train", "val", "test"), ("TRAIN", "Val", "TEST"), ("training", "valid", "testing")),
        *(("train-clean", "dev-clean", "test-clean"), ("train_set", "val_set", "test_set"), ("trainset", "valset", "testset")),
        *(("training_data", "Validation Data", "test-dataset"), ("TrainSplit", "DevSplit", "EvalSplit")),
        *(("train", "dev", "test"), ("train", "eval", "test"), ("Train", "dev", "Eval"), ("train", "validation", "evaluation")),
    ],
    ids="_".join,
)
def test_split_folders_in_other_spellings(tmp_path, names):
    for i, name in enumerate(names):
        make_folder(tmp_path / name, i + 2)
    make_folder(tmp_path / "more", 1)
    data = AudioFolder(tmp_path)
    with pytest.warns(UserWarning, match=r"1 recordings lie outside the folders of the splits and are left out, .*more/take0\.wav"):
        found = data.files()
    assert [{path.parent.name for path in found[split]} for split in ("train", "validation", "test")] == [{name} for name in names]
    assert [len(paths) for paths in found.values()] == [2, 3, 4]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train",), r"none for the validation split: train/"),
        (("Dev", "train"), r"none for the test split: train/, Dev/"),
        (("train", "val", "dev", "test"), r"more than one folder for the validation split: dev/, val/"),
        (("train", "Train", "val", "test"), r"more than one folder for the train split: Train/, train/"),
    ],
)
def test_split_folders_that_are_not_clear(tmp_path, names, message):
    for name in names:
        make_folder(tmp_path / name, 2)
    with pytest.raises(UserError, match=message):
        AudioFolder(tmp_path).setup("fit")


@pytest.mark.parametrize(
    "names",
    [
        *(("train-clean-100", "dev-other", "test-other"), ("train_wavs", "test_wavs"), ("Train Files", "music", "Valid Files")),
        *(("trainOther", "TestOther"), ("train1", "train2", "eval1"), ("trainwavs", "devwavs")),
    ],
    ids="_".join,
)
def test_folders_that_seem_to_be_splits_are_not_mixed(tmp_path, names):
    for name in names:
        make_folder(tmp_path / name, 5)
    with pytest.raises(UserError, match="seem to be splits") as caught:
        AudioFolder(tmp_path).files()
    assert all((f"{name}/" in str(caught.value)) == (name != "music") for name in names)
    assert "rename" in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        *(("training session", "live"), ("Training 1", "training 2"), ("Valse", "Devil", "Testament", "Trains")),
        *(("devotion", "trainspotting", "Test Dept"), ("dataset", "clean", "set")),
    ],
    ids="_".join,
)
def test_folders_of_music_are_no_splits(tmp_path, names):
    for name in names:
        make_folder(tmp_path / name, 6)
    (tmp_path / "train-logs").mkdir()  # without recordings
    (tmp_path / "test-logs").mkdir()
    assert sum(map(len, AudioFolder(tmp_path).files().values())) == 6 * len(names)


def test_an_empty_split_folder(tmp_path):
    for name in ("train", "val", "test"):
        make_folder(tmp_path / name, 0 if name == "val" else 2)
    with pytest.raises(UserError, match=r"/val: no audio files"):
        AudioFolder(tmp_path).setup("fit")


def test_links_to_folders_are_followed_and_each_is_used_once(tmp_path):
    root, more = make_folder(tmp_path / "data", 10), make_folder(tmp_path / "more", 5)
    (more / "deeper").mkdir()
    for i, (link, target) in enumerate([("linked", more), ("linked_again", more), ("0_loop", root), ("sub/up", root), ("sub/deep", more)]):
        (root / link).parent.mkdir(exist_ok=True)
        (root / link).symlink_to(target, target_is_directory=True)
        (more / "deeper" / f"back{i}").symlink_to(root)
    names = [path.relative_to(root).as_posix() for path in find_recordings(root)]
    assert names == [f"linked/take{i}.wav" for i in range(5)] + [f"take{i}.wav" for i in range(10)]
    (tmp_path / "all").symlink_to(root)
    assert len(find_recordings(tmp_path / "all")) == 15
    assert len(AudioFolder(root).prepare()) == 15


def test_links_that_lead_nowhere_are_missing_recordings(tmp_path):
    make_folder(tmp_path, 20)
    for name in ("take5b.wav", "folder", "notes.txt"):
        (tmp_path / name).symlink_to(tmp_path / "gone")
    (tmp_path / "take6b.wav").symlink_to("take6b.wav")
    with pytest.raises(UserError, match=r"(take\db\.wav|folder): cannot be opened: "):
        AudioFolder(tmp_path).prepare()
    with pytest.warns(UserWarning, match=r"skipped: .*folder: cannot be opened: No such file"):
        entries = AudioFolder(tmp_path, on_bad_file="skip").prepare()
    assert sorted(entry.source for entry in entries.values() if entry.error) == ["folder", "take5b.wav", "take6b.wav"]


def test_the_same_recording_in_two_splits_is_told_of(tmp_path):
    make_folder(tmp_path, 19)
    for i in (3, 4):  # silence does not count as a repetition
        soundfile.write(tmp_path / f"take{i}.wav", np.zeros(1000), 16_000)
    soundfile.write(tmp_path / "z_silent.wav", np.zeros(1000), 16_000)
    AudioFolder(tmp_path).prepare()
    shutil.copy(tmp_path / "take0.wav", tmp_path / "z_copy.wav")
    with pytest.warns(UserWarning, match=r"1 recordings are in several splits.*take0\.wav \(train\), z_copy\.wav \(test\); keep"):
        AudioFolder(tmp_path).prepare()


@pytest.mark.parametrize(
    ("seconds", "copies", "places"),
    [
        ([5.0] * 4, {0: 3}, r"take0\.wav \(train\), take3\.wav \(train\), take3\.wav \(validation\), take3\.wav \(test\); keep"),
        ([1.0] * 10, {0: 7}, r"take0\.wav \(train\), take7\.wav \(validation\); keep"),  # here more files are held out
    ],
)
def test_the_same_recording_in_two_splits_is_told_of_where_splits_are_not_by_files(tmp_path, seconds, copies, places):
    for i, length in enumerate(seconds):
        soundfile.write(tmp_path / f"take{i}.wav", tone(round(8000 * length), i, 8000), 8000)
    AudioFolder(tmp_path, sample_rate=8000).prepare()  # a recording that is cut into splits is not a repetition
    for first, copy in copies.items():
        shutil.copy(tmp_path / f"take{first}.wav", tmp_path / f"take{copy}.wav")
    with pytest.warns(UserWarning, match=rf"1 recordings are in several splits.*{places}"):
        AudioFolder(tmp_path, sample_rate=8000).prepare()


def test_what_of_a_recording_may_be_missing_is_told_each_time(tmp_path):
    make_folder(tmp_path, 20)
    with (tmp_path / "take3.wav").open("ab") as file:
        file.write(b"\xff\xfe" * 600)
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"take3\.wav: 1200 bytes follow the samples"):
            AudioFolder(tmp_path).prepare()


def test_recordings_that_cannot_be_read_are_not_left_out_without_a_word(tmp_path):
    make_folder(tmp_path, 20)
    (tmp_path / "song.M4A").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    with pytest.raises(UserError, match=r"song\.M4A: cannot be read as audio.*ffmpeg -i"):
        AudioFolder(tmp_path).prepare()


def test_shards_lie_in_the_cache_or_where_they_are_already(tmp_path):
    root = make_folder(tmp_path / "[v 2] ü", 20)
    data = AudioFolder(root)
    data.prepare()
    assert data.shards.is_relative_to(os.environ["XDG_CACHE_HOME"])
    assert data.shards.parent != AudioFolder(make_folder(tmp_path / "other/[v 2] ü", 1)).shards.parent
    assert {path.suffix for path in root.iterdir()} == {".wav"}
    AudioFolder(root, shards=root).prepare()
    assert AudioFolder(root).shards == root / "shards_16000"
    assert AudioFolder(root, sample_rate=8000).shards.parent == data.shards.parent


def test_a_bad_file_is_named(tmp_path):
    make_folder(tmp_path, 20)
    (tmp_path / "take3.wav").write_text("not audio")
    with pytest.raises(UserError, match=r"take3\.wav: cannot be read as audio"):
        AudioFolder(tmp_path).setup("fit")


def test_constant_files_are_legal_and_counted(tmp_path):
    make_folder(tmp_path, 20)
    for i, value in ((2, 0.0), (5, 0.25)):
        soundfile.write(tmp_path / f"take{i}.wav", np.full(1000, value), 16_000)
    data = AudioFolder(tmp_path, clip_samples=1000, batch_size=2, num_workers=0, scaling="clip")
    with pytest.warns(UserWarning, match="2 of 17 clips of the train split are constant"):
        data.setup("fit")
    assert (data.clip("train", 2).classes == 0).all()


def test_overshoots_are_clipped_and_counted(tmp_path):
    make_folder(tmp_path, 20)
    soundfile.write(tmp_path / "take1.wav", np.array([0.5, 1.5, -1.5, 0.2]), 16_000, subtype="FLOAT")
    with pytest.warns(UserWarning, match="2 samples of the train split"):
        AudioFolder(tmp_path, batch_size=2).setup("fit")


@pytest.mark.parametrize("scaling", ["clip", "file", "peak", "none"])
def test_scaling(tmp_path, scaling):
    make_folder(tmp_path, 20)
    data = ready(AudioFolder(tmp_path, clip_samples=400, scaling=scaling, num_workers=0), "fit")
    whole = torch.from_numpy(read_mono(tmp_path / "take0.wav", 16_000))
    span = {"clip": extremes(whole[400:800]), "file": extremes(whole), "peak": whole.abs().max().item(), "none": None}[scaling]
    assert torch.equal(data.clip("train", 1).classes, Quantiser().encode(scale(whole[400:800], span)))
    assert f"scaling {scaling}" in data.protocol
