"""Base data module of Hugging Face datasets that are a folder of WAV files without split lists."""

from pathlib import Path

from natsort import natsorted

from datamodules.audio_folder import split_by_order
from datamodules.downloads import FetchedDataModule
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
