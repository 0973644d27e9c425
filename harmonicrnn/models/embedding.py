"""From the class of a sample to a vector."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Embedding = Literal["sinusoidal", "learned"]


def sinusoidal_table(classes: int, width: int) -> Tensor:
    """sin(v w_k), cos(v w_k) with w_k = 10000^(-2k / D), k < D/2, for v = 0 .. classes - 1: (classes, D)."""
    frequencies = torch.exp(torch.arange(width // 2, dtype=torch.float64) * (-2 * math.log(10_000) / width))
    angles = torch.arange(classes, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


class ClassEmbedding(nn.Module):
    """A fixed sinusoidal embedding of the sample's level followed by a linear map, or a learned table. (B, T) -> (B, T, D).

    Raises:
        ValueError: an odd width with the sinusoidal embedding.
    """

    def __init__(self, classes: int, width: int, kind: Embedding) -> None:
        super().__init__()
        if kind == "learned":
            self.table: Tensor = nn.Parameter(torch.randn(classes, width))
            self.projection = None
            return
        if width % 2:
            raise ValueError(f"the sinusoidal embedding needs an even width, got width {width}")
        self.register_buffer("table", sinusoidal_table(classes, width), persistent=False)
        self.projection = nn.Linear(width, width)
        nn.init.normal_(self.projection.weight, std=width**-0.5)
        nn.init.zeros_(self.projection.bias)

    def forward(self, classes: Tensor) -> Tensor:
        # Projecting the table's few rows instead of every sample gives the same numbers for far less work.
        return F.embedding(classes, self.table if self.projection is None else self.projection(self.table))
