"""The folder of an evaluation, and the clips that are drawn into it; a call that was cut short is continued by the same one."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmonicrnn import Voice
from harmonicrnn.audio import Quantiser
from harmonicrnn.audio.dataset import Dataset, Split
from harmonicrnn.audio.writing import writing
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.subjects import Subject
from harmonicrnn.files import check_writable, replacing
from harmonicrnn.generation.clip_folder import Generated
from harmonicrnn.generation.clip_writer import ClipWriter, Settings
from harmonicrnn.generation.detectors import Reference
from harmonicrnn.generation.sampler import starting_states

SETTINGS, CLIPS, SHARDS = "settings.json", "clips", "shards"
REPORT, PAGE = "report.json", "report.html"


def choose_folder(out: Path | None, run: Path | None, settings: dict[str, Any], overwrite: bool) -> Path:
    """The folder of an evaluation with these settings, on which all drawn clips depend; nothing is made or removed yet.

    Args:
        out: what the user named; None for `evaluation_N` in the run's folder: the last one where it was cut short with these settings,
            else a new one.
        run: the folder of the first run; None where there is none.
        settings: as JSON knows them.
        overwrite: whether another evaluation that is there may be replaced.

    Raises:
        UserError: the folder is in use, cannot be written, or is none.
    """
    if out is None:
        if run is None:
            raise UserError("name a folder for the report with --out: no run is evaluated in whose folder it would lie")
        number = 0
        while (run / f"evaluation_{number}").exists():
            number += 1
        last = run / f"evaluation_{number - 1}"
        goes_on = _settings_in(last) == settings and not (last / REPORT).exists()
        out = last if goes_on else run / f"evaluation_{number}"
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()):
        if (before := _settings_in(out)) is None:
            raise UserError(f"--out {out}: holds files but no {SETTINGS} of an evaluation; nothing in it is overwritten")
        if before != settings and not overwrite:
            differing = ", ".join(key for key in settings if before.get(key) != settings[key])
            raise UserError(
                f"--out {out}: holds an evaluation with other settings ({differing}); name another folder, or replace it with --overwrite"
            )
    check_writable(out)
    return out


def begin_folder(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Make the folder; what is there is kept where it has the same settings and is not to be overwritten."""
    with writing(folder):
        if overwrite or _settings_in(folder) != settings:
            for name in (REPORT, PAGE, SETTINGS):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / CLIPS, ignore_errors=True)
        with replacing(folder / SETTINGS) as file:
            file.write((json.dumps(settings, indent=2) + "\n").encode())


def _settings_in(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / SETTINGS).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


@dataclass(frozen=True)
class Drawn:
    """Clips in a folder: rows of their manifest, by clip number, and what their classes mean."""

    folder: Path
    rows: list[dict[str, Any]]
    quantiser: Quantiser

    def classes(self, number: int) -> Tensor:
        """Of a clip (T,)."""
        return torch.from_numpy(np.load(self.folder / self.rows[number]["classes"]).astype(np.int64))

    def audio(self, number: int) -> Tensor:
        """A clip (T,) in [-1, 1]."""
        return self.quantiser.decode_centre(self.classes(number))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Tensor]:
        return (self.audio(number) for number in range(len(self)))


def draw_clips(
    folder: Path,
    subject: Subject,
    voice: Voice,
    settings: Settings,
    prompts: Tensor | None,
    usual: Reference,
    progress: Callable[[int], None],
) -> Drawn:
    """Clips of a model, those that are there kept and the others drawn.

    Args:
        folder: of the clips.
        subject, voice: the model.
        settings: what is drawn.
        prompts: (clips, T) classes that are continued, a clip each; None for none.
        usual: what clips are compared with.
        progress: is told of each number of samples that are there.
    """
    prompt = None if prompts is None else {"samples": prompts.shape[1]}
    about = {
        "checkpoint": {"sha256": subject.checksum},
        "settings": vars(settings) | {"weights": "full"},
        "audio": {"sample_rate": voice.sample_rate, "bits": voice.quantiser.bits, "law": voice.quantiser.law},
        "prompt": prompt,
    }
    generated = Generated(folder, about)
    if finished := generated.go_on():
        progress(len(finished) * settings.samples(voice.sample_rate))
    else:
        generated.begin(settings, voice.sample_rate, voice.quantiser, prompts)
    if len(finished) < settings.clips:
        writer = ClipWriter(voice.engine(), starting_states(voice.net, prompts), voice.quantiser, voice.sample_rate, usual, progress)
        clips = writer.write(folder, settings, finished)
        while batch := list(islice(clips, settings.batch)):  # which are finished together
            generated.add(batch, voice.sample_rate)
    generated.finish()
    return Drawn(folder, sorted(generated.clips, key=lambda row: row["clip"]), voice.quantiser)


def clips_folder(out: Path, number: int, subject: Subject) -> Path:
    """Where the clips of the subject of this number lie."""
    return out / CLIPS / f"{number}_{re.sub(r'[^A-Za-z0-9.-]+', '_', subject.name)}"


def chosen_examples(data: Dataset, split: Split, examples: int) -> tuple[list[int], Tensor]:
    """Clips of a split to listen to, evenly spread over it, with their first halves as prompts.

    Returns:
        the clips' numbers, as many as there are that are longer than half a clip, and the prompts (clips, T) classes.
    """
    clips, half = data.clip_count(split), max(1, data.clip_samples // 2)
    numbers: list[int] = []
    prompts: list[Tensor] = []
    for start in np.linspace(0, clips, examples, endpoint=False).astype(int).tolist():
        for number in (*range(start, clips), *range(start)):
            clip = data.clip(split, number)
            if number not in numbers and clip.valid.sum() > half:
                numbers.append(number)
                prompts.append(clip.classes[:half].long())
                break
    return numbers, torch.stack(prompts) if prompts else torch.empty(0, half, dtype=torch.long)


def save_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all; raises where a number is not finite."""
    with writing(path), replacing(path) as file:
        file.write((json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
