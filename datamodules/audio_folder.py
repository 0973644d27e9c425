"""Data module for any folder of recordings, and functions that split recordings without lists."""

import hashlib
import re
from collections import defaultdict
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
"""Least number of recordings that are split by their order."""
HELD_OUT_SECONDS = 2.0
"""Least duration in seconds of the validation and of the test split."""
SPELLINGS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "validate", "dev", "development"),
    "test": ("test", "testing"),
}
EITHER = ("eval", "evaluation")
"""Folder names of the test split, or of the validation split if there is another test folder."""
WORDS: dict[str, Split] = {name: split for split, names in SPELLINGS.items() for name in names} | dict.fromkeys(EITHER, "test")


def split_by_order(root: Path, paths: list[Path]) -> dict[Split, list[Path]]:
    """Split files into the first 88 % (train), the next 6 % (validation) and the rest (test), as the S4/SaShiMi repository does.

    Args:
        root: folder of the files, for error messages.
        paths: files in natural order of their names: `out2.wav` before `out10.wav`.

    Raises:
        UserError: there are too few files for three splits.
    """
    n = len(paths)
    # Split points in floating point, as in the original repository.
    first, second = int(TRAIN_SHARE * n), int((TRAIN_SHARE + (1 - TRAIN_SHARE) / 2) * n)
    splits: dict[Split, list[Path]] = {"train": paths[:first], "validation": paths[first:second], "test": paths[second:]}
    for split, part in splits.items():
        if not part:
            raise UserError(f"{root}: {n} recordings are too few to be split 88/6/6 ({split} would be empty); {FEWEST} are enough")
    return splits


def split_inside(root: Path, entries: Sequence[Entry], sample_rate: int) -> dict[Split, list[Part]]:
    """Split recordings by time: the first 88 % for training, then 6 % each for validation and test, at least 2 s each.

    Raises:
        UserError: the recordings are shorter than three times a held-out split.
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


def with_longer_held_out(parts: dict[Split, list[Part]], sample_rate: int) -> dict[Split, list[Part]] | None:
    """Move whole recordings, the last of the split before, until validation and test have 2 s each; None if none are left to train."""
    found = {split: list(parts[split]) for split in SPLITS}
    for index in (2, 1):
        split = SPLITS[index]
        while sum(part.stop - part.start for part in found[split]) < HELD_OUT_SECONDS * sample_rate:
            donor = next((before for before in reversed(SPLITS[:index]) if found[before]), None)
            if donor is None:
                return None
            found[split].insert(0, found[donor].pop())
    return found if all(found.values()) else None


def split_folders(root: Path) -> dict[Split, Path]:
    """Return the subfolders of the splits, found by their names in any usual spelling; empty if there are none.

    Case, `-`, `_`, spaces and a suffix of set, split, data or clean make no difference.

    Raises:
        UserError: a split has no folder while another has, or a split has two, or folders seem to be splits but have other names.
    """
    found: dict[Split, list[Path]] = {split: [] for split in SPLITS}
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    names_of = {path: re.sub("(set|split|data|clean)+$", "", re.sub("[-_ ]", "", path.name.lower())) for path in folders}
    for split, names in SPELLINGS.items():
        found[split] = [path for path in folders if names_of[path] in names]
    found["validation" if found["test"] else "test"] += [path for path in folders if names_of[path] in EITHER]
    if not any(found.values()):
        _refuse_other_names(root, folders)
        return {}
    for split, paths in found.items():
        if len(paths) != 1:
            there = ", ".join(f"{path.name}/" for path in (paths or [path for each in found.values() for path in each]))
            what = f"more than one folder for the {split} split" if paths else f"none for the {split} split"
            raise UserError(
                f"{root}: the folders of the splits have {what}: {there}; give each of train/, validation/, test/ once, or none"
            )
    return {split: paths[0] for split, paths in found.items()}


def _refuse_other_names(root: Path, folders: Sequence[Path]) -> None:
    """Raise UserError if the names of folders with recordings begin with words for different splits, which would be mixed."""
    alike: dict[str, dict[Path, Split]] = defaultdict(dict)
    for path in folders:
        if match := re.match(r"[A-Z]?[a-z]+|[A-Z]+", path.name):
            word, rest = match[0].lower(), ""
            if word not in WORDS:  # `trainwavs` may be a split if there is `testwavs`
                word = max((each for each in WORDS if word.startswith(each)), key=len, default="")
                rest = path.name[len(word) :].lower()
            if word:
                alike[rest][path] = WORDS[word]
    for meant in alike.values():
        if len(set(meant.values())) > 1 and len({split for path, split in meant.items() if find_recordings(path)}) > 1:
            names = ", ".join(f"{path.name}/" for path in meant)
            raise UserError(
                f"{root}: folders seem to be splits but are not named as such: {names}; rename them train/, validation/ and test/, "
                "or, if they are none, so that their names begin with another word"
            )


def shard_cache() -> Path:
    """Return the folder for shards in the user's cache."""
    return user_cache_path("harmonicrnn") / "shards"


def cache_of(root: Path) -> Path:
    """Return the cache folder for the shards of the recordings in `root`."""
    place = root.resolve()
    return shard_cache() / f"{place.name[:40]}-{hashlib.sha256(bytes(place)).hexdigest()[:16]}"


class AudioFolder(AudioDataModule):
    """Audio files of any sample rate with 1 to 32 channels, found recursively, through links too; hidden files are ignored.

    Subfolders `train/`, `validation/` and `test/` (or `Train`, `val`, `dev`, `test_set` and such), if any, are the splits. Otherwise,
    the first 88 % of the files in natural order (`take2.wav` before `take10.wav`) are for training, the next 6 % for validation and the
    rest for test; more where that would be less than 2 s. If there are fewer than nine files, they are cut by time in these shares.

    Args:
        root: Folder of the recordings.
        scaling: Scaling of samples before quantisation: peak (largest absolute sample of the file, which keeps silence at the centre),
            clip or file (minimum and maximum of the clip or file), or none (fixed range [-1, 1]).
        shards: Folder for the prepared recordings, which are written to `shards_RATE` in it; null for one in the user's cache.
        kwargs: Settings of every dataset, see `AudioDataModule`.
    """

    def __init__(self, root: Path, scaling: Scaling = "peak", shards: Path | None = None, **kwargs: Any) -> None:
        super().__init__(root, scaling=scaling, shards=shards, **kwargs)

    def shard_home(self) -> Path:
        """Return the folder of the shards: `root` if it contains shards already, else one in the user's cache."""
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
                line = f"{self.root}: {len(others)} recordings lie outside the folders of the splits and are left out, such as {others[0]}"
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
        too_short = shortest < HELD_OUT_SECONDS and enough and not split_folders(self.root)
        longer = with_longer_held_out(parts, self.sample_rate) if too_short and not few else None
        if longer:
            parts = longer
            self.tell_once(
                rank_zero_info,
                f"{self.root}: a split would be {shortest:.2g} s: {len(parts['validation'])} recordings are for validation and "
                f"{len(parts['test'])} for testing, at least {HELD_OUT_SECONDS:g} s each",
            )
        elif few or too_short:
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
    """All recordings of a folder as the test split."""

    def files(self) -> dict[Split, list[Path]]:
        found = find_recordings(self.root)
        if not found:
            raise UserError(f"{self.root}: {NO_RECORDINGS} in it or below it")
        return {"train": [], "validation": [], "test": found}

    def parts(self, entries: Collection[Entry]) -> dict[Split, list[Part]]:
        return AudioDataModule.parts(self, entries)

    def title(self, split: Split) -> str:
        return str(self.root)
