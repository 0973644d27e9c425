"""YouTubeMix dataset: four hours of piano in clips of 1 min (DeepSound; SaShiMi, arXiv 2202.09729)."""

from pathlib import Path
from typing import Any

from datamodules.downloads import Archive
from datamodules.hub_wavs import HubWavs


class YouTubeMix(HubWavs):
    """Piano, split 88/6/6 in natural order of the file names; remainders shorter than a clip are dropped.

    Args:
        root: Folder with the dataset's `*.wav` (`out000.wav` and so on).
        download: Download the dataset to `root` if it is missing, with your login to the Hugging Face hub.
        kwargs: Settings of every dataset, see `AudioDataModule`.
    """

    archive = Archive("hf://datasets/krandiash/youtubemix/youtube_mix.zip", unpacked=600_000_000)

    def __init__(self, root: Path = Path("data/youtube_mix"), download: bool = False, **kwargs: Any) -> None:
        super().__init__(root, download, **kwargs)
