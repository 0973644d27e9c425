"""ClassEmbedding, which maps the class of a sample to a vector."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonicrnn.models.initialisation import linear
from harmonicrnn.models.presets import Embedding


def sinusoidal_table(classes: int, width: int) -> Tensor:
    """Returns sin(v w_k), cos(v w_k) with w_k = 10000^(-2k / D), k < D/2, for v = 0 .. classes - 1: (classes, D)."""
    frequencies = torch.exp(torch.arange(width // 2, dtype=torch.float64) * (-2 * math.log(10_000) / width))
    angles = torch.arange(classes, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


class ClassEmbedding(nn.Module):
    """Embeds classes, (B, T) -> (B, T, D): fixed sinusoids with cosines first ("sinusoidal"), sinusoids with sines first and a linear map
    ("projected"), or a learned table ("learned").

    Raises:
        ValueError: an odd width with sinusoids.
    """

    def __init__(self, classes: int, width: int, kind: Embedding) -> None:
        super().__init__()
        self.projection = None
        if kind == "learned":
            self.table: Tensor = nn.Parameter(torch.randn(classes, width))
            return
        if width % 2:
            raise ValueError(f"the sinusoidal embedding needs an even width, got width {width}")
        table = sinusoidal_table(classes, width)
        if kind == "projected":
            self.projection = linear(width, width)
        else:
            table = table.roll(width // 2, dims=1)
        self.register_buffer("table", table, persistent=False)

    def forward(self, classes: Tensor) -> Tensor:
        # Projecting the table's few rows gives the same numbers as projecting every sample, with far less work.
        return F.embedding(classes, self.table if self.projection is None else self.projection(self.table))
