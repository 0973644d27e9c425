"""Tests of the base data module: batches per rank, settings out of range, worker processes and skipped recordings."""

from types import SimpleNamespace

import pytest
import soundfile
import torch

from datamodules import AudioFolder, Synthetic, YouTubeMix
from harmonicrnn.errors import UserError
from tests.audio_files import make_folder, tone


def ready(data, *stages):
    for stage in stages or ("fit", "test"):
        data.setup(stage)
    return data


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_see_every_evaluated_clip_once(ranks):
    seen = []
    for rank in range(ranks):
        data = ready(Synthetic(clips=56, clip_samples=100, batch_size=6, num_workers=0), "fit")
        data.trainer = SimpleNamespace(
            world_size=ranks, strategy=SimpleNamespace(distributed_sampler_kwargs={"num_replicas": ranks, "rank": rank})
        )
        evaluated = list(data.val_dataloader())
        seen += [clip for b in evaluated for clip in b.clip.tolist() if clip >= 0]
        assert all(not valid.any() for b in evaluated for clip, valid in zip(b.clip, b.valid, strict=True) if clip < 0)
        assert len(evaluated) == 2
        assert {len(b.clip) for b in data.train_dataloader()} == {6 // ranks}
    assert sorted(seen) == list(range(7))


def test_batch_sizes_that_do_not_fit():
    with pytest.raises(UserError, match=r"batch_size \(8\) is more than the training split's 7 clips"):
        Synthetic(clips=7, batch_size=8).setup("fit")
    data = ready(Synthetic(clips=8, batch_size=3), "fit")
    data.trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(distributed_sampler_kwargs={"num_replicas": 2, "rank": 0}))
    with pytest.raises(UserError, match=r"batch_size \(3\) must be divisible by the number of data ranks \(2\)"):
        data.train_dataloader()


@pytest.mark.parametrize("key", ["sample_rate", "clip_samples", "batch_size", "clips"])
def test_numbers_out_of_range(key):
    with pytest.raises(UserError, match=f"data.{key} must be (at least|between) 1.*, got 0"):
        Synthetic(**{key: 0})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_samples": 10**13}, r"data\.clip_samples \(10000000000000\): a batch of 2 clips alone takes 60,000 GB, this machine has"),
        ({"batch_size": 10**13}, r"data\.batch_size \(10000000000000\) is more than the training split's 5 clips"),
        ({"batch_size": 10**13, "order": "sequential"}, r"batch_size \(10000000000000\) is more than the training split's 5 clips"),
    ],
    ids=["clip", "batch", "lanes"],
)
def test_sizes_that_no_machine_has(tmp_path, settings, message):
    for split, count in (("train", 5), ("validation", 1), ("test", 1)):
        make_folder(tmp_path / split, count)
    with pytest.raises(UserError, match=message):
        AudioFolder(tmp_path, **{"clip_samples": 1000, "batch_size": 2, "scaling": "file"} | settings).setup("fit")


def test_whole_files_are_evaluated_in_no_more_lanes_than_there_are(tmp_path):
    make_folder(tmp_path, 30)
    data = ready(AudioFolder(tmp_path, batch_size=10**9, clip_samples=300, num_workers=0, scaling="none", eval_context="file"), "test")
    assert [len(batch.clip) for batch in data.test_dataloader()] == [2] * 4


def test_some_clips_are_evaluated_in_place_of_all(tmp_path):
    """The clips are evenly spaced and renumbered; training keeps all of its clips."""
    make_folder(tmp_path, 60, samples=1000)
    settings = {"clip_samples": 100, "batch_size": 2, "num_workers": 0}
    every = ready(AudioFolder(tmp_path, **settings), "test")
    some = ready(AudioFolder(tmp_path, eval_clips=7, **settings), "test")
    count = every.clip_count("test")
    assert (count, some.clip_count("test")) == (40, 7)
    batches = list(some.test_dataloader())
    assert torch.cat([batch.clip for batch in batches]).tolist() == list(range(7))
    kept = [every.clip("test", i * count // 7).classes for i in range(7)]
    assert torch.equal(torch.cat([batch.classes for batch in batches]), torch.stack(kept))
    assert some.with_training().clip_count("train") == every.with_training().clip_count("train")
    assert "at most 7 clips of a split, at even distances" in some.protocol
    assert "even distances" not in every.protocol
    assert ready(AudioFolder(tmp_path, eval_clips=99, **settings), "test").clip_count("test") == 40
    for wrong in ({"eval_clips": 0}, {"eval_clips": 7, "eval_context": "file"}):
        with pytest.raises(UserError, match=r"data\.eval_clips"):
            AudioFolder(tmp_path, **settings | wrong)


def test_what_is_wrong_with_shards_in_use_is_told_by_workers_in_a_line(tmp_path):
    """Checks a worker's error message. Takes the time to start a worker."""
    data = ready(AudioFolder(make_folder(tmp_path, 30), batch_size=2, clip_samples=500, num_workers=1), "fit")
    source = data.datasets["train"].source
    source.__init__(source.shards, source.entries)  # closes all files
    path = data.shards / "take3.wav.pcm"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=rf"^{path}: was changed while it was in use[^\n]*$"):
        list(data.train_dataloader())
    data.num_workers = 0
    path.unlink()
    with pytest.raises(UserError, match=rf"^{path}: was prepared and can no longer be read: [^\n]*$"):
        list(data.train_dataloader())


def test_worker_processes_give_the_same_batches():
    """Takes the time to start two workers."""
    settings = {"clips": 8, "clip_samples": 200, "batch_size": 2}
    alone, helped = (ready(Synthetic(num_workers=n, **settings), "fit") for n in (0, 2))
    for a, b in zip(alone.train_dataloader(), helped.train_dataloader(), strict=True):
        assert torch.equal(a.classes, b.classes)
        assert torch.equal(a.clip, b.clip)


@pytest.mark.parametrize(("dataset", "told"), [(YouTubeMix, "dropped"), (AudioFolder, "padded")])
def test_recordings_shorter_than_a_clip_and_skipped_ones_are_counted(tmp_path, monkeypatch, dataset, told):
    lengths = [100, 250, 199, 400, 200, 1, 300, 300, 300, 300, 300, 300]
    for i, length in enumerate(lengths):
        soundfile.write(tmp_path / f"out{i}.wav", tone(length, i), 16_000)
    (tmp_path / "out3.wav").write_text("not audio")
    summaries = []
    monkeypatch.setattr("datamodules.audio_datamodule.rank_zero_info", summaries.append)
    data = dataset(tmp_path, clip_samples=200, batch_size=1, num_workers=0, on_bad_file="skip")
    with pytest.warns(UserWarning, match=r"skipped: .*out3\.wav"):
        data.setup("fit")
    assert summaries[0].startswith("train: 9 recordings, ")
    assert summaries[0].endswith(f"; 3 of them are shorter than a clip ({told}), 1 more could not be read (skipped)")
    assert summaries[1].endswith(f"; 0 of them are shorter than a clip ({told}), 0 more could not be read (skipped)")
    assert len(data._table("train")) == (6 if told == "dropped" else 14)
