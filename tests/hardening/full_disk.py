"""Fills the disk during work, by limiting the size of files to values from zero to the largest that the work writes.

    python -m tests.hardening.full_disk --sizes 12 --work fit prepare test generate evaluate

Each start must end well, possibly with warnings, or with status 2 and a line that names the file that could not be written; without a
traceback, and with no partial file under its final name. Then the same command, without the limit, must reach the usual result.
"""

import argparse
import json
import logging
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from cli import main
from tests.forking import in_child, status_of
from tests.hardening.kills import RUN, WORKS, Found, Work, prepare_folder, remove

LARGEST = 1 << 22  # bytes, larger than any file here


def reports() -> Found:
    """Returns the measured values, without the time and command of the report."""
    with suppress(FileNotFoundError):
        report = json.loads(Path("report/report.json").read_text())
        return {"values": str([subject["values"] for subject in report["subjects"]])}
    return {}


EVALUATE = f"evaluate {RUN} --clips 4 --examples 1 --out report --cache cache"
ALL = {name: work for name, work in WORKS.items() if work.ranks == 1} | {"evaluate": Work(EVALUATE, ["report", "cache"], reports, reports)}
ALL["fit"] = Work(
    WORKS["fit"].command.replace("sample_seconds 0", "sample_seconds 0.01"), WORKS["fit"].made, WORKS["fit"].result, WORKS["fit"].whole
)


def limited(command: str, size: int) -> int:
    """Runs a command whose files are limited to `size` bytes, and returns its status."""
    logging.raiseExceptions = False  # pytest's handlers write to files, which are limited too
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return main(command.split())


def start(command: str, size: int = LARGEST) -> tuple[int, str]:
    """Runs a command in a child with files of at most `size` bytes; returns its exit status and output."""
    told = Path("output.pipe")  # pipes are not limited
    if not told.exists():
        os.mkfifo(told)
    child = in_child(partial(limited, command, size), told)
    output = told.read_text()
    return status_of(child), output


def undisturbed(work: Work) -> tuple[Found, Found]:
    """Returns the result and the complete files of a work without a limit."""
    remove(work)
    assert start(work.command)[0] == 0
    return work.result(), work.whole()


def fill(work: Work, size: int, result: Found, whole: Found) -> list[str]:
    """Runs a work with files of at most `size` bytes, then without a limit, and returns what differs from `result` and `whole`."""
    remove(work)
    status, told = start(work.command, size)
    wrong = []
    if status not in (0, 2) or "Traceback" in told:
        wrong.append(f"status {status}: {told[-1500:]}")
    if status == 2 and not any(line.startswith("error: ") and "written" in line for line in told.splitlines()):
        wrong.append(f"no line names what could not be written: {told[-500:]}")
    try:
        wrong += [f"{name} is not what it would have been" for name, content in work.whole().items() if whole.get(name) != content]
    except Exception as error:  # whatever a torn file makes its reader raise
        wrong.append(f"torn: {error!r}")
    # A training that ended well has nothing left to do; a likelihood that was printed but not written is measured again.
    if (status != 0 or not work.result()) and (again := start(work.command))[0] != 0:
        wrong.append(f"with room it ends with {again[0]}: {again[1][-500:]}")
    if work.result() != result:
        wrong.append("comes to another result")
    remove(work)
    return wrong


def fill_all(names: list[str], sizes: int) -> Iterator[tuple[str, int, list[str]]]:
    """Yields each work's name, size limit and faults, for limits from zero to nearly the size of its largest file."""
    for name in names:
        shutil.rmtree("logs", ignore_errors=True)
        if name not in ("fit", "prepare"):
            shutil.copytree("a run", "logs")
        expected = undisturbed(ALL[name])
        for number in range(sizes):
            size = round(1024 * (LARGEST / 1024) ** (number / sizes)) if number else 0
            yield name, size, fill(ALL[name], size, *expected)


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--sizes", type=int, default=8, help="of the largest file, for each work")
    parser.add_argument("--work", nargs="+", choices=ALL, default=list(ALL))
    options = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        prepare_folder(Path(folder))
        for name, size, wrong in fill_all(options.work, options.sizes):
            print(f"{name}, files of at most {size:,} bytes: {'; '.join(wrong) or 'as it must be'}", flush=True)
            faults += len(wrong)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(run())
