"""Beethoven: the 32 piano sonatas as clips of eight seconds (SaShiMi, arXiv 2202.09729)."""

from pathlib import Path
from typing import Any

from datamodules.base import AudioDataModule, Split
from datamodules.splits import split_wavs


class Beethoven(AudioDataModule):
    """Piano sonatas, split 88/6/6 in natural order of the file names; rests shorter than a clip are dropped.

    Args:
        root: Folder with the dataset's `*.wav`.
        kwargs: As for every dataset.
    """

    keep_tails = False

    def __init__(self, root: Path = Path("data/beethoven"), **kwargs: Any) -> None:
        super().__init__(root, **kwargs)

    def files(self) -> dict[Split, list[Path]]:
        return split_wavs(self.root, "krandiash/beethoven")
