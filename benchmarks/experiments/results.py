"""What is kept of a run: a row of one CSV an experiment, and what it follows from.

Columns: `config` and `code` are hashes of what the run was told and of the code that it was made by. `seconds` are of the training, of all
attempts that ended by themselves, `peak_memory` is in bytes, the largest of theirs; `went_on` tells whether one began at a checkpoint.
`validation` is the bits per sample over the steps made, as step:bits. Of each evaluation, such as `test`, there are `test bits`, `test
samples` and, where the experiment asks for it, `test positions`, bits over the samples before. What is not known is empty.
"""

import ast
import csv
import hashlib
import io
import json
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from benchmarks.experiments.declare import ROOT, Experiment, Run, Settings
from benchmarks.timing import processor
from harmonicrnn.files import replacing

CODE = ("callbacks", "cli", "datamodules", "harmonicrnn", "lightning_modules")
"""Folders whose code may change a result."""

NO_RESULT = ("fad", "checkpoint", "trainer.logger")
"""Sections of a config that change no result that is kept."""

Row = dict[str, str]
Points = list[tuple[int, float]]
"""A curve: (steps made or samples before, value)."""


def config_hash(experiment: Experiment, run: Run, seed: int, extra: Settings, device: str) -> str:
    """Of all that a run is told: its settings and the values of its config and of the base that they do not replace, its tests, seed and
    device, and the same of those that it goes on from."""
    runs, chain = {each.name: each for each in experiment.runs}, []
    current: Run | None = run
    while current is not None:
        chain.append([_told(current), {k: dict(v) for k, v in current.tests.items()}])
        current = runs[current.after] if current.after else None
    return _digest(json.dumps([chain, seed, dict(extra), run.sampled, *([] if device == "cpu" else [device])], sort_keys=True))


def _told(run: Run) -> dict[str, Any]:
    """Values by their dotted keys on the command line."""
    values: dict[str, Any] = {}

    def walk(node: Any, key: str) -> None:
        if any(key == each or key.startswith(f"{each}.") for each in (*NO_RESULT, *run.settings)):
            return
        if not isinstance(node, dict):
            values[key] = node
            return
        for name, value in node.items():
            # Arguments of a class are named without this step between.
            walk(value, key if name == "init_args" else f"{key}.{name}".lstrip("."))

    files = [OmegaConf.load(ROOT / path) for path in ("configs/base.yaml", run.config)]
    walk(OmegaConf.to_container(OmegaConf.merge(*files)), "")
    return values | dict(run.settings)


def code_hash() -> str:
    """Of the code that results follow from, without comments, docstrings and layout, which change none."""
    parts = []
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                    node.value = ast.Constant(None)
            parts.append(f"{path.relative_to(ROOT)} {ast.dump(tree)}")
    return _digest("\n".join(parts))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def machine(device: str) -> dict[str, Any]:
    """Where a run was made, and when."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "lightning", "numba", "numpy")},
    }


def write(path: Path, rows: Iterable[Row]) -> None:
    """All results of an experiment, in the place of those that the file has."""
    rows, text = list(rows), io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(column for row in rows for column in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def cell(value: Any) -> str:
    """A value, or the points of a curve, as the CSV has it."""
    if isinstance(value, list):
        return " ".join(f"{place}:{number!r}" for place, number in value)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def read(path: Path, experiment: Experiment) -> list[Row]:
    """The results in a file of the runs that are declared, by run and seed as they are; none where there is no file."""
    if not path.is_file():
        return []
    names = [run.name for run in experiment.runs]
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["run"] in names]
    return sorted(rows, key=lambda row: (names.index(row["run"]), int(row["seed"])))


def stale(row: Row, experiment: Experiment, extra: Settings) -> bool:
    """Whether the run was told something else than it is told now."""
    (run,) = (run for run in experiment.runs if run.name == row["run"])
    return row["config"] != config_hash(experiment, run, int(row["seed"]), extra, "cpu" if row["device"] == "cpu" else "cuda")


def number(row: Row, column: str) -> float | None:
    """What a column holds; None where it is empty or not there."""
    return float(row[column]) if row.get(column) else None


def points(row: Row, column: str) -> Points:
    """The curve that a column holds."""
    return [(int(place), float(value)) for place, value in (point.split(":") for point in row.get(column, "").split())]
