"""Datasets that can be fetched."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from datamodules.audio_datamodule import AudioDataModule
from datamodules.downloads import Archive, fetch_dataset


class FetchedDataModule(AudioDataModule):
    """A dataset that is published as an archive.

    Args:
        root: Its folder.
        download: Fetch it into its folder if it is not there.
        kwargs: As for every dataset.
    """

    archive: Archive

    def __init__(self, root: Path, download: bool = False, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.download = download

    @staticmethod
    @abstractmethod
    def holds_data(folder: Path) -> bool:
        """Whether the dataset lies in the folder."""

    def fetch(self) -> None:
        if self.download:
            fetch_dataset(self.root, self.archive, self.holds_data)
