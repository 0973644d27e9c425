"""What generated clips are compared with in training: the embeddings of a split, fitted once and kept."""

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info

from datamodules import AudioDataModule
from harmonicrnn.audio.dataset import Split
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import reference_key
from harmonicrnn.metrics import Embedder, Gaussian, GaussianFit
from harmonicrnn.metrics.statistics_cache import keep_statistics, read_statistics, statistics_path

GROUP = 64  # clips that are read and embedded at a time


def reference_statistics(
    trainer: L.Trainer, data: AudioDataModule, split: Split, embedder: Embedder, cache: Path, device: torch.device
) -> Gaussian:
    """The Gaussian of a split's clips as the model is given them: quantised, and decoded at the centres of the cells.

    Read from the cache, or computed by all ranks together and kept there. Called by all ranks.
    """
    key = reference_key(data, split, embedder)
    path = statistics_path(cache, key)
    found = trainer.strategy.broadcast(read_statistics(path, key) if trainer.is_global_zero else None)
    if found is not None:
        return Gaussian(**found)
    clips = data.clip_count(split)
    rank_zero_info(f"FAD: {embedder.name} embeddings of the {clips} clips of the {split} split, kept in {path}")
    fit = GaussianFit(embedder.dimensions).to(device)
    mine = range(trainer.global_rank, clips, trainer.world_size)
    for start in range(0, len(mine), GROUP):
        fit.update(torch.cat(embedder([data.audio(split, i) for i in mine[start : start + GROUP]])))
    try:
        fitted = Gaussian(*(tensor.cpu() for tensor in fit.compute()))
    except UserError as error:
        raise UserError(f"fad: the {split} split of {data.root}: {error}") from error
    if trainer.is_global_zero:
        keep_statistics(path, key, fitted._asdict())
    return fitted
