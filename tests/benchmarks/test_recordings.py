"""Tests of making folders of recordings from packages: splits, checksums, resuming, README and messages about missing packages."""

import hashlib
import shutil
from functools import partial

import numpy as np
import pytest
import soundfile

from benchmarks import recordings
from benchmarks.corpus import RATE, SUMS, Corpus, Piece, make, split_of
from benchmarks.timing import benchmark
from datamodules import AudioFolder
from harmonicrnn.errors import UserError

SHELL = shutil.which("sh")
SECONDS = 0.1  # length of a piece, in seconds


class Pieces:
    """Pieces of noise that record how often each is made."""

    def __init__(self, count: int, broken: str = "", seconds: float = SECONDS, peak: float = 0.5) -> None:
        self.made: list[str] = []
        self.broken, self.length, self.peak = broken, round(seconds * RATE), peak
        self.all = [Piece(name, f"{name} by Ada", partial(self.read, name)) for name in (f"p{i:02d}" for i in range(count))]

    def read(self, name: str) -> np.ndarray:
        if name == self.broken:
            raise UserError(f"{name} is broken")
        self.made.append(name)
        rng = np.random.default_rng(int(name[1:]))
        return rng.uniform(-self.peak, self.peak, self.length).astype(np.float32)


def corpus(pieces, versions=None, every=4, held_out=1, **kwargs):
    return Corpus("noise", "About it.\n\n## Licence\n\nFree.", versions or {"source": "1.0"}, pieces.all, every, held_out, **kwargs)


def files(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.wav"))}


@pytest.mark.parametrize(
    ("every", "held_out", "validation", "test"), [(10, 4, {4, 24, 44}, {14, 34, 54}), (8, 3, {3, 19, 35, 51}, {11, 27, 43, 59})]
)
def test_one_of_each_few_is_held_out_in_turn(every, held_out, validation, test):
    splits = [split_of(i, every, held_out) for i in range(60)]
    assert {i for i in range(60) if splits[i] == "validation"} == validation
    assert {i for i in range(60) if splits[i] == "test"} == test
    assert {i for i in range(60) if splits[i] == "train"} == set(range(60)) - validation - test


def test_a_folder_holds_the_samples_their_sums_and_whose_they_are(tmp_path):
    pieces = Pieces(8)
    make(corpus(pieces), tmp_path)
    made = files(tmp_path)
    train = {f"train/p{i:02d}.wav" for i in (0, 2, 3, 4, 6, 7)}
    assert set(made) == train | {"validation/p01.wav", "test/p05.wav"}
    info = soundfile.info(tmp_path / "test/p05.wav")
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (RATE, 1, "PCM_16", round(SECONDS * RATE))
    samples, _ = soundfile.read(tmp_path / "test/p05.wav")
    assert np.abs(samples - pieces.read("p05")).max() <= 0.5 / 32768
    assert (tmp_path / SUMS).read_text() == "".join(f"{hashlib.sha256(made[name]).hexdigest()}  {name}\n" for name in sorted(made))
    found = AudioFolder(tmp_path, sample_rate=RATE, bits=8).files()
    assert {split: len(paths) for split, paths in found.items()} == {"train": 6, "validation": 1, "test": 1}


def test_the_readme_tells_sources_licence_and_lengths(tmp_path):
    make(corpus(Pieces(8, seconds=3), versions={"source": "1.0", "tool": "2:3-1"}), tmp_path)
    text = (tmp_path / "README.md").read_text()
    for line in ("# Recordings: noise", "| train | 6 | 0.3 |", "| test | 1 | 0.1 |", "Free.", "- source 1.0", "- tool 2:3-1"):
        assert line in text.splitlines()
    assert "- `test/p05.wav`: p05 by Ada" in text.splitlines()
    assert "`python -m benchmarks.recordings noise --out FOLDER`" in text
    assert "i % 4 == 1" in text


def test_another_rate_and_flac(tmp_path):
    make(corpus(pieces := Pieces(8), rate=8000, suffix="flac"), tmp_path)
    info = soundfile.info(tmp_path / "test/p05.flac")
    assert (info.format, info.samplerate, info.channels, info.subtype, info.frames) == ("FLAC", 8000, 1, "PCM_16", pieces.length)
    samples, _ = soundfile.read(tmp_path / "test/p05.flac")
    assert np.abs(samples - pieces.read("p05")).max() <= 0.5 / 32768
    assert "\nFLAC, mono, 8 kHz, 16 bits." in (tmp_path / "README.md").read_text()


def test_what_is_whole_is_not_made_again(tmp_path):
    pieces = Pieces(8)
    make(corpus(pieces), tmp_path)
    before = files(tmp_path)
    pieces.made.clear()
    make(corpus(pieces), tmp_path)
    assert pieces.made == []
    cut, lost = tmp_path / "train/p02.wav", tmp_path / "test/p05.wav"
    cut.write_bytes(cut.read_bytes()[:-100])
    lost.unlink()
    make(corpus(pieces), tmp_path)
    assert sorted(pieces.made) == ["p02", "p05"]
    assert files(tmp_path) == before


def test_an_interrupted_folder_is_gone_on_with(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    make(corpus(Pieces(8)), whole)
    with pytest.raises(UserError, match="p04 is broken"):
        make(corpus(interrupted := Pieces(8, broken="p04")), cut)
    assert files(cut).items() < files(whole).items()
    (cut / "train" / ".0123456789abcdef.part").write_bytes(b"half of a file")
    (cut / "train/p04.wav").write_bytes(b"half of a file under its name")
    make(corpus(rest := Pieces(8)), cut)
    assert sorted(interrupted.made + rest.made) == [f"p{i:02d}" for i in range(8)]
    for path in whole.rglob("*.*"):
        assert (cut / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert len(list(cut.rglob("*"))) == len(list(whole.rglob("*")))


def test_minutes_are_shared_among_the_splits_and_more_of_them_add(tmp_path):
    pieces = Pieces(80)
    make(corpus(pieces), tmp_path, minutes=1.95 / 60)
    few = files(tmp_path)
    counts = [sum(name.startswith(split) for name in few) for split in ("train/", "validation/", "test/")]
    assert counts == [15, 3, 3]  # 1.95 s are split into 1.46, 0.24 and 0.24 s, in pieces of 0.1 s
    make(corpus(pieces), tmp_path, minutes=3.9 / 60)
    assert few.items() < files(tmp_path).items()
    assert len(files(tmp_path)) == 30 + 5 + 5


def test_silent_and_copied_pieces_keep_their_numbers_and_are_left_out(tmp_path):
    pieces, silent = Pieces(9), Pieces(9, peak=0.0009)
    pieces.all[0] = silent.all[0]
    make(corpus(pieces, left_out={"p04"}), tmp_path)
    assert set(files(tmp_path)) == {f"train/p{i:02d}.wav" for i in (2, 3, 6, 7, 8)} | {"validation/p01.wav", "test/p05.wav"}
    assert "p00" not in (tmp_path / "README.md").read_text()


def test_what_would_not_be_made_today_is_not_added_to(tmp_path):
    make(corpus(Pieces(8)), tmp_path)
    before = files(tmp_path)
    for other, why in [
        (corpus(Pieces(8), versions={"source": "1.1"}), "other versions"),
        (corpus(Pieces(8), held_out=2), "test/p05.wav would not be made"),
    ]:
        with pytest.raises(UserError, match=why):
            make(other, tmp_path)
    assert files(tmp_path) == before
    (tmp_path / "own").mkdir()
    soundfile.write(tmp_path / "own/a.wav", np.zeros(9), RATE)
    with pytest.raises(UserError, match="holds something else than noise; name another folder"):
        make(corpus(Pieces(8)), tmp_path / "own")
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["a.wav"]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Empties the PATH but for a dpkg-query that knows no package; returns a function that adds a shell script under a name."""
    folder = tmp_path / "programs"
    folder.mkdir()

    def add(name: str, text: str) -> None:
        (folder / name).write_text(f"#!{SHELL}\n{text}\n")
        (folder / name).chmod(0o755)

    add("dpkg-query", "exit 1")
    (folder / "cat").symlink_to(shutil.which("cat"))
    monkeypatch.setenv("PATH", str(folder))
    return add


def package(name, number, listed):
    """Returns the text of a dpkg-query that knows one package."""
    listing = "\n".join(str(path) for path in listed)
    answer = f'case "$1" in -W) printf "installed {number}";; -L) printf "{listing}";; esac'
    return f'for last; do :; done; [ "$last" = {name} ] || exit 1\n{answer}'


@pytest.mark.parametrize(
    ("make_one", "line"),
    [
        (recordings.music, "music needs packages of Debian that are not installed: apt install wesnoth-1.16-music"),
        (recordings.speech, "speech needs packages of Debian that are not installed: apt install asterisk-core-sounds-en-g722 ffmpeg"),
        (recordings.piano, "piano needs packages of Debian that are not installed: apt install fluidsynth fluid-soundfont-gm"),
    ],
)
def test_a_missing_package_is_named_in_a_line(make_one, line, programs, tmp_path, capsys):
    out = tmp_path / "out"
    assert benchmark(make_one, args=["--out", str(out)]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"
    assert not out.exists()


def test_a_package_that_was_removed_is_not_installed(programs):
    programs("dpkg-query", 'printf "config-files 1.0"')
    assert recordings.find("a") is None


def test_without_debian_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"music is made from Debian's wesnoth-1\.16-music, and this system has no dpkg-query"):
        recordings.music(tmp_path / "out")


def test_music_is_mixed_down_resampled_and_credited(programs, tmp_path):
    time = np.arange(44_100) / 44_100
    sides = np.stack([np.sin(2 * np.pi * 440 * time), 0 * time], axis=1)
    track = tmp_path / "a.ogg"
    with soundfile.SoundFile(track, "w", 44_100, 2, format="OGG", subtype="VORBIS") as file:
        file.title, file.artist, file.license = "Air", "Ada", "GPL"
        file.write(0.8 * sides)
    programs("dpkg-query", package("wesnoth-1.18-music", "1:1.18.2-1", [tmp_path, track, tmp_path / "copyright"]))
    recordings.music(tmp_path / "out")
    samples, rate = soundfile.read(tmp_path / "out/train/a.wav")
    assert (rate, len(samples)) == (RATE, RATE)
    expected = 0.4 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert np.abs(samples - expected)[500:-500].max() < 0.02  # Vorbis is lossy
    text = (tmp_path / "out/README.md").read_text()
    assert "- `train/a.wav`: Air; Ada; GPL\n" in text
    assert "- wesnoth-1.18-music 1:1.18.2-1\n" in text
    assert "/usr/share/doc/wesnoth-1.18-music/copyright" in text


def test_prompts_are_what_the_decoder_gives(programs, tmp_path):
    samples = np.array([0, 16384, -32768, 1], "<i2")
    (tmp_path / "raw").write_bytes(samples.tobytes())
    programs("ffmpeg", f"exec cat {tmp_path}/raw")
    assert (recordings.decoded(tmp_path / "a.g722") == [0, 0.5, -1, 1 / 32768]).all()
    programs("ffmpeg", "echo no such codec >&2; exit 1")
    with pytest.raises(UserError, match=r"a\.g722: ffmpeg cannot decode it: no such codec"):
        recordings.decoded(tmp_path / "a.g722")
