"""AutoregressiveNet, the base class of models of the next sample: it delays its input and carries the last sample."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from harmonicrnn.errors import check_bits
from harmonicrnn.models.mixing import MixesTime
from harmonicrnn.models.prediction import LinearPrediction
from harmonicrnn.models.sample_likelihood import sample_nats
from harmonicrnn.models.state import State, after
from harmonicrnn.ops import Implementation


@dataclass(frozen=True)
class ModelState(State):
    """last (B,): class of the last sample seen; levels: state of the layers."""

    last: Tensor
    levels: State
    fresh: Tensor


class AutoregressiveNet(MixesTime, ABC):
    """p(x_t | x_<t) for quantised audio.

    The model delays its input itself: the logits at t predict x_t from the samples before it, in every mode and chunk. A fresh lane starts
    from the zero level, class q / 2.

    Args:
        bits: Bits per sample, 4 to 12; q = 2^bits classes.

    Raises:
        ValueError: bits out of range.
    """

    pooling_product = 1
    """Samples per step of the deepest level; slices and chunks that carry state are cut at its multiples."""

    scan: Implementation = "auto"
    """Implementation of its linear recurrences, if any."""

    compiles = True
    """Whether torch.compile can compile it as a whole."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        check_bits("bits", bits)
        self.bits, self.classes = bits, 2**bits

    @property
    def unseen_in_weights(self) -> dict[str, str | int]:
        """Settings that its weights depend on but do not show."""
        return {}

    def set_cells(self, centres: Tensor, edges: Tensor) -> None:
        """Sets the sample values of the classes, for models that use them; see `LinearPrediction.set_cells`."""
        for module in self.modules():
            if isinstance(module, LinearPrediction):
                module.set_cells(centres, edges)

    @abstractmethod
    def predict(self, delayed: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Returns the logits (B, T, q) of each sample given the previous ones, `delayed` (B, T) and state, and the state after them."""

    def forward(self, classes: Tensor, state: ModelState | None = None, before: Tensor | None = None) -> tuple[Tensor, ModelState]:
        """Returns the logits of each sample given those before it.

        Args:
            classes: (B, T) integers in [0, q), undelayed.
            state: state before them; None if all lanes begin.
            before: (B,) the class before the first, if `classes` are a rank's slice of a longer sequence; ignored in the first slice.

        Returns:
            logits (B, T, q), those at t independent of classes[:, t:], and the state after the last sample.
        """
        delayed, last, fresh = self.delay(classes, state, before)
        logits, levels = self.predict(delayed, state.levels if state else None)
        return logits, ModelState(last, levels, after(fresh, classes))

    def nats(
        self, classes: Tensor, state: ModelState | None = None, before: Tensor | None = None, heard: Tensor | None = None
    ) -> tuple[Tensor, ModelState]:
        """Returns -ln p of each sample, (B, T), as training and evaluation use it, and the state after the last.

        Args:
            classes, state, before: as for `forward`.
            heard: (B, T), the history given to the model in place of `classes`; None for `classes`.
        """
        logits, known = self(classes if heard is None else heard, state, before)
        return sample_nats(logits, classes), known

    def delay(self, classes: Tensor, state: ModelState | None, before: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the previous sample of each (B, T), the last sample (B,), and which lanes are fresh (B,)."""
        classes = classes.long()
        fresh = self.fresh_lanes(classes, state)
        if self.continues:
            if before is None:
                raise ValueError("a slice that continues another rank's needs the sample before it")
            last = before.long()
        else:
            last = state.last if state else torch.zeros_like(fresh, dtype=torch.long)
            last = torch.where(fresh, self.classes // 2, last)
        delayed = torch.cat([last[:, None], classes], dim=1)
        return delayed[:, :-1], delayed[:, -1], fresh
