"""The negative log-likelihood in bits per sample, as one exact mean over all samples."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torchmetrics import Metric

ROWS = 2**15  # samples whose float32 logits exist at a time


class _SampleNats(torch.autograd.Function):
    """Cross entropy of each row, some rows at a time: kept for the backward pass are the logits in their own dtype."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, classes: Tensor) -> Tensor:
        ctx.save_for_backward(logits, classes)
        wide = torch.promote_types(logits.dtype, torch.float32)
        parts = zip(logits.split(ROWS), classes.split(ROWS), strict=True)
        return torch.cat([F.cross_entropy(rows.to(wide), given, reduction="none") for rows, given in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, classes = ctx.saved_tensors
        grad_logits = torch.empty_like(logits)
        for start in range(0, logits.shape[0], ROWS):
            part = slice(start, start + ROWS)
            slope = torch.softmax(logits[part].to(grad.dtype), dim=-1)
            slope.scatter_add_(1, classes[part, None], -torch.ones_like(grad[part, None]))
            grad_logits[part] = slope * grad[part, None]
        return grad_logits, None


def sample_nats(logits: Tensor, classes: Tensor) -> Tensor:
    """-ln p(class) of each sample: logits (B, T, q), classes (B, T), result (B, T) in float32, or float64 of float64 logits."""
    nats: Tensor = _SampleNats.apply(logits.flatten(0, 1), classes.flatten().long())
    return nats.view_as(classes)


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
