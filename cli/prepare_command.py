"""`python train.py prepare`: the data of a config alone, ahead of training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import SUPPRESS, ActionConfigFile, ArgumentParser
from rich.console import Console
from rich.table import Table

from datamodules import AudioDataModule
from datamodules.preparation import shard_path
from harmonicrnn.errors import UserError

NOT_DATA = ("seed_everything", "model", "ema", "samples", "fad", "checkpoint", "trainer", "ckpt_path", "weights_only")


def prepare(args: Sequence[str]) -> None:
    """Read, resample and check the recordings of a config, and print what there is.

    Raises:
        UserError, argparse.ArgumentError: wrong arguments or recordings.
    """
    parser = ArgumentParser(
        prog="train.py prepare",
        description="Read, resample and check the recordings of a config ahead of training; goes on where it was stopped.",
        parser_mode="omegaconf+",
        exit_on_error=False,
    )
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="Path to the config of a training.")
    parser.add_subclass_arguments(AudioDataModule, "data", required=True)
    parser.add_argument("--processes", type=int | None, default=None, help="Processes that work together; null for one a processor.")
    parser.add_argument("--verify", type=bool, default=False, help="Compare what was prepared before with its checksums.")
    for key in NOT_DATA:
        parser.add_argument(f"--{key}", type=Any, help=SUPPRESS)
    config = parser.parse_args(list(args))
    if config.processes is not None and config.processes < 1:
        raise UserError(f"--processes must be at least 1, got {config.processes}")
    try:
        data: AudioDataModule = parser.instantiate(config).data
    except ValueError as error:
        raise UserError(str(innermost(error))) from error
    report(data, config.processes, config.verify)


def report(data: AudioDataModule, processes: int | None, verify: bool) -> None:
    """Prepare and print a table of the splits."""
    data.fetch()
    entries = list(data.prepare(processes, verify).values())
    console = Console()
    if not entries:
        console.print(f"{type(data).__name__} reads no files: there is nothing to prepare")
        return
    table = Table("split", "recordings", "skipped", "hours", "clipped samples")
    for split in dict.fromkeys(entry.split for entry in entries):
        good = [entry for entry in entries if entry.split == split and not entry.error]
        skipped = sum(entry.split == split for entry in entries) - len(good)
        hours = sum(entry.length for entry in good) / data.sample_rate / 3600
        table.add_row(split, f"{len(good):,}", f"{skipped:,}", f"{hours:.4f}", f"{sum(entry.overshoots for entry in good):,}")
    console.print(table)
    listed = {shard_path(data.shards, entry.source) for entry in entries}
    # Not removed, as another training, or another dataset on the same folder, may be reading them.
    others = [path.stat().st_size for path in data.shards.rglob(shard_path(Path(), "*").name) if path not in listed]
    if others:
        console.print(
            f"{len(others)} other shards there ({sum(others) / 1e9:.3f} GB) are of recordings that this dataset does not list: removed or "
            "renamed ones, say; if nothing else uses them, they may be deleted",
            soft_wrap=True,
            highlight=False,
        )
    console.print(f"Prepared in {data.shards}", soft_wrap=True, highlight=False)


def innermost(error: BaseException) -> BaseException:
    """What was first raised: jsonargparse puts errors of its own around it that do not say what is wrong."""
    while not isinstance(error, UserError) and (cause := error.__cause__ or error.__context__):
        error = cause
    return error
