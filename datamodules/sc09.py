"""SC09: the ten spoken digits of Speech Commands v0.02 (Warden, arXiv 1804.03209), one second each."""

from pathlib import Path
from typing import Any

from datamodules.base import AudioDataModule, Split
from errors import UserError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LISTS: dict[str, Split] = {"validation_list.txt": "validation", "testing_list.txt": "test"}


class SC09(AudioDataModule):
    """Spoken digits, split by the dataset's own lists. Clips may be shorter than a second; padding is not counted.

    Args:
        root: Folder with `zero/` to `nine/`, `validation_list.txt` and `testing_list.txt`.
        download: Fetch Speech Commands v0.02 (2.3 GB) into the folder if it is not there.
        kwargs: As for every dataset.
    """

    def __init__(self, root: Path = Path("data/sc09"), download: bool = False, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.download = download

    def fetch(self) -> None:
        if self.download and not self._home().is_dir():
            from torchaudio.datasets import SPEECHCOMMANDS  # imported where the user asked for it

            made = not self.root.exists()
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                SPEECHCOMMANDS(self.root, url="speech_commands_v0.02", download=True)
            except (OSError, RuntimeError) as error:
                if made and not any(self.root.iterdir()):
                    self.root.rmdir()
                raise UserError(f"{self.root}: Speech Commands v0.02 could not be downloaded: {error}") from error

    def files(self) -> dict[Split, list[Path]]:
        home = self._home()
        if not home.is_dir():
            raise UserError(
                f"{self.root}: there is no such folder. Put the digits of Speech Commands v0.02 there ({DIGITS[0]}/ to {DIGITS[-1]}/, "
                "validation_list.txt, testing_list.txt), give another with --data.root, or fetch it with --data.download true"
            )
        listed: dict[str, Split] = {}
        for name, split in LISTS.items():
            path = home / name
            if not path.is_file():
                raise UserError(f"{path}: missing; it says which recordings belong to the {split} split, and comes with the dataset")
            for line in path.read_text().split():
                if line.split("/")[0] in DIGITS:
                    listed[line] = split
        splits: dict[Split, list[Path]] = {"train": [], "validation": [], "test": []}
        for path in sorted(path for digit in DIGITS for path in home.glob(f"{digit}/*.wav")):
            splits[listed.pop(path.relative_to(home).as_posix(), "train")].append(path)
        if listed:
            raise UserError(f"{home}: {len(listed)} listed recordings are missing, the first {next(iter(listed))}; complete the dataset")
        if not splits["train"]:
            raise UserError(f"{home}: no recordings in {DIGITS[0]}/ to {DIGITS[-1]}/ beside the listed ones")
        return splits

    def _home(self) -> Path:
        """The folder itself, or the one inside it that torchaudio unpacks its download to."""
        unpacked = self.root / "SpeechCommands" / "speech_commands_v0.02"
        wanted = self.download and not (self.root / "testing_list.txt").is_file()
        return unpacked if unpacked.is_dir() or wanted else self.root
