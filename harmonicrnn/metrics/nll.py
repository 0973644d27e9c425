"""The negative log-likelihood in bits per sample, as one exact mean over all samples."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric


class NegativeLogLikelihood(Metric):
    """Sum of nats over all valid samples, divided by their number and by ln 2: bits/sample.

    Running sums in float64 and int64, reduced once: exact for any batch size and any number of ranks.
    """

    full_state_update = False
    nats: Tensor
    samples: Tensor
    clips: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("clips", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nats: Tensor, valid: Tensor, start: Tensor | None = None) -> None:
        """nats (B, T) of each sample, valid (B, T) bool; clips without a valid sample are not counted.

        start (B,) is where in their clips these samples begin, None for 0: a clip counts where it begins.
        """
        self.nats += torch.where(valid, nats, 0).sum(dtype=torch.float64)
        self.samples += valid.sum()
        counted = valid.any(dim=1)
        self.clips += (counted if start is None else counted & (start == 0)).sum()

    def compute(self) -> dict[str, Tensor]:
        """bits_per_sample (NaN of no samples), and the numbers of samples and clips."""
        return {"bits_per_sample": self.nats / self.samples / math.log(2), "samples": self.samples, "clips": self.clips}
