"""Runs an experiment, as far as it has not been run already.

Below the output folder, of each run and seed: `runs/NAME/version_0`, as `fit` and `test` leave it, `runs/NAME/log.txt` with what they
printed; and one `results.csv` of all.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.experiments.declare import ROOT, Experiment, Run, Settings
from benchmarks.experiments.measured import curves, evaluate, in_child, sample, train
from benchmarks.experiments.results import Result, code_hash, config_hash, machine, read, training_rate, write
from callbacks.stopping import TRY_AGAIN
from harmonicrnn.errors import UserError
from harmonicrnn.files import replacing
from harmonicrnn.ops import linear_scan
from harmonicrnn.provenance import code_version
from lightning_modules import read_checkpoint

ACCELERATORS = {"cpu": "cpu", "cuda": "gpu"}


def arguments(settings: Settings) -> list[str]:
    """Settings as the command line takes them."""
    return [part for key, value in settings.items() for part in (f"--{key}", value if isinstance(value, str) else json.dumps(value))]


class Runner:
    """Runs what is not finished.

    Args:
        experiment: what to run.
        out: the output folder.
        device: "cpu" or "cuda".
        quick: make the experiment's trial of minutes.
        any_code: take results of other code for finished.
        data: folder of recordings that is taken in place of the configs' data; None for theirs.
        only: names of the runs to make; None for all.

    Raises:
        UserError: the experiment cannot be run on that folder, or has no run of a name.
    """

    def __init__(
        self,
        experiment: Experiment,
        out: Path,
        device: str,
        quick: bool = False,
        any_code: bool = False,
        data: Path | None = None,
        only: Sequence[str] | None = None,
    ) -> None:
        self.experiment, self.out, self.device, self.any_code = experiment, out, device, any_code
        self.extra = experiment.over_all(quick, data)
        self.runs = [run for run in experiment.runs if run.name in experiment.trial or not (quick and experiment.trial)]
        if only is not None:
            if unknown := set(only) - {run.name for run in self.runs}:
                raise UserError(f"--only: {experiment.name} has no run {', '.join(sorted(unknown))}; --list names its runs")
            self.runs = [run for run in self.runs if run.name in only]
        self.code = code_hash()

    def run(self, seeds: int) -> list[Result]:
        """Results of all runs under seeds 0 .. seeds - 1.

        Raises:
            UserError: a run failed, or was asked to stop; those before it are kept.
        """
        warm_up()
        done = []
        for seed in range(seeds):
            for run in self.runs:
                result = self._finished(run, seed)
                if result is not None:
                    print(f"{self._folder(run, seed).name}: finished before", flush=True)
                done.append(result or self._run(run, seed))
        return done

    def _results(self) -> list[Result]:
        return read(self.out / "results.csv", self.experiment, self.extra)

    def _folder(self, run: Run, seed: int) -> Path:
        return self.out / "runs" / f"{run.name}_seed{seed}"

    def _stamp(self, run: Run, seed: int) -> dict[str, str]:
        return {"config": config_hash(self.experiment, run, seed, self.extra, self.device), "code": self.code}

    def _same(self, stamp: dict[str, str], run: Run, seed: int) -> bool:
        mine = self._stamp(run, seed)
        return stamp["config"] == mine["config"] and (self.any_code or stamp["code"] == mine["code"])

    def _finished(self, run: Run, seed: int) -> Result | None:
        found = [result for result in self._results() if (result.run, result.seed) == (run.name, seed)]
        return next((result for result in found if self._same({"config": result.config, "code": result.code}, run, seed)), None)

    def _checkpoint(self, run: Run, seed: int) -> Path:
        """The best one, or the last where training did not validate."""
        folder = self._folder(run, seed) / "version_0/checkpoints"
        return next(path for name in ("best", "last") if (path := folder / f"{name}.ckpt").is_file())

    def _run(self, run: Run, seed: int) -> Result:
        folder = self._folder(run, seed)
        begun, fitted, log = folder / "begun.json", folder / "fitted.json", folder / "log.txt"
        if not begun.is_file() or not self._same(json.loads(begun.read_text()), run, seed):
            shutil.rmtree(folder, ignore_errors=True)  # of other settings or other code
            with replacing(begun) as file:
                file.write(json.dumps(self._stamp(run, seed)).encode())
        ranks = int(run.settings.get("trainer.devices", 1))
        if not fitted.is_file():
            args, attempts = self._fit_arguments(run, seed), folder / "attempts.json"
            self._step(f"{folder.name}: fit", in_child(lambda: train(args, ranks, fitted, attempts), log), log)
        result = Result(**self._described(run, seed), **json.loads(fitted.read_text()), **self._measure(run, seed, log))
        others = [each for each in self._results() if (each.run, each.seed) != (run.name, seed)]
        write(self.out / "results.csv", sorted([*others, result], key=self._place))
        bits = ", ".join(f"{name} {test['bits']:.4f}" for name, test in result.tests.items())
        print(f"{folder.name}: {bits} bits/sample, trained in {result.seconds:.0f} s", flush=True)
        return result

    def _place(self, result: Result) -> tuple[int, int]:
        return [run.name for run in self.experiment.runs].index(result.run), result.seed

    def _measure(self, run: Run, seed: int, log: Path) -> dict[str, Any]:
        """The run's tests, and its speed of generation (null if not asked for)."""
        folder, checkpoint = self._folder(run, seed), self._checkpoint(run, seed)
        tests: dict[str, dict[str, Any]] = {}
        speed = None
        for name, settings in run.tests.items():
            status = in_child(lambda settings=settings: evaluate(checkpoint, arguments(settings)), log)
            self._step(f"{folder.name}: test {name}", status, log)
            told = json.loads((folder / "version_0/nll_test.json").read_text())
            tests[name] = {"bits": told["bits_per_sample"], "samples": told["samples"]}
            if self.experiment.positions:
                tests[name]["positions"] = [(each["from"], each["bits_per_sample"]) for each in told["by_position"]]
        if run.sampled:
            drawn = folder / "sampled.json"
            self._step(f"{folder.name}: sample", in_child(lambda: sample(checkpoint, run.sampled, drawn, self.device), log), log)
            speed = json.loads(drawn.read_text())["samples_per_second"]
        return {"tests": tests, "sampled_per_second": speed}

    def _fit_arguments(self, run: Run, seed: int) -> Sequence[str]:
        folder = self._folder(run, seed)
        where = folder / "where.yaml"  # as a config, for where `last` is looked for
        where.write_text(json.dumps({"trainer": {"logger": {"init_args": {"save_dir": str(folder.parent), "name": folder.name}}}}))
        before = next((each for each in self.experiment.runs if each.name == run.after), None)
        if before is not None and self._finished(before, seed) is None:
            raise UserError(f"{run.name} begins with the weights of {before.name}, which is not finished: name it with --only too")
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
        raise UserError(f"{what}: ended with status {status}; {log} says why:\n{last}")

    def _described(self, run: Run, seed: int) -> dict[str, Any]:
        version = self._folder(run, seed) / "version_0"
        found = curves(version)
        checkpoint = read_checkpoint(version / "checkpoints/last.ckpt")
        (loader,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
        batch = loader["of"]["batch_size"] * loader["of"]["clip_samples"]
        return {
            "run": run.name,
            "seed": seed,
            "labels": dict(run.labels),
            **self._stamp(run, seed),
            "commit": code_version(),
            **machine(self.device),
            "parameters": sum(tensor.numel() for tensor in checkpoint["state_dict"].values()),
            "steps": checkpoint["global_step"],
            "samples_seen": checkpoint["global_step"] * batch,
            "samples_per_second": training_rate(found),
            "validation": found["val/bits"],
        }


def warm_up() -> None:
    """Imports the command line and compiles the recurrence, once for all runs, which are forks of this process."""
    import cli.training_cli  # noqa: F401

    for dtype in (torch.float32, torch.complex64):
        a, x = (torch.ones(1, 2, 2, dtype=dtype, requires_grad=True) for _ in range(2))
        linear_scan(a, x)[0].sum().abs().backward()
