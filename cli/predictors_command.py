"""`python train.py predictors`: how likely a split is without any training, which needs no run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table

from cli.data_options import read_data
from cli.progress_bars import progress_bars
from harmonicrnn.audio.dataset import Split
from harmonicrnn.evaluation.untrained import measure_untrained
from harmonicrnn.metrics.statistics_cache import default_cache

DESCRIPTION = "Likelihood of a split under linear predictors and simpler ones, which need no training, in bits per sample."


def predictors(command: str, options: Namespace, args: Sequence[str]) -> int:
    """Print how likely a split is without any training.

    Args:
        command: its name.
        options: as the first pass read them.
        args: of the command line, after the command.

    Raises:
        UserError, ArgumentError: wrong arguments or recordings.
    """
    data = read_data(command, DESCRIPTION, add_options, args)
    split: Split = options.split
    data.prepare_data()
    data.read(split)
    cache = default_cache() if options.cache is None else options.cache
    with progress_bars(Console(stderr=True)) as bar:
        found = measure_untrained(data, split, cache, training=data.with_training(), bar=bar)
    table = Table("without training", "bits/sample", "samples", "clips")
    for row in found:
        table.add_row(row.name, f"{row.bits_per_sample:.4f}", f"{row.samples:,}", f"{row.clips:,}")
    Console().print(table)
    print(f"{data.title(split)}; {data.protocol}")
    return 0


def add_options(parser: ArgumentParser) -> None:
    """Those beside the data's."""
    parser.add_argument("--split", type=Literal["validation", "test"], default="test", help="Whose samples are predicted.")
    parser.add_argument("--cache", type=Path | None, default=None, help="Folder where results are kept; null for the user's cache.")
