"""Command `train.py predictors`: measure the likelihood of a split under predictors that need no training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table

from cli.data_options import read_data
from cli.progress_bars import progress_bars
from harmonicrnn.audio.dataset import Split
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.untrained import measure_untrained
from harmonicrnn.metrics.statistics_cache import default_cache
from harmonicrnn.models import Prediction
from harmonicrnn.models.predictors_alone import FILTERS, PREDICTORS

DESCRIPTION = "Measure the likelihood of a split, in bits per sample, under linear and simpler predictors that need no training."


def predictors(command: str, options: Namespace, args: Sequence[str]) -> int:
    """Print the likelihoods of a split without training, in bits per sample.

    Raises:
        UserError, ArgumentError: the arguments or recordings are invalid.
    """
    filters = FILTERS | {PREDICTORS: prediction_of(options.prediction)}
    data = read_data(command, DESCRIPTION, add_options, args)
    split: Split = options.split
    data.prepare_data()
    data.read(split)
    cache = default_cache() if options.cache is None else options.cache
    with progress_bars(Console(stderr=True)) as bar:
        found = measure_untrained(data, split, cache, filters=filters, training=data.with_training(), bar=bar)
    table = Table("without training", "bits/sample", "samples", "clips")
    for row in found:
        table.add_row(row.name, f"{row.bits_per_sample:.4f}", f"{row.samples:,}", f"{row.clips:,}")
    Console().print(table)
    print(f"{data.title(split)}; {data.protocol}")
    return 0


def prediction_of(record: str) -> Prediction:
    """Return the settings of a record, as `--model.prediction` reads it.

    Raises:
        UserError, ArgumentError: it is none, or a number is out of range.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--prediction", type=Prediction)
    try:
        found: Prediction = parser.instantiate(parser.parse_args([f"--prediction={record}"])).prediction
    except ValueError as error:
        raise UserError(f"--prediction: {error}") from error
    return found


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command, without those of the data."""
    parser.add_argument("--split", type=Literal["validation", "test"], default="test", help="Split to measure.")
    linear = "Linear predictors and their mixture, as --model.prediction has them; what concerns a network is not used."
    parser.add_argument("--prediction", type=str, default="{}", help=linear)
    parser.add_argument("--cache", type=Path | None, default=None, help="Folder for cached results; null for the user's cache.")
