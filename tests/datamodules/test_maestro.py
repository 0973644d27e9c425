"""MAESTRO: its table, whole and damaged."""

import pytest
import soundfile

from datamodules import Maestro
from harmonicrnn.errors import UserError
from tests.audio_files import tone

HEADER = "canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration"


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
