"""Files that must agree with one another, and what importing must not do."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def pins():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_requirement_is_pinned_and_installed():
    from importlib.metadata import version

    for line in pins():
        name, pinned = re.fullmatch(r"([\w-]+)(?:\[\w+\])?==([\d.]+)(?:; .*)?", line).groups()
        assert version(name).split("+")[0] == pinned


def test_the_conda_environment_installs_the_same_file():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert {"pip": ["-r requirements.txt"]} in environment["dependencies"]
    python = next(d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python="))
    assert python in ("python=3.11", "python=3.12")
    assert (ROOT / "requirements-dev.txt").read_text().startswith("-r requirements.txt\n")


def test_the_readme_names_the_main_pins():
    readme = (ROOT / "README.md").read_text()
    for line in pins():
        if line.split("==")[0] in ("torch", "lightning", "triton", "torchaudio"):
            assert line.split(";")[0].replace("==", " ") in readme


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_every_config_is_accepted_by_the_command_line(path, command, monkeypatch, tmp_path):
    """Parsed and built by the real CLI, up to the point where the trainer would start."""
    from cli import main, training_cli
    from harmonicrnn.runs import Run
    from lightning_modules import AutoregressiveModule

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])
    reached = []
    monkeypatch.setattr(training_cli.HarmonicCLI, "_run_subcommand", lambda self, name: reached.append((self.model, self.datamodule)))
    monkeypatch.setattr(training_cli, "find_run", lambda *_: Run(tmp_path, tmp_path / "none.ckpt"))
    monkeypatch.setattr(training_cli, "read_checkpoint", lambda *_: None)
    monkeypatch.setattr(training_cli, "check_fits", lambda *_: None)
    assert main([command, "--config", str(path)]) == 0
    ((module, data),) = reached
    assert module.quantiser == data.quantiser
    if isinstance(module, AutoregressiveModule):
        assert (module.net.bits, module.sample_rate) == (data.bits, data.sample_rate)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_accepted_by_prepare(path, monkeypatch):
    from cli import main, prepare_command

    prepared = []
    monkeypatch.setattr(prepare_command, "report", lambda data, *_: prepared.append(data))
    assert main(["prepare", "--config", str(path)]) == 0
    assert len(prepared) == 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_key_of_a_config_has_a_comment(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    for above, line in itertools.pairwise(lines):
        leaf = re.match(r"\s*\w+: \S|\s*levels:", line)
        assert not leaf or above.strip().startswith("#"), line


LIBRARY = ["errors", "old_names", "provenance", "files", "signals", "ops", "audio", "models", "metrics", "checkpoints", "runs"]
LIBRARY += ["generation", "parallel", "evaluation", "voice"]
EXPERIMENT = ["harmonicrnn", "datamodules", "lightning_modules", "callbacks", "cli", "benchmarks", "tests"]
ALLOWED = {
    "ops": set(),
    "audio": {"errors", "files"},
    "models": {"ops", "errors"},
    "metrics": {"audio", "errors", "files"},
    "parallel": {"models", "errors", "ops"},
    "generation": {"models", "audio", "ops", "errors", "files", "provenance"},
}


@pytest.mark.parametrize("place", LIBRARY)
def test_inside_the_library_knowledge_flows_one_way(place):
    below = ALLOWED.get(place, set(LIBRARY[: LIBRARY.index(place)])) | {place}
    paths = [*(ROOT / "harmonicrnn" / place).rglob("*.py"), *(ROOT / "harmonicrnn").glob(f"{place}.py")]
    assert paths
    for path in paths:
        text = path.read_text()
        assert not re.search(rf"^\s*(?:from|import) ({'|'.join(EXPERIMENT[1:])})\b", text, re.MULTILINE), path
        assert set(re.findall(r"^\s*(?:from|import) harmonicrnn\.(\w+)", text, re.MULTILINE)) <= below, path


def test_all_of_the_library_has_its_place_in_the_order():
    there = {path.stem for path in (ROOT / "harmonicrnn").iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))}
    assert there == {*LIBRARY, "__init__"}


def test_lightning_is_known_to_the_strategy_alone():
    paths = (ROOT / "harmonicrnn").rglob("*.py")
    users = [path.name for path in paths if re.search(r"^\s*(?:from|import) lightning\b", path.read_text(), re.MULTILINE)]
    assert users == ["strategy.py"]


@pytest.mark.parametrize("folder", EXPERIMENT[1:-1])
def test_nothing_is_imported_against_the_flow_of_knowledge(folder):
    below = set(EXPERIMENT[: EXPERIMENT.index(folder) + 1])
    paths = list((ROOT / folder).rglob("*.py"))
    assert paths
    for path in paths:
        found = set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)) & set(EXPERIMENT)
        assert found <= below, path


def test_imports_touch_no_network():
    code = """
import socket, sys
def refuse(*args, **kwargs):
    raise RuntimeError("the network was touched")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import cli, harmonicrnn.voice, harmonicrnn.ops.cpu
assert not {"laion_clap", "frechet_audio_distance", "encodec"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_no_environment_is_committed():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", ".venv", "logs", "data"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not listed.stdout


def test_the_python_example_on_checkpoints_runs(tmp_path, monkeypatch):
    """Word for word, on the checkpoint of a tiny run."""
    import torch

    from cli import main
    from tests.audio_files import make_sc09
    from tests.cli.conftest import CONFIG

    example = re.search(r"```python\n(.*?)```", (ROOT / "docs/training.md").read_text(), re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])
    make_sc09(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(root=tmp_path / "data"))
    assert main(["fit", "--config", "tiny.yaml", "--trainer.logger.init_args.name", "demo"]) == 0
    names: dict[str, object] = {}
    exec(example.replace("samples=2000", "samples=20"), names)
    assert names["classes"].shape == (1, 20)
    assert names["audio"].abs().max() <= 1
    assert names["logits"].shape == (1, 20, 256)
    assert isinstance(names["audio"], torch.Tensor)
