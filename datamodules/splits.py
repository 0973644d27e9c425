"""Which recordings there are, and splitting those that come without lists as the published tables do (the S4/SaShiMi repository)."""

from collections.abc import Iterator
from pathlib import Path

from natsort import natsorted

from datamodules.base import Split
from errors import UserError

TRAIN_SHARE = 0.88


def visible(folder: Path, pattern: str) -> Iterator[Path]:
    """The files of a folder that match, without hidden ones and those in hidden folders: `._x.wav` is what macOS notes of an `x.wav`."""
    for path in folder.glob(pattern):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        # A link that leads nowhere is a recording that is missing, not one less.
        if not hidden and (path.is_file() or (path.is_symlink() and not path.is_dir())):
            yield path


def split_by_order(root: Path, paths: list[Path]) -> dict[Split, list[Path]]:
    """The first 88 % of the files for training, the next 6 % for validation, the rest for testing.

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


def split_wavs(root: Path, dataset: str) -> dict[Split, list[Path]]:
    """The WAV files of a folder, split by order.

    Args:
        root: the folder.
        dataset: its name on the Hugging Face hub, for who does not have it yet.

    Raises:
        UserError: there is no such folder, or it holds too few WAV files.
    """
    paths = natsorted(visible(root, "*.wav"), key=lambda path: path.name)
    if not paths:
        raise UserError(
            f"{root}: there are no WAV files there. Get them from the dataset {dataset} of the Hugging Face hub (accept its terms there "
            "and log in): with --data.download true, or by hand, its *.wav into that folder; or name another with --data.root"
        )
    return split_by_order(root, paths)
