"""The whole model: classes in, logits of the next class out (Szewczyk et al., arXiv 2510.02401)."""

import math
from collections.abc import Sequence
from functools import partial

from torch import Tensor

from harmonicrnn.models.autoregressive_net import AutoregressiveNet
from harmonicrnn.models.block import Recurrence, ResidualBlock, RMSNorm, linear
from harmonicrnn.models.embedding import ClassEmbedding, Embedding
from harmonicrnn.models.skip_block import LevelSpec, Shift, build_levels, check_levels
from harmonicrnn.models.state import State
from harmonicrnn.ops import Implementation, residual_norm

DEFAULT_LEVELS = (LevelSpec(128, 4, 2), LevelSpec(128, 4, 4), LevelSpec(128, 4, 4), LevelSpec(128, 4, 5), LevelSpec(128, 4))


class HarmonicRNN(AutoregressiveNet):
    """p(x_t | x_<t) for quantised audio, as a deep linear RNN with pooling.

    Args:
        levels: Width, depth and pooling factor of each level, outermost first.
        bits: Bits a sample, 4 to 12; q = 2^bits classes.
        embedding: How a class becomes a vector: "sinusoidal" (fixed) or "learned".
        recurrence: "complex" (CG-LRU), "real" (RG-LRU) or "none"; to compare with, "lti" (S4D) or "gru".
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
        super().__init__(bits)
        check_levels(levels)
        if expansion < 1:
            raise ValueError(f"expansion must be at least 1, got {expansion}")
        self.recurrence: Recurrence = recurrence
        self.shift, self.scan = shift, scan
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

    @property
    def unseen_in_weights(self) -> dict[str, str | int]:
        return {"shift": self.shift}

    def predict(self, delayed: Tensor, state: State | None) -> tuple[Tensor, State]:
        y, levels = self.levels(self.embedding(delayed), state)
        _, normed = residual_norm(y, None, self.head_norm, self.scan)
        return self.head(normed), levels
