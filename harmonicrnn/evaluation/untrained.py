"""Likelihoods of a split under models without training: adaptive linear predictors, simpler predictors, and class frequencies.

Computed once per data and protocol, on one process and whole clips, and cached.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harmonicrnn.audio.dataset import Batch, Dataset, Split
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.intervals import ratio_interval
from harmonicrnn.evaluation.likelihood import ClipSums
from harmonicrnn.metrics.statistics_cache import keep_statistics, read_statistics, statistics_path
from harmonicrnn.models import ModelState, PredictorsAlone
from harmonicrnn.models.carried_states import CarriedStates
from harmonicrnn.models.predictors_alone import FILTERS, PREDICTORS, Filters

FORMAT = 1
MOST_CLIPS = 512  # for a unigram that is estimated
UNIGRAM, ESTIMATED_UNIGRAM = "unigram of the training split", f"unigram of {MOST_CLIPS} clips of the training split"
PIECE = 2**17  # samples predicted at a time, over all lanes
ProgressBar = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Opens a bar with a title and a number of steps (None if unknown); the context yields a function to call with numbers of steps done."""


def no_bar(title: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
    """A progress bar that shows nothing."""
    return nullcontext(lambda steps: None)


@dataclass(frozen=True)
class Untrained:
    """Bits per sample of a split under a model without training, the numbers of samples and clips, and a 95 % interval.

    With carried context a recording is one clip.
    """

    name: str
    bits_per_sample: float
    samples: int
    clips: int
    interval: tuple[float, float]


def measure_untrained(
    data: Dataset,
    split: Split,
    cache: Path,
    *,
    filters: Mapping[str, Filters] = FILTERS,
    training: Dataset | None = None,
    estimated: bool = False,
    batches: int | None = None,
    seed: int = 0,
    bar: ProgressBar = no_bar,
) -> list[Untrained]:
    """Returns the likelihoods of a split under models without training, from the cache or computed.

    Args:
        data: set up for the split.
        split: to predict.
        cache: folder.
        filters: of `PredictorsAlone`, by the names of the likelihoods.
        training: the data, set up for its training split, for the unigram; None to leave that out.
        estimated: count classes in at most `MOST_CLIPS` clips of the training split, at even distances, which takes seconds for any data.
        batches: use only so many batches of the split, from the first on; None for all.
        seed: of the intervals.
        bar: shows progress.

    Raises:
        UserError: a recording cannot be read, or no sample counts.
    """
    steps = data.clip_count(split) if batches is None else min(data.clip_count(split), batches * data.batch_size)

    def likelihood(name: str, own: dict[str, Any], make: Callable[[], Callable[[Batch], Tensor]]) -> Untrained:
        key = _depends_on(data, split) | own | ({} if batches is None else {"batches": batches, "batch_size": data.batch_size})
        path = statistics_path(cache, key, "untrained")
        if (kept := read_statistics(path, key, ClipSums.NAMES)) is None:
            nats, sums = make(), ClipSums()
            with bar(f"Without training: {name}", steps) as advance:
                for batch in islice(data.in_order(split), batches):
                    advance(sums.add(nats(batch), batch, data.clip_samples))
            kept = sums.totals()
            keep_statistics(path, key, kept)
        bits, samples = kept["bits"], kept["samples"]
        if not samples.sum():
            raise UserError(f"{data.title(split)}: no sample of it counts")
        interval = ratio_interval(bits.numpy(), samples.numpy(), seed)
        return Untrained(name, (bits.sum() / samples.sum()).item(), int(samples.sum()), len(bits), interval)

    found = []
    for name, own in filters.items():
        net = PredictorsAlone(data.bits, own)
        net.set_cells(*data.quantiser.cells())
        found.append(likelihood(name, dict(net.unseen_in_weights), lambda net=net: _by_predictors(net)))  # type: ignore[misc]
    if training is not None:
        some = MOST_CLIPS if estimated and training.clip_count("train") > MOST_CLIPS else None
        shares = {"unigram": _depends_on(training, "train") | ({} if some is None else {"of": some})}
        found.append(
            likelihood(UNIGRAM if some is None else ESTIMATED_UNIGRAM, shares, lambda: _by_shares(_counts(training, cache, bar, some)))
        )
    return found


def worse_than_untrained(bits_per_sample: float, untrained: Iterable[Untrained]) -> str | None:
    """Returns a line if this likelihood is worse than that of untrained linear predictors, else None."""
    for each in untrained:
        if each.name == PREDICTORS and bits_per_sample > each.bits_per_sample:
            return (
                f"worse than linear predictors without any training: {bits_per_sample:.4f} against {each.bits_per_sample:.4f} bits/sample"
            )
    return None


def _by_predictors(net: PredictorsAlone) -> Callable[[Batch], Tensor]:
    """Returns a function from a batch to the nats (B, T) of its samples."""
    carried = CarriedStates()

    @torch.inference_mode()
    def nats(batch: Batch) -> Tensor:
        state: ModelState | None = None if batch.context is None else carried.take("evaluation", batch.context, net)
        found = []
        # Long clips do not fit into memory whole.
        for piece in batch.classes.split(max(1, PIECE // len(batch.classes)), dim=1):
            of_piece, state = net.nats(piece, state)
            found.append(of_piece)
        if batch.context is not None and state is not None:
            carried.put("evaluation", state)
        return torch.cat(found, dim=1)

    return nats


def _by_shares(counts: Tensor) -> Callable[[Batch], Tensor]:
    """As `_by_predictors`, for independent classes with probabilities from counts + 1."""
    nats = -((counts + 1) / (counts + 1).sum()).log()
    return lambda batch: nats[batch.classes.long()]


def _counts(training: Dataset, cache: Path, bar: ProgressBar, some: int | None) -> Tensor:
    """Returns the class counts of the training split, or of `some` clips of it at even distances, (q,) float64."""
    key = _depends_on(training, "train") | {"counts": "classes"} | ({} if some is None else {"of": some})
    path = statistics_path(cache, key, "classes")
    if (kept := read_statistics(path, key, ("counts",))) is None:
        counts = torch.zeros(training.quantiser.classes, dtype=torch.int64)
        with bar("Classes of the training split", some or training.clip_count("train")) as advance:
            for batch in training.in_order("train", some):
                counts += torch.bincount(batch.classes[batch.valid].long(), minlength=len(counts))
                advance(len(batch.classes))
        kept = {"counts": counts.double()}
        keep_statistics(path, key, kept)
    return kept["counts"]


def _depends_on(data: Dataset, split: Split) -> dict[str, Any]:
    """Returns the cache key of a split's samples."""
    return {"format": FORMAT, "split": split, "data": data.checksum(split), "protocol": data.protocol, "clips": data.clip_count(split)}
