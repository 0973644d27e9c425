"""Command `train.py prepare`: prepare the recordings of a config before training."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table

from cli.data_options import read_data
from datamodules import AudioDataModule
from datamodules.audio_folder import shard_cache
from datamodules.preparation import home_of, remove_shards
from harmonicrnn.errors import UserError
from harmonicrnn.files import pasteable

DESCRIPTION = "Read, resample and check the recordings of a config before training; resumes where it was stopped."


def prepare(command: str, options: Namespace, args: Sequence[str]) -> int:
    """Prepare the recordings of a config, and print a table of the splits; or remove what was prepared.

    Raises:
        UserError, ArgumentError: the arguments or recordings are invalid.
    """
    data = read_data(command, DESCRIPTION, add_options, args)
    if options.processes is not None and options.processes < 1:
        raise UserError(f"--processes must be at least 1, got {options.processes}")
    if options.clean:
        clean(data)
    else:
        report(data, options.processes, options.verify)
    return 0


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command, without those of the data."""
    parser.add_argument("--processes", type=int | None, default=None, help="Number of parallel processes; null for one per processor.")
    parser.add_argument("--verify", type=bool, default=False, help="Verify the checksums of recordings prepared before.")
    parser.add_argument("--clean", action="store_true", help="Remove the prepared recordings, and in the cache those of deleted folders.")


def report(data: AudioDataModule, processes: int | None, verify: bool) -> None:
    """Prepare the data and print a table of the splits."""
    data.fetch()
    entries = list(data.prepare(processes, verify).values())
    if not entries:
        print(f"{type(data).__name__} reads no files: there is nothing to prepare")
        return
    table = Table("split", "recordings", "skipped", "hours", "clipped samples")
    for split, parts in data.parts(entries).items():
        skipped = sum(entry.split == split and bool(entry.error) for entry in entries)
        hours = sum(part.stop - part.start for part in parts) / data.sample_rate / 3600
        clipped = sum(part.entry.overshoots for part in parts)
        if parts or skipped:
            table.add_row(split, f"{len(parts):,}", f"{skipped:,}", f"{hours:.4f}", f"{clipped:,}")
    Console().print(table)
    print(f"Prepared in {pasteable(data.shards)}")


def clean(data: AudioDataModule) -> None:
    """Remove the shards of the data's recordings, and those in the cache whose recordings no longer exist, and print their folders.

    Raises:
        UserError: another process prepares them, or the shards are of other recordings.
    """
    if (home := home_of(data.shards)) is not None and home.resolve() != data.root.resolve():
        raise UserError(f"{data.shards}: holds the shards of the recordings in {home}, not of those in {data.root}; nothing is removed")
    gone = [folder for folder in shard_cache().glob("*/shards_*") if (home := home_of(folder)) is not None and not home.exists()]
    removed = [folder for folder in dict.fromkeys((data.shards, *gone)) if remove_shards(folder)]
    for folder in removed:
        print(f"Removed {pasteable(folder)}")
    if not removed:
        print(f"{data.shards}: nothing was prepared there")
