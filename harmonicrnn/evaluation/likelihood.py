"""The exact likelihood of a split under a model, clip by clip."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.audio.dataset import Dataset, Split
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.intervals import ratio_interval
from harmonicrnn.metrics import NLLByPosition
from harmonicrnn.models import AutoregressiveNet, sample_nats
from harmonicrnn.models.carried_states import CarriedStates

BINS = 30  # of histograms


@dataclass(frozen=True)
class Likelihood:
    """nats and samples (N,) of each clip (of each recording where context is carried through it), and bits per sample by context position
    (`NLLByPosition.curve`)."""

    nats: np.ndarray
    samples: np.ndarray
    by_position: list[dict[str, float]]

    def record(self, seed: int) -> dict[str, Any]:
        """As it is reported; the seed is of the interval."""
        bits = self.nats / self.samples / math.log(2)
        return {
            "bits_per_sample": float(self.nats.sum() / self.samples.sum() / math.log(2)),
            "interval": list(ratio_interval(self.nats / math.log(2), self.samples, seed)),
            "samples": int(self.samples.sum()),
            "clips": len(self.nats),
            "per_clip": bits.tolist(),
            "by_position": self.by_position,
        }


@torch.inference_mode()
def measure_likelihood(
    net: AutoregressiveNet, data: Dataset, split: Split, progress: Callable[[int], None] = lambda clips: None
) -> Likelihood:
    """All samples of a split, each once, as `test` measures them.

    Args:
        net: the model.
        data: set up for the split.
        split: validation or test.
        progress: is told how many clips (chunks where context is carried) were measured.

    Raises:
        UserError: chunks that carry state would end within a pooling window.
    """
    if data.carries_state(split) and data.clip_samples % net.pooling_product:
        raise UserError(
            f"data.clip_samples ({data.clip_samples}) must be a multiple of the product of the pooling factors ({net.pooling_product}) "
            "where state is carried from chunk to chunk (data.eval_context: file)"
        )
    device, carried, by_position = next(net.parameters()).device, CarriedStates(), NLLByPosition()
    by_position.to(device)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in data.batches(split):
        classes, valid = batch.classes.to(device), batch.valid.to(device)
        unit, context = batch.clip, None
        if batch.context is None:
            logits, _ = net(classes)
        else:
            context = batch.context.to(device)
            logits, state = net(classes, carried.take("evaluation", context, net))
            carried.put("evaluation", state)
            unit = batch.clip - batch.context // data.clip_samples  # the first chunk of the recording
        nats = sample_nats(logits, classes)
        by_position.update(nats, valid, context)
        counted = valid.any(dim=1).cpu()
        sums = torch.where(valid, nats, 0).sum(dim=1, dtype=torch.float64).cpu()
        found.append((unit[counted], sums[counted], valid.sum(dim=1).cpu()[counted]))
        progress(int(counted.sum()))
    units, nats, samples = (torch.cat(parts) for parts in zip(*found, strict=True))
    _, order = units.unique(return_inverse=True)
    totals = torch.zeros(int(order.max()) + 1, dtype=torch.float64)
    counts = torch.zeros_like(totals, dtype=torch.int64)
    totals.index_add_(0, order, nats)
    counts.index_add_(0, order, samples)
    return Likelihood(totals.numpy(), counts.numpy(), by_position.curve())


def histogram(values: list[float], span: tuple[float, float]) -> dict[str, list[float]]:
    """Of bits per sample: the edges of equally wide bins over the span (low, high), and how many values lie in each."""
    low, high = span if span[0] < span[1] else (span[0] - 0.5, span[0] + 0.5)
    counts, edges = np.histogram(values, BINS, (low, high))
    return {"edges": edges.tolist(), "counts": counts.tolist()}
