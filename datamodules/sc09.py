"""SC09: the ten spoken digits of Speech Commands v0.02, 1 s each (Warden, arXiv 1804.03209), with their labels or without."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.clip_dataset import Recordings
from datamodules.downloads import Archive, FetchedDataModule
from harmonicrnn.audio.dataset import Batch, Split
from harmonicrnn.audio.folders import visible
from harmonicrnn.errors import UserError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LISTS: dict[str, Split] = {"validation_list.txt": "validation", "testing_list.txt": "test"}


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
