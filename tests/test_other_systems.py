"""What other systems lack is not needed to import this project."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ["harmonicrnn", "datamodules", "lightning_modules", "callbacks", "cli", "benchmarks"]
MISSING = ["encodec", "fcntl", "frechet_audio_distance", "laion_clap", "resource", "triton"]
"""Not on every system, or not in the extra `train`."""


def modules():
    """All but the Triton kernels, which nothing imports where there is no Triton."""
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith("harmonicrnn.ops.triton"):
            yield name


def test_every_module_is_imported_without_what_other_systems_lack():
    code = f"""
import importlib, os, signal, sys
del os.sched_getaffinity, signal.SIGUSR1, signal.sigwaitinfo
os.sysconf_names.pop("SC_PHYS_PAGES")
sys.modules.update(dict.fromkeys({MISSING}))  # importing one of them fails
for name in {["train", *modules()]}:
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
