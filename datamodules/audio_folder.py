"""Any folder of recordings, and the splits of those that come without lists."""

from pathlib import Path

from datamodules.audio_datamodule import AudioDataModule
from harmonicrnn.audio.dataset import SPLITS, Split
from harmonicrnn.audio.folders import find_recordings
from harmonicrnn.audio.reading import SUFFIXES
from harmonicrnn.errors import UserError

TRAIN_SHARE = 0.88
NONE = f"no {', '.join(SUFFIXES)} files"


def split_by_order(root: Path, paths: list[Path]) -> dict[Split, list[Path]]:
    """The first 88 % of the files for training, the next 6 % for validation, the rest for testing (as the S4/SaShiMi repository does).

    Args:
        root: their folder, named in errors.
        paths: the files in natural order of their names: `out2.wav` before `out10.wav`.

    Raises:
        UserError: there are too few files for three splits.
    """
    n = len(paths)
    # The split points in floating point as their source computes them.
    first, second = int(TRAIN_SHARE * n), int((TRAIN_SHARE + (1 - TRAIN_SHARE) / 2) * n)
    splits: dict[Split, list[Path]] = {"train": paths[:first], "validation": paths[first:second], "test": paths[second:]}
    for split, part in splits.items():
        if not part:
            raise UserError(f"{root}: {n} recordings are too few to be split 88/6/6 (the {split} split would be empty); 9 are enough")
    return splits


class AudioFolder(AudioDataModule):
    """WAV, FLAC and OGG files at any rate with 1 to 32 channels, in the folder or anywhere below it; hidden ones are left out.

    Sub-folders `train/`, `validation/` and `test/` are the splits where they are there; else the first 88 % of the files in natural order
    (`take2.wav` before `take10.wav`) are for training, the next 6 % for validation and the rest for testing.
    """

    def files(self) -> dict[Split, list[Path]]:
        if not self.root.is_dir():
            raise UserError(f"{self.root}: there is no such folder; name the one with your recordings with --data.root")
        if any((self.root / split).is_dir() for split in SPLITS):
            by_folder = {split: find_recordings(self.root / split) for split in SPLITS}
            for split, paths in by_folder.items():
                if not paths:
                    raise UserError(f"{self.root / split}: {NONE}; each of train/, validation/ and test/ needs some")
            return by_folder
        paths = find_recordings(self.root)
        if not paths:
            raise UserError(f"{self.root}: {NONE} in it or below it")
        try:
            return split_by_order(self.root, paths)
        except UserError as error:
            raise UserError(f"{error}: cut them into more files, or sort them into train/, validation/ and test/") from error


class WholeFolder(AudioFolder):
    """All recordings of a folder as one split, the test split."""

    def files(self) -> dict[Split, list[Path]]:
        found = find_recordings(self.root)
        if not found:
            raise UserError(f"{self.root}: no audio files ({', '.join(SUFFIXES)}) in it or below it")
        return {"train": [], "validation": [], "test": found}

    def title(self, split: Split) -> str:
        return str(self.root)
