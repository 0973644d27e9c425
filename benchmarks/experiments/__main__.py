"""Experiments that anyone can repeat: named sets of runs of `fit` and `test`, and the tables and plots made of their results.

    python -m benchmarks.experiments --list
    python -m benchmarks.experiments --run memory
    python -m benchmarks.experiments --report memory --docs docs/results/memory

Finished runs are not run again, and one that was interrupted goes on, as long as neither what it is told nor the code has changed. An
experiment is declared by an `Experiment` (declare.py) and listed here; runner.py runs it, results.py keeps one CSV of it, a row a run,
report.py makes tables and plots of that.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt

from benchmarks.experiments.comparisons import ablations, baselines, context, rates
from benchmarks.experiments.declare import Experiment
from benchmarks.experiments.memory import memory
from harmonicrnn.audio.writing import writing
from harmonicrnn.errors import UserError

EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    "memory": memory,
    "ablations": ablations,
    "rates": rates,
    "baselines": baselines,
    "context": context,
}
"""By name; each builds its declaration when it is asked for."""


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m benchmarks.experiments", allow_abbrev=False, description=__doc__.split("\n\n", maxsplit=1)[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="Name the experiments and their runs.")
    what.add_argument("--run", metavar="NAME", help="Run an experiment, as far as it has not been run, and report on it.")
    what.add_argument("--report", metavar="NAME", help="Make tables and plots of the results that there are.")
    parser.add_argument("--seeds", type=PositiveInt | None, help="Seeds of each run, from 0 on; null for the experiment's own number.")
    parser.add_argument("--only", type=list[str] | None, help="Names of the runs to make, such as [a,b]; null for all.")
    parser.add_argument("--device", type=Literal["cpu", "cuda"] | None, help="Null for a GPU where there is one.")
    parser.add_argument("--quick", action="store_true", help="A trial of minutes, which shows that the experiment runs and nothing else.")
    parser.add_argument("--any_code", action="store_true", help="Keep results that were made by other code.")
    parser.add_argument("--data", type=Path | None, help="Folder of recordings for rates or baselines; null for data/music.")
    parser.add_argument("--out", type=Path | None, help="Folder of runs and results; null for logs/experiments/NAME[_FOLDER].")
    parser.add_argument("--docs", type=Path | None, help="Folder of tables and plots, with a copy of the results; null for the same one.")
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Does what it is told and returns the exit status."""
    given = make_parser().parse_args(args)
    try:
        if given.list:
            show()
            sys.stdout.flush()
            return 0
        name = given.run or given.report
        if name not in EXPERIMENTS:
            raise UserError(f"there is no experiment {name}: choose among {', '.join(EXPERIMENTS)}")
        experiment = EXPERIMENTS[name]()
        over_all, runs = experiment.over_all(given.quick, given.data), experiment.chosen(given.quick, given.only)
        folder = "_".join([name, *([given.data.resolve().name] if given.data else []), *(["quick"] if given.quick else [])])
        out = given.out or Path("logs/experiments") / folder
        if given.run:
            with writing(out):
                out.mkdir(parents=True, exist_ok=True)
            from benchmarks.experiments.runner import Runner

            device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
            Runner(experiment, out, device, over_all, given.any_code).run(runs, given.seeds or experiment.seeds)
        from benchmarks.experiments.report import report

        with writing(given.docs or out):
            made = report(experiment, out / "results.csv", given.docs or out, over_all)
        print(f"Written to {made}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # its reader, `head` say, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def show() -> None:
    """Prints the experiments and their runs."""
    for name, build in EXPERIMENTS.items():
        experiment = build()
        print(f"{name}: {experiment.question} {len(experiment.runs)} runs, {experiment.seeds} seeds")
        for run in experiment.runs:
            print(f"    {run.name}" + (f" (after {run.after})" if run.after else ""))


if __name__ == "__main__":
    raise SystemExit(main())
