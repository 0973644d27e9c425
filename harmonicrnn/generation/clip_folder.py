"""A folder of generated clips and its manifest.json."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from harmonicrnn.audio import Quantiser
from harmonicrnn.audio.writing import writing
from harmonicrnn.errors import UserError
from harmonicrnn.files import PART, write_json
from harmonicrnn.generation.clip_writer import Clip, ClipFiles, Settings, bytes_needed
from harmonicrnn.generation.own_folder import holds_files, numbered_folder, sole_folder
from harmonicrnn.provenance import provenance

OURS = ("clip_*.wav", "clip_*.flac", "clip_*.npy", "prompt*.wav", "prompt*.flac", "prompt*.npy", "manifest.json", f".*{PART}")
PIECE = 1 << 16


class Generated:
    """Writes the `manifest.json` of a folder of clips: their origin, and a row for each clip, most likely first.

    Its "complete" is false until all clips are finished.

    Args:
        folder: need not exist yet.
        about: further entries of the manifest.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, folder / "manifest.json"
        self.about = about | provenance()
        self.clips: list[dict[str, Any]] = []
        self._format = about["settings"]["format"]

    def begin(self, settings: Settings, sample_rate: int, quantiser: Quantiser, prompts: Tensor | None) -> None:
        """Creates the folder, without clips of earlier calls, and writes the prompts (1 or clips, T) as decoded for the model.

        Raises:
            UserError: it cannot be written, or the disk has too little space.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            before = [path for pattern in OURS for path in self.folder.glob(pattern)]
            free = shutil.disk_usage(self.folder).free + sum(path.stat().st_size for path in before)
        needed = bytes_needed(settings, sample_rate, quantiser.bits) + (0 if prompts is None else 4 * prompts.numel())
        if needed > free:
            raise UserError(f"{self.folder}: {needed / 1e9:.3f} GB are needed there, {free / 1e9:.3f} GB are free")
        self._write(complete=False)  # first, so that remaining old clips do not count as complete
        with writing(self.folder):
            for path in before:
                if path != self.manifest:
                    path.unlink()
        heard = [] if prompts is None else list(prompts)
        for number, prompt in enumerate(heard):
            name = "prompt" if len(heard) == 1 else f"prompt_{number:04d}"
            files = ClipFiles(self.folder / name, quantiser, sample_rate, settings.format)
            for piece in prompt.split(PIECE):
                files.write(piece)
            files.close()

    def go_on(self) -> set[int]:
        """Resumes an interrupted folder; returns the numbers of its finished clips with intact files, none without such a folder or if
        its clips have another origin."""
        try:
            before = json.loads(self.manifest.read_text())
            same = all(json.loads(json.dumps(self.about[key])) == before[key] for key in ("checkpoint", "settings", "audio", "prompt"))
            self.clips = [row for row in before["clips"] if same and self._whole(row)]
        except (OSError, ValueError, KeyError):
            self.clips = []
        return {row["clip"] for row in self.clips}

    def _whole(self, row: dict[str, Any]) -> bool:
        try:
            return bool(len(np.load(self.folder / row["classes"])) == row["samples"] and (self.folder / row["file"]).is_file())
        except (OSError, ValueError, EOFError):
            return False

    def add(self, clips: Sequence[Clip], sample_rate: int) -> None:
        """Adds finished clips to the manifest."""
        self.clips += [
            {
                "clip": clip.number,
                "file": f"{clip.stem}.{self._format}",
                "classes": f"{clip.stem}.npy",
                "seconds": clip.samples / sample_rate,
                "samples": clip.samples,
                "bits_per_sample": clip.bits_per_sample,
                "findings": [asdict(finding) for finding in clip.findings],
                "redraws": clip.redraws,
            }
            for clip in clips
        ]
        self.clips.sort(key=lambda row: row["bits_per_sample"])
        self._write(complete=False)

    def finish(self) -> None:
        """Marks the manifest as complete."""
        self._write(complete=True)

    def _write(self, complete: bool) -> None:
        counts = {
            "redraws": sum(row["redraws"] for row in self.clips),
            "clips_with_findings": sum(bool(row["findings"]) for row in self.clips),
        }
        content = {"complete": complete, **self.about, **counts, "clips": self.clips}
        with writing(self.manifest):
            write_json(self.manifest, content)


@contextmanager
def hold_clips_folder(out: Path | None, run: Path, overwrite: bool) -> Iterator[Path]:
    """Creates the folder to write clips to and holds it for this process; removes it again if nothing was written.

    Args:
        out: named by the user; None for the first free `generated_N` of the run.
        run: the run's folder.
        overwrite: whether existing clips may be replaced.

    Raises:
        UserError: as `check_free`, or another process writes there.
    """
    if out is None:
        with numbered_folder(run, "generated", "generate") as folder:
            yield folder
        return
    check_free(out, overwrite)  # first, so that nothing is written into a folder of other files
    with sole_folder(out, "generate"):
        check_free(out, overwrite)  # another process may have written clips meanwhile
        yield out


def check_free(out: Path, overwrite: bool) -> None:
    """Raises UserError if the folder `out` for clips is in use, or is a file; creates nothing."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    if holds_files(out):
        if not overwrite:
            raise UserError(f"--out {out}: exists and is not empty; name another folder, or replace its clips with --overwrite")
        if not (out / "manifest.json").is_file():
            raise UserError(f"--out {out}: holds files but no manifest.json of generated clips; nothing in it is overwritten")
