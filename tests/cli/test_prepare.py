"""Tests of `train.py prepare`: shards, reuse by training, skipped files, verification, removal and signals."""

import os
import shutil
import signal
import time

import pytest
import soundfile

from cli import main
from datamodules import AudioFolder, preparation
from lightning_modules import HarmonicModule
from tests.audio_files import make_folder, tone
from tests.forking import in_child, status_of


def test_makes_the_shards_of_a_config_and_no_model(run, folder, capsys, monkeypatch):
    monkeypatch.setattr(HarmonicModule, "__init__", lambda *args, **kwargs: pytest.fail("a model was built"))
    assert run("prepare --config tiny.yaml") == 0
    told = capsys.readouterr().out
    assert "train" in told
    assert "20" in told
    assert (folder / "data/shards_16000/manifest.jsonl").is_file()
    assert run("prepare --config tiny.yaml --verify true --processes 2") == 0
    assert not (folder / "logs").exists()


def test_training_makes_them_where_they_are_missing_and_then_takes_them(run, folder, monkeypatch):
    assert run("fit --config tiny.yaml --samples.sample_seconds 0 --trainer.max_steps 1 --data.shards elsewhere") == 0
    assert (folder / "elsewhere/shards_16000/manifest.jsonl").is_file()
    assert not (folder / "data/shards_16000").exists()
    monkeypatch.setattr("datamodules.preparation.prepare_file", lambda *_: pytest.fail("prepared again"))
    assert run("test --data.shards elsewhere") == 0


@pytest.mark.parametrize("name", ["Synthetic", "Memory"])
def test_what_is_made_up_has_nothing_to_prepare(run, folder, capsys, name):
    before = set(folder.rglob("*"))
    assert run(f"prepare --data {name} --verify true") == 0
    assert capsys.readouterr().out == f"{name} reads no files: there is nothing to prepare\n"
    assert set(folder.rglob("*")) == before


def test_what_is_skipped_is_counted(run, folder, capsys):
    path = sorted((folder / "data/three").glob("*.wav"))[0]
    path.write_text("not audio")
    assert run("prepare --config tiny.yaml") == 2
    assert str(path) in capsys.readouterr().err
    with pytest.warns(UserWarning, match="skipped"):
        assert run("prepare --config tiny.yaml --data.on_bad_file skip") == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "train" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][:3] == ["train", "19", "1"]
    assert run("fit --config tiny.yaml --trainer.limit_val_batches 0 --trainer.max_steps 1 --data.on_bad_file skip") == 0


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("--config tiny.yaml --processes 0", "--processes must be at least 1"),
        ("--config tiny.yaml --data.root nowhere", "nowhere: there is no such folder"),
        ("--config tiny.yaml --data.rooot x", "rooot"),
        ("--config nothing.yaml", "nothing.yaml"),
        ("--config broken.yaml", "broken.yaml: is not YAML"),
        ("", "data"),
    ],
)
def test_bad_arguments(run, folder, capsys, arguments, part):
    (folder / "broken.yaml").write_text("data: {root: [\n")
    assert run(f"prepare {arguments}") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert part in error


def test_one_preparation_serves_every_bit_depth_and_scaling(run, folder, monkeypatch):
    assert run("prepare --config tiny.yaml") == 0
    monkeypatch.setattr("datamodules.preparation.prepare_file", lambda *_: pytest.fail("prepared again"))
    quick = "--trainer.limit_val_batches 0 --trainer.max_steps 1"
    assert run(f"fit --config tiny.yaml {quick} --data.bits 5 --data.law linear --data.scaling file --data.clip_samples 150") == 0


def test_a_flipped_byte_is_found_when_asked_to_verify(run, folder):
    assert run("prepare --config tiny.yaml") == 0
    path = sorted((folder / "data/shards_16000/three").glob("*.pcm"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert run("prepare --config tiny.yaml --verify true") == 0
    assert path.read_bytes() == whole


def test_new_recordings_are_noticed(run, folder):
    assert run("prepare --config tiny.yaml") == 0
    soundfile.write(folder / "data/nine/new_nohash_0.wav", tone(320, 1), 16_000)
    assert run("prepare --config tiny.yaml") == 0
    assert (folder / "data/shards_16000/nine/new_nohash_0.wav.pcm").stat().st_size == 640


def test_what_was_prepared_is_removed_when_asked(run, folder, capsys):
    """The shards of an AudioFolder are in the cache, and the command prints where."""
    for name in ("mine", "gone"):
        make_folder(folder / name, 20)
        assert run(f"prepare --data AudioFolder --data.root {name}") == 0
    mine, gone = (AudioFolder(folder / name).shards for name in ("mine", "gone"))
    assert f"Prepared in {mine}\n" in capsys.readouterr().out
    shutil.rmtree(folder / "gone")
    assert run(f"prepare --data AudioFolder --data.root data --data.shards {mine.parent} --clean") == 2
    assert f"{mine}: holds the shards of the recordings in {folder}/mine, not of those in data" in capsys.readouterr().err
    assert run("prepare --data AudioFolder --data.root mine --clean") == 0
    assert capsys.readouterr().out == f"Removed {mine}\nRemoved {gone}\n"
    assert not mine.parent.exists()
    assert run("prepare --data AudioFolder --data.root mine --clean") == 0
    assert capsys.readouterr().out == f"{mine}: nothing was prepared there\n"
    assert len(list((folder / "mine").iterdir())) == 20
    assert run("prepare --config tiny.yaml") == 0
    assert run("prepare --config tiny.yaml --clean") == 0
    assert not (folder / "data/shards_16000").exists()


@pytest.mark.parametrize(
    ("name", "to_all"),
    [("SIGTERM", False), pytest.param("SIGTERM", True, marks=pytest.mark.slow), ("SIGINT", True), ("SIGKILL", False)],
)
def test_stopped_by_a_signal_its_processes_end_too_and_it_goes_on(folder, run, monkeypatch, name, to_all):
    """SIGINT is sent to all processes, as terminals do."""
    original = preparation.stream_mono

    def slow(*given):
        for piece in original(*given):
            time.sleep(0.5)
            yield piece

    monkeypatch.setattr(preparation, "INLINE_BYTES", 0)
    monkeypatch.setattr(preparation, "stream_mono", slow)
    output = folder / "output.txt"
    pid = in_child(lambda: main(["prepare", "--config", "tiny.yaml", "--processes", "2"]), output)
    while not list(folder.glob("data/shards_16000/**/*.part")):
        time.sleep(0.01)
    (os.killpg if to_all else os.kill)(pid, signal.Signals[name])
    assert status_of(pid) == (-signal.SIGKILL if name == "SIGKILL" else 128 + signal.Signals[name]), output.read_text()
    wait_until_gone(pid)
    assert "Traceback" not in output.read_text()
    monkeypatch.setattr(preparation, "stream_mono", original)
    assert run("prepare --config tiny.yaml") == 0
    assert not list(folder.rglob("*.part"))


def wait_until_gone(group):
    """Fails if processes of a group still exist after 5 s."""
    for _ in range(500):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("processes were left behind")
