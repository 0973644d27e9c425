"""The negative log-likelihood as a function of how much context a sample has."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

BINS_PER_OCTAVE = 2
BINS = 32 * BINS_PER_OCTAVE  # up to 2^32 samples, three days at 16 kHz


class NLLByPosition(Metric):
    """Mean bits per sample over bins of the context position (the number of samples before it), two bins an octave.

    Running sums in float64 and int64, reduced once. Bin 0 holds position 0; then bin k positions of 2^((k-1)/2) up to below 2^(k/2).
    """

    full_state_update = False
    nats: Tensor
    samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros(BINS + 1, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros(BINS + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nats: Tensor, valid: Tensor, *offsets: Tensor | None) -> None:
        """nats and valid (B, T) as for the mean; offsets (B,) add up to the context of each lane's first sample, None is 0."""
        position = torch.arange(nats.shape[1], device=nats.device).expand(nats.shape)
        for offset in offsets:
            position = position if offset is None else position + offset[:, None]
        bins = torch.bucketize(position[valid], self.edges().to(nats.device), right=True)
        self.nats.index_add_(0, bins, nats[valid].double())
        self.samples.index_add_(0, bins, torch.ones_like(bins))

    @staticmethod
    def edges() -> Tensor:
        """The first position of each bin after the first, (BINS,) int64."""
        return torch.tensor([math.ceil(2 ** (k / BINS_PER_OCTAVE)) for k in range(BINS)])

    def compute(self) -> dict[str, Tensor]:
        """bits_per_sample (NaN of empty bins) and samples, each (BINS + 1,)."""
        return {"bits_per_sample": self.nats / self.samples / math.log(2), "samples": self.samples}

    def curve(self) -> list[dict[str, float]]:
        """Bins that hold samples: the first position of each, its bits per sample, and how many samples it holds."""
        measured, starts = self.compute(), [0, *self.edges().tolist()]
        rows = zip(starts, measured["bits_per_sample"].tolist(), measured["samples"].tolist(), strict=True)
        return [{"from": start, "bits_per_sample": bits, "samples": samples} for start, bits, samples in rows if samples]
