"""Beethoven dataset: the 32 piano sonatas as clips of 8 s (SaShiMi, arXiv 2202.09729)."""

from pathlib import Path
from typing import Any

from datamodules.downloads import Archive
from datamodules.hub_wavs import HubWavs


class Beethoven(HubWavs):
    """Piano sonatas, split 88/6/6 in natural order of the file names; remainders shorter than a clip are dropped.

    Args:
        root: Folder with the dataset's `*.wav`.
        download: Download the dataset to `root` if it is missing, with your login to the Hugging Face hub.
        kwargs: Settings of every dataset, see `AudioDataModule`.
    """

    archive = Archive("hf://datasets/krandiash/beethoven/beethoven.zip", unpacked=1_300_000_000)

    def __init__(self, root: Path = Path("data/beethoven"), download: bool = False, **kwargs: Any) -> None:
        super().__init__(root, download, **kwargs)
