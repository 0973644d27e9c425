"""A dataset as the library sees it: batches of classes, and what its numbers depend on."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, get_args

from torch import Tensor

from harmonicrnn.audio.quantise import Quantiser, Scaling

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class Batch(NamedTuple):
    """A batch of B lanes; without the leading B, one lane.

    classes (B, T) int16: undelayed.
    valid (B, T) bool: true on what losses and likelihoods count, never on padding.
    clip (B,) int64: the clip's number in its split; -1 for a lane that rests.
    context (B,) int64: samples of its recording that a lane has seen before and carries in its state, 0 where it begins anew; None where no
        state is carried and every clip begins anew.
    start (B,) int64: where in its clip a lane's slice begins; None where clips are whole.
    before (B,) int64: the class of the sample before the slice, without meaning where it begins the clip; None where clips are whole.
    """

    classes: Tensor
    valid: Tensor
    clip: Tensor
    context: Tensor | None = None
    start: Tensor | None = None
    before: Tensor | None = None


class Dataset(Protocol):
    """What measurements ask of a dataset; `datamodules.AudioDataModule` is one.

    root: folder of the recordings.
    sample_rate: in Hz.
    bits, quantiser, scaling: how samples become classes.
    clip_samples: samples in a clip.
    batch_size: clips in a batch, over all ranks.
    eval_context: "clip" (nothing before an evaluated clip) or "file" (all of its recording before it).
    protocol: what the numbers measured on it depend on, in a line.
    """

    root: Path
    sample_rate: int
    bits: int
    quantiser: Quantiser
    scaling: Scaling
    clip_samples: int
    batch_size: int
    eval_context: Literal["clip", "file"]

    @property
    def protocol(self) -> str: ...

    def title(self, split: Split) -> str:
        """What a split is called in a report."""

    def carries_state(self, split: Split) -> bool:
        """Whether lanes of this split's batches go on where they stopped."""

    def clip_count(self, split: Split) -> int:
        """How many clips at fixed positions a split has."""

    def clip(self, split: Split, index: int) -> Batch:
        """A clip at a fixed position, as a batch without lanes."""

    def audio(self, split: Split, index: int) -> Tensor:
        """A clip as it is heard: float32 (T,) in [-1, 1] at the centres of its classes' cells, without padding."""

    def checksum(self, split: Split) -> str:
        """SHA-256 of the recordings of a split as they were prepared."""

    def batches(self, split: Split) -> Iterable[Batch]:
        """All clips of a split, those of the training split shuffled."""

    def in_order(self, split: Split) -> Iterable[Batch]:
        """All clips of a split in order, whole and on this rank alone, however ranks share `batches`."""
