"""What is kept of a run: one JSON, and what it follows from."""

import ast
import hashlib
import json
import os
import platform
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from benchmarks.experiments.declare import ROOT, Experiment, Run, Settings
from benchmarks.training_speed import processor
from harmonicrnn.files import replacing

CODE = ("audio", "callbacks", "cli", "datamodules", "generation", "lightning_modules", "metrics", "models", "ops", "parallel")
"""Folders whose code may change a result."""

Result = dict[str, Any]


def config_hash(experiment: Experiment, run: Run, seed: int, extra: Settings, device: str) -> str:
    """Of all that a run is told: its config's values that its settings do not replace, its settings, tests, seed and device, and the same
    of those that it goes on from."""
    runs, chain = {each.name: each for each in experiment.runs}, []
    current: Run | None = run
    while current is not None:
        chain.append(
            [_kept(ROOT / current.config, current.settings), dict(current.settings), {k: dict(v) for k, v in current.tests.items()}]
        )
        current = runs[current.after] if current.after else None
    return _digest(json.dumps([chain, seed, dict(extra), run.sampled, *([] if device == "cpu" else [device])], sort_keys=True))


def _kept(config: Path, settings: Settings) -> dict[str, Any]:
    """A config's values by their dotted keys on the command line, without those that are set over it."""
    values: dict[str, Any] = {}

    def walk(node: Any, key: str) -> None:
        if any(key == each or key.startswith(f"{each}.") for each in settings):
            return
        if not isinstance(node, dict):
            values[key] = node
            return
        for name, value in node.items():
            # Arguments of a class are named without this step between.
            walk(value, key if name == "init_args" else f"{key}.{name}".lstrip("."))

    walk(OmegaConf.to_container(OmegaConf.load(config)), "")
    return values


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


def machine(device: str) -> Mapping[str, Any]:
    """Where a run was made."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "lightning", "numba", "numpy")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def training_rate(curves: Mapping[str, list[tuple[int, float]]]) -> float | None:
    """The median of the training's samples per second; None where it logged none."""
    rates = [value for _, value in curves["train/samples_per_second"]]
    return statistics.median(rates) if rates else None


def write(path: Path, result: Result) -> None:
    with replacing(path) as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())


def read(folder: Path, experiment: Experiment, extra: Settings) -> list[Result]:
    """The results in a folder of the runs that are declared, by run and seed as they are; `stale` is put into each: whether what it was
    told is not what its run is told now."""
    numbers = {run.name: number for number, run in enumerate(experiment.runs)}
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    found = [result for result in found if result["run"] in numbers]
    for result in found:
        device = "cpu" if result["machine"]["device"] == "cpu" else "cuda"
        run = experiment.runs[numbers[result["run"]]]
        result["stale"] = result["hash"]["config"] != config_hash(experiment, run, result["seed"], extra, device)
    return sorted(found, key=lambda result: (numbers[result["run"]], result["seed"]))
