"""The whole model: classes in, logits of the next class out (Szewczyk et al., arXiv 2510.02401)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from models.block import Recurrence, ResidualBlock, RMSNorm, linear
from models.embedding import ClassEmbedding, Embedding
from models.mixing import MixesTime
from models.skip_block import LevelSpec, Shift, build_levels, check_levels
from models.state import State, after
from ops import Implementation

DEFAULT_LEVELS = (LevelSpec(128, 4, 2), LevelSpec(128, 4, 4), LevelSpec(128, 4, 4), LevelSpec(128, 4, 5), LevelSpec(128, 4))
MIN_BITS, MAX_BITS = 4, 12


@dataclass(frozen=True)
class ModelState(State):
    """last (B,), the class of the last sample seen, and the state of the levels."""

    last: Tensor
    levels: State
    fresh: Tensor


class HarmonicRNN(MixesTime):
    """p(x_t | x_<t) for quantised audio, as a deep linear RNN with pooling.

    The model delays its input itself: the logits at t are of x_t given the samples before it, in every mode and chunk. A fresh lane starts
    from the zero level, class q / 2.

    Args:
        levels: Width, depth and pooling factor of each level, outermost first.
        bits: Bits a sample, 4 to 12; q = 2^bits classes.
        embedding: How a class becomes a vector: "sinusoidal" (fixed) or "learned".
        recurrence: "complex" (CG-LRU), "real" (RG-LRU) or "none".
        heads: Blocks of the recurrence's gates.
        conv_width: Taps of the causal convolution in front of the recurrence.
        expansion: Inner width of the MLP as a multiple of the level's width.
        groups: Groups of the pooling convolutions.
        shift: Delay of up-pooling: "tight" (p - 1 steps, the least that is causal) or "frame" (p steps).
        scan: How the recurrence is computed: "auto" (the fastest for the device), "reference" (ordinary tensor operations, on any device),
            "cpu" (compiled by numba) or "triton" (kernels for CUDA).

    Raises:
        ValueError: numbers that do not fit together, with both in the message.
    """

    def __init__(
        self,
        levels: Sequence[LevelSpec] = DEFAULT_LEVELS,
        bits: int = 8,
        embedding: Embedding = "sinusoidal",
        recurrence: Recurrence = "complex",
        heads: int = 8,
        conv_width: int = 4,
        expansion: int = 3,
        groups: int = 4,
        shift: Shift = "tight",
        scan: Implementation = "auto",
    ) -> None:
        super().__init__()
        check_levels(levels)
        if not MIN_BITS <= bits <= MAX_BITS:
            raise ValueError(f"bits must be between {MIN_BITS} and {MAX_BITS}, got {bits}")
        if expansion < 1:
            raise ValueError(f"expansion must be at least 1, got {expansion}")
        self.bits, self.classes, self.shift = bits, 2**bits, shift
        self.scan: Implementation = scan
        self.pooling_product = math.prod(level.factor for level in levels)
        blocks = sum(level.depth * (2 if level.factor > 1 else 1) for level in levels)
        make_block = partial(
            ResidualBlock, blocks=blocks, recurrence=recurrence, heads=heads, conv_width=conv_width, expansion=expansion, scan=scan
        )
        width = levels[0].width
        self.embedding = ClassEmbedding(self.classes, width, embedding)
        self.levels = build_levels(levels, make_block, groups, shift)
        self.head_norm = RMSNorm(width)
        self.head = linear(width, self.classes)

    def forward(self, classes: Tensor, state: ModelState | None = None, before: Tensor | None = None) -> tuple[Tensor, ModelState]:
        """Logits of each sample given those before it.

        Args:
            classes: (B, T) integers in [0, q), undelayed.
            state: what came before; None where all lanes begin.
            before: (B,) the class before the first, where `classes` are a rank's slice of a longer sequence; ignored where they begin it.

        Returns:
            logits (B, T, q), those at t not depending on classes[:, t:], and the state after the last sample.
        """
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
        y, levels = self.levels(self.embedding(delayed[:, :-1]), state.levels if state else None)
        logits = self.head(self.head_norm(y))
        return logits, ModelState(delayed[:, -1], levels, after(fresh, classes))
