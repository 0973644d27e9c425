"""Results of runs: one CSV file per experiment, with one row per run and seed.

Columns: `config` and `code` are hashes of the run's settings and of the code. `seconds` is the training time, summed over the attempts that
were not killed, and `peak_memory` the largest of their peaks in bytes; `went_on` is true if an attempt resumed from a checkpoint.
`validation` is a curve of bits per sample, as step:bits. Each evaluation, such as `test`, has `test bits`, `test samples`, `test
predictors` (bits under linear predictors alone) and, if the experiment asks for it, `test positions`: bits by the number of preceding
samples. Unknown values are empty.
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
"""Folders whose code may change the results."""

NO_RESULT = ("fad", "checkpoint", "trainer.logger")
"""Sections of a config that do not change the results."""

Row = dict[str, str]
Points = list[tuple[int, float]]
"""A curve: (training steps or preceding samples, value) pairs."""


def config_hash(experiment: Experiment, run: Run, seed: int, extra: Settings, device: str) -> str:
    """Returns the hash of all settings of a run and of the runs whose weights it starts from.

    Hashed are the settings, the values of the config and of configs/base.yaml that they do not override, the tests, `sampled`, the seed,
    `extra` (of the folder of recordings its name alone) and, on a GPU, the device.
    """
    runs, chain = {each.name: each for each in experiment.runs}, []
    current: Run | None = run
    while current is not None:
        chain.append([_told(current), {k: dict(v) for k, v in current.tests.items()}])
        current = runs[current.after] if current.after else None
    others = {**extra, **({"data.root": Path(extra["data.root"]).name} if "data.root" in extra else {})}
    return _digest(json.dumps([chain, seed, others, run.sampled, *([] if device == "cpu" else [device])], sort_keys=True))


def _told(run: Run) -> dict[str, Any]:
    """Returns the settings of a run by their dotted keys on the command line."""
    values: dict[str, Any] = {}

    def walk(node: Any, key: str) -> None:
        if any(key == each or key.startswith(f"{each}.") for each in (*NO_RESULT, *run.settings)):
            return
        if not isinstance(node, dict):
            values[key] = node
            return
        for name, value in node.items():
            # On the command line the arguments of a class are named without `init_args`.
            walk(value, key if name == "init_args" else f"{key}.{name}".lstrip("."))

    files = [OmegaConf.load(ROOT / path) for path in ("configs/base.yaml", run.config)]
    walk(OmegaConf.to_container(OmegaConf.merge(*files)), "")
    return values | dict(run.settings)


def code_hash() -> str:
    """Returns the hash of the code that may change the results, ignoring comments, docstrings and layout."""
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
    """Returns date, hardware and versions, by column."""
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
    """Writes all results of an experiment, replacing the file."""
    rows, text = list(rows), io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(column for row in rows for column in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def cell(value: Any) -> str:
    """Formats a value, or the points of a curve, for the CSV."""
    if isinstance(value, list):
        return " ".join(f"{place}:{number!r}" for place, number in value)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def read(path: Path, experiment: Experiment) -> list[Row]:
    """Returns the results of the declared runs, sorted by run (as declared) and seed; empty if there is no file."""
    if not path.is_file():
        return []
    names = [run.name for run in experiment.runs]
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["run"] in names]
    return sorted(rows, key=lambda row: (names.index(row["run"]), int(row["seed"])))


def stale(row: Row, experiment: Experiment, extra: Settings) -> bool:
    """Returns whether the settings of the run have changed since this result."""
    (run,) = (run for run in experiment.runs if run.name == row["run"])
    return row["config"] != config_hash(experiment, run, int(row["seed"]), extra, "cpu" if row["device"] == "cpu" else "cuda")


def number(row: Row, column: str) -> float | None:
    """Returns the number in a column; None if it is empty or missing."""
    return float(row[column]) if row.get(column) else None


def points(row: Row, column: str) -> Points:
    """Returns the curve in a column; empty if the column is missing."""
    return [(int(place), float(value)) for place, value in (point.split(":") for point in row.get(column, "").split())]
