"""SC09: its lists and folders, whole and damaged; padding and batches."""

import pytest
import torch

from datamodules import SC09
from harmonicrnn.audio import Quantiser, extremes, read_mono, scale
from harmonicrnn.errors import UserError
from tests.audio_files import make_sc09
from tests.datamodules.test_audio_datamodule import ready


def test_splits_by_the_lists(tmp_path):
    data = ready(SC09(make_sc09(tmp_path), clip_samples=320, batch_size=4, num_workers=0))
    assert {split: len(data._table(split)) for split in data.datasets} == {"train": 20, "validation": 3, "test": 2}
    everything = {split: {p.name for p in paths} for split, paths in data.files().items()}
    assert not everything["train"] & (everything["validation"] | everything["test"])


def test_short_clips_are_padded_after_the_quantiser(tmp_path):
    data = ready(SC09(make_sc09(tmp_path), clip_samples=320, batch_size=4, num_workers=0), "test")
    (batch,) = data.test_dataloader()
    assert batch.classes.dtype == torch.int16
    assert batch.valid.sum(dim=1).sort().values.tolist() == [220, 320]
    assert (batch.classes[~batch.valid] == 128).all()
    for row, path in enumerate(data.files()["test"]):
        samples = torch.from_numpy(read_mono(path, 16_000))
        expected = Quantiser().encode(scale(samples, extremes(samples)))
        assert torch.equal(batch.classes[row][batch.valid[row]], expected)


def test_a_batch_of_an_epoch_holds_each_clip_once(tmp_path):
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
def test_layout(tmp_path, damage, message):
    damage(make_sc09(tmp_path, train=0))
    with pytest.raises(UserError, match=message or "no recordings in zero/ to nine/ other than the listed ones"):
        SC09(tmp_path).files()


@pytest.mark.parametrize("signature", ["", "\ufeff"], ids=["plain", "bom"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_lists_of_editors(tmp_path, signature, newline):
    expected = SC09(make_sc09(tmp_path)).files()
    for name in ("validation_list.txt", "testing_list.txt"):
        lines = (tmp_path / name).read_text().split()
        (tmp_path / name).write_bytes((signature + newline.join(lines)).encode())
    assert SC09(tmp_path).files() == expected


def test_hidden_files_are_left_out(tmp_path):
    expected = SC09(make_sc09(tmp_path)).files()
    (tmp_path / "four/._x.wav").touch()
    assert SC09(tmp_path).files() == expected


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_a_recording_that_is_listed_twice(tmp_path, name):
    line = (make_sc09(tmp_path) / "testing_list.txt").read_text().split()[0]
    with (tmp_path / name).open("a") as lines:
        lines.write(line)
    with pytest.raises(UserError, match=rf"{line} is listed twice"):
        SC09(tmp_path).files()


def test_sc09_missing_folder(tmp_path):
    with pytest.raises(UserError, match=r"there is no such folder.*--data.root.*--data.download true"):
        SC09(tmp_path / "none").setup("fit")
