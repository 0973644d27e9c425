"""Clips that a model draws into a folder; drawing that was cut short goes on where it was."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.audio import Quantiser
from harmonicrnn.generation import Engine
from harmonicrnn.generation.clip_folder import Generated
from harmonicrnn.generation.clip_writer import ClipWriter, Settings
from harmonicrnn.generation.detectors import Reference
from harmonicrnn.generation.sampler import starting_states
from harmonicrnn.models import AutoregressiveNet


class Model(Protocol):
    """What is measured of a trained model; `harmonicrnn.Voice` is one."""

    @property
    def net(self) -> AutoregressiveNet: ...

    @property
    def quantiser(self) -> Quantiser: ...

    @property
    def sample_rate(self) -> int: ...

    def engine(self) -> Engine: ...


@dataclass(frozen=True)
class GeneratedClips:
    """Clips that a model drew, by their numbers.

    Attributes:
        files: of their classes.
        bits_per_sample: of each, under the model that drew it.
        with_findings: how many turn to noise, a whistle or silence.
        quantiser: what classes mean.
    """

    files: list[Path]
    bits_per_sample: list[float]
    with_findings: int
    quantiser: Quantiser

    def classes(self, number: int) -> Tensor:
        """Of a clip (T,)."""
        return torch.from_numpy(np.load(self.files[number]).astype(np.int64))

    def audio(self, number: int) -> Tensor:
        """A clip (T,) in [-1, 1]."""
        return self.quantiser.decode_centre(self.classes(number))

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Tensor]:
        return (self.audio(number) for number in range(len(self)))


class ModelClips(NamedTuple):
    """What a model drew: clips from nothing, and continuations of prompts, None where there are none."""

    generated: GeneratedClips
    continued: GeneratedClips | None


def draw_clips(
    folder: Path,
    checksum: str,
    model: Model,
    settings: Settings,
    prompts: Tensor | None,
    detectors: Reference,
    progress: Callable[[int], None],
) -> GeneratedClips:
    """Clips of a model, those that are there kept and the others drawn.

    Args:
        folder: of the clips.
        checksum: of the model's checkpoint.
        model: draws.
        settings: what is drawn.
        prompts: (clips, T) classes that are continued, a clip each; None for none.
        detectors: what noise and silence are told by.
        progress: is told of each number of samples that are there.
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
        while batch := list(islice(clips, settings.batch)):  # which are finished together
            generated.add(batch, model.sample_rate)
    generated.finish()
    rows = sorted(generated.clips, key=lambda row: row["clip"])
    files, bits = [folder / row["classes"] for row in rows], [row["bits_per_sample"] for row in rows]
    return GeneratedClips(files, bits, sum(bool(row["findings"]) for row in rows), model.quantiser)
