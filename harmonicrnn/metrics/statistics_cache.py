"""A cache on disk of statistics of data, such as reference sets, with their keys and checksums."""

import hashlib
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import Tensor

from harmonicrnn.files import replacing
from harmonicrnn.metrics.embedder import Embedder
from harmonicrnn.metrics.frechet import Gaussian

FORMAT = 1


def default_cache() -> Path:
    """Returns the user's cache folder: keys depend on the data's content, not its location."""
    return user_cache_path("harmonicrnn")


def embedding_key(embedder: Embedder) -> dict[str, Any]:
    """Returns the part of a key that depends on the embedding."""
    return {"format": FORMAT, "embedding": embedder.name, "embedding_rate": embedder.rate, "weights": embedder.weights}


def statistics_path(cache: Path, key: dict[str, Any], name: str | None = None) -> Path:
    """Returns the file for statistics of a key; its name begins with `name`, by default that of the embedding's reference."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    name = f"reference_{key['embedding']}" if name is None else name
    return cache / f"{name.replace(' ', '_')}_{digest[:16]}.pt"


def keep_statistics(path: Path, key: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors with their key and checksum; warns if the folder cannot be written."""
    content = io.BytesIO()  # torch raises its own errors if a file cannot be written
    torch.save({"key": key, "checksum": _checksum(tensors), **tensors}, content)
    try:
        with replacing(path) as file:
            file.write(content.getbuffer())
    except OSError as error:
        warnings.warn(f"{path}: statistics cannot be kept there ({error.strerror}); they will be computed again", stacklevel=2)


def read_statistics(path: Path, key: dict[str, Any], names: Sequence[str] = Gaussian._fields) -> dict[str, Tensor] | None:
    """Reads the named tensors; None if they are missing or, with a warning, damaged."""
    if not path.is_file():
        return None
    try:
        kept = torch.load(path, weights_only=True)
        tensors = {name: kept[name] for name in names}
        whole = kept["key"] == key and kept["checksum"] == _checksum(tensors)
    except Exception:  # a damaged file can raise any error
        whole = False
    if not whole:
        warnings.warn(f"{path}: is damaged; the statistics are computed again", stacklevel=2)
        return None
    return tensors


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors.values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
