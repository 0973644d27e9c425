"""Tests of `make demo`, on tiny audio and a tiny model."""

import hashlib
import json
import textwrap

import numpy as np
import pytest
import soundfile
import torch
import yaml

from benchmarks import demo
from harmonicrnn.audio import Quantiser
from tests.audio_files import make_folder
from tests.cli.conftest import without_pictures

RATE = 8000
CONFIG = """
model:
  preset: griffin
  levels: [{width: 8, depth: 1}]
  heads: 2
  prediction: {predictors: [{order: 4, decay: 0.9, every: 4}], widths: [1.0]}
data:
  class_path: datamodules.AudioFolder
  init_args: {root: music, sample_rate: 8000, clip_samples: 1000, batch_size: 1, num_workers: 0}
samples: {sample_seconds: 0}
trainer: {max_steps: 2, val_check_interval: 2, enable_progress_bar: false, default_root_dir: logs/demo}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Enters and returns a working directory with `demo.yaml` and recordings in `music/`."""
    monkeypatch.chdir(tmp_path)
    without_pictures(monkeypatch)
    for split in ("train", "validation", "test"):
        make_folder(tmp_path / "music" / split, files=1, samples=4000, rate=RATE)
    (tmp_path / "demo.yaml").write_text(textwrap.dedent(CONFIG))
    (tmp_path / "voices").mkdir()
    torch.set_num_threads(1)
    return tmp_path


@pytest.mark.slow
def test_all_of_it(place, capsys):
    assert demo.demo(place / "demo.yaml", place / "music", place / "logs/demo", place / "voices", seconds=0.2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "No voice comes with the library: none is heard"
    commands = [line.split()[3] for line in lines if line.startswith("$ python train.py")]
    assert commands == ["fit", "test", "generate"]
    assert len([line for line in lines if line.startswith("clip_000")]) == demo.CLIPS
    assert [line.split(":")[0] for line in lines[-3:]] == ["Done", "Result", "Next"]
    clips = place / "logs/demo/version_0/generated_0"
    assert f"listen: {clips}/*.wav" in lines[-3]
    assert soundfile.info(clips / "clip_0002.wav").frames == round(0.2 * RATE)


@pytest.fixture
def tested(place):
    """Returns the folder of a run that was tested."""
    run = place / "logs/demo/version_0"
    run.mkdir(parents=True)
    untrained = [{"name": demo.PREDICTORS, "bits_per_sample": 2.5}, {"name": "last sample", "bits_per_sample": 5.0}]
    (run / "nll_test.json").write_text(json.dumps({"bits_per_sample": 2.25, "untrained": untrained}))
    return run


@pytest.mark.parametrize(("bits", "apart"), [(2.25, "0.2500 below"), (2.75, "0.2500 not below"), (2.5, "0.0000 not below")])
def test_the_last_lines_say_how_good_it_is(tested, bits, apart):
    path = tested / "nll_test.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bits_per_sample": bits}))
    _, result, _ = demo.closing(tested, tested / "generated_0", tested, 90)
    assert result == f"Result: {bits:.4f} bits/sample on the test split, {apart} the 2.5000 of linear predictors alone"


def test_the_first_command_that_fails_ends_it(place, capsys, monkeypatch):
    (place / "demo.yaml").write_text("model: [\n")
    assert demo.demo(place / "demo.yaml", place / "music", place / "logs/demo", place / "voices") == 2
    captured = capsys.readouterr()
    assert "Done:" not in captured.out
    assert "demo.yaml: is not YAML" in captured.err


def test_a_voice_is_heard_where_there_is_one(place, capsys, monkeypatch):
    given = []
    monkeypatch.setattr(demo, "library", lambda args: given.append(args) or 0)
    for name in ("violin", "bach"):
        (place / "voices" / name).mkdir()
        (place / "voices" / name / "model.safetensors").touch()
    assert demo.hear(place / "voices", place / "logs", 2.0) == 0
    ((command, *options),) = given
    out = place / "logs/bach"
    expected = {"--voice": str(place / "voices/bach"), "--seconds": "2.0", "--out": str(out)}
    assert (command, options.pop(), dict(zip(options[::2], options[1::2], strict=True))) == ("generate", "--overwrite", expected)
    assert f"Listen to the voice bach: {out}/clip_0000.wav" in capsys.readouterr().out


def test_clips_are_held_against_the_marks(place, monkeypatch):
    """Compares three clips with the marks: an excerpt, silence and a loud whistle."""

    class UniformVoice:
        """A voice that gives all audio the same likelihood."""

        sample_rate, quantiser = RATE, Quantiser(8, "mu-law")

        def classes(self, path):
            return self.quantiser.encode(torch.from_numpy((soundfile.read(path, dtype="float32")[0] + 1) / 2))

    monkeypatch.setattr("harmonicrnn.load", lambda run: UniformVoice(), raising=False)
    monkeypatch.setattr("benchmarks.free_runs.bits_of", lambda voice, classes: [2.0] * len(classes))
    rng, time = np.random.default_rng(0), np.arange(3 * RATE) / RATE
    music = sum(0.1 * np.sin(2 * np.pi * hz * time) for hz in (90, 200, 440, 700, 1300)) + rng.normal(0, 0.01, len(time))
    sounds = [0.7 * music, 0 * music, np.sin(2 * np.pi * 2000 * time) + rng.normal(0, 1e-3, len(time))]
    soundfile.write(place / "music/test/take0.wav", music, RATE)
    clips = place / "clips"
    clips.mkdir()
    for i, sound in enumerate(sounds):
        soundfile.write(clips / f"clip_{i}.wav", sound, RATE)
    rows = [{"file": f"clip_{i}.wav", "samples": len(time), "bits_per_sample": 2.0} for i in range(3)]
    (clips / "manifest.json").write_text(json.dumps({"clips": rows[::-1]}))
    marks, *lines = demo.judged(place, clips, place / "music")
    assert marks.startswith(f"Marks: level within {demo.LEVEL} dB")
    assert [(line.split(":")[0], line.rsplit(": ", 1)[1]) for line in lines] == [
        ("clip_0.wav", "passes"),
        ("clip_1.wav", "fails"),
        ("clip_2.wav", "fails"),
    ]


def test_the_recordings_that_come_along_are_those_of_their_list():
    """Checks the recordings in the repository: few, at the config's rate, in three splits, and all of them in the list."""
    root = demo.ROOT / demo.RECORDINGS
    sums = dict(reversed(line.split("  ", 1)) for line in (root / "checksums.sha256").read_text().splitlines())
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*.flac")}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == sums
    assert {path.split("/")[0] for path in sums} == {"train", "validation", "test"}
    assert sum(path.stat().st_size for path in files.values()) < 5e6
    config = yaml.safe_load((demo.ROOT / demo.CONFIG).read_text())["data"]["init_args"]
    assert {soundfile.info(path).samplerate for path in files.values()} == {config["sample_rate"]}
    readme = (root / "README.md").read_text()
    assert "## Licence" in readme
    assert all(f"- `{name}`: " in readme for name in files)
