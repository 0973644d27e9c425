"""Provenance of results: versions of the code, Python and libraries, and checksums of files."""

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harmonicrnn import __version__

LIBRARIES = ("torch", "torchaudio", "lightning", "torchmetrics", "numpy", "numba", "soundfile", "soxr", "frechet-audio-distance")


def code_version() -> str:
    """Returns the commit of the code, marked if files differ from it; outside a checkout the package's version."""
    here = Path(__file__).resolve().parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        if (here.parent / ".git").exists():  # not the checkout of another project with the package installed in it
            return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return __version__


def provenance() -> dict[str, Any]:
    """Returns the versions of code, Python and installed libraries, as JSON values."""
    found = {name: _version(name) for name in LIBRARIES}
    return {
        "code": code_version(),
        "python": platform.python_version(),
        "libraries": {name: number for name, number in found.items() if number is not None},
    }


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
