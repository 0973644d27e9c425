"""Checks what imports cost and load, and that they need no module that some systems lack."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.importing import CHEAP_S, OPTIONAL

ROOT = Path(__file__).parents[1]
HEAVY = ["encodec", "frechet_audio_distance", "huggingface_hub", "jinja2", "jsonargparse", "laion_clap", "lightning", "matplotlib", "numba"]
HEAVY += ["omegaconf", "pandas", "rich", "scipy", "tensorboard", "torchaudio", "torchmetrics", "torchvision", "transformers"]


@pytest.fixture(scope="module")
def imports():
    """Returns the results of `tests.importing`."""
    command = [sys.executable, "-m", "tests.importing"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def test_every_module_is_imported_without_the_network_and_what_other_systems_lack(imports):
    """Packages that only some metrics need must not even be looked up."""
    assert isinstance(imports["everything"], dict), imports["everything"]
    assert "cli.training_cli" in imports["everything"]["imported"]
    assert not set(OPTIONAL) & set(imports["everything"]["looked_for"])


def test_importing_data_imports_no_models(imports):
    assert "harmonicrnn.audio" in imports["data"]
    assert not [name for name in imports["data"] if name.startswith(("harmonicrnn.models", "harmonicrnn.parallel"))]


def test_what_importing_the_library_costs(imports):
    """Must take less than a second of CPU beyond torch, and load nothing that only some functions need."""
    cost, found = imports["library"]
    assert not set(HEAVY) & set(found)
    assert cost < CHEAP_S
