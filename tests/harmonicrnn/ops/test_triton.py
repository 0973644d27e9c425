"""The Triton kernels without a GPU: run by the interpreter, which is chosen at import, so in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
HERE = Path(__file__).parent


@pytest.mark.timeout(900)
def test_in_the_interpreter():
    """About 40 s on two idle cores: the interpreter takes milliseconds a step."""
    files = sorted((HERE / "interpreted").glob("check_*.py"))
    assert len(files) == 4
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    settings = {"cwd": HERE.parents[2], "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = [subprocess.Popen([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(f)], **settings) for f in files]
    told = [process.communicate()[0] for process in running]
    for process, lines in zip(running, told, strict=True):
        assert process.returncode == 0, lines[-6000:]
        assert " passed" in lines
        assert "skipped" not in lines
