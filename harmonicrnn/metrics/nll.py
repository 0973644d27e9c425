"""The negative log-likelihood in bits per sample: exact means over all samples and by context length."""

import math
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor
from torchmetrics import Metric

BINS_PER_OCTAVE = 2
BINS = 32 * BINS_PER_OCTAVE  # up to 2^32 samples, three days at 16 kHz

PositionBin = TypedDict("PositionBin", {"from": int, "bits_per_sample": float, "samples": int})
"""A bin of samples with at least "from" samples before them, up to the next bin."""


@dataclass(frozen=True)
class Likelihood:
    """Bits per sample, numbers of samples and clips, and the non-empty bins by context position."""

    bits_per_sample: float
    samples: int
    clips: int
    by_position: list[PositionBin]


class NegativeLogLikelihood(Metric):
    """Sums of nats over all valid samples, divided by their number and by ln 2: bits per sample, overall and by context position.

    Running sums in float64 and int64, reduced once: exact for any batch size and any number of ranks. Bins of the context position (the
    number of samples before one) are two an octave: bin 0 holds position 0; then bin k positions of 2^((k-1)/2) up to below 2^(k/2).
    """

    full_state_update = False
    nats: Tensor
    samples: Tensor
    clips: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros(BINS + 1, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros(BINS + 1, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("clips", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nats: Tensor, valid: Tensor, context: Tensor | None = None, start: Tensor | None = None) -> None:
        """Adds nats (B, T) of samples with valid (B, T) bool; clips without a valid sample are not counted.

        context + start (B,) is the number of samples before each lane's first; None is 0. start is the position in their clips of these
        samples: a clip counts where it begins.
        """
        position = torch.arange(nats.shape[1], device=nats.device).expand(nats.shape)
        for offset in (context, start):
            position = position if offset is None else position + offset[:, None]
        bins = torch.bucketize(position[valid], self.edges().to(nats.device), right=True)
        self.nats.index_add_(0, bins, nats[valid].double())
        self.samples.index_add_(0, bins, torch.ones_like(bins))
        counted = valid.any(dim=1)
        self.clips += (counted if start is None else counted & (start == 0)).sum()

    @staticmethod
    def edges() -> Tensor:
        """Returns the first position of each bin after the first, (BINS,) int64."""
        return torch.tensor([math.ceil(2 ** (k / BINS_PER_OCTAVE)) for k in range(BINS)])

    def compute(self) -> dict[str, Tensor]:
        """Returns bits_per_sample (NaN without samples), samples and clips; the first two also per bin, (BINS + 1,), as *_by_position."""
        return {
            "bits_per_sample": self.nats.sum() / self.samples.sum() / math.log(2),
            "samples": self.samples.sum(),
            "clips": self.clips,
            "bits_per_sample_by_position": self.nats / self.samples / math.log(2),
            "samples_by_position": self.samples,
        }

    def likelihood(self) -> Likelihood:
        """Returns the result as plain numbers."""
        found: dict[str, Any] = {name: value.tolist() for name, value in self.compute().items()}
        rows = zip([0, *self.edges().tolist()], found["bits_per_sample_by_position"], found["samples_by_position"], strict=True)
        curve: list[PositionBin] = [{"from": start, "bits_per_sample": bits, "samples": count} for start, bits, count in rows if count]
        return Likelihood(found["bits_per_sample"], found["samples"], found["clips"], curve)
