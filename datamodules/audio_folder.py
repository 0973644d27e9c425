"""Any folder of recordings."""

from pathlib import Path

from natsort import natsorted

from audio.reading import SUFFIXES
from datamodules.base import AudioDataModule, Split
from datamodules.splits import split_by_order, visible
from errors import UserError


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


def find_recordings(folder: Path) -> list[Path]:
    """The audio files in a folder, at any depth, in natural order of their names."""
    return natsorted((p for p in visible(folder, "**/*") if p.suffix.lower() in SUFFIXES), key=lambda p: p.as_posix())
