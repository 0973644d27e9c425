"""The interface of a dataset (`Dataset`) and of its batches of classes (`Batch`)."""

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
    valid (B, T) bool: samples that count for losses and likelihoods; False on padding.
    clip (B,) int64: index of the clip in its split; -1 for an idle lane.
    context (B,) int64: samples of the same recording already in the lane's state, 0 at its beginning; None if no state is carried and every
        clip starts from an empty state.
    start (B,) int64: position in its clip at which a lane's slice begins; None if clips are whole.
    before (B,) int64: class of the sample before the slice, undefined at the beginning of the clip; None if clips are whole.
    """

    classes: Tensor
    valid: Tensor
    clip: Tensor
    context: Tensor | None = None
    start: Tensor | None = None
    before: Tensor | None = None


class Dataset(Protocol):
    """The interface that measurements need; `datamodules.AudioDataModule` implements it.

    root: folder of the recordings.
    sample_rate: in Hz.
    bits, quantiser, scaling: the mapping from samples to classes.
    clip_samples: samples in a clip.
    batch_size: clips in a batch, over all ranks.
    eval_context: "clip" (nothing before an evaluated clip) or "file" (all of its recording before it).
    protocol: one line on the settings that measurements depend on.
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
        """Returns the name of a split for reports."""

    def carries_state(self, split: Split) -> bool:
        """Returns whether the lanes of this split's batches continue from the previous batch."""

    def clip_count(self, split: Split) -> int:
        """Returns the number of clips at fixed positions in a split."""

    def clip(self, split: Split, index: int) -> Batch:
        """Returns a clip at a fixed position, as a batch without the lane dimension."""

    def audio(self, split: Split, index: int) -> Tensor:
        """Returns a decoded clip: float32 (T,) in [-1, 1], at the cell centres, without padding."""

    def checksum(self, split: Split) -> str:
        """Returns the SHA-256 of a split's prepared recordings."""

    def batches(self, split: Split) -> Iterable[Batch]:
        """Yields all clips of a split; the training split is shuffled."""

    def in_order(self, split: Split, most: int | None = None) -> Iterable[Batch]:
        """Yields all clips of a split in order, whole, on this rank, regardless of how ranks share `batches`; of the training split at
        most `most`, at even distances."""
