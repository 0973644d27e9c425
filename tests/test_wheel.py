"""Checks that the wheel holds only the library, and that a run can be used with nothing else of this project installed."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import harmonicrnn
from harmonicrnn.generation import PlainEngine, generate
from tests.audio_files import tone

ROOT = Path(__file__).parents[1]
RUN = ROOT / "tests/fixtures/run_of_version_0.1"
UPSTAIRS = ["benchmarks", "callbacks", "cli", "datamodules", "lightning_modules", "tests", "train"]
USE = f"""
import sys
from pathlib import Path

import harmonicrnn
from harmonicrnn.generation import PlainEngine, generate

assert Path(harmonicrnn.__file__).is_relative_to(sys.argv[1])
voice = harmonicrnn.load(sys.argv[2])
engine = PlainEngine(voice.net)  # the compiled one takes half a minute to be compiled in a folder that is new to it
print(*generate(voice.net, 24, seed=3, engine=engine)[0].tolist())
assert not {{*{UPSTAIRS}, "lightning", "torchmetrics"}} & set(sys.modules)
"""


OFFLINE = """
import socket
import sys

from harmonicrnn.cli import main


def refuse(*args, **kwargs):
    raise OSError("there is no network")


socket.socket.connect = socket.getaddrinfo = refuse
sys.exit(main("generate --voice bach --seconds 0.5 --seed 1 --out clips".split()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Returns the path of a wheel built by the pinned backend."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Returns a folder with the wheel's content only, without its dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", folder, wheel], check=True)
    return folder


def run_away(installed, folder, *command):
    """Returns the standard output of a process that can import the library from that folder but not from the checkout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONPATH": str(installed)}
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_wheel_holds_the_library_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    version = harmonicrnn.__version__
    assert wheel.name == f"harmonicrnn-{version}-py3-none-any.whl"
    metadata = {name for name in names if name.startswith(f"harmonicrnn-{version}.dist-info/")}
    files = (path for path in (ROOT / "harmonicrnn").rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    assert names - metadata == {path.relative_to(ROOT).as_posix() for path in files}
    assert {"harmonicrnn/py.typed", "harmonicrnn/evaluation/page.html"} <= names


def test_a_run_is_loaded_and_continued_far_from_the_checkout(installed, tmp_path):
    shutil.copytree(RUN, tmp_path / "run")
    (tmp_path / "use.py").write_text(USE)
    drawn = run_away(installed, tmp_path, sys.executable, "-P", "use.py", installed, "run").split()
    net = harmonicrnn.load(RUN).net
    assert drawn == [str(each) for each in generate(net, 24, seed=3, engine=PlainEngine(net))[0].tolist()]


COMMANDS = [["bin/harmonicrnn"], [sys.executable, "-P", "-m", "harmonicrnn"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_is_installed(installed, tmp_path, command):
    command = [installed / command[0], *command[1:]]  # an absolute path stays as it is
    assert run_away(installed, tmp_path, *command, "--version").strip() == f"harmonicrnn {harmonicrnn.__version__}"


@pytest.mark.slow
def test_the_installed_command_measures(installed, tmp_path):
    """Runs from a fresh installation, so it compiles again what the checkout has already compiled."""
    audio = tone(4000, 1, 8000)
    soundfile.write(tmp_path / "a.wav", audio, 8000, subtype="FLOAT")
    bits, name = run_away(installed, tmp_path, *COMMANDS[1], "nll", RUN, "a.wav").split()
    assert (float(bits), name) == (pytest.approx(harmonicrnn.load(RUN).nll(audio), abs=1e-5), "a.wav")


@pytest.mark.slow
def test_the_voice_in_the_box_is_heard_after_an_installation_without_the_network(installed, tmp_path):
    (tmp_path / "use.py").write_text(OFFLINE)
    run_away(installed, tmp_path, sys.executable, "-P", "use.py")
    samples, rate = soundfile.read(tmp_path / "clips/clip_0000.wav")
    voice = harmonicrnn.load("bach")
    assert rate == voice.sample_rate
    assert np.allclose(samples, voice.generate(0.5, seed=1)[0], atol=2**-15)
