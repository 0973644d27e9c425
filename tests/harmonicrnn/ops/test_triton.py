"""Tests of the Triton kernels without a GPU, in Triton's interpreter, which is chosen at import and so needs its own process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
HERE = Path(__file__).parent


@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_in_the_interpreter(which):
    """The interpreter takes milliseconds per step: one case of each kind, the others separately."""
    files = sorted((HERE / "interpreted").glob("check_*.py"))
    assert len(files) == 4
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", which, *map(str, files)]
    done = subprocess.run(command, cwd=HERE.parents[2], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
