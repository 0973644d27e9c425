"""The negative log-likelihood of each sample from its logits."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 2**15  # samples with float32 logits at a time


class _SampleNats(torch.autograd.Function):
    """Cross entropy of each row, in blocks of rows; keeps only the logits in their own dtype for the backward pass."""

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
    """Returns -ln p(class) of each sample, (B, T), for logits (B, T, q) and classes (B, T), in float32, or float64 for float64."""
    nats: Tensor = _SampleNats.apply(logits.flatten(0, 1), classes.flatten().long())
    return nats.view_as(classes)
