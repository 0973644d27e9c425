"""Measures the exact likelihood of a split under a model, for each clip."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harmonicrnn.audio.dataset import Batch, Dataset, Split
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.intervals import ratio_interval
from harmonicrnn.metrics import Likelihood, NegativeLogLikelihood
from harmonicrnn.models import AutoregressiveNet
from harmonicrnn.models.carried_states import CarriedStates


@dataclass(frozen=True)
class ClipLikelihood(Likelihood):
    """A likelihood with its 95 % interval and each clip's bits per sample. With carried context a recording is one clip."""

    interval: tuple[float, float]
    per_clip: list[float]


class ClipSums:
    """Sums over the samples of each clip. With carried context a recording is one clip."""

    NAMES = ("bits", "samples")

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, nats: Tensor, batch: Batch, clip_samples: int) -> int:
        """Adds a batch with its measured nats (B, T); returns the number of lanes with valid samples."""
        # Index of the recording's first chunk.
        unit = batch.clip if batch.context is None else batch.clip - batch.context // clip_samples
        valid = batch.valid.to(nats.device)
        sums = torch.where(valid, nats, 0).sum(dim=1, dtype=torch.float64).cpu()
        counted = valid.any(dim=1).cpu()
        self._parts.append((unit[counted], sums[counted], valid.sum(dim=1).cpu()[counted]))
        return int(counted.sum())

    def totals(self) -> dict[str, Tensor]:
        """Returns the sums by `NAMES`, float64 (clips,) each, in order of the clips."""
        units, nats, samples = (torch.cat(parts) for parts in zip(*self._parts, strict=True))
        clips, order = units.unique(return_inverse=True)
        bits, counts = torch.zeros(2, len(clips), dtype=torch.float64)
        bits.index_add_(0, order, nats / math.log(2))
        counts.index_add_(0, order, samples.double())
        return {"bits": bits, "samples": counts}


@torch.inference_mode()
def measure_likelihood(
    net: AutoregressiveNet, data: Dataset, split: Split, seed: int = 0, progress: Callable[[int], None] = lambda clips: None
) -> ClipLikelihood:
    """Measures all samples of a split once each, as `test` does.

    Args:
        net: the model.
        data: set up for the split.
        split: validation or test.
        seed: of the interval.
        progress: called with numbers of measured clips (chunks if context is carried).

    Raises:
        UserError: chunks that carry state would end within a pooling window; or a likelihood is not finite.
    """
    if data.carries_state(split) and data.clip_samples % net.pooling_product:
        raise UserError(
            f"data.clip_samples ({data.clip_samples}) must be a multiple of the product of the pooling factors ({net.pooling_product}) "
            "where state is carried from chunk to chunk (data.eval_context: file)"
        )
    device, carried = next(net.parameters()).device, CarriedStates()
    metric, sums = NegativeLogLikelihood().to(device), ClipSums()
    for batch in data.batches(split):
        classes, valid, context = batch.classes.to(device), batch.valid.to(device), None
        if batch.context is None:
            nats, _ = net.nats(classes)
        else:
            context = batch.context.to(device)
            nats, state = net.nats(classes, carried.take("evaluation", context, net))
            carried.put("evaluation", state)
        metric.update(nats, valid, context)
        progress(sums.add(nats, batch, data.clip_samples))
    measured, of_clips = metric.likelihood(), sums.totals()
    if not math.isfinite(measured.bits_per_sample):
        raise UserError("its likelihoods are not finite; its weights come from a training that diverged")
    bits, counts = of_clips["bits"], of_clips["samples"]
    interval = ratio_interval(bits.numpy(), counts.numpy(), seed)
    return ClipLikelihood(measured.bits_per_sample, measured.samples, len(bits), measured.by_position, interval, (bits / counts).tolist())
