"""Reproducible experiments: named sets of runs of `fit` and `test`, with tables and plots of their results.

    python -m benchmarks.experiments --list
    python -m benchmarks.experiments --run memory
    python -m benchmarks.experiments --report memory --docs docs/results/memory

Finished runs are skipped and interrupted ones resumed, unless their settings or the code have changed. An experiment is declared as an
`Experiment` (declare.py) and listed here; runner.py runs it, results.py stores one CSV row per run, and report.py makes the tables and
plots.
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
"""Functions that build the experiments, by name."""


def make_parser() -> ArgumentParser:
    """Returns the parser of the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.experiments", allow_abbrev=False, description=__doc__.split("\n\n", maxsplit=1)[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="List the experiments and their runs.")
    what.add_argument("--run", metavar="NAME", help="Run the unfinished runs of an experiment and write its report.")
    what.add_argument("--report", metavar="NAME", help="Write tables and plots of the results so far.")
    parser.add_argument("--seeds", type=PositiveInt | None, help="Number of seeds of each run, from 0; null for the experiment's default.")
    parser.add_argument("--only", type=list[str] | None, help="Names of the runs, such as [a,b]; null for all.")
    parser.add_argument("--device", type=Literal["cpu", "cuda"] | None, help="Null for a GPU if available.")
    parser.add_argument("--quick", action="store_true", help="A trial of a few minutes, only to check that the experiment runs.")
    parser.add_argument("--any_code", action="store_true", help="Accept results made by a different version of the code.")
    parser.add_argument("--data", type=Path | None, help="Folder of recordings for ablations, rates or baselines; null for data/music.")
    parser.add_argument("--out", type=Path | None, help="Folder of runs and results; null for logs/experiments/NAME[_FOLDER].")
    parser.add_argument("--docs", type=Path | None, help="Folder for tables, plots and a copy of the results; null for --out.")
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
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
    except BrokenPipeError:  # the reader, such as `head`, closed the pipe
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
