"""Published datasets: layouts and tables, whole and damaged; splits and chunks against a plain re-statement of the protocols."""

import re

import pytest
import soundfile
import torch

from datamodules import SC09, Beethoven, Maestro, YouTubeMix
from harmonicrnn.audio import Quantiser, extremes, read_mono, scale
from harmonicrnn.errors import UserError
from tests.audio_files import make_sc09, tone
from tests.datamodules.test_audio_datamodule import ready

HEADER = "canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration"


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


def maestro(root, rows, newline="\n", signature="", header=HEADER):
    """Rows of (split, file name, rate, whether the file is there)."""
    (root / "2004").mkdir(parents=True, exist_ok=True)
    lines = [header]
    for i, (split, name, rate, there) in enumerate(rows):
        lines.append(f'Bach,"Prelude, ""in C"", No. {i}",{split},2004,2004/a.midi,{name},1.5')
        if there:
            stereo = tone(rate // 2, i, rate)[:, None].repeat(2, axis=1)
            soundfile.write(root / name, stereo, rate)
    (root / "maestro-v3.0.0.csv").write_bytes((signature + newline.join(lines) + newline).encode())
    return root


ROWS = [
    ("train", "2004/one.wav", 44_100, True),
    ("validation", "2004/two.wav", 48_000, True),
    ("test", "2004/three.wav", 44_100, True),
    ("train", "2004/four.wav", 48_000, True),
]


@pytest.mark.parametrize("signature", ["", "\ufeff"], ids=["plain", "bom"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_maestro(tmp_path, newline, signature):
    data = Maestro(maestro(tmp_path, ROWS, newline, signature), clip_samples=2500, batch_size=1, num_workers=0)
    assert [path.name for path in data.files()["train"]] == ["one.wav", "four.wav"]
    data.setup("fit")
    data.setup("test")
    # Half a second at 16 kHz: three chunks of 2,500, the rest dropped.
    assert {split: len(data._table(split)) for split in data.datasets} == {"train": 6, "validation": 3, "test": 3}


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([*ROWS, ("train", "2004/none.wav", 0, False)], HEADER, r"line 6: .*none\.wav is missing; complete"),
        ([*ROWS, ("dev", "2004/one.wav", 0, False)], HEADER, "line 6: split is 'dev'"),
        ([*ROWS, ROWS[0]], HEADER, r"line 6: 2004/one\.wav is listed twice"),
        ([*ROWS, ("test", "2004/./one.wav", 0, False)], HEADER, r"line 6: 2004/\./one\.wav is listed twice"),
        ([*ROWS, ("train", "../one.wav", 0, False)], HEADER, r"'\.\./one\.wav'; it must name a file in the folder"),
        ([*ROWS, ("train", "", 0, False)], HEADER, "audio_filename is ''"),
        (ROWS, HEADER.replace("split", "part"), "has no column split"),
    ],
    ids=["missing", "split", "duplicate", "duplicate_spelt_otherwise", "outside", "empty", "column"],
)
def test_bad_tables(tmp_path, rows, header, message):
    with pytest.raises(UserError, match=message):
        Maestro(maestro(tmp_path, rows, header=header)).files()


@pytest.mark.parametrize("on_bad_file", ["error", "skip"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content + b"Bach,Prelude\n", "line 6: split is None"),
        (lambda content: content.replace(b'"Prelude, ""in C"", No. 1"', b"Prelude, in C"), "line 3: split is ' in C'"),
        (lambda content: content.replace(b"Prelude", b"Pr\xe9lude"), "cannot be read as a table: .*utf-8"),
        (lambda content: content + b'Bach,"' + b"x" * 200_000, "cannot be read as a table: field larger"),
        (lambda content: b"", "has no column split"),
    ],
    ids=["short_row", "comma_without_quotes", "latin_1", "open_quote", "empty"],
)
def test_damaged_tables(tmp_path, damage, message, on_bad_file):
    """Skipping is for recordings: a table that is wrong is an error."""
    table = maestro(tmp_path, ROWS) / "maestro-v3.0.0.csv"
    table.write_bytes(damage(table.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        Maestro(tmp_path, on_bad_file=on_bad_file).files()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("row", [ROWS[0], ("dev", "2004/one.wav", 0, False)], ids=["duplicate", "split"])
def test_errors_of_the_table_are_not_skipped(tmp_path, row):
    with pytest.raises(UserError, match="line 6"):
        Maestro(maestro(tmp_path, [*ROWS, row]), on_bad_file="skip").files()


def test_a_missing_recording_can_be_skipped(tmp_path):
    root = maestro(tmp_path, [*ROWS, ("train", "2004/none.wav", 0, False)])
    data = Maestro(root, on_bad_file="skip")
    with pytest.warns(UserWarning, match="1 of 5 recordings .* are missing") as told:
        assert [len(data.files()["train"]) for _ in range(2)] == [2, 2]
    assert len(told) == 1


def test_no_table(tmp_path):
    with pytest.raises(UserError, match=r"maestro-v3\.0\.0\.csv: there is no such file.*--data.root"):
        Maestro(tmp_path).setup("fit")


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
