"""Tests of the preparation of shards: contents, manifest, reuse, damage, kills, several processes and bad recordings."""

import errno
import json
import os
import signal
import time
from multiprocessing import active_children, get_context
from pathlib import Path

import numpy as np
import pytest
import soundfile

from datamodules import preparation
from datamodules.clip_dataset import Recordings
from datamodules.manifest import BLOCK, read_manifest
from datamodules.preparation import prepare_shards, settings_of, shard_path
from harmonicrnn.audio import read_mono
from harmonicrnn.errors import UserError
from tests.audio_files import make_folder, tone
from tests.forking import in_child, status_of
from tests.harmonicrnn.audio.test_reading import KINDS, broken

RATE = 16_000


@pytest.fixture
def root(tmp_path):
    """Makes five recordings: three at the rate, one to be resampled, one stereo."""
    folder = make_folder(tmp_path / "recordings", 3, samples=3 * BLOCK // 2)
    soundfile.write(folder / "fast.flac", tone(44_100, 7, 44_100), 44_100)
    soundfile.write(folder / "wide.wav", np.stack([tone(5000, 8), tone(5000, 9)], axis=1), RATE)
    return folder


def files(root):
    paths = sorted(p for p in root.iterdir() if p.suffix in (".wav", ".flac"))
    return {"train": paths[:3], "validation": paths[3:4], "test": paths[4:]}


def prepare(root, shards=None, rate=RATE, **options):
    return prepare_shards(root, files(root), shards or root / "shards", rate, **options)


@pytest.fixture
def counted(monkeypatch):
    """Returns a list of the sources that were prepared, in order."""
    done = []
    original = preparation.prepare_file

    def count(root, entry, shards, sample_rate):
        done.append(entry.source)
        return original(root, entry, shards, sample_rate)

    monkeypatch.setattr(preparation, "prepare_file", count)
    return done


def check_whole(root, entries):
    """Checks that every shard equals its source as read, and that there are no other files."""
    for source, entry in entries.items():
        expected = np.clip(np.rint(read_mono(root / source, RATE) * 32768), -32768, 32767).astype(np.int16)
        assert np.array_equal(np.fromfile(shard_path(root / "shards", source), "<i2"), expected)
        assert entry.length == len(expected)
    assert read_manifest(root / "shards/manifest.jsonl", settings_of(root, root / "shards", RATE)) == entries
    names = {p.name for p in (root / "shards").rglob("*") if p.is_file()}
    assert names == {f"{Path(source).name}.pcm" for source in entries} | {"manifest.jsonl", "lock"}


def test_shards_and_manifest(root):
    entries = prepare(root)
    check_whole(root, entries)
    assert list(entries) == ["fast.flac", "take0.wav", "take1.wav", "take2.wav", "wide.wav"]
    assert [entry.split for entry in entries.values()] == ["train"] * 3 + ["validation", "test"]
    assert [(entry.rate, entry.channels) for entry in entries.values()] == [(44_100, 1), *[(RATE, 1)] * 3, (RATE, 2)]
    assert len(entries["take0.wav"].low) == 2


def test_extremes_equal_those_of_the_samples(root):
    entries = list(prepare(root).values())
    recordings = Recordings(root / "shards", entries)
    rng = np.random.default_rng(0)
    cases = [(1, 0, entries[1].length), (1, BLOCK, 3 * BLOCK // 2), (1, 0, BLOCK), (1, 5, BLOCK + 1), (4, 0, 1)]
    cases += [(1, *sorted(rng.choice(3 * BLOCK // 2, 2, replace=False).tolist())) for _ in range(30)]
    for recording, start, stop in cases:
        samples = np.fromfile(shard_path(root / "shards", entries[recording].source), "<i2")[start:stop]
        assert np.array_equal(recordings.read(recording, start, stop), samples)
        assert recordings.extremes(recording, start, stop) == (samples.min() / 32768, samples.max() / 32768)


def test_a_recording_of_whole_blocks_has_no_edges(tmp_path):
    make_folder(tmp_path, 1, samples=2 * BLOCK)
    (entry,) = prepare_shards(tmp_path, {"train": [tmp_path / "take0.wav"]}, tmp_path / "shards", RATE).values()
    recordings = Recordings(tmp_path / "shards", [entry])
    assert len(recordings.read(0, 2 * BLOCK, 2 * BLOCK)) == 0
    assert recordings.extremes(0, BLOCK, 2 * BLOCK) == (entry.low[1] / 32768, entry.high[1] / 32768)


def test_what_is_done_is_not_done_again(root, counted):
    first = prepare(root)
    assert len(counted) == 5
    assert prepare(root) == first
    assert prepare(root, verify=True) == first
    assert len(counted) == 5


def test_only_what_changed_is_done_again(root, counted):
    prepare(root)
    counted.clear()
    soundfile.write(root / "take1.wav", tone(2000, 99), RATE)
    check_whole(root, prepare(root))
    assert counted == ["take1.wav"]
    counted.clear()
    (root / "take0.wav").rename(root / "take7.wav")
    entries = prepare(root)
    assert counted == ["take7.wav"]
    assert "take0.wav" not in entries
    counted.clear()
    assert prepare(root, rate=8000)["wide.wav"].length == 2500
    assert len(counted) == 5


def test_a_recording_that_moves_to_another_split_is_not_read_again(root, counted):
    prepare(root)
    counted.clear()
    paths = files(root)
    entries = prepare_shards(root, {"train": [], "test": [p for part in paths.values() for p in part]}, root / "shards", RATE)
    assert {entry.split for entry in entries.values()} == {"test"}
    assert not counted


def test_shards_are_of_one_folder_of_recordings(tmp_path):
    """The two datasets have files with the same names, sizes and times."""
    first, second = (make_folder(tmp_path / name, 3) for name in ("one", "two"))
    for path in first.iterdir():
        soundfile.write(second / path.name, tone(1000, 50), RATE)
        os.utime(second / path.name, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    prepare(first, tmp_path / "shards")
    before = {path: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    for options in ({}, {"verify": True}):
        with pytest.raises(UserError, match=rf"recordings in {first}, not of those in {second}; name another folder with --data\.shards"):
            prepare(second, tmp_path / "shards", **options)
    assert {path: path.read_bytes() for path in (tmp_path / "shards").iterdir()} == before
    with pytest.raises(UserError, match=f"recordings in {first}, not of those in {second}"):
        prepare(second, prepare(first) and first / "shards")


def test_names_of_other_encodings_and_with_line_breaks(root):
    for i, name in enumerate([b"r\xe9.wav", b"two\nlines.wav"]):
        (root / f"take{i}.wav").rename(root / os.fsdecode(name))
    check_whole(root, prepare(root))
    assert prepare(root) == prepare(root, verify=True)


def test_names_as_long_as_the_file_system_takes(root):
    for i, name in enumerate(["z" * 251 + ".wav", "ü" * 125 + "1.wav"]):
        (root / f"take{i}.wav").rename(root / name)
    entries = prepare(root)
    assert prepare(root, verify=True) == entries
    paths = [shard_path(root / "shards", source) for source in entries]
    assert len({path.name for path in paths if path.is_file()}) == 5
    assert all(path.stat().st_size == 2 * entry.length for path, entry in zip(paths, entries.values(), strict=True))


def test_recordings_can_be_moved_with_the_shards_among_them(root, counted):
    entries = prepare(root)
    counted.clear()
    moved = root.rename(root.with_name("moved"))
    assert prepare(moved) == entries
    assert not counted


@pytest.mark.parametrize(
    ("damage", "told"),
    [("cut", "has 49150 bytes, was made with 49152"), ("flipped", "differs from its checksum"), ("missing", "is missing")],
)
def test_damaged_shards_are_named_and_made_anew(root, counted, damage, told):
    prepare(root)
    counted.clear()
    path = shard_path(root / "shards", "take1.wav")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-2])
    elif damage == "missing":
        path.unlink()
    else:
        content[77] ^= 1
        path.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"1 of 5 shards are made again: {path} {told}"):
        check_whole(root, prepare(root, verify=damage == "flipped"))
    assert counted == ["take1.wav"]


@pytest.mark.parametrize("cut", [1, 40])
def test_a_line_torn_by_a_crash_is_dropped(root, counted, cut):
    prepare(root)
    counted.clear()
    manifest = root / "shards/manifest.jsonl"
    manifest.write_text(manifest.read_text()[:-cut])
    check_whole(root, prepare(root))
    assert counted == ([] if cut == 1 else ["wide.wav"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:5] + b"\xff" + line[6:],
        lambda line: b"null",
        lambda line: b"[" + line + b"]",
        lambda line: b"{}",
        lambda line: line[:-1] + b',"colour":1}',
        lambda line: line.replace(b'"low":[', b'"low":[1'),
        lambda line: line.replace(b'"length":', b'"length":1'),
    ],
    ids=["not_utf8", "null", "list", "empty", "unknown_key", "other_low", "other_length"],
)
def test_a_damaged_line_is_dropped(root, counted, damage):
    prepare(root)
    counted.clear()
    manifest = root / "shards/manifest.jsonl"
    lines = manifest.read_bytes().splitlines()
    damaged = damage(lines[3])
    assert damaged != lines[3]
    manifest.write_bytes(b"\n".join([*lines[:3], damaged, *lines[4:]]) + b"\n")
    check_whole(root, prepare(root))
    assert counted == ["take1.wav"]


@pytest.mark.parametrize("first", [b"null", b"\xff", b'{"format'], ids=["null", "not_utf8", "torn"])
def test_without_its_settings_a_manifest_counts_for_nothing(root, counted, first):
    prepare(root)
    counted.clear()
    manifest = root / "shards/manifest.jsonl"
    manifest.write_bytes(first + b"\n" + manifest.read_bytes().split(b"\n", 1)[1])
    check_whole(root, prepare(root))
    assert len(counted) == 5


def slowly(monkeypatch):
    """Delays each piece of a recording by 20 ms; returns a function that undoes this."""
    original = preparation.stream_mono

    def slow(*given):
        for piece in original(*given):
            time.sleep(0.02)
            yield piece

    monkeypatch.setattr(preparation, "stream_mono", slow)
    return lambda: monkeypatch.setattr(preparation, "stream_mono", original)


def test_killed_at_any_time_it_goes_on(root, monkeypatch):
    """Kills eight times while a shard is being written, each time a little later."""
    back = slowly(monkeypatch)
    for attempt in range(8):
        pid = in_child(lambda: prepare(root) and None)
        while not list(root.glob("shards/**/.*.part")) and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.001)
        time.sleep(0.005 * attempt)
        os.kill(pid, signal.SIGKILL)
        killed = status_of(pid) == -signal.SIGKILL
        assert killed or attempt > 0  # the first kill interrupts the work
    back()
    check_whole(root, prepare(root))


def test_two_processes_at_once_take_turns(root, monkeypatch):
    """Each recording is prepared once."""
    slowly(monkeypatch)
    original, log = preparation.prepare_file, root / "prepared.txt"

    def logged(folder, entry, *rest):
        with log.open("a") as file:
            file.write(f"{entry.source}\n")
        return original(folder, entry, *rest)

    monkeypatch.setattr(preparation, "prepare_file", logged)
    children = [in_child(lambda: prepare(root) and None) for _ in range(2)]
    assert [status_of(pid) for pid in children] == [0, 0]
    prepared = log.read_text().split()
    assert len(prepared) == len(set(prepared)) > 1
    check_whole(root, prepare(root))


def test_several_processes_make_the_same(root, monkeypatch):
    monkeypatch.setattr(preparation, "INLINE_BYTES", 0)
    check_whole(root, prepare(root, processes=3))


def test_an_interruption_ends_no_process_but_its_own(root, monkeypatch):
    def interrupted(futures):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "INLINE_BYTES", 0)
    monkeypatch.setattr(preparation, "as_completed", interrupted)
    others = set(active_children())
    bystander = get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    bystander.start()
    with pytest.raises(KeyboardInterrupt):
        prepare(root, processes=2)
    assert set(active_children()) == others | {bystander}
    bystander.kill()
    bystander.join()


def test_a_killed_process_is_told_and_the_others_end_with_it(root, monkeypatch):
    """The system kills a process like this if memory runs out, while others wait for work; finished work is kept."""
    others = set(active_children())
    monkeypatch.setattr(preparation, "INLINE_BYTES", 0)
    back = slowly(monkeypatch)
    original = preparation.stream_mono

    def killed(path, *rest):
        if path.name == "take1.wav":
            os.kill(os.getpid(), signal.SIGKILL)
        return original(path, *rest)

    monkeypatch.setattr(preparation, "stream_mono", killed)
    with pytest.raises(UserError, match=r"was killed.*what was prepared is kept.*--processes 1"):
        prepare(root, processes=2)
    assert set(active_children()) == others
    back()
    check_whole(root, prepare(root))


def test_a_full_disk_leaves_no_half_shard(root, monkeypatch):
    original = os.fsync

    def full(handle):
        if os.fstat(handle).st_size > 20_000:  # the second recording and larger ones, but not the manifest
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        prepare(root)
    assert not list((root / "shards").rglob("*.part"))
    assert not shard_path(root / "shards", "take0.wav").exists()
    monkeypatch.setattr(os, "fsync", original)
    check_whole(root, prepare(root))


def test_a_bad_recording_stops_the_work_or_is_skipped(root, counted):
    (root / "take1.wav").write_text("not audio")
    with pytest.raises(UserError, match=r"take1\.wav: cannot be read as audio"):
        prepare(root)
    with pytest.warns(UserWarning, match=r"skipped: .*take1\.wav"):
        entries = prepare(root, skip_bad=True)
    assert [source for source, entry in entries.items() if entry.error] == ["take1.wav"]
    assert counted.count("take0.wav") == 1
    counted.clear()
    assert prepare(root, skip_bad=True) == entries
    assert not counted
    with pytest.raises(UserError, match=r"take1\.wav: cannot be read as audio"):
        prepare(root)
    with pytest.warns(UserWarning, match=r"skipped: .*take1\.wav"):
        assert prepare(root, skip_bad=True, verify=True) == entries
    soundfile.write(root / "take1.wav", tone(2000, 99), RATE)
    check_whole(root, prepare(root))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "missing"])
def test_every_kind_of_bad_recording_can_be_skipped(root, kind):
    path, message = broken(root, kind)
    with pytest.warns(UserWarning, match=f"skipped: .*{message}"):
        entries = prepare_shards(root, {"train": [root / "take0.wav", path]}, root / "shards", RATE, skip_bad=True)
    assert [bool(entry.error) for entry in entries.values()] == [False, True]
    assert not shard_path(root / "shards", path.name).exists()


def test_shards_may_lie_where_nothing_can_be_written_once_they_are_made(root, monkeypatch):
    entries = prepare(root)
    monkeypatch.setattr(preparation, "_sole_worker", lambda shards: pytest.fail("nothing is to be written"))
    assert prepare(root) == entries


def test_a_folder_that_cannot_be_written(root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/shards: shards cannot be written there.*--data\.shards"):
        prepare(root, shards=tmp_path / "file" / "shards")


def test_the_manifest_is_plain_json(root):
    prepare(root)
    lines = [json.loads(line) for line in (root / "shards/manifest.jsonl").read_text().splitlines()]
    assert lines[0]["sample_rate"] == RATE
    assert set(lines[0]["libraries"]) == {"soxr", "soundfile"}
    assert all(len(line["checksum"]) == 64 for line in lines[1:])
