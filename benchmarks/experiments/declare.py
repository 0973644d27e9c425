"""Declarations of experiments and their runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harmonicrnn.errors import UserError

ROOT = Path(__file__).parents[2]
Settings = Mapping[str, Any]
"""Values by their dotted keys on the command line, such as {"model.recurrence": "real", "trainer.max_steps": 100}."""


@dataclass(frozen=True)
class Run:
    """A training and its evaluations, without the seed.

    Args:
        name: Name of the run's folder, unique in the experiment.
        config: Config file of `fit`, relative to the repository.
        settings: Overrides of the config.
        labels: Values of the table's first columns, which distinguish the run.
        after: Run whose best checkpoint (same seed) gives the initial weights; None for random weights.
        tests: Evaluations of the best checkpoint, each with its overrides of the training's settings.
        sampled: Samples to draw for measuring the speed of generation; 0 skips the measurement.
    """

    name: str
    config: str
    settings: Settings = field(default_factory=dict)
    labels: Mapping[str, str | int | float] = field(default_factory=dict)
    after: str | None = None
    tests: Mapping[str, Settings] = field(default_factory=lambda: {"test": {}})
    sampled: int = 0


@dataclass(frozen=True)
class Experiment:
    """A question, and the runs that answer it.

    Args:
        name: Name for `--run`.
        question: One sentence, printed above the results.
        runs: The runs, each listed later than its `after`.
        seeds: Default number of seeds per run (0, 1, ...).
        quick: Overrides of all runs for a trial of a few minutes (`--quick`).
        trial: Names of the runs in the trial; empty for all.
        any_data: Whether a folder of recordings can replace the configs' data.
        positions: Whether to report the NLL of each test by the number of preceding samples too.
        curve: Label on the horizontal axis of a plot of the NLL, with a line for each combination of the other labels; None for no plot.
    """

    name: str
    question: str
    runs: tuple[Run, ...]
    seeds: int = 1
    quick: Settings = field(default_factory=dict)
    trial: tuple[str, ...] = ()
    any_data: bool = False
    positions: bool = False
    curve: str | None = None

    def chosen(self, quick: bool = False, only: Sequence[str] | None = None) -> list[Run]:
        """Returns the runs of the trial if `quick`, else all; with `only`, just those named.

        Raises:
            UserError: If a name in `only` has no run.
        """
        runs = [run for run in self.runs if run.name in self.trial or not (quick and self.trial)]
        if unknown := set(only or ()) - {run.name for run in runs}:
            raise UserError(f"--only: {self.name} has no run {', '.join(sorted(unknown))}; --list names its runs")
        return runs if only is None else [run for run in runs if run.name in only]

    def over_all(self, quick: bool = False, data: Path | None = None) -> Settings:
        """Returns the overrides of all runs: those of the trial if `quick`, and of a folder of recordings.

        Raises:
            UserError: If the folder does not exist, or the experiment needs its own data.
        """
        settings = dict(self.quick) if quick else {}
        if data is None:
            return settings
        if not self.any_data:
            raise UserError(f"--data {data}: {self.name} needs the data that it makes; leave it out")
        if not data.is_dir():
            raise UserError(f"--data {data}: there is no such folder; name one with recordings")
        return {"data.class_path": "datamodules.AudioFolder", "data.root": str(data.resolve())} | settings
