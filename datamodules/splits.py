"""Which recordings there are, and splitting those that come without lists as the published tables do (the S4/SaShiMi repository)."""

from pathlib import Path

from natsort import natsorted

from harmonicrnn.audio.dataset import Split
from harmonicrnn.audio.folders import visible
from harmonicrnn.errors import UserError

TRAIN_SHARE = 0.88


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
