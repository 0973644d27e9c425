"""What generated clips are compared with: the embeddings of a split, fitted once and kept."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from datamodules import AudioDataModule
from datamodules.base import Split
from errors import UserError
from files import replacing
from metrics import Embedder, Gaussian, GaussianFit

FORMAT = 1
GROUP = 64  # clips that are read and embedded at a time


def default_cache() -> Path:
    """The user's own cache: what is kept there depends on the data's content, and not on where the data lies."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harmonicrnn"


def reference_key(data: AudioDataModule, split: Split, embedder: Embedder) -> dict[str, Any]:
    """All that the statistics of a split depend on."""
    return {
        "format": FORMAT,
        "split": split,
        "data": data.checksum(split),
        "protocol": data.protocol,
        "clips": data.clip_count(split),
        "embedding": embedder.name,
        "embedding_rate": embedder.rate,
        "weights": embedder.weights,
    }


def reference_statistics(
    trainer: L.Trainer, data: AudioDataModule, split: Split, embedder: Embedder, cache: Path, device: torch.device
) -> Gaussian:
    """The Gaussian of a split's clips as the model is given them: quantised, and decoded at the centres of the cells.

    Read from the cache, or computed by all ranks together and kept there. Called by all ranks.
    """
    key = reference_key(data, split, embedder)
    path = cache / f"reference_{embedder.name.replace(' ', '_')}_{_digest(key)[:16]}.pt"
    found = trainer.strategy.broadcast(read_statistics(path, key) if trainer.is_global_zero else None)
    if found is not None:
        return found
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
        try:
            write_statistics(path, key, fitted)
        except OSError as error:
            rank_zero_warn(f"{path}: reference statistics cannot be kept there ({error.strerror}); they will be computed again")
    return fitted


def write_statistics(path: Path, key: dict[str, Any], gaussian: Gaussian) -> None:
    """Keeps the statistics with what they depend on and their checksum."""
    with replacing(path) as file:
        torch.save({"key": key, "checksum": _checksum(gaussian), **gaussian._asdict()}, file)


def read_statistics(path: Path, key: dict[str, Any]) -> Gaussian | None:
    """What was kept; None where there is nothing, or, with a warning, where it is not what was written."""
    if not path.is_file():
        return None
    try:
        kept = torch.load(path, weights_only=True)
        gaussian = Gaussian(*(kept[name] for name in Gaussian._fields))
        whole = kept["key"] == key and kept["checksum"] == _checksum(gaussian)
    except Exception:  # whatever a damaged file makes the reader raise
        whole = False
    if not whole:
        rank_zero_warn(f"{path}: is damaged; the reference statistics are computed again")
        return None
    return gaussian


def _digest(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _checksum(gaussian: Gaussian) -> str:
    digest = hashlib.sha256()
    for tensor in gaussian:
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()
