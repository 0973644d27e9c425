"""Any folder of recordings, and the splits of those that come without lists."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from platformdirs import user_cache_path

from datamodules.audio_datamodule import AudioDataModule, Part
from datamodules.manifest import MANIFEST, Entry
from harmonicrnn.audio import Scaling
from harmonicrnn.audio.dataset import SPLITS, Split
from harmonicrnn.audio.folders import NO_RECORDINGS, find_recordings
from harmonicrnn.errors import UserError

TRAIN_SHARE = 0.88
FEWEST = 9
"""Recordings that can be split by their order."""
HELD_OUT_SECONDS = 2.0
"""At least, of validation and of testing each."""
SPELLINGS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "validate", "dev", "development"),
    "test": ("test", "testing"),
}
EITHER = ("eval", "evaluation")
"""Names of the split for testing, or for validation where another one is for testing."""


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
            raise UserError(f"{root}: {n} recordings are too few to be split 88/6/6 ({split} would be empty); {FEWEST} are enough")
    return splits


def split_inside(root: Path, entries: Sequence[Entry], sample_rate: int) -> dict[Split, list[Part]]:
    """The same shares of the recordings' time, one after another: of the last 12 % half for validation and half for testing, and of each at
    least 2 s.

    Raises:
        UserError: there are not three times 2 s.
    """
    total, fewest = sum(entry.length for entry in entries), round(HELD_OUT_SECONDS * sample_rate)
    held_out = max(fewest, round((1 - TRAIN_SHARE) / 2 * total))
    if total < 3 * held_out:
        raise UserError(
            f"{root}: {len(entries)} recordings of {total / sample_rate:.3g} s together are too short for three splits: "
            f"{3 * HELD_OUT_SECONDS:g} s are enough, or {FEWEST} recordings, or some in each of train/, validation/ and test/"
        )
    bounds = {"train": (0, total - 2 * held_out), "validation": (total - 2 * held_out, total - held_out), "test": (total - held_out, total)}
    splits: dict[Split, list[Part]] = {split: [] for split in SPLITS}
    offset = 0
    for entry in entries:
        for split in SPLITS:
            start, stop = (min(max(bound - offset, 0), entry.length) for bound in bounds[split])
            if stop > start:
                splits[split].append(Part(entry, start, stop))
        offset += entry.length
    return splits


def split_folders(root: Path) -> dict[Split, Path]:
    """The sub-folders that are the splits, by their names, in any usual spelling; none where there are none.

    Raises:
        UserError: one is missing, or two are the same split.
    """
    found: dict[Split, list[Path]] = {split: [] for split in SPLITS}
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    for split, names in SPELLINGS.items():
        found[split] = [path for path in folders if path.name.lower() in names]
    found["validation" if found["test"] else "test"] += [path for path in folders if path.name.lower() in EITHER]
    if not any(found.values()):
        return {}
    for split, paths in found.items():
        if len(paths) != 1:
            there = ", ".join(f"{path.name}/" for path in (paths or [path for each in found.values() for path in each]))
            what = f"more than one folder for the {split} split" if paths else f"none for the {split} split"
            raise UserError(
                f"{root}: of the splits' folders there is {what}: {there}; give each of train/, validation/, test/ once, or none"
            )
    return {split: paths[0] for split, paths in found.items()}


def shard_cache() -> Path:
    """The folder in the user's cache for shards."""
    return user_cache_path("harmonicrnn") / "shards"


def cache_of(root: Path) -> Path:
    """The folder there for those of a folder of recordings."""
    place = root.resolve()
    return shard_cache() / f"{place.name[:40]}-{hashlib.sha256(bytes(place)).hexdigest()[:16]}"


class AudioFolder(AudioDataModule):
    """Audio files at any rate with 1 to 32 channels, in the folder or anywhere below it, behind links too; hidden ones are left out.

    Sub-folders `train/`, `validation/` and `test/` are the splits where they are there (or `Train`, `val`, `valid`, `dev`, `eval`, say);
    else the first 88 % of the files in natural order (`take2.wav` before `take10.wav`) are for training, the next 6 % for validation and
    the rest for testing. Fewer than nine files, and more where a split would have less than 2 s, are cut instead, in these shares of their
    time.

    Args:
        root: Folder of the recordings.
        scaling: What samples are scaled by before quantising: the file's peak, its largest absolute sample, which keeps silence in the
            middle; the extremes of the clip, or of the file; or none, nothing (the fixed range [-1, 1]).
        shards: Folder for the prepared recordings, which lie in `shards_RATE` in it; null for one in the user's cache.
        kwargs: As for every dataset.
    """

    def __init__(self, root: Path, scaling: Scaling = "peak", shards: Path | None = None, **kwargs: Any) -> None:
        super().__init__(root, scaling=scaling, shards=shards, **kwargs)

    def shard_home(self) -> Path:
        """In the user's cache, unless they lie among the recordings already."""
        return self.root if (self.root / f"shards_{self.sample_rate}" / MANIFEST).is_file() else cache_of(self.root)

    def files(self) -> dict[Split, list[Path]]:
        if not self.root.is_dir():
            raise UserError(f"{self.root}: there is no such folder; name the one with your recordings with --data.root")
        paths = find_recordings(self.root)
        if folders := split_folders(self.root):
            by_folder = {split: find_recordings(folder) for split, folder in folders.items()}
            for split, found in by_folder.items():
                if not found:
                    raise UserError(f"{folders[split]}: {NO_RECORDINGS}; each of the splits' folders needs some")
            used = {path.resolve() for found in by_folder.values() for path in found}
            if others := [path for path in paths if path.resolve() not in used]:
                line = f"{self.root}: {len(others)} recordings lie outside the folders of the splits and are left out, {others[0]} say"
                self.tell_once(rank_zero_warn, line)
            return by_folder
        if not paths:
            raise UserError(f"{self.root}: {NO_RECORDINGS} in it or below it")
        return {"train": paths, "validation": [], "test": []} if len(paths) < FEWEST else split_by_order(self.root, paths)

    def parts(self, entries: Collection[Entry]) -> dict[Split, list[Part]]:
        parts = super().parts(entries)
        shortest = min(self._seconds(parts[split]) for split in SPLITS[1:])
        few = not any(entry.split != "train" for entry in entries)
        enough = sum(map(self._seconds, parts.values())) >= 3 * HELD_OUT_SECONDS
        if few or (shortest < HELD_OUT_SECONDS and enough and not split_folders(self.root)):
            parts = split_inside(self.root, [entry for entry in entries if not entry.error], self.sample_rate)
            why = f"under {FEWEST}" if few else f"of which a split would be {shortest:.2g} s"
            self.tell_once(
                rank_zero_info,
                f"{self.root}: {len(entries)} recordings, {why}: cut by their time, the last 12 % for validation and testing, "
                f"at least {HELD_OUT_SECONDS:g} s each",
            )
        for split in SPLITS[1:]:
            if 0 < (seconds := self._seconds(parts[split])) < HELD_OUT_SECONDS:
                self.tell_once(rank_zero_warn, f"{self.root}: the {split} split is {seconds:.2g} s, too little to tell models apart")
        return parts

    def _seconds(self, parts: Sequence[Part]) -> float:
        return sum(part.stop - part.start for part in parts) / self.sample_rate


class WholeFolder(AudioFolder):
    """All recordings of a folder as one split, the test split."""

    def files(self) -> dict[Split, list[Path]]:
        found = find_recordings(self.root)
        if not found:
            raise UserError(f"{self.root}: {NO_RECORDINGS} in it or below it")
        return {"train": [], "validation": [], "test": found}

    def parts(self, entries: Collection[Entry]) -> dict[Split, list[Part]]:
        return AudioDataModule.parts(self, entries)

    def title(self, split: Split) -> str:
        return str(self.root)
