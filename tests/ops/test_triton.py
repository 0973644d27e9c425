"""The Triton kernels without a GPU: run by the interpreter, which is chosen at import, so in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
HERE = Path(__file__).parent


def test_in_the_interpreter():
    """About 45 s: the interpreter takes milliseconds a step."""
    files = sorted(map(str, (HERE / "interpreted").glob("check_*.py")))
    assert len(files) == 2
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
