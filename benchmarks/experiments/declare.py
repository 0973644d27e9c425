"""What an experiment is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harmonicrnn.errors import UserError

ROOT = Path(__file__).parents[2]
Settings = Mapping[str, Any]
"""Dotted keys of the command line and their values, such as {"model.recurrence": "real", "trainer.max_steps": 100}."""


@dataclass(frozen=True)
class Run:
    """One training and what is measured of it, apart from its seed.

    Args:
        name: Its folder's name, unique in the experiment.
        config: File that `fit` is given, relative to the repository.
        settings: What is set over the config.
        labels: What tells it from the others, in the table's first columns.
        after: The run whose best weights it begins with (of the same seed); None for new ones.
        tests: Evaluations of its best checkpoint, and what is set for each over what it was trained with.
        sampled: Samples drawn to measure the speed of generation; 0 measures none.
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
        name: What `--run` calls it.
        question: One sentence.
        runs: In an order in which each comes after the one that it begins with.
        seeds: How many of each run there are unless `--seeds` says otherwise: 0, 1, ...
        quick: What is set over all runs for a trial of minutes (`--quick`), which shows that the experiment runs and nothing else.
        trial: Names of the runs that the trial makes, where not all of them.
        any_data: Whether it can be run on a folder of recordings instead of its configs' data.
        positions: Whether the NLL of each test is reported against the samples before too.
        curve: Label along the horizontal axis of a plot of the NLL, where there is to be one; the other labels tell its lines apart.
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
        """The runs of the trial, or all; of them those that are named, where some are.

        Raises:
            UserError: there is no run of a name.
        """
        runs = [run for run in self.runs if run.name in self.trial or not (quick and self.trial)]
        if unknown := set(only or ()) - {run.name for run in runs}:
            raise UserError(f"--only: {self.name} has no run {', '.join(sorted(unknown))}; --list names its runs")
        return runs if only is None else [run for run in runs if run.name in only]

    def over_all(self, quick: bool = False, data: Path | None = None) -> Settings:
        """What is set over all runs: of the trial, and of a folder of recordings that they are to be run on.

        Raises:
            UserError: there is no such folder, or the runs are on data of their own.
        """
        settings = dict(self.quick) if quick else {}
        if data is None:
            return settings
        if not self.any_data:
            raise UserError(f"--data {data}: {self.name} needs the data that it makes; leave it out")
        if not data.is_dir():
            raise UserError(f"--data {data}: there is no such folder; name one with recordings")
        return {"data.class_path": "datamodules.AudioFolder", "data.root": str(data.resolve())} | settings
