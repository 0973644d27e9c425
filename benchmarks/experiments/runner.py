"""Runs the unfinished runs of an experiment.

The output folder holds, for each run and seed, `runs/NAME/version_0` with the files of `fit` and `test` and `runs/NAME/log.txt` with their
output, and one `results.csv` for all.
"""

import json
import shutil
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.experiments.declare import ROOT, Experiment, Run, Settings
from benchmarks.experiments.measured import curves, evaluate, in_child, sample, train
from benchmarks.experiments.results import Row, cell, code_hash, config_hash, machine, read, write
from callbacks.stop_signals import TRY_AGAIN
from harmonicrnn.errors import UserError
from harmonicrnn.files import replacing
from harmonicrnn.models.predictors_alone import PREDICTORS
from harmonicrnn.ops import linear_scan
from harmonicrnn.provenance import code_version
from lightning_modules import read_checkpoint

ACCELERATORS = {"cpu": "cpu", "cuda": "gpu"}


def arguments(settings: Settings) -> list[str]:
    """Returns settings as arguments of the command line."""
    return [part for key, value in settings.items() for part in (f"--{key}", value if isinstance(value, str) else json.dumps(value))]


@dataclass(frozen=True)
class Runner:
    """Runs the unfinished runs of an experiment.

    Args:
        experiment: The experiment.
        out: Output folder.
        device: "cpu" or "cuda".
        extra: Overrides of all runs.
        any_code: Accept results made by a different version of the code.
        code: Hash of the current code.
    """

    experiment: Experiment
    out: Path
    device: str
    extra: Settings = field(default_factory=dict)
    any_code: bool = False
    code: str = field(default_factory=lambda: code_hash())

    def run(self, runs: Iterable[Run], seeds: int) -> list[Row]:
        """Runs seeds 0 to seeds - 1 of the runs and returns their results.

        Raises:
            UserError: If a run fails or is stopped by a signal; earlier results are kept.
        """
        warm_up()
        done = []
        for seed, run in product(range(seeds), runs):
            row = self._finished(run, seed)
            if row is not None:
                print(f"{self._folder(run, seed).name}: finished before", flush=True)
            done.append(row or self._run(run, seed))
        return done

    def _rows(self) -> list[Row]:
        return read(self.out / "results.csv", self.experiment)

    def _folder(self, run: Run, seed: int) -> Path:
        return self.out / "runs" / f"{run.name}_seed{seed}"

    def _stamp(self, run: Run, seed: int) -> dict[str, str]:
        told = config_hash(self.experiment, run, seed, self.extra, self.device)
        return {"run": run.name, "seed": str(seed), "config": told, "code": self.code}

    def _same(self, row: Mapping[str, str], run: Run, seed: int) -> bool:
        return all(row.get(key) == value or (key == "code" and self.any_code) for key, value in self._stamp(run, seed).items())

    def _finished(self, run: Run, seed: int) -> Row | None:
        return next((row for row in self._rows() if self._same(row, run, seed)), None)

    def _checkpoint(self, run: Run, seed: int) -> Path:
        """Returns the path of the best checkpoint, or of the last one if there was no validation."""
        folder = self._folder(run, seed) / "version_0/checkpoints"
        return next(path for name in ("best", "last") if (path := folder / f"{name}.ckpt").is_file())

    def _run(self, run: Run, seed: int) -> Row:
        folder = self._folder(run, seed)
        begun, attempts, log = folder / "begun.json", folder / "attempts.jsonl", folder / "log.txt"
        if not begun.is_file() or not self._same(json.loads(begun.read_text()), run, seed):
            shutil.rmtree(folder, ignore_errors=True)  # made with other settings or code
            with replacing(begun) as file:
                file.write(json.dumps(self._stamp(run, seed)).encode())
        if not any(each["status"] == 0 for each in taken(attempts)):
            args, ranks = self._fit_arguments(run, seed), int(run.settings.get("trainer.devices", 1))
            self._step(f"{folder.name}: fit", in_child(lambda: train(args, ranks, attempts), log), log)
        values = self._stamp(run, seed) | self._trained(run, seed, taken(attempts)) | self._measured(run, seed, log)
        row = {column: cell(value) for column, value in values.items()}
        others = [each for each in self._rows() if (each["run"], each["seed"]) != (row["run"], row["seed"])]
        write(self.out / "results.csv", [*others, row])
        bits = ", ".join(f"{name} {values[f'{name} bits']:.4f}" for name in run.tests)
        print(f"{folder.name}: {bits} bits/sample, trained in {values['seconds']:.0f} s", flush=True)
        return row

    def _fit_arguments(self, run: Run, seed: int) -> Sequence[str]:
        folder = self._folder(run, seed)
        where = folder / "where.yaml"  # a config file, which also tells `ckpt_path: last` where to look
        where.write_text(json.dumps({"trainer": {"logger": {"init_args": {"save_dir": str(folder.parent), "name": folder.name}}}}))
        before = next((each for each in self.experiment.runs if each.name == run.after), None)
        if before is not None and self._finished(before, seed) is None:
            raise UserError(f"{run.name} starts from the weights of {before.name}, which is not finished: add it to --only")
        begins = {} if before is None else {"model.init_from": str(self._checkpoint(before, seed))}
        common = {"seed_everything": seed, "trainer.accelerator": ACCELERATORS[self.device], "trainer.devices": 1}
        quiet = {"trainer.enable_progress_bar": False, "ckpt_path": "last"}
        configs = ["--config", str(ROOT / run.config), "--config", str(where)]
        return ["fit", *configs, *arguments({**common, **quiet, **begins, **run.settings, **self.extra})]

    def _step(self, what: str, status: int, log: Path) -> None:
        if status == 0:
            return
        if status == TRY_AGAIN:
            raise UserError(f"{what}: asked to stop; the same command goes on from there")
        last = "\n".join(log.read_text().splitlines()[-5:])
        raise UserError(f"{what}: failed with status {status}; see {log}:\n{last}")

    def _trained(self, run: Run, seed: int, attempts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns the columns of the training; its speed is the median of the logged ones."""
        version = self._folder(run, seed) / "version_0"
        found, checkpoint = curves(version), read_checkpoint(version / "checkpoints/last.ckpt")
        (loader,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
        rates, peaks = [rate for _, rate in found["train/samples_per_second"]], [each["peak_memory"] for each in attempts]
        return {
            "commit": code_version(),
            **machine(self.device),
            "parameters": sum(tensor.numel() for tensor in checkpoint["state_dict"].values()),
            "steps": checkpoint["global_step"],
            "samples_seen": checkpoint["global_step"] * loader["of"]["batch_size"] * loader["of"]["clip_samples"],
            "seconds": sum(each["seconds"] for each in attempts),
            "attempts": len(attempts),
            "went_on": any(each["went_on"] for each in attempts),
            "peak_memory": None if None in peaks else max(peaks),
            "samples_per_second": statistics.median(rates) if rates else None,
            "validation": found["val/bits"],
        }

    def _measured(self, run: Run, seed: int, log: Path) -> dict[str, Any]:
        """Runs the evaluations and returns their columns, and the speed of generation (None if not measured)."""
        folder, checkpoint = self._folder(run, seed), self._checkpoint(run, seed)
        values: dict[str, Any] = {"sampled_per_second": None}
        for name, settings in run.tests.items():
            status = in_child(lambda settings=settings: evaluate(checkpoint, arguments(settings)), log)
            self._step(f"{folder.name}: test {name}", status, log)
            told = json.loads((folder / "version_0/nll_test.json").read_text())
            alone = {each["name"]: each["bits_per_sample"] for each in told["untrained"]}.get(PREDICTORS)
            values |= {f"{name} bits": told["bits_per_sample"], f"{name} samples": told["samples"], f"{name} predictors": alone}
            if self.experiment.positions:
                values[f"{name} positions"] = [(each["from"], each["bits_per_sample"]) for each in told["by_position"]]
        if run.sampled:
            drawn = folder / "sampled.json"
            self._step(f"{folder.name}: sample", in_child(lambda: sample(checkpoint, run.sampled, drawn, self.device), log), log)
            values["sampled_per_second"] = json.loads(drawn.read_text())
        return values


def taken(attempts: Path) -> list[dict[str, Any]]:
    """Returns the measurements of each attempt at a training that was not killed."""
    lines = attempts.read_text().splitlines() if attempts.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]  # a kill may have cut off a line


def warm_up() -> None:
    """Imports the command line and compiles the recurrence once, for all runs forked from this process."""
    import cli.training_cli  # noqa: F401

    for dtype in (torch.float32, torch.complex64):
        a, x = (torch.ones(1, 2, 2, dtype=dtype, requires_grad=True) for _ in range(2))
        linear_scan(a, x)[0].sum().abs().backward()
