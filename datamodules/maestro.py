"""MAESTRO v3.0.0: about 200 hours of piano recordings (Hawthorne et al., arXiv 1810.12247)."""

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.downloads import Archive, FetchedDataModule
from harmonicrnn.audio.dataset import SPLITS, Split
from harmonicrnn.errors import UserError

TABLE = "maestro-v3.0.0.csv"


class Maestro(FetchedDataModule):
    """Piano, split by the dataset's table; 44.1 or 48 kHz stereo, mixed to mono and resampled. Remainders shorter than a clip are dropped.

    Args:
        root: Folder with `maestro-v3.0.0.csv` and the recordings by year (the dataset's WAV archive, unpacked).
        download: Download the dataset (108 GB, unpacked 120 GB) to `root` if it is missing.
        kwargs: Settings of every dataset, see `AudioDataModule`.
    """

    keep_tails = False
    archive = Archive(
        "https://storage.googleapis.com/magentadata/datasets/maestro/v3.0.0/maestro-v3.0.0.zip",
        sha256="6680fea5be2339ea15091a249fbd70e49551246ddbd5ca50f1b2352c08c95291",
        unpacked=125_000_000_000,
    )

    def __init__(self, root: Path = Path("data/maestro-v3.0.0"), download: bool = False, **kwargs: Any) -> None:
        super().__init__(root, download, **kwargs)

    @staticmethod
    def holds_data(folder: Path) -> bool:
        return (folder / TABLE).is_file()

    def files(self) -> dict[Split, list[Path]]:
        table = self.root / TABLE
        if not table.is_file():
            raise UserError(
                f"{table}: there is no such file. Unpack MAESTRO v3.0.0 (the archive with WAV files, over 100 GB, from "
                "https://magenta.tensorflow.org/datasets/maestro) so that it lies there, name its folder with --data.root, "
                "or fetch it with --data.download true"
            )
        splits: dict[Split, list[Path]] = {split: [] for split in SPLITS}
        seen: set[PurePosixPath] = set()
        missing = 0
        for line, row in _rows(table):
            name, split = row["audio_filename"], row["split"]
            where = f"{table}, line {line}"
            if split not in splits:
                raise UserError(f"{where}: split is {split!r}; it must be one of {', '.join(SPLITS)}")
            if not name or Path(name).is_absolute() or ".." in Path(name).parts:
                raise UserError(f"{where}: audio_filename is {name!r}; it must name a file in the folder")
            if PurePosixPath(name) in seen:
                raise UserError(f"{where}: {name} is listed twice")
            seen.add(PurePosixPath(name))
            if not (self.root / name).is_file():
                if self.skip_bad:
                    missing += 1
                    continue
                raise UserError(f"{where}: {self.root / name} is missing; complete the dataset, or set data.on_bad_file: skip")
            splits[split].append(self.root / name)
        if missing:
            self.tell_once(rank_zero_warn, f"skipped: {missing} of {len(seen)} recordings that {table} lists are missing")
        return splits


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of the last line of each row, and the row."""
    try:
        # utf-8-sig: some editors write a byte-order mark before the first column's name.
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            for column in ("split", "audio_filename"):
                if column not in (rows.fieldnames or ()):
                    raise UserError(f"{table}: has no column {column}; take the table that comes with the dataset")
            for row in rows:
                yield rows.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: cannot be read as a table: {error}; take the one that comes with the dataset") from error
