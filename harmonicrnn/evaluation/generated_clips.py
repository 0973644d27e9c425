"""Draws a model's clips into a folder for evaluation, and resumes interrupted drawing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.audio import Quantiser
from harmonicrnn.generation.clip_folder import Generated
from harmonicrnn.generation.clip_writer import ClipWriter, Settings
from harmonicrnn.generation.detectors import Reference
from harmonicrnn.generation.sampler import starting_states
from harmonicrnn.voice import Voice


@dataclass(frozen=True)
class GeneratedClips:
    """Clips drawn by a model, by index.

    Attributes:
        files: of their classes.
        bits_per_sample: of each clip, under the model that drew it.
        with_findings: number of clips with noise, a whistle or silence.
        quantiser: decodes classes.
    """

    files: list[Path]
    bits_per_sample: list[float]
    with_findings: int
    quantiser: Quantiser

    def classes(self, number: int) -> Tensor:
        """Returns a clip's classes (T,)."""
        return torch.from_numpy(np.load(self.files[number]).astype(np.int64))

    def audio(self, number: int) -> Tensor:
        """Returns a clip (T,) in [-1, 1]."""
        return self.quantiser.decode_centre(self.classes(number))

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Tensor]:
        return (self.audio(number) for number in range(len(self)))


class ModelClips(NamedTuple):
    """Clips drawn by a model: unconditional ones, and continuations of prompts (None without prompts)."""

    generated: GeneratedClips
    continued: GeneratedClips | None


def draw_clips(
    folder: Path,
    checksum: str,
    model: Voice,
    settings: Settings,
    prompts: Tensor | None,
    detectors: Reference,
    progress: Callable[[int], None],
) -> GeneratedClips:
    """Returns a model's clips; finished ones in the folder are kept, the others are drawn.

    Args:
        folder: of the clips.
        checksum: of the model's checkpoint.
        model: to draw from.
        settings: of the drawing.
        prompts: classes (clips, T) to continue, one row per clip; None for none.
        detectors: find noise and silence.
        progress: called with numbers of finished samples.
    """
    about = {
        "checkpoint": {"sha256": checksum},
        "settings": vars(settings) | {"weights": "full"},
        "audio": {"sample_rate": model.sample_rate, "bits": model.quantiser.bits, "law": model.quantiser.law},
        "prompt": None if prompts is None else {"samples": prompts.shape[1]},
    }
    generated = Generated(folder, about)
    if finished := generated.go_on():
        progress(len(finished) * settings.samples(model.sample_rate))
    else:
        generated.begin(settings, model.sample_rate, model.quantiser, prompts)
    if len(finished) < settings.clips:
        writer = ClipWriter(model.engine(), starting_states(model.net, prompts), model.quantiser, model.sample_rate, detectors, progress)
        clips = writer.write(folder, settings, finished)
        while batch := list(islice(clips, settings.batch)):  # finished together
            generated.add(batch, model.sample_rate)
    generated.finish()
    rows = sorted(generated.clips, key=lambda row: row["clip"])
    files, bits = [folder / row["classes"] for row in rows], [row["bits_per_sample"] for row in rows]
    return GeneratedClips(files, bits, sum(bool(row["findings"]) for row in rows), model.quantiser)
