"""Checks that files of the project agree with one another, and that imports have no forbidden side effects."""

import ast
import inspect
import itertools
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import harmonicrnn
from harmonicrnn import old_names
from harmonicrnn.models import HarmonicRNN

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements-lock.txt").read_text()
BASE = ROOT / "configs/base.yaml"
CONFIGS = sorted({*(ROOT / "configs").rglob("*.yaml")} - {BASE})


def pins():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_requirement_is_pinned_and_locked():
    tools = [line for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if not line.startswith("-r ")]
    for line in [*pins(), *tools]:
        name, pinned = re.fullmatch(r"([\w-]+)(?:\[\w+\])?==([\d.]+)(?:; .*)?", line).groups()
        assert f"\n{canonicalize_name(name)}=={pinned} ;" in LOCK, f"{name}: make lock"


def test_what_is_locked_is_installed_and_has_hashes():
    """Checks the versions for this system and Python; `make` checks the hashes of what it downloads."""
    for block in re.split(r"\n(?=\S)", LOCK.strip()):
        requirement = Requirement(block.split(" \\\n")[0])
        (pinned,) = requirement.specifier
        if requirement.marker.evaluate():
            assert version(requirement.name).split("+")[0] == pinned.version, requirement.name
        hashes = block.split(" \\\n")[1:]
        assert hashes
        assert all(re.fullmatch("    --hash=sha256:[0-9a-f]{64}", line) for line in hashes)
    assert "install --quiet --progress-bar off --require-hashes -r requirements-lock.txt" in (ROOT / ".ci/environment.sh").read_text()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
ASKED = {name: [Requirement(line) for line in lines] for name, lines in (EXTRAS | {"core": PROJECT["project"]["dependencies"]}).items()}


def test_what_the_package_asks_for_is_pinned_within_its_range():
    pinned = dict(line.split(";")[0].split("==") for line in pins())
    pinned = {canonicalize_name(name.split("[")[0]): version.strip() for name, version in pinned.items()}
    for requirement in itertools.chain(*ASKED.values()):
        if requirement.name != "harmonicrnn":
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    (backend,) = map(Requirement, PROJECT["build-system"]["requires"])
    tools = dict(line.split("==") for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if "==" in line)
    assert backend.specifier.contains(tools[backend.name])


SYSTEMS = {"x86_64-manylinux_2_28": "Linux", "aarch64-apple-darwin": "macOS"}


def test_all_but_the_embeddings_comes_as_wheels_for_every_python_and_system():
    """Checks docs/results/wheels.txt, where `make lock` records what a resolver found using wheels only."""
    pythons = [f"3.{minor}" for minor in range(30) if SpecifierSet(PROJECT["project"]["requires-python"]).contains(f"3.{minor}")]
    wheels = dict(re.findall(r"^# (.+)\n((?:\w.+\n)+)", (ROOT / "docs/results/wheels.txt").read_text(), re.MULTILINE))
    assert wheels.keys() == {f"{system}-{python}" for system in SYSTEMS for python in pythons}
    readme = (ROOT / "README.md").read_text()
    assert f"Python {pythons[0]} to {pythons[-1]}" in readme
    assert all(system in readme for system in SYSTEMS.values())
    for name, lines in wheels.items():
        found = dict(line.split("==") for line in lines.splitlines())
        for requirement in itertools.chain(*(lines for extra, lines in ASKED.items() if extra != "fad")):
            if requirement.name != "harmonicrnn":
                assert requirement.specifier.contains(found[canonicalize_name(requirement.name)]), f"{name}: {requirement}: make lock"
        assert not {each.name for each in ASKED["fad"]} & found.keys()


# Extra that a module needs beyond the core, or that comes with another extra.
NEED = {
    "metrics": "evaluate",
    "evaluation": "evaluate",
    "models/digit_net.py": "evaluate",
    "hub.py": "hub",
    "cli/playing.py": "play",
    "live": "serve",
    "parallel": "train",
}
BROUGHT = {"triton": "torch", "typing_extensions": "torch", "llvmlite": "numba"}


def test_what_the_library_imports_is_asked_for():
    packages = packages_distributions()
    for path in (ROOT / "harmonicrnn").rglob("*.py"):
        place = path.relative_to(ROOT / "harmonicrnn").as_posix()
        extra = next((extra for start, extra in NEED.items() if place.startswith(start)), "core")
        asked = {canonicalize_name(each.name) for each in ASKED["core"] + (ASKED[extra] if extra != "core" else [])}
        for name in imported(path):
            if name not in {*sys.stdlib_module_names, "harmonicrnn"}:
                found = {canonicalize_name(each) for each in packages[BROUGHT.get(name, name)]}
                assert found & asked, f"{place} imports {name}, which {extra} does not require"


def imported(path):
    """Returns the names of all packages that a file imports, at any level."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def test_a_file_name_means_one_thing():
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    names = [Path(path).name for path in listed]
    assert {name for name in names if names.count(name) > 1} <= {"__init__.py", "__main__.py", "conftest.py"}


def test_there_is_one_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == harmonicrnn.__version__
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == harmonicrnn.__version__


def test_the_page_of_what_moved_names_what_there_is():
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)`", (ROOT / "docs/moved.md").read_text(), re.MULTILINE)
    assert set(old_names.MOVED) <= {before for before, _ in rows}
    for before, now in rows:
        place = ROOT / now.replace(".", "/")
        if not (place.is_dir() or place.with_suffix(".py").is_file()):  # attributes of a module
            module = place.parent / "__init__.py" if place.parent.is_dir() else place.parent.with_suffix(".py")
            assert re.search(rf"\b{place.name}\b", module.read_text()), now
        if before in old_names.MOVED:
            assert old_names.current(f"{before}.Name") == f"{now}.Name"


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


# `fit` covers what the others read; these are tried with each kind of model and data.
OF_EACH_KIND = ["audio_folder", "memory", "sc09_classifier"]
READ = [
    pytest.param(
        command, path, id=f"{command}-{path.stem}", marks=[] if command == "fit" or path.stem in OF_EACH_KIND else [pytest.mark.slow]
    )
    for command in ("fit", "validate", "test")
    for path in CONFIGS
]


@pytest.mark.parametrize(("command", "path"), READ)
def test_every_config_is_accepted_by_the_command_line(path, command, monkeypatch, tmp_path):
    """Parses and builds each config with the real CLI, up to where the trainer would start."""
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
    (data,) = prepared
    own = {
        "audio_folder": "peak",
        "audio_folder_cpu": "peak",
        "melody_cpu": "peak",
        "melody_demo": "peak",
        "small_music": "peak",
        "memory": "none",
    }
    assert data.scaling == own.get(path.stem, "clip")  # as published, but for the user's own audio


def leaves(node, key=""):
    """Returns the values of a config by dotted key."""
    if not isinstance(node, dict):
        return {key: node}
    return {name: value for part, below in node.items() for name, value in leaves(below, f"{key}.{part}".lstrip(".")).items()}


def own_and_base(path):
    return (leaves(yaml.safe_load(each.read_text())) for each in (path, BASE))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_repeats_nothing_of_the_base(path):
    own, base = own_and_base(path)
    assert not {key for key in own if own[key] == base.get(key, "none")}


ONE_OF_EACH_KIND = [pytest.param(path, marks=[] if path.stem in OF_EACH_KIND else [pytest.mark.slow], id=path.stem) for path in CONFIGS]


@pytest.mark.parametrize("path", ONE_OF_EACH_KIND)
def test_what_a_config_does_not_set_is_as_the_base_says(path, monkeypatch, capsys):
    from cli import main

    monkeypatch.setattr("sys.argv", ["train.py"])
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(path), "--print_config"])
    resolved, (own, base) = leaves(yaml.safe_load(capsys.readouterr().out)), own_and_base(path)
    assert {key: resolved[key] for key in base} == base | {key: own[key] for key in base if key in own}


def test_prediction_is_off_where_audio_is_sampled_but_for_melodies():
    """As docs/prediction.md says: what it draws holds on melodies alone."""
    on = {path.stem for path in CONFIGS if OmegaConf.select(OmegaConf.load(path), "model.prediction") is not None}
    assert on == {"melody_cpu", "melody_demo"}
    assert OmegaConf.select(OmegaConf.load(BASE), "model.prediction") is None
    assert inspect.signature(HarmonicRNN).parameters["prediction"].default is None


@pytest.mark.parametrize("path", [BASE, *CONFIGS], ids=lambda path: path.stem)
def test_every_key_of_a_config_has_a_comment(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    for above, line in itertools.pairwise(lines):
        leaf = re.match(r"\s*\w+: \S|\s*levels:", line)
        assert not leaf or above.strip().startswith("#"), line


LIBRARY = [
    "errors",
    "old_names",
    "provenance",
    "files",
    "process_lock",
    "signals",
    "machine_code",
    "ops",
    "audio",
    "models",
    "metrics",
    "model_building",
    "checkpoints",
    "runs",
    "model_card",
    "run_facts",
    "voice_folder",
    "hub",
]
LIBRARY += ["generation", "parallel", "voice", "evaluation", "live", "cli"]
EXPERIMENT = ["harmonicrnn", "datamodules", "lightning_modules", "callbacks", "cli", "benchmarks", "tests"]
ALLOWED = {
    "machine_code": {"files"},
    "ops": {"machine_code"},
    "audio": {"errors", "files"},
    "models": {"ops", "errors"},
    "metrics": {"audio", "errors", "files"},
    "parallel": {"models", "errors", "ops"},
    "generation": {"models", "audio", "ops", "errors", "files", "machine_code", "process_lock", "provenance"},
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
    assert there == {*LIBRARY, "__init__", "__main__"}


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


def test_no_environment_is_committed():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", ".venv", "logs", "data"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not listed.stdout


def test_the_python_example_on_checkpoints_runs(tmp_path, monkeypatch):
    """Runs the example verbatim, on the checkpoint of a tiny run."""
    import torch

    from cli import main
    from tests.audio_files import make_sc09
    from tests.cli.conftest import CONFIG, without_pictures

    example = re.search(r"```python\n(.*?)```", (ROOT / "docs/training.md").read_text(), re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])
    without_pictures(monkeypatch)
    make_sc09(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(root=tmp_path / "data"))
    assert main(["fit", "--config", "tiny.yaml", "--trainer.logger.init_args.name", "demo"]) == 0
    names: dict[str, object] = {}
    exec(example.replace("samples=2000", "samples=20"), names)
    assert names["classes"].shape == (1, 20)
    assert names["audio"].abs().max() <= 1
    assert names["logits"].shape == (1, 20, 256)
    assert isinstance(names["audio"], torch.Tensor)
