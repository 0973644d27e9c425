"""YouTubeMix: four hours of piano in clips of one minute (DeepSound; SaShiMi, arXiv 2202.09729)."""

from pathlib import Path
from typing import Any

from datamodules.base import AudioDataModule, Split
from datamodules.splits import split_wavs


class YouTubeMix(AudioDataModule):
    """Piano, split 88/6/6 in natural order of the file names; rests shorter than a clip are dropped.

    Args:
        root: Folder with the dataset's `*.wav` (`out000.wav` and on).
        kwargs: As for every dataset.
    """

    keep_tails = False

    def __init__(self, root: Path = Path("data/youtube_mix"), **kwargs: Any) -> None:
        super().__init__(root, **kwargs)

    def files(self) -> dict[Split, list[Path]]:
        return split_wavs(self.root, "krandiash/youtubemix")
