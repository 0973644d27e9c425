"""Published datasets: SC09, MAESTRO, and the Hugging Face datasets Beethoven and YouTubeMix.

SC09 has the ten spoken digits of Speech Commands v0.02 (Warden, arXiv 1804.03209), 1 s each; MAESTRO v3.0.0 about 200 hours of piano
recordings (Hawthorne et al., arXiv 1810.12247). The others are folders of WAV files without split lists (SaShiMi, arXiv 2202.09729).
"""

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from natsort import natsorted
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.audio_folder import split_by_order
from datamodules.clip_dataset import Recordings
from datamodules.downloads import Archive, FetchedDataModule
from harmonicrnn.audio.dataset import SPLITS, Batch, Split
from harmonicrnn.audio.folders import visible
from harmonicrnn.errors import UserError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LISTS: dict[str, Split] = {"validation_list.txt": "validation", "testing_list.txt": "test"}
TABLE = "maestro-v3.0.0.csv"


class SC09(FetchedDataModule):
    """Spoken digits, split by the dataset's lists. Clips may be shorter than 1 s; padding is not counted in likelihoods.

    Args:
        root: Folder with `zero/` to `nine/`, `validation_list.txt` and `testing_list.txt`.
        download: Download Speech Commands v0.02 (2.4 GB, unpacked 3.4 GB) to `root` if it is missing.
        kwargs: Settings of every dataset, see `AudioDataModule`.
    """

    archive = Archive(
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        unpacked=4_000_000_000,
    )

    def __init__(self, root: Path = Path("data/sc09"), download: bool = False, **kwargs: Any) -> None:
        super().__init__(root, download, **kwargs)

    @staticmethod
    def holds_data(folder: Path) -> bool:
        return any((folder / name).exists() for name in (*LISTS, *DIGITS))

    def files(self) -> dict[Split, list[Path]]:
        home = self.root
        if not home.is_dir():
            raise UserError(
                f"{self.root}: there is no such folder. Put the digits of Speech Commands v0.02 there ({DIGITS[0]}/ to {DIGITS[-1]}/, "
                "validation_list.txt, testing_list.txt), give another with --data.root, or fetch it with --data.download true"
            )
        listed: dict[str, Split] = {}
        for name, split in LISTS.items():
            path = home / name
            if not path.is_file():
                raise UserError(f"{path}: missing; it says which recordings belong to the {split} split, and comes with the dataset")
            # utf-8-sig: some editors write a byte-order mark before the first name.
            for line in path.read_text(encoding="utf-8-sig", errors="replace").split():
                if line in listed:
                    raise UserError(f"{path}: {line} is listed twice, here or in the other list; take the lists that come with the dataset")
                if line.split("/")[0] in DIGITS:
                    listed[line] = split
        splits: dict[Split, list[Path]] = {"train": [], "validation": [], "test": []}
        for path in sorted(path for digit in DIGITS for path in visible(home, f"{digit}/*.wav")):
            splits[listed.pop(path.relative_to(home).as_posix(), "train")].append(path)
        if listed:
            raise UserError(f"{home}: {len(listed)} listed recordings are missing, the first {next(iter(listed))}; complete the dataset")
        if not splits["train"]:
            raise UserError(f"{home}: no recordings in {DIGITS[0]}/ to {DIGITS[-1]}/ other than the listed ones")
        return splits

    def labels(self, split: Split) -> Tensor:
        """Return the digit of each clip of a split, int64 (clips,), from the name of its recording's folder."""
        source = self.datasets[split].source
        assert isinstance(source, Recordings)
        digits = [DIGITS.index(Path(entry.source).parent.name) for entry in source.entries]
        return torch.tensor([digits[piece.recording] for piece in self._table(split)])


class SC09Digits(SC09):
    """SC09 with labels. Validation also runs over the test split, so that checkpoints contain its accuracy.

    Args:
        kwargs: Settings of `SC09`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.order != "clips":
            raise UserError(f"data.order must be clips where clips have labels, got {self.order}")

    def setup(self, stage: str) -> None:
        super().setup(stage)
        super().setup("test")

    def val_dataloader(self) -> list[DataLoader[Batch]]:  # type: ignore[override]
        """Return the loaders of the validation split and of the test split."""
        return [super().val_dataloader(), self.test_dataloader()]


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


class HubWavs(FetchedDataModule):
    """WAV files, split 88/6/6 in natural order of their names, as in published results; remainders shorter than a clip are dropped."""

    keep_tails = False

    @staticmethod
    def holds_data(folder: Path) -> bool:
        return any(visible(folder, "*.wav"))

    def files(self) -> dict[Split, list[Path]]:
        paths = natsorted(visible(self.root, "*.wav"), key=lambda path: path.name)
        if not paths:
            raise UserError(
                f"{self.root}: there are no WAV files there. Get them from the dataset {self.archive.dataset} of the Hugging Face hub "
                "(accept its terms there and log in): with --data.download true, or by hand, its *.wav into that folder; or name another "
                "with --data.root"
            )
        return split_by_order(self.root, paths)


class Beethoven(HubWavs):
    """The 32 piano sonatas in clips of 8 s, split 88/6/6 in natural order of the file names; remainders shorter than a clip are dropped.

    Args:
        root: Folder with the dataset's `*.wav`.
        download: Download the dataset to `root` if it is missing, with your login to the Hugging Face hub.
        kwargs: Settings of every dataset, see `AudioDataModule`.
    """

    archive = Archive("hf://datasets/krandiash/beethoven/beethoven.zip", unpacked=1_300_000_000)

    def __init__(self, root: Path = Path("data/beethoven"), download: bool = False, **kwargs: Any) -> None:
        super().__init__(root, download, **kwargs)


class YouTubeMix(HubWavs):
    """Four hours of piano in clips of 1 min (DeepSound), split 88/6/6 in natural order of the file names; remainders shorter than a clip
    are dropped.

    Args:
        root: Folder with the dataset's `*.wav` (`out000.wav` and so on).
        download: Download the dataset to `root` if it is missing, with your login to the Hugging Face hub.
        kwargs: Settings of every dataset, see `AudioDataModule`.
    """

    archive = Archive("hf://datasets/krandiash/youtubemix/youtube_mix.zip", unpacked=600_000_000)

    def __init__(self, root: Path = Path("data/youtube_mix"), download: bool = False, **kwargs: Any) -> None:
        super().__init__(root, download, **kwargs)
