"""Tests of `generate --play` and `stream`, with a stand-in for sounddevice."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from harmonicrnn import load
from harmonicrnn.cli import main
from tests.harmonicrnn.test_checkpoints import RUN

REPOSITORY = Path(__file__).parents[3]


class PortAudioError(Exception):
    """Stands for sounddevice's error of the same name."""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return Path(shutil.copytree(RUN, tmp_path / "trained"))


@pytest.fixture
def device(monkeypatch):
    """A stand-in device that records its settings and blocks.

    `late` holds the numbers of the blocks before which it ran out of samples, `stop` the number of the block at which Ctrl-C comes.
    """
    heard = SimpleNamespace(blocks=[], late=set(), stop=None, closed=0, asked=None)

    class OutputStream:
        def __init__(self, **asked):
            if asked["samplerate"] != 8000:
                raise PortAudioError("Invalid sample rate")
            heard.asked = asked

        def __enter__(self):
            return self

        def __exit__(self, *error):
            heard.closed += 1

        def write(self, block):
            assert block.flags.c_contiguous
            if len(heard.blocks) == heard.stop:
                raise KeyboardInterrupt
            heard.blocks.append(block)
            return len(heard.blocks) - 1 in heard.late

    module = SimpleNamespace(OutputStream=OutputStream, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return heard


def test_a_clip_is_played_as_it_is_drawn_and_written(run, device, capsys):
    device.late = {0, 2}  # there is nothing to play before the first block
    assert main(["generate", "trained", "--seconds", "0.1", "--seed", "5", "--play", "--out", "clips"]) == 0
    assert (device.asked["channels"], device.asked["dtype"], device.closed) == (1, "float32", 1)
    assert [block.shape for block in device.blocks] == [(256, 1), (256, 1), (256, 1), (32, 1)]
    made = load(run).generate(0.1, seed=5)[0].numpy()
    assert np.array_equal(np.concatenate(device.blocks)[:, 0], made)
    assert np.allclose(soundfile.read("clips/clip_0000.wav")[0], made, atol=2**-15)
    assert json.loads(Path("clips/manifest.json").read_text())["complete"]
    assert "1 under-runs" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_heard(run, device, capsys):
    device.stop = 2
    with pytest.raises(KeyboardInterrupt):
        main(["generate", "trained", "--seconds", "100", "--seed", "5", "--play", "--out", "clips"])
    told = capsys.readouterr().err
    assert "What was heard is kept: clips/clip_0000.wav" in told
    assert "0 under-runs" in told
    kept, _ = soundfile.read("clips/clip_0000.wav", dtype="float32")
    heard = np.concatenate(device.blocks)[:, 0]
    assert len(heard) == 512
    assert np.allclose(kept[:512], heard, atol=2**-15)
    assert len(kept) == 768  # with the block that was next
    assert device.closed == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("--clips 2", "--play takes one clip"),
        ("--reject 1", "--play cannot take back"),
        ("--stdout", "--play and --stdout are two ways"),
    ],
)
def test_what_does_not_go_with_it(run, device, capsys, arguments, part):
    assert main(f"generate trained --play {arguments}".split()) == 2
    assert part in capsys.readouterr().err
    assert device.asked is None


@pytest.mark.parametrize("command", ["generate trained --play", "stream trained"])
def test_without_a_device(run, device, capsys, monkeypatch, command):
    monkeypatch.setattr(
        sys.modules["sounddevice"], "OutputStream", lambda **asked: (_ for _ in ()).throw(PortAudioError("no default device"))
    )
    assert main([*command.split(), "--seconds", "0.01"]) == 2
    assert "error: no device plays 8000 Hz, or it stopped: no default device: look at python -m sounddevice" in capsys.readouterr().err
    assert not (run / "generated_0").exists()


@pytest.mark.parametrize(
    ("error", "part"),
    [(ImportError("No module"), "pip install .[play]"), (OSError("library not found"), "libportaudio2): library not found")],
)
@pytest.mark.parametrize("command", ["generate trained --seconds 0.01 --play", "stream trained"])
def test_without_the_library(run, capsys, monkeypatch, error, part, command):
    class Finder:
        @staticmethod
        def find_spec(name, *args):
            if name == "sounddevice":
                raise error

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    assert main(command.split()) == 2
    assert part in capsys.readouterr().err


def test_a_stream_is_played_until_ctrl_c(run, device, capsys):
    device.stop = 3
    with pytest.raises(KeyboardInterrupt):
        main(["stream", "trained", "--seed", "5"])
    heard = np.concatenate(device.blocks)[:, 0]
    assert len(heard) == 3 * 400
    assert np.array_equal(heard, load(run).generate(len(heard) / 8000, seed=5)[0].numpy())
    assert "8000 Hz, mono; Ctrl-C ends it" in capsys.readouterr().err
    assert device.closed == 1
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.yaml"]


def test_a_stream_on_standard_output_continues_a_prompt(run, device, capfdbinary):
    soundfile.write("prompt.wav", 0.5 * np.sin(np.arange(1600)), 16_000)
    options = ["--prompt", "prompt.wav", "--temperature", "0.9", "--top_p", "0.95", "--seed", "2"]
    assert main(["stream", "--voice", "trained", *options, "--seconds", "0.1", "--stdout"]) == 0
    made = load(run).generate(0.1, prompt="prompt.wav", temperature=0.9, top_p=0.95, seed=2)[0].numpy()
    told = capfdbinary.readouterr()
    heard = np.frombuffer(told.out, dtype="<i2")
    assert b"its 16000 Hz are resampled to 8000 Hz" in told.err
    assert len(heard) == 800
    assert np.allclose(heard / 2**15, made, atol=2**-15)
    assert device.asked is None


def test_a_reader_that_has_heard_enough_ends_the_stream(run):
    command = [sys.executable, "-m", "harmonicrnn", "stream", run, "--stdout", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as program:
        assert len(program.stdout.read(1000)) == 1000
        program.stdout.close()
        told = program.stderr.read().decode()
        assert program.wait() == 0
    assert "error" not in told
    assert "Traceback" not in told


@pytest.mark.parametrize("command", ["generate", "stream"])
def test_a_terminal_is_no_place_for_samples(run, capsys, monkeypatch, command):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main([command, "trained", "--seconds", "0.01", "--stdout"]) == 2
    assert "error: --stdout writes raw samples, which a terminal cannot show" in capsys.readouterr().err
