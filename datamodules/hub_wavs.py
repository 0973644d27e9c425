"""Beethoven and YouTubeMix: Hugging Face datasets that are folders of WAV files without split lists (SaShiMi, arXiv 2202.09729)."""

from pathlib import Path
from typing import Any

from natsort import natsorted

from datamodules.audio_folder import split_by_order
from datamodules.downloads import Archive, FetchedDataModule
from harmonicrnn.audio.dataset import Split
from harmonicrnn.audio.folders import visible
from harmonicrnn.errors import UserError


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
