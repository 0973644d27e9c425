"""Runs the commands of README.md and docs in a fresh clone.

    python -m tests.hardening.commands [--only TEXT]

They run word for word, one after the other, after `make demo`, whose run and recordings they use; but DIR is the recordings in `demo/`, of
trainings that take hours the first two steps are run, and the program that plays sound has a stand-in. Commands that need other machines,
data or hours are listed with the reason.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import soundfile

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LEFT_OUT = {
    r"devices 8|benchmarks\.gpu|test_triton_cuda|fit --config configs/audio_folder\.yaml": "needs GPUs",
    r"configs/(sc09|sc09_classifier|youtubemix|youtubemix_1m)\.yaml": "needs a dataset that is to be downloaded",
    r"benchmarks\.(experiments --run|recordings)|data/(split_)?(music|piano|melody)\b": "takes hours, or renders recordings first",
    r"melody_cpu\.yaml(?!.*--data\.root DIR)|^python train\.py test --ckpt_path best$|--clips CLIPS": "is a part of the training of bach",
    r"^sudo |^pip |^ssh |^srun |scontrol": "changes or needs another machine",
    r"--play\b|harmonicrnn stream (?!.*--stdout)": "needs a sound card",
    r"^curl ": "needs the page's server; tests/harmonicrnn/live holds its answers",
}
"""What is not run, by a pattern of the command, and why."""
BEGUN = r"configs/(audio_folder_cpu|melody_cpu)\.yaml"
"""Trainings of hours: their first two steps are run."""
TWO_STEPS = "--trainer.max_steps 2 --trainer.val_check_interval 1 --trainer.limit_val_batches 1 --samples.sample_seconds 0"
SERVERS = r"^python -m harmonicrnn serve|^tensorboard"
SERVED, LONGEST = 30, 1200  # seconds until a server is ended by Ctrl-C, and any other command
TOO_LONG = 124  # status of a command that is ended then
DEMO = "make demo"
TOLD = ("Done: ", "Result: ", " below the ", "Next: ")
UNTOLD = (" not below the ", "warn", "Tip:", "Epoch", "v_num", "about 0.00 h", "Traceback")
"""What the demo's output must and must not hold, in any case of letters."""
MINUTES = 5  # that the demo may take, by its own words
STAND_INS = {"aplay": "exec cat > /dev/null"}


@dataclass(frozen=True)
class Command:
    """A command of a page, with its continued lines in one."""

    page: str
    text: str

    @property
    def left_out(self) -> str | None:
        """The reason why it is not run; None if it is."""
        return next((why for pattern, why in LEFT_OUT.items() if re.search(pattern, self.text)), None)

    @property
    def runs_as(self) -> str:
        """What is run for it: its text with a folder for DIR, and two steps of a long training."""
        text = re.sub(r"\bDIR\b", "demo", self.text)
        return f"{text} {TWO_STEPS}" if re.search(BEGUN, text) and " fit " in text else text


def commands(pages: list[Path]) -> list[Command]:
    """Returns the commands in the pages' blocks of bash, in order, without those of scripts."""
    found = []
    for page in pages:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            if not block.startswith("#!"):
                lines = re.sub(r"\\\n\s*", "", block).splitlines()
                found += [Command(page.name, line.strip()) for line in lines if line.strip()]
    return found


def prepare(folder: Path) -> dict[str, str]:
    """Makes the files that commands name, and stand-ins for programs; returns the variables of the environment."""
    programs = folder / ".stand_ins"
    programs.mkdir()
    for name, does in STAND_INS.items():
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    (folder / "about.md").write_text("Melodies on the piano.\n")
    samples, rate = soundfile.read(next((ROOT / "demo/test").glob("*.flac")), frames=16000)
    for name in ("prompt.wav", "recording.wav"):
        soundfile.write(folder / name, samples, rate)
    return os.environ | {"PATH": f"{programs}:{folder / '.venv/bin'}:{os.environ['PATH']}"}


def run(command: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Runs a command in a shell; returns its status and its output. A server is ended after a while, and its status is then 0."""
    with (folder / ".output").open("w+") as output:
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        served = re.search(SERVERS, command) is not None
        try:
            status = process.wait(SERVED if served else LONGEST) or int(served)  # a server that ends by itself has failed
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(SERVED)
            status = 0 if served else TOO_LONG
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        return status, output.read()


def fault(command: Command, status: int, output: str) -> str:
    """Returns what is wrong with a command's status and output; an empty text if nothing is."""
    if status == TOO_LONG:
        return f"did not end within {LONGEST} s: {output[-1500:]}"
    if status:
        return f"status {status}: {output[-1500:]}"
    if command.text != DEMO:
        return ""
    missing = [part for part in TOLD if part.lower() not in output.lower()]
    missing += [f"no {part}" for part in UNTOLD if part.lower() in output.lower()]
    failed = [line for line in output.splitlines() if line.endswith(": fails")]
    taken = re.search(r"sampled in ([\d.]+) min", output)
    failed += [] if taken and float(taken[1]) <= MINUTES else [f"wanted: at most {MINUTES} minutes"]
    return "; ".join([*(f"wanted: {part}" for part in missing), *failed])


def run_all(listed: list[Command], folder: Path, environment: dict[str, str]) -> Iterator[tuple[Command, str, float]]:
    """Runs the commands that are not left out, each text once; yields what is wrong with their end, and their seconds."""
    seen = set[str]()
    for command in listed:
        if command.left_out is None and command.text not in seen:
            seen.add(command.text)
            if made := re.search(r" export .*--out (\w+)", command.text):
                shutil.rmtree(folder / made[1], ignore_errors=True)  # an earlier page's
            started = time.perf_counter()
            status, output = run(command.runs_as, folder, environment)
            yield command, fault(command, status, output), time.perf_counter() - started


def main() -> int:
    """Runs the commands and prints how each ended; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--only", default="", help="run commands with this text alone, after make demo")
    options = parser.parse_args()
    listed, failed = [Command("Makefile", DEMO), *commands(PAGES)], 0
    for command in listed:
        if command.left_out:
            print(f"{command.page}: {command.text}\n    not run: {command.left_out}")
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        subprocess.run(["make", "--silent", "environment"], cwd=folder, check=True)
        wanted = [command for command in listed if command.page == "Makefile" or options.only in command.text]
        for command, wrong, seconds in run_all(wanted, folder, prepare(folder)):
            print(f"{command.page}: {command.runs_as}\n    {seconds:.0f} s, {'failed: ' + wrong if wrong else 'ran'}", flush=True)
            failed += bool(wrong)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
