"""Tests of `harmonicrnn generate`, `harmonicrnn stream`, `harmonicrnn nll` and `harmonicrnn predictors`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from harmonicrnn import __version__, load
from harmonicrnn.audio import Quantiser
from harmonicrnn.cli import main
from harmonicrnn.errors import UserError
from harmonicrnn.generation.detectors import Reference
from harmonicrnn.generation.prompts import classes_of
from harmonicrnn.models import Prediction, PredictorsAlone, sample_nats

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Copies a run into the working directory and returns its folder."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return Path(shutil.copytree(REPOSITORY / "tests/fixtures/run_of_version_0.1", tmp_path / "trained"))


def write_tones(path):
    t = np.arange(4000) / 8000
    samples = (0.5 * np.sin(2 * np.pi * 220 * t) + 0.3 * np.sin(2 * np.pi * 331 * t)).astype(np.float32)
    soundfile.write(path, samples, 8000, subtype="FLOAT")


def test_likelihoods_of_files(run, capsys):
    for name in ("a.wav", "b.wav"):
        write_tones(name)
    assert main(["nll", "trained", "a.wav", "b.wav"]) == 0
    told = capsys.readouterr()
    rows = [line.split("\t") for line in told.out.splitlines()]
    assert [name for _, name in rows] == ["a.wav", "b.wav"]
    assert float(rows[0][0]) == pytest.approx(8.160971672976899, abs=1e-6)
    assert float(rows[0][0]) == load(run).nll("a.wav")
    for part in ("8-bit mu-law", "8000 Hz", "scaling clip", "best.ckpt", "all before it"):
        assert part in told.err


def test_likelihoods_without_any_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harmonicrnn.voice.CHUNK", 1000)
    write_tones("a.wav")
    write_tones("b.wav")
    assert main(["predictors", "a.wav", "b.wav", "--sample_rate", "8000", "--bits", "6", "--law", "linear", "--scaling", "none"]) == 0
    told = capsys.readouterr()
    rows = [line.split("\t") for line in told.out.splitlines()]
    assert [row[3] for row in rows] == ["a.wav", "b.wav"]
    quantiser = Quantiser(6, "linear")
    classes = classes_of("a.wav", None, quantiser, 8000, "none")[None]
    for value, filters in zip(rows[0][:3], (Prediction(), (1.0,), (2.0, -1.0)), strict=True):
        net = PredictorsAlone(6, filters)
        net.set_cells(*quantiser.cells())
        wanted = sample_nats(net(classes)[0], classes).double().mean().item() / np.log(2)
        assert float(value) == pytest.approx(wanted, abs=1e-5)
    for part in ("linear predictors, last sample, linear extrapolation", "6-bit linear", "8000 Hz", "scaling none", "all before it"):
        assert part in told.err


def test_a_checkpoint_by_itself_is_told_how_audio_was_scaled(run, capsys):
    write_tones("a.wav")
    shutil.copy(run / "checkpoints/best.ckpt", "alone.ckpt")
    assert main(["nll", "alone.ckpt", "a.wav"]) == 2
    assert "harmonicrnn the option --scaling" in capsys.readouterr().err
    assert main(["nll", "alone.ckpt", "a.wav", "--scaling", "clip"]) == 0
    assert float(capsys.readouterr().out.split("\t")[0]) == pytest.approx(8.160971672976899, abs=1e-6)


def test_clips_of_a_checkpoint_continue_a_file(run, capsys):
    write_tones("a.wav")
    Reference("what was measured").keep(run)
    command = "generate trained/checkpoints/best.ckpt --seconds 0.003 --clips 2 --seed 5 --prompt a.wav --out clips"
    assert main(command.split()) == 0
    made = load(run).generate(0.003, "a.wav", clips=2, seed=5)
    for number in range(2):
        assert np.allclose(soundfile.read(f"clips/clip_{number:04d}.wav")[0], made[number], atol=2**-15)
    content = json.loads(Path("clips/manifest.json").read_text())
    assert content["complete"]
    assert content["reference"]["source"] == "what was measured"
    assert content["prompt"]["samples"] == 4000


def test_a_voice_is_exported_and_drawn_from(run, capsys, monkeypatch):
    write_tones("a.wav")
    Path("about.md").write_text("My bells.\n")
    assert (
        main(["export", "trained", "--out", "voices/tiny", "--license", "cc0-1.0", "--sources", "about.md", "--clips", "a.wav", "a.wav"])
        == 0
    )
    assert capsys.readouterr().out == "Written to voices/tiny\n"
    assert sorted(path.name for path in Path("voices/tiny").iterdir()) == [
        "README.md", "clip_1.wav", "clip_2.wav", "config.json", "model.safetensors",
    ]  # fmt: skip
    assert "My bells." in Path("voices/tiny/README.md").read_text()
    monkeypatch.setattr("harmonicrnn.runs.VOICES", Path("voices"))
    for named in ("--voice voices/tiny", "--voice tiny", "voices/tiny"):
        assert main(f"generate {named} --seconds 0.003 --seed 5".split()) == 0
    told = capsys.readouterr()
    assert told.err.count("Voice voices/tiny\n") == 3
    made = load(run).generate(0.003, seed=5)
    for number in range(3):
        # In the working directory, as nothing is written into a voice.
        assert np.allclose(soundfile.read(f"generated_{number}/clip_0000.wav")[0], made[0], atol=2**-15)
    content = json.loads(Path("generated_0/manifest.json").read_text())
    assert content["checkpoint"]["path"] == "voices/tiny/model.safetensors"
    assert len(list(Path("voices/tiny").iterdir())) == 5
    assert main(["nll", "tiny", "a.wav"]) == 0
    assert float(capsys.readouterr().out.split("\t")[0]) == pytest.approx(8.160971672976899, abs=1e-6)


def test_export_draws_clips_by_the_voice_s_own_temperature(run, capsys):
    assert main(["export", "trained", "--out", "tiny", "--seconds", "0.003", "--temperature", "0.5"]) == 0
    assert "Drawing 4 clips of 0.003 s" in capsys.readouterr().err
    drawn = [soundfile.read(f"tiny/clip_{number}.wav") for number in (1, 2, 3, 4)]
    assert np.allclose([samples for samples, _ in drawn], load("tiny").generate(0.003, clips=4), atol=2**-15)
    assert load("tiny").temperature == 0.5
    assert {rate for _, rate in drawn} == {load("tiny").sample_rate}
    assert "- [clip_4.wav](clip_4.wav)" in Path("tiny/README.md").read_text()
    assert main(["export", "tiny", "--out", "copy"]) == 0
    assert Path("copy/clip_2.wav").read_bytes() == Path("tiny/clip_2.wav").read_bytes()
    assert "Drawing" not in capsys.readouterr().err
    assert main(["export", "trained", "--out", "quiet", "--seconds", "0"]) == 0
    assert not list(Path("quiet").glob("clip_*"))


def test_clips_drawn_for_a_voice_that_had_none_are_on_its_card(run):
    assert main(["export", "trained", "--out", "quiet", "--seconds", "0"]) == 0
    load("quiet").save("loud", seconds=0.003)
    assert "- [clip_4.wav](clip_4.wav)" in Path("loud/README.md").read_text()


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e-9])
def test_clips_of_no_length_are_refused(run, seconds):
    with pytest.raises(UserError, match="seconds"):
        load("trained").save("voice", seconds=seconds)
    assert not Path("voice").exists()


def test_nothing_is_drawn_for_a_folder_that_cannot_be_written(run, monkeypatch):
    monkeypatch.setattr("harmonicrnn.voice.generate", lambda *args, **kwargs: pytest.fail("drawn in vain"))
    Path("used").mkdir()
    Path("used/file").touch()
    with pytest.raises(UserError, match="used: exists and is not an empty folder"):
        load("trained").save("used", seconds=0.003)
    with pytest.raises(UserError, match="file/voice: cannot be written: "):
        load("trained").save("used/file/voice", seconds=0.003)


def test_a_voice_whose_clips_cannot_be_drawn_is_exported_without(run, monkeypatch):
    def fails(*args, **kwargs):
        raise UserError("sample 3 of clip 0: the model's logits are not finite")

    monkeypatch.setattr("harmonicrnn.voice.generate", fails)
    with pytest.warns(UserWarning, match=r"the voice's clips: left out: sample 3"):
        assert main(["export", "trained", "--out", "tiny", "--seconds", "0.003"]) == 0
    assert load("tiny").nll(np.zeros(9, dtype=np.float32)) > 0
    assert not list(Path("tiny").glob("clip_*"))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("generate nowhere --seconds 1", ["nowhere", "no such checkpoint, run or voice"]),
        ("generate . --seconds 1", ["best or last.ckpt"]),
        ("generate trained --second 1", ["--second"]),
        ("generate trained --seconds 0", ["--seconds must be above 0"]),
        ("generate trained --prompt gone.wav", ["--prompt gone.wav", "give an audio file"]),
        ("generate trained --prompt test", ["--prompt test", "no such file"]),
        ("generate trained --weights int4", ["weights", "int4"]),
        ("generate --seconds 1", ["give one model", "--voice"]),
        ("generate trained --voice trained", ["give one model", "--voice"]),
        ("generate --voice mozart", ["mozart: there is no such checkpoint, run or voice; voices that come with the library:"]),
        ("export trained", ["--out is missing"]),
        ("export trained --out trained", ["trained: exists and is not an empty folder"]),
        ("export nowhere --out voice", ["nowhere", "no such"]),
        ("export trained --out voice --license Mine!", ["license 'Mine!'", "cc0-1.0"]),
        ("export trained --out voice --sources gone.md", ["--sources gone.md", "cannot be read"]),
        ("export trained --out voice --clips a.mp3", ["a.mp3"]),
        ("export trained --out voice --seconds -1", ["--seconds must be 0 or more, got -1"]),
        ("stream", ["give one model", "--voice"]),
        ("stream trained --stdout --seed -1", ["seed must be 0 or more, got -1"]),
        ("stream trained --stdout --top_p 0", ["top_p must be above 0 and at most 1, got 0"]),
        ("stream trained --stdout --seconds 0", ["seconds must be above 0, got 0"]),
        ("stream trained --stdout --prompt gone.wav", ["gone.wav"]),
        ("nll trained", ["files"]),
        ("nll trained gone.wav", ["gone.wav"]),
        ("predictors", ["files"]),
        ("predictors gone.wav", ["gone.wav"]),
        ("predictors gone.wav --bits 3", ["--bits must be between 4 and 12, got 3"]),
        ("predictors gone.wav --sample_rate 0", ["--sample_rate must be at least 1"]),
        ("play trained", ["play", "generate", "nll", "predictors"]),
    ],
)
def test_what_is_wrong_is_named(run, capsys, arguments, parts):
    assert main(arguments.split()) == 2
    told = capsys.readouterr().err
    assert "error: " in told
    for part in parts:
        assert part in told
    assert sorted(path.name for path in Path().iterdir()) == ["trained"]
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.yaml"]


def test_as_a_module_from_elsewhere(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "harmonicrnn", "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"harmonicrnn {__version__}\n"
