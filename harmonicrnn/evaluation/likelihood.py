"""The exact likelihood of a split under a model, clip by clip."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harmonicrnn.audio.dataset import Dataset, Split
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.intervals import ratio_interval
from harmonicrnn.metrics import Likelihood, NegativeLogLikelihood
from harmonicrnn.models import AutoregressiveNet, sample_nats
from harmonicrnn.models.carried_states import CarriedStates


@dataclass(frozen=True)
class ClipLikelihood(Likelihood):
    """With a 95 % interval, and the bits per sample of each clip. Where context is carried through a recording, that is one clip."""

    interval: tuple[float, float]
    per_clip: list[float]


@torch.inference_mode()
def measure_likelihood(
    net: AutoregressiveNet, data: Dataset, split: Split, seed: int = 0, progress: Callable[[int], None] = lambda clips: None
) -> ClipLikelihood:
    """All samples of a split, each once, as `test` measures them.

    Args:
        net: the model.
        data: set up for the split.
        split: validation or test.
        seed: of the interval.
        progress: is told how many clips (chunks where context is carried) were measured.

    Raises:
        UserError: chunks that carry state would end within a pooling window; or a likelihood is not finite.
    """
    if data.carries_state(split) and data.clip_samples % net.pooling_product:
        raise UserError(
            f"data.clip_samples ({data.clip_samples}) must be a multiple of the product of the pooling factors ({net.pooling_product}) "
            "where state is carried from chunk to chunk (data.eval_context: file)"
        )
    device, carried = next(net.parameters()).device, CarriedStates()
    metric = NegativeLogLikelihood().to(device)
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
        metric.update(nats, valid, context)
        counted = valid.any(dim=1).cpu()
        sums = torch.where(valid, nats, 0).sum(dim=1, dtype=torch.float64).cpu()
        found.append((unit[counted], sums[counted], valid.sum(dim=1).cpu()[counted]))
        progress(int(counted.sum()))
    units, nats, samples = (torch.cat(parts) for parts in zip(*found, strict=True))
    _, order = units.unique(return_inverse=True)
    bits, counts = torch.zeros(2, int(order.max()) + 1, dtype=torch.float64)
    bits.index_add_(0, order, nats / math.log(2))
    counts.index_add_(0, order, samples.double())
    measured = metric.likelihood()
    if not math.isfinite(measured.bits_per_sample):
        raise UserError("its likelihoods are not finite; its weights are of a training that went wrong")
    interval = ratio_interval(bits.numpy(), counts.numpy(), seed)
    return ClipLikelihood(measured.bits_per_sample, measured.samples, len(bits), measured.by_position, interval, (bits / counts).tolist())
