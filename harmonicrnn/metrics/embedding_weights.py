"""Where the weights of embeddings lie, and what is said where they do not."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from harmonicrnn.errors import UserError


@dataclass(frozen=True)
class Needed:
    """A file, relative to the folder of torch.hub, and where it comes from."""

    path: str
    source: str


def find_weights(name: str, folder: Path | None, needed: tuple[Needed, ...]) -> Path:
    """The folder that holds all files that an embedding needs: the one given, or that of torch.hub.

    Raises:
        UserError: a file is missing.
    """
    folder = Path(torch.hub.get_dir()) if folder is None else Path(folder)
    for file in needed:
        if not (folder / file.path).is_file():
            raise UserError(
                f"{folder / file.path}: is missing, which the embedding {name} needs. Get it from {file.source} and put it there, "
                "or give the folder that holds it: fad.weights, or --weights of evaluate"
            )
    return folder


def checksums(folder: Path, needed: tuple[Needed, ...]) -> dict[str, str]:
    """SHA-256 of each file by its path."""
    found = {}
    for file in needed:
        with (folder / file.path).open("rb") as content:
            found[file.path] = hashlib.file_digest(content, "sha256").hexdigest()
    return found
