"""What is kept of a run: a row of one CSV an experiment, and what it follows from."""

import ast
import csv
import hashlib
import io
import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

import torch
from omegaconf import OmegaConf

from benchmarks.experiments.declare import ROOT, Experiment, Run, Settings
from benchmarks.timing import processor
from harmonicrnn.files import replacing

CODE = ("callbacks", "cli", "datamodules", "harmonicrnn", "lightning_modules")
"""Folders whose code may change a result."""

Points = list[tuple[int, float]]
"""A curve: (steps made or samples before, value)."""

PARTS: dict[str, Any] = {"bits": float, "samples": int, "positions": Points}
"""What is kept of each test, each in a column of its own, such as "test bits"; `positions` of experiments that want it."""


@dataclass
class Result:
    """A run under one seed; the fields are the CSV's columns, but for the last two.

    `config` and `code` are hashes of what the run was told and of the code that it was made by. Memory is in bytes, null where it is not
    known, seconds are of the training; `tests` has the bits per sample and the samples of each evaluation, `validation` the bits per
    sample over the steps. `labels` and `stale` come from the declaration: whether what the run was told is not what it is told now.
    """

    run: str
    seed: int
    config: str
    code: str
    commit: str
    date: str
    processor: str
    cores: int
    threads: int
    load: float
    device: str
    python: str
    torch: str
    lightning: str
    numba: str
    numpy: str
    parameters: int
    steps: int
    samples_seen: int
    seconds: float
    attempts: int
    went_on: bool
    peak_memory: int | None
    samples_per_second: float | None
    sampled_per_second: float | None
    validation: Points
    tests: dict[str, dict[str, Any]]
    labels: Mapping[str, str | int | float]
    stale: bool = False

    @property
    def best(self) -> float | None:
        """Bits per sample of the best validation; None where training did not validate."""
        return min((bits for _, bits in self.validation), default=None)

    def bits(self, test: str) -> float | None:
        """Bits per sample of an evaluation; None where there was none."""
        found: float | None = self.tests[test]["bits"] if test in self.tests else None
        return found


COLUMNS = tuple(field.name for field in fields(Result))[: -len(("tests", "labels", "stale"))]
TYPES = get_type_hints(Result)


NO_RESULT = ("fad", "checkpoint", "trainer.logger")
"""Sections of a config that change no result that is kept."""


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
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "lightning", "numba", "numpy")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def training_rate(curves: Mapping[str, Points]) -> float | None:
    """The median of the training's samples per second; None where it logged none."""
    rates = [value for _, value in curves["train/samples_per_second"]]
    return statistics.median(rates) if rates else None


def write(path: Path, results: Iterable[Result]) -> None:
    """All results of an experiment, in the place of those that the file has."""
    results = list(results)
    tests = dict.fromkeys(f"{test} {part}" for result in results for test, parts in result.tests.items() for part in parts)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*COLUMNS, *tests])
    for result in results:
        values = {f"{test} {part}": value for test, parts in result.tests.items() for part, value in parts.items()}
        rows.writerow([*(_cell(getattr(result, column)) for column in COLUMNS), *(_cell(values.get(column)) for column in tests)])
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{step}:{bits!r}" for step, bits in value)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def read(path: Path, experiment: Experiment, extra: Settings) -> list[Result]:
    """The results in a file of the runs that are declared, by run and seed as they are; none where there is no file."""
    runs = {run.name: run for run in experiment.runs}
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        found = [_result(row, runs[row["run"]]) for row in csv.DictReader(file) if row["run"] in runs]
    for result in found:
        told = config_hash(experiment, runs[result.run], result.seed, extra, "cpu" if result.device == "cpu" else "cuda")
        result.stale = result.config != told
    return sorted(found, key=lambda result: (list(runs).index(result.run), result.seed))


def _result(row: Mapping[str, str], run: Run) -> Result:
    values: dict[str, Any] = {column: _value(row[column], TYPES[column]) for column in COLUMNS}
    tests: dict[str, dict[str, Any]] = {}
    for column, cell in row.items():
        if cell and column not in COLUMNS:
            test, part = column.rsplit(" ", 1)
            tests.setdefault(test, {})[part] = _value(cell, PARTS[part])
    return Result(**values, tests=tests, labels=dict(run.labels))


def _value(cell: str, kind: Any) -> Any:
    if kind == Points:
        return [(int(step), float(bits)) for step, bits in (point.split(":") for point in cell.split())]
    return cell if kind is str else json.loads(cell or "null")
