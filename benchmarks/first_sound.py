"""Measures the time until a voice's first sound, from the start of the program, and the pace after it.

    python -m benchmarks.first_sound [--voice bach] [--seconds 10] [--repeats 3]

The first process finds no compiled code, as after an installation; the others find that of the first. All must draw the same samples.
Run it on an idle machine.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jsonargparse.typing import PositiveFloat, PositiveInt

from benchmarks.timing import UnequalError, benchmark, header, show
from harmonicrnn import load
from harmonicrnn.errors import UserError

OWN = "bach"
GOALS = {"without": 25, "with": 5}
"""Seconds until the first sound of the voice that comes with the library, with and without compiled code."""
BLOCK = 64  # bytes of the first sound


def first_sound(voice: str = OWN, seconds: PositiveFloat = 10, repeats: PositiveInt = 3) -> None:
    """Measures the seconds until the first sound with and without compiled code.

    Args:
        voice: Name or folder of the voice.
        seconds: Length of the clip.
        repeats: Processes that find compiled code.
    """
    load(voice)  # an error is told before anything is timed
    header("numba")
    with tempfile.TemporaryDirectory() as cache:
        (first, _, expected), *later = (heard(voice, seconds, Path(cache)) for _ in range(1 + repeats))
    if any(samples != expected for _, _, samples in later):
        raise UnequalError("processes with and without compiled code drew different samples")
    for name, values in (("without", [first]), ("with", [each[0] for each in later])):
        median = show(f"first sound {name} compiled code", values, "s", digits=1)
        if voice == OWN:
            print(f"goal     {GOALS[name]} s: {'met' if median <= GOALS[name] else 'missed'}", flush=True)
    show("pace after the first sound", [seconds / each[1] for each in later], "x real time", digits=2)


def heard(voice: str, seconds: float, cache: Path) -> tuple[float, float, bytes]:
    """Draws a clip in a new process; returns the seconds until its first sound and from then to the end, and its samples.

    Raises:
        UserError: If the process fails.
    """
    command = [sys.executable, "-m", "harmonicrnn", "generate", "--voice", voice, "--seconds", str(seconds), "--stdout"]
    started = time.perf_counter()
    with subprocess.Popen(
        command, env=os.environ | {"NUMBA_CACHE_DIR": str(cache)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        beginning = process.stdout.read(BLOCK)
        first = time.perf_counter()
        rest, told = process.communicate()
    if process.returncode:
        raise UserError(f"{' '.join(command)} ended with status {process.returncode}: {told.decode(errors='replace').strip()[-500:]}")
    return first - started, time.perf_counter() - first, beginning + rest


if __name__ == "__main__":
    raise SystemExit(benchmark(first_sound))
