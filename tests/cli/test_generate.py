"""Tests of `train.py generate`, on the run of a tiny training."""

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from cli import main
from cli.generate_command import detector_reference
from datamodules import SC09
from harmonicrnn import load
from harmonicrnn.audio import Quantiser
from harmonicrnn.generation.detectors import KEPT
from harmonicrnn.models import sample_nats
from tests.audio_files import make_sc09, tone
from tests.cli.conftest import CONFIG, REPOSITORY, without_pictures
from tests.cli.test_bad_input import expect_error
from tests.forking import in_child, status_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns a folder with a finished run with a fixed range, `logs/tiny/version_0`."""
    folder = tmp_path_factory.mktemp("trained")
    make_sc09(folder / "data")
    (folder / "tiny.yaml").write_text(CONFIG.format(root=folder / "data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        without_pictures(patch)
        assert main(["fit", "--config", "tiny.yaml", "--data.scaling", "none", "--trainer.max_steps", "2"]) == 0
    return folder


@pytest.fixture
def folder(trained, monkeypatch, tmp_path):
    """Enters and returns the folder of the run; clips are written to `out`, which is elsewhere and empty."""
    monkeypatch.chdir(trained)
    torch.set_num_threads(1)
    return trained


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def run(folder):
    return lambda command: main(command.split())


def manifest(out):
    return json.loads((out / "manifest.json").read_text())


def test_clips_and_their_manifest(run, folder, out, capsys):
    assert run(f"generate --seconds 0.005 --clips 3 --batch 2 --seed 4 --temperature 0.9 --out {out}") == 0
    told = capsys.readouterr()
    names = {f"clip_{i:04d}.{ext}" for i in range(3) for ext in ("wav", "npy")}
    assert {path.name for path in out.iterdir()} == names | {"manifest.json"}
    content = manifest(out)
    assert content["complete"]
    assert content["checkpoint"]["path"] == "logs/tiny/version_0/checkpoints/best.ckpt"
    assert len(content["checkpoint"]["sha256"]) == 64
    assert (content["settings"]["seed"], content["settings"]["temperature"], content["prompt"]) == (4, 0.9, None)
    assert content["audio"] == {"sample_rate": 16_000, "bits": 8, "law": "mu-law", "scaling": "none"}
    assert content["libraries"]["torch"] == torch.__version__.split("+")[0]
    bits = [row["bits_per_sample"] for row in content["clips"]]
    assert bits == sorted(bits)
    net, quantiser = load(folder / "logs/tiny/version_0").net, Quantiser()
    for row in content["clips"]:
        assert f"{row['bits_per_sample']:.4f}" in told.out
        classes = torch.from_numpy(np.load(out / row["classes"]).astype(np.int64))
        samples, rate = soundfile.read(out / row["file"], dtype="float32")
        assert (rate, len(samples), row["samples"], row["seconds"]) == (16_000, 80, 80, 0.005)
        assert torch.equal(quantiser.encode((torch.from_numpy(samples) + 1) / 2).long(), classes)
        with torch.no_grad():
            fresh = sample_nats(net(classes[None])[0], classes[None]).double().mean().item() / math.log(2)
        assert row["bits_per_sample"] == pytest.approx(fresh, abs=1e-5)


def test_without_arguments_folders_are_numbered_in_the_newest_run(run, folder):
    for number in range(2):
        assert run("generate --seconds 0.001") == 0
        assert manifest(folder / f"logs/tiny/version_0/generated_{number}")["complete"]
    assert run("generate --seconds 0.001 --config tiny.yaml --ckpt_path last --format flac") == 0
    content = manifest(folder / "logs/tiny/version_0/generated_2")
    assert content["checkpoint"]["path"].endswith("last.ckpt")
    assert content["clips"][0]["file"] == "clip_0000.flac"
    assert soundfile.info(folder / "logs/tiny/version_0/generated_2/clip_0000.flac").frames == 16


def test_one_prompt_has_many_continuations(run, folder, out, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("harmonicrnn.generation.sampler.PROMPT_CHUNK", 300)
    stereo = np.stack([tone(4410, 0), tone(4410, 1)], axis=1)
    soundfile.write(tmp_path / "prompt.wav", stereo, 44_100)
    command = f"generate --prompt {tmp_path}/prompt.wav --seconds 0.003 --clips 2 --seed 1 --prompt_seconds 0.05"
    assert run(f"{command} --out {out}") == 0
    assert "2 channels are mixed to mono and its 44100 Hz are resampled to 16000 Hz" in capsys.readouterr().err
    voice = load(folder / "logs/tiny/version_0")
    prompt = np.load(out / "prompt.npy")
    assert torch.equal(torch.from_numpy(prompt), voice.classes(tmp_path / "prompt.wav", seconds=0.05).to(torch.uint8))
    assert len(soundfile.read(out / "prompt.wav")[0]) == len(prompt) == manifest(out)["prompt"]["samples"] == 800
    made = voice.generate(0.003, tmp_path / "prompt.wav", clips=2, seed=1)
    assert not torch.equal(made[0], made[1])
    for row in manifest(out)["clips"]:
        # The file holds only the continuation; its likelihood is conditional on the prompt.
        classes = np.load(out / row["classes"])
        whole = torch.from_numpy(np.concatenate([prompt, classes]).astype(np.int64))
        with torch.no_grad():
            nats = sample_nats(voice.net(whole[None])[0], whole[None])[0, 800:]
        assert row["bits_per_sample"] == pytest.approx(nats.double().mean().item() / math.log(2), abs=1e-5)


def test_a_split_prompts_each_clip_with_one_of_its_own(run, folder, out):
    """One of the test split's two clips is shorter than 0.018 s."""
    assert run(f"generate --prompt test --seconds 0.001 --clips 3 --batch 2 --out {out}") == 0
    prompts = [np.load(out / f"prompt_{i:04d}.npy") for i in range(3)]
    assert [len(prompt) for prompt in prompts] == [160] * 3
    assert not np.array_equal(prompts[0], prompts[1])
    assert np.array_equal(prompts[0], prompts[2])
    assert run(f"generate --prompt test --prompt_seconds 0.018 --seconds 0.001 --clips 2 --out {out} --overwrite") == 0
    assert np.array_equal(np.load(out / "prompt_0000.npy"), np.load(out / "prompt_0001.npy"))
    assert not (out / "prompt_0002.npy").exists()


def test_raw_samples_for_a_player(run, out, capfdbinary):
    assert run(f"generate --seconds 0.02 --seed 3 --out {out}") == 0
    capfdbinary.readouterr()
    assert run("generate --seconds 0.02 --seed 3 --stdout") == 0
    captured = capfdbinary.readouterr()
    written, _ = soundfile.read(out / "clip_0000.wav", dtype="int16")
    assert captured.out == written.astype("<i2").tobytes()
    assert b"bits/sample" in captured.err
    assert re.search(rb"0\.02 s of audio in [\d.e-]+ s: [\d.e+-]+ x real time", captured.err)


def test_a_player_that_stops_ends_it(folder, tmp_path):
    read, write = os.pipe()

    def play():
        os.close(read)
        os.dup2(write, 1)
        return main(["generate", "--seconds", "1000", "--stdout"])

    pid = in_child(play, tmp_path / "output.txt")
    os.close(write)
    assert len(os.read(read, 512)) == 512
    os.close(read)
    assert status_of(pid) == 0, (tmp_path / "output.txt").read_text()
    assert "Traceback" not in (tmp_path / "output.txt").read_text()


@pytest.mark.slow
def test_a_player_that_stops_ends_the_program(folder):
    """The program must also stay silent when it closes its standard output at the end."""
    command = [sys.executable, REPOSITORY / "train.py", "generate", "--seconds", "1000", "--stdout"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert len(process.stdout.read(512)) == 512
        process.stdout.close()
        told = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert "Traceback" not in told
    assert "Exception ignored" not in told


def test_standard_output_to_a_full_disk_is_an_error(run, capsys, monkeypatch, tmp_path):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with (tmp_path / "full").open("wb") as file:
        stdout = SimpleNamespace(buffer=Full(), isatty=lambda: False, fileno=file.fileno, write=lambda text: None, flush=lambda: None)
        monkeypatch.setattr("sys.stdout", stdout)
        expect_error(run, capsys, "generate --seconds 0.001 --stdout", "standard output: cannot be written: No space left on device")


def test_killed_half_way_it_leaves_audio(folder, out, tmp_path):
    pid = in_child(lambda: main(["generate", "--seconds", "1000", "--clips", "2", "--out", str(out)]), tmp_path / "output.txt")
    deadline = time.monotonic() + 120
    while not (out / "clip_0001.wav").exists() or (out / "clip_0001.wav").stat().st_size < 44 + 2 * 512:
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    assert status_of(pid) == -signal.SIGKILL
    assert not manifest(out)["complete"]
    for number in range(2):
        samples, rate = soundfile.read(out / f"clip_{number:04d}.wav", dtype="float32")
        classes = np.load(out / f"clip_{number:04d}.npy")
        assert rate == 16_000
        assert min(len(samples), len(classes)) >= 512
        both = min(len(samples), len(classes))
        assert np.array_equal(Quantiser().encode((torch.from_numpy(samples[:both]) + 1) / 2).numpy(), classes[:both])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--seconds 0", ["--seconds must be above 0"]),
        ("--seconds 1e-9", ["--seconds", "less than one sample"]),
        ("--temperature -1", ["--temperature must be 0 or more, got -1"]),
        ("--top_p 0", ["--top_p must be above 0 and at most 1"]),
        ("--top_p 1.5", ["--top_p must be above 0 and at most 1"]),
        ("--clips 0", ["--clips must be at least 1"]),
        ("--format mp3", ["format", "mp3"]),
        ("--prompt nothing.wav", ["--prompt nothing.wav", "no such file"]),
        ("--prompt tiny.yaml", ["tiny.yaml", "cannot be read as audio"]),
        ("--prompt empty.wav", ["empty.wav", "holds no samples"]),
        ("--prompt short.wav --prompt_seconds 1", ["short.wav", "fewer than the 1 s"]),
        ("--prompt short.wav --prompt_seconds 0", ["--prompt_seconds (0)", "above 0"]),
        ("--prompt_seconds 1", ["--prompt_seconds (1)", "needs a --prompt"]),
        ("--prompt test --prompt_seconds 9", ["--prompt test", "none of its clips is 9 s long"]),
        ("--prompt short.wav --prompt_seconds .nan", ["--prompt_seconds (nan)", "finite"]),
        ("--prompt short.wav --prompt_seconds .inf", ["--prompt_seconds (inf)", "finite"]),
        ("--data.bits 5", ["the data is mu-law 5 bit", "mu-law 8 bit", "leave data.law, data.bits"]),
        ("--prompt test --data.root nowhere", ["nowhere: there is no such folder"]),
        ("--ckpt_path nothing.ckpt", ["nothing.ckpt", "no such file"]),
        ("--ckpt_path tiny.yaml", ["tiny.yaml", "is no checkpoint"]),
        ("--config nothing.yaml", ["nothing.yaml"]),
        ("--out full", ["full", "--overwrite"]),
        ("--out foreign --overwrite", ["foreign", "no manifest.json"]),
        ("--out tiny.yaml", ["--out tiny.yaml", "is a file"]),
        ("--out tiny.yaml/deeper", ["tiny.yaml/deeper", "cannot be written"]),
        ("--stdout --clips 2", ["--stdout takes one clip"]),
        ("--stdout --reject 1", ["--stdout cannot take back"]),
        ("--stdout --out x", ["--stdout writes no files"]),
        ("--secondz 1", ["secondz"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_are_found_before_work_starts(run, folder, out, capsys, monkeypatch, arguments, parts):
    monkeypatch.setattr("harmonicrnn.generation.cpu.CPUEngine.draw", lambda *_: pytest.fail("work had started"))
    soundfile.write(folder / "empty.wav", np.zeros(0), 16_000)
    soundfile.write(folder / "short.wav", tone(100, 0), 16_000)
    for name, file in (("full", "manifest.json"), ("foreign", "thesis.txt")):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / file).write_text("precious")
    place = "" if "--out" in arguments or "--stdout" in arguments else f"--out {out}"
    expect_error(run, capsys, f"generate {arguments} {place}", *parts)
    assert not out.exists()
    assert (folder / "full/manifest.json").read_text() == "precious"
    assert [path.name for path in (folder / "foreign").iterdir()] == ["thesis.txt"]


def test_a_disk_without_room_is_found_before_work_starts(run, out, capsys, monkeypatch):
    monkeypatch.setattr("harmonicrnn.generation.cpu.CPUEngine.draw", lambda *_: pytest.fail("work had started"))
    monkeypatch.setattr("harmonicrnn.generation.clip_folder.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**6})())
    expect_error(run, capsys, f"generate --seconds 60 --out {out}", str(out), "0.001 GB are free")
    assert not out.exists()
    out.mkdir()
    (out / "manifest.json").write_text("{}")
    (out / "clip_0000.wav").write_text("precious")
    expect_error(run, capsys, f"generate --seconds 60 --out {out} --overwrite", "0.001 GB are free")
    assert (out / "clip_0000.wav").read_text() == "precious"


def test_a_checkpoint_alone_generates_and_asks_for_a_config_where_it_needs_one(run, folder, out, capsys, tmp_path):
    alone = tmp_path / "model.ckpt"
    alone.write_bytes((folder / "logs/tiny/version_0/checkpoints/best.ckpt").read_bytes())
    assert run(f"generate --ckpt_path {alone} --seconds 0.001 --out {out}") == 0
    assert manifest(out)["reference"]["source"] == "defaults"
    command = f"generate --ckpt_path {alone} --prompt test --out {tmp_path}/b"
    expect_error(run, capsys, command, f"{tmp_path}/config.yaml that names the data; give --config")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        expect_error(run, capsys, "generate --ckpt_path model.ckpt --prompt test --out b", "config.yaml that names the data")
    soundfile.write(tmp_path / "a.wav", tone(100, 0), 16_000)
    expect_error(
        run, capsys, f"generate --ckpt_path {alone} --prompt {tmp_path}/a.wav --out {tmp_path}/b", "the scaling of its audio is unknown"
    )
    assert run(f"generate --ckpt_path {alone} --config tiny.yaml --seconds 0.001 --prompt {tmp_path}/a.wav --out {tmp_path}/b") == 0


def test_no_run_to_generate_from(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["generate"]) == 2
    assert "no run with a checkpoint" in capsys.readouterr().err


def test_the_reference_of_the_detectors_is_measured_once(tmp_path, monkeypatch):
    make_sc09(tmp_path / "data", samples=8000)
    data = SC09(tmp_path / "data", clip_samples=8000, batch_size=2, num_workers=0)
    first = detector_reference(data, data.quantiser, tmp_path)
    assert first.source == data.protocol
    assert first.level[0] < first.level[1] < first.level[2] < 0
    monkeypatch.setattr(data, "setup", lambda stage: pytest.fail("read again"))
    assert detector_reference(data, data.quantiser, tmp_path) == first
    monkeypatch.undo()
    kept = tmp_path / KEPT
    for broken in (kept.read_text()[:40], "[1]", '{"sauce": 1}'):
        kept.write_text(broken)
        assert detector_reference(data, data.quantiser, tmp_path) == first
        assert json.loads(kept.read_text())["source"] == data.protocol
    gone = SC09(tmp_path / "gone", num_workers=0)
    assert detector_reference(gone, data.quantiser, tmp_path).source == "defaults"
