"""`python train.py prepare`: the data of a config alone, ahead of training."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table

from cli.data_options import read_data
from datamodules import AudioDataModule
from datamodules.preparation import shard_path
from harmonicrnn.errors import UserError
from harmonicrnn.files import pasteable

DESCRIPTION = "Read, resample and check the recordings of a config ahead of training; goes on where it was stopped."


def prepare(command: str, options: Namespace, args: Sequence[str]) -> int:
    """Read, resample and check the recordings of a config, and print what there is.

    Args:
        command: its name.
        options: as the first pass read them.
        args: of the command line, after the command.

    Raises:
        UserError, ArgumentError: wrong arguments or recordings.
    """
    data = read_data(command, DESCRIPTION, add_options, args)
    if options.processes is not None and options.processes < 1:
        raise UserError(f"--processes must be at least 1, got {options.processes}")
    report(data, options.processes, options.verify)
    return 0


def add_options(parser: ArgumentParser) -> None:
    """Those beside the data's."""
    parser.add_argument("--processes", type=int | None, default=None, help="Processes that work together; null for one a processor.")
    parser.add_argument("--verify", type=bool, default=False, help="Compare what was prepared before with its checksums.")


def report(data: AudioDataModule, processes: int | None, verify: bool) -> None:
    """Prepare and print a table of the splits."""
    data.fetch()
    entries = list(data.prepare(processes, verify).values())
    if not entries:
        print(f"{type(data).__name__} reads no files: there is nothing to prepare")
        return
    table = Table("split", "recordings", "skipped", "hours", "clipped samples")
    for split in dict.fromkeys(entry.split for entry in entries):
        good = [entry for entry in entries if entry.split == split and not entry.error]
        skipped = sum(entry.split == split for entry in entries) - len(good)
        hours = sum(entry.length for entry in good) / data.sample_rate / 3600
        table.add_row(split, f"{len(good):,}", f"{skipped:,}", f"{hours:.4f}", f"{sum(entry.overshoots for entry in good):,}")
    Console().print(table)
    listed = {shard_path(data.shards, entry.source) for entry in entries}
    # Not removed, as another training, or another dataset on the same folder, may be reading them.
    others = [path.stat().st_size for path in data.shards.rglob(shard_path(Path(), "*").name) if path not in listed]
    if others:
        print(
            f"{len(others)} other shards there ({sum(others) / 1e9:.3f} GB) are of recordings that this dataset does not list: removed or "
            "renamed ones, say; if nothing else uses them, they may be deleted"
        )
    print(f"Prepared in {pasteable(data.shards)}")
