from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from datamodules import SC09, AudioFolder, Synthetic, YouTubeMix
from datamodules.orders import Piece, clip_table
from harmonicrnn.audio import Quantiser, extremes, read_mono, scale
from harmonicrnn.errors import UserError
from tests.audio_files import make_folder, make_sc09, tone


def batches(data, split):
    loader = {"train": data.train_dataloader, "validation": data.val_dataloader, "test": data.test_dataloader}[split]()
    return list(loader)


def ready(data, *stages):
    for stage in stages or ("fit", "test"):
        data.setup(stage)
    return data


class TestSC09:
    def test_splits_by_the_lists(self, tmp_path):
        data = ready(SC09(make_sc09(tmp_path), clip_samples=320, batch_size=4, num_workers=0))
        assert {split: len(data._table(split)) for split in data.datasets} == {"train": 20, "validation": 3, "test": 2}
        everything = {split: {p.name for p in paths} for split, paths in data.files().items()}
        assert not everything["train"] & (everything["validation"] | everything["test"])

    def test_short_clips_are_padded_after_the_quantiser(self, tmp_path):
        data = ready(SC09(make_sc09(tmp_path), clip_samples=320, batch_size=4, num_workers=0), "test")
        (batch,) = batches(data, "test")
        assert batch.classes.dtype == torch.int16
        assert batch.valid.sum(dim=1).sort().values.tolist() == [220, 320]
        assert (batch.classes[~batch.valid] == 128).all()
        for row, path in enumerate(data.files()["test"]):
            samples = torch.from_numpy(read_mono(path, 16_000))
            expected = Quantiser().encode(scale(samples, extremes(samples)))
            assert torch.equal(batch.classes[row][batch.valid[row]], expected)

    def test_a_batch_of_an_epoch_holds_each_clip_once(self, tmp_path):
        data = ready(SC09(make_sc09(tmp_path), clip_samples=320, batch_size=4, num_workers=0), "fit")
        loader = data.train_dataloader()
        orders = []
        for _ in range(2):
            orders.append(torch.cat([b.clip for b in loader]).tolist())
        assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
        assert orders[0] != orders[1]

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda root: None, None),
            (lambda root: (root / "testing_list.txt").unlink(), "testing_list.txt: missing"),
            (lambda root: next((root / "four").glob("*")).unlink(), "1 listed recordings are missing"),
        ],
        ids=["none", "no_list", "no_file"],
    )
    def test_layout(self, tmp_path, damage, message):
        damage(make_sc09(tmp_path, train=0))
        with pytest.raises(UserError, match=message or "no recordings in zero/ to nine/ beside the listed ones"):
            SC09(tmp_path).files()

    @pytest.mark.parametrize("signature", ["", "\ufeff"], ids=["plain", "bom"])
    @pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
    def test_lists_of_editors(self, tmp_path, signature, newline):
        expected = SC09(make_sc09(tmp_path)).files()
        for name in ("validation_list.txt", "testing_list.txt"):
            lines = (tmp_path / name).read_text().split()
            (tmp_path / name).write_bytes((signature + newline.join(lines)).encode())
        assert SC09(tmp_path).files() == expected

    def test_hidden_files_are_left_out(self, tmp_path):
        expected = SC09(make_sc09(tmp_path)).files()
        (tmp_path / "four/._x.wav").touch()
        assert SC09(tmp_path).files() == expected

    @pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
    def test_a_recording_that_is_listed_twice(self, tmp_path, name):
        line = (make_sc09(tmp_path) / "testing_list.txt").read_text().split()[0]
        with (tmp_path / name).open("a") as lines:
            lines.write(line)
        with pytest.raises(UserError, match=rf"{line} is listed twice"):
            SC09(tmp_path).files()

    def test_missing_folder(self, tmp_path):
        with pytest.raises(UserError, match=r"there is no such folder.*--data.root.*--data.download true"):
            SC09(tmp_path / "none").setup("fit")


class TestAudioFolder:
    def test_splits_in_natural_order(self, tmp_path):
        files = AudioFolder(make_folder(tmp_path, 25)).files()
        names = [path.stem for split in ("train", "validation", "test") for path in files[split]]
        assert names == [f"take{i}" for i in range(25)]
        assert [len(files[split]) for split in ("train", "validation", "test")] == [22, 1, 2]

    def test_splits_by_folders(self, tmp_path):
        for split, count in (("train", 2), ("validation", 1), ("test", 3)):
            make_folder(tmp_path / split, count)
        assert {split: len(paths) for split, paths in AudioFolder(tmp_path).files().items()} == {"train": 2, "validation": 1, "test": 3}

    def test_any_rate_format_and_channel_count(self, tmp_path):
        for i, (suffix, rate, channels) in enumerate([("wav", 48_000, 2), ("flac", 8000, 1), ("ogg", 44_100, 5), ("WAV", 11_025, 1)] * 5):
            mono = tone(rate // 4, i, rate)
            soundfile.write(tmp_path / f"{i}.{suffix}", np.stack([mono] * channels, axis=1), rate)
        data = ready(AudioFolder(tmp_path, clip_samples=1500, batch_size=2, num_workers=0), "fit")
        # Each quarter of a second is 4,000 samples: three clips, the last of them padded.
        assert len(data._table("train")) == 17 * 3
        assert data.clip("train", 2).valid.sum() == pytest.approx(1000, abs=1)

    @pytest.mark.parametrize("files", [0, 1, 8])
    def test_too_few_files(self, tmp_path, files):
        with pytest.raises(UserError, match=r"files in it or below it" if not files else f"{files} recordings are too few"):
            AudioFolder(make_folder(tmp_path / "x", files)).setup("fit")

    def test_hidden_files_are_left_out(self, tmp_path):
        expected = AudioFolder(make_folder(tmp_path, 9)).files()
        for name in ("._take0.wav", ".trash/old.wav", "__MACOSX/._take1.wav"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"\0\5\x16\7")
        assert AudioFolder(tmp_path).files() == expected
        assert YouTubeMix(tmp_path).files() == expected
        assert not YouTubeMix.holds_data(tmp_path / "__MACOSX")

    def test_an_empty_split_folder(self, tmp_path):
        make_folder(tmp_path / "train", 2)
        with pytest.raises(UserError, match=r"validation: no \.wav"):
            AudioFolder(tmp_path).setup("fit")

    def test_a_bad_file_is_named(self, tmp_path):
        make_folder(tmp_path, 20)
        (tmp_path / "take3.wav").write_text("not audio")
        with pytest.raises(UserError, match=r"take3\.wav: cannot be read as audio"):
            AudioFolder(tmp_path).setup("fit")

    def test_constant_files_are_legal_and_counted(self, tmp_path):
        make_folder(tmp_path, 20)
        for i, value in ((2, 0.0), (5, 0.25)):
            soundfile.write(tmp_path / f"take{i}.wav", np.full(1000, value), 16_000)
        data = AudioFolder(tmp_path, clip_samples=1000, batch_size=2, num_workers=0)
        with pytest.warns(UserWarning, match="2 of 17 clips of the train split are constant"):
            data.setup("fit")
        assert (data.clip("train", 2).classes == 0).all()

    def test_overshoots_are_clipped_and_counted(self, tmp_path):
        make_folder(tmp_path, 20)
        soundfile.write(tmp_path / "take1.wav", np.array([0.5, 1.5, -1.5, 0.2]), 16_000, subtype="FLOAT")
        with pytest.warns(UserWarning, match="2 samples of the train split"):
            AudioFolder(tmp_path, batch_size=2).setup("fit")

    @pytest.mark.parametrize("scaling", ["clip", "file", "none"])
    def test_scaling(self, tmp_path, scaling):
        make_folder(tmp_path, 20)
        data = ready(AudioFolder(tmp_path, clip_samples=400, scaling=scaling, num_workers=0), "fit")
        whole = torch.from_numpy(read_mono(tmp_path / "take0.wav", 16_000))
        span = {"clip": extremes(whole[400:800]), "file": extremes(whole), "none": None}[scaling]
        assert torch.equal(data.clip("train", 1).classes, Quantiser().encode(scale(whole[400:800], span)))
        assert f"scaling {scaling}" in data.protocol


class TestSynthetic:
    def test_is_a_function_of_seed_split_and_index(self):
        first, second = (ready(Synthetic(clips=16, num_workers=0, batch_size=2), "fit") for _ in range(2))
        assert torch.equal(first.clip("train", 3).classes, second.clip("train", 3).classes)
        assert not torch.equal(first.clip("train", 3).classes, first.clip("validation", 0).classes)
        assert len(first._table("validation")) == 2
        other = ready(Synthetic(clips=16, seed=1), "fit")
        assert not torch.equal(first.clip("train", 3).classes, other.clip("train", 3).classes)

    def test_refuses_file_scaling(self):
        with pytest.raises(UserError, match="scaling: file does not apply"):
            Synthetic(scaling="file")


def test_clip_table():
    kept = [(0, 0, 4), (0, 4, 8), (0, 8, 10), (1, 0, 3), (2, 0, 4)]
    assert clip_table([10, 3, 4], 4, keep_tails=True) == [Piece(*place, i) for i, place in enumerate(kept)]
    dropped = [(0, 0, 4), (0, 4, 8), (2, 0, 4)]
    assert clip_table([10, 3, 4], 4, keep_tails=False) == [Piece(*place, i) for i, place in enumerate(dropped)]


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
    with pytest.raises(UserError, match=f"data.{key} must be at least 1.*, got 0"):
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


def test_too_many_made_up_clips():
    with pytest.raises(UserError, match=r"data\.clips must be at least 1 and at most"):
        Synthetic(clips=10**12)


def test_whole_files_are_evaluated_in_no_more_lanes_than_there_are(tmp_path):
    make_folder(tmp_path, 30)
    data = ready(AudioFolder(tmp_path, batch_size=10**9, clip_samples=300, num_workers=0, scaling="none", eval_context="file"), "test")
    assert [len(batch.clip) for batch in batches(data, "test")] == [2] * 4


def test_what_is_wrong_with_shards_in_use_is_told_by_workers_in_a_line(tmp_path):
    """Takes the time of starting a worker."""
    data = ready(AudioFolder(make_folder(tmp_path, 30), batch_size=2, clip_samples=500, num_workers=1), "fit")
    source = data.datasets["train"].source
    source.__init__(source.shards, source.entries)  # nothing is open
    path = tmp_path / "shards_16000/take3.wav.pcm"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=rf"^{path}: was changed while it was in use[^\n]*$"):
        list(data.train_dataloader())
    data.num_workers = 0
    path.unlink()
    with pytest.raises(UserError, match=rf"^{path}: was prepared and cannot be read any more: [^\n]*$"):
        list(data.train_dataloader())


def test_worker_processes_give_the_same_batches():
    """Takes the time of starting two workers."""
    settings = {"clips": 8, "clip_samples": 200, "batch_size": 2}
    alone, helped = (ready(Synthetic(num_workers=n, **settings), "fit") for n in (0, 2))
    for a, b in zip(alone.train_dataloader(), helped.train_dataloader(), strict=True):
        assert torch.equal(a.classes, b.classes)
        assert torch.equal(a.clip, b.clip)
