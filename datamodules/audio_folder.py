"""Any folder of recordings."""

from pathlib import Path

from datamodules.audio_datamodule import AudioDataModule
from datamodules.splits import split_by_order
from harmonicrnn.audio.dataset import Split
from harmonicrnn.audio.folders import find_recordings
from harmonicrnn.audio.reading import SUFFIXES
from harmonicrnn.errors import UserError


class AudioFolder(AudioDataModule):
    """WAV, FLAC and OGG files at any rate with 1 to 32 channels, in the folder or anywhere below it; hidden ones are left out.

    Sub-folders `train/`, `validation/` and `test/` are the splits where they are there; else the first 88 % of the files in natural order
    (`take2.wav` before `take10.wav`) are for training, the next 6 % for validation and the rest for testing.
    """

    def files(self) -> dict[Split, list[Path]]:
        if not self.root.is_dir():
            raise UserError(f"{self.root}: there is no such folder; name the one with your recordings with --data.root")
        splits: tuple[Split, ...] = ("train", "validation", "test")
        by_folder = {split: find_recordings(self.root / split) for split in splits}
        if any((self.root / split).is_dir() for split in splits):
            for split, paths in by_folder.items():
                if not paths:
                    raise UserError(
                        f"{self.root / split}: no {', '.join(SUFFIXES)} files; each of train/, validation/ and test/ needs some"
                    )
            return by_folder
        paths = find_recordings(self.root)
        if not paths:
            raise UserError(f"{self.root}: no {', '.join(SUFFIXES)} files in it or below it")
        try:
            return split_by_order(self.root, paths)
        except UserError as error:
            raise UserError(f"{error}: cut them into more files, or sort them into train/, validation/ and test/") from error


class WholeFolder(AudioFolder):
    """All recordings of a folder as one split, the test split."""

    def files(self) -> dict[Split, list[Path]]:
        found = find_recordings(self.root)
        if not found:
            raise UserError(f"{self.root}: no audio files (.wav, .flac, .ogg) in it or below it")
        return {"train": [], "validation": [], "test": found}

    def title(self, split: Split) -> str:
        return str(self.root)
