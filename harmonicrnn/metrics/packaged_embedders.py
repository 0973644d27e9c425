"""Creates embeddings by name, among them those of the package frechet-audio-distance, from weights on disk, without network access.

Uses the package's models as its `get_embeddings` does, which hides errors and joins pann's embeddings into one long vector.
"""

import contextlib
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import soxr
import torch
from torch import Tensor

from harmonicrnn.errors import UserError
from harmonicrnn.metrics.embedder import Embedder
from harmonicrnn.metrics.logmel import LogMel

EmbeddingName = Literal["logmel", "vggish", "pann", "encodec", "clap"]

VGGISH = "https://github.com/harritaylor/torchvggish"
VGGISH_WEIGHTS = f"{VGGISH}/releases/download/v0.1"
VGGISH_CODE = "harritaylor_torchvggish_master"  # torch.hub's name of the folder
PANN = "https://zenodo.org/record/3987831/files"
ENCODEC = "https://dl.fbaipublicfiles.com/encodec/v0"
CLAP = "https://huggingface.co/lukewys/laion_clap/resolve/main"
TOKENIZERS = {  # downloaded by laion_clap on import or construction, with one file of each
    "bert-base-uncased": "vocab.txt",
    "roberta-base": "vocab.json",
    "facebook/bart-base": "vocab.json",
}


@dataclass(frozen=True)
class Variant:
    """An embedding at one rate.

    Args:
        rate: in Hz.
        dimensions: d.
        needed: sources of its files by their paths, relative to the folder of torch.hub.
        longest: Most seconds of audio at a time; longer clips are cut into pieces. None for no limit.
    """

    rate: int
    dimensions: int
    needed: dict[str, str]
    longest: float | None = None


def _pann(rate: int, file: str) -> Variant:
    return Variant(rate, 2048, {file: f"{PANN}/{file}"})


def _encodec(rate: int, file: str) -> Variant:
    return Variant(rate, 128, {f"checkpoints/{file}": f"{ENCODEC}/{file}"})


VGGISH_FILES = {
    f"{VGGISH_CODE}/hubconf.py": f"{VGGISH} (the whole folder of its branch master)",
    "checkpoints/vggish-10086976.pth": f"{VGGISH_WEIGHTS}/vggish-10086976.pth",
    "checkpoints/vggish_pca_params-970ea276.pth": f"{VGGISH_WEIGHTS}/vggish_pca_params-970ea276.pth",
}
VARIANTS: dict[str, tuple[Variant, ...]] = {
    "vggish": (Variant(16_000, 128, VGGISH_FILES),),
    "pann": (
        _pann(8000, "Cnn14_8k_mAP%3D0.416.pth"),
        _pann(16_000, "Cnn14_16k_mAP%3D0.438.pth"),
        _pann(32_000, "Cnn14_mAP%3D0.431.pth"),
    ),
    "encodec": (_encodec(24_000, "encodec_24khz-d7cc33bc.th"), _encodec(48_000, "encodec_48khz-7e698e3e.th")),
    "clap": (Variant(48_000, 512, {"630k-audioset-best.pt": f"{CLAP}/630k-audioset-best.pt"}, longest=10.0),),
}
"""Ascending by rate. Audio uses the first variant with at least its own rate, else the last."""

SHORTEST = 1.0
"""Seconds; shorter clips are padded with silence, since the models need several frames."""

TOGETHER = 32  # clips per batch


class Packaged(Embedder):
    """An embedding of the package, with arguments as for `make_embedder`; clips are resampled to its rate."""

    def __init__(self, name: str, audio_rate: int, weights: Path | None = None, device: torch.device | None = None) -> None:
        check_package(name)
        variants = VARIANTS[name]
        variant = next((one for one in variants if one.rate >= audio_rate), variants[-1])
        self.rate, self.dimensions, self.audio_rate, self._longest = variant.rate, variant.dimensions, audio_rate, variant.longest
        self.name = name if len(variants) == 1 else f"{name} {self.rate}"
        folder = find_weights(self.name, weights, variant.needed)
        if name == "clap":
            check_tokenizers()
        self.weights = {}
        for file in variant.needed:
            with (folder / file).open("rb") as content:
                self.weights[file] = hashlib.file_digest(content, "sha256").hexdigest()
        try:
            with _offline(folder), _on(device), torch.random.fork_rng([]):  # models are initialised at random before loading weights
                module = import_package(clap=name == "clap")
                channels = 2 if (name, self.rate) == ("encodec", 48_000) else 1
                self._package = module.FrechetAudioDistance(str(folder), name, sample_rate=self.rate, channels=channels)
        except UserError:
            raise
        except Exception as error:  # a wrong file can raise any error
            files = ", ".join(str(folder / file) for file in variant.needed)
            cause = " ".join(str(error).split())[:300]
            raise UserError(f"{files}: not the weights of {self.name}: {type(error).__name__}: {cause}") from error

    @torch.no_grad()
    def embed(self, batch: Tensor) -> Tensor:
        clips = batch.numpy().astype(np.float32, copy=False)
        if self.audio_rate != self.rate:
            clips = np.stack([soxr.resample(clip, self.audio_rate, self.rate) for clip in clips])
        if (missing := round(SHORTEST * self.rate) - clips.shape[1]) > 0:
            clips = np.pad(clips, ((0, 0), (0, missing)))
        try:
            if not self.name.startswith(("pann", "encodec")):
                return torch.stack([torch.cat([self._embed(piece) for piece in self._pieces(clip)]) for clip in clips])
            parts, model = torch.from_numpy(clips).to(self._package.device).split(TOGETHER), self._package.model
            if self.name.startswith("pann"):
                return torch.cat([model(part, None)["embedding"] for part in parts])[:, None]
            # For encodec, the encoder's output before quantisation.
            return torch.cat([model.encoder(part[:, None].expand(-1, model.channels, -1)).mT for part in parts])
        except Exception as error:  # the package's models can raise any error
            raise UserError(f"the embedding {self.name} failed on {clips.shape[1]} samples: {error}") from error

    def _pieces(self, clip: np.ndarray) -> list[np.ndarray]:
        if self._longest is None:
            return [clip]
        length = round(self._longest * self.rate)
        pieces = [clip[start : start + length] for start in range(0, len(clip), length)]
        # Drop a short last piece, which would be filled up by repetition.
        return pieces[:-1] if len(pieces) > 1 and len(pieces[-1]) < length / 2 else pieces

    def _embed(self, clip: np.ndarray) -> Tensor:
        """Returns (n, d) of one clip, for vggish and clap, which take one at a time."""
        model = self._package.model
        if self.name == "vggish":
            rows: Tensor = model.forward(clip, self.rate)
        else:
            rows = model.get_audio_embedding_from_data(torch.from_numpy(clip)[None], use_tensor=True)
        return rows.reshape(-1, self.dimensions)


def make_embedder(name: EmbeddingName, rate: int, weights: Path | None = None, device: torch.device | None = None) -> Embedder:
    """Creates an embedding for audio at `rate` Hz.

    Args:
        name: logmel, or one of the package frechet-audio-distance.
        rate: of the clips.
        weights: folder of its weights; None for that of torch.hub.
        device: of its network; None for a GPU if available.

    Raises:
        UserError: the package or weights are missing, or the weights belong to another embedding.
    """
    return LogMel(rate) if name == "logmel" else Packaged(name, rate, weights, device)


def check_package(name: str) -> None:
    """Raises UserError if the package of this embedding is not installed."""
    if importlib.util.find_spec("frechet_audio_distance") is None:
        raise UserError(
            f"the embedding {name} needs the package frechet-audio-distance, which is not installed: pip install frechet-audio-distance, "
            "under Python 3.11 or 3.12, for later ones it cannot be installed; or choose logmel, which needs no package"
        )


def find_weights(name: str, folder: Path | None, needed: dict[str, str]) -> Path:
    """Returns the folder with all files that an embedding needs: `folder`, or that of torch.hub.

    Raises:
        UserError: a file is missing.
    """
    folder = Path(torch.hub.get_dir()) if folder is None else Path(folder)
    for file, source in needed.items():
        if not (folder / file).is_file():
            raise UserError(
                f"{folder / file}: is missing, which the embedding {name} needs. Get it from {source} and put it there, "
                "or give the folder that holds it: fad.weights, or --weights of evaluate"
            )
    return folder


def import_package(clap: bool) -> ModuleType:
    """Imports the package's main module, with a placeholder for laion_clap, which downloads on import, unless `clap`."""
    name = "frechet_audio_distance.fad"
    if name not in sys.modules:
        there = "laion_clap" in sys.modules
        sys.modules.setdefault("laion_clap", ModuleType("laion_clap"))
        try:
            importlib.import_module(name)
        finally:
            if not there:
                del sys.modules["laion_clap"]
    module: Any = sys.modules[name]
    if clap:
        module.laion_clap = importlib.import_module("laion_clap")
    return module


def check_tokenizers() -> None:
    """Raises UserError if a tokenizer needed to import laion_clap is not in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    for repository, file in TOKENIZERS.items():
        if not isinstance(try_to_load_from_cache(repository, file), str):
            raise UserError(
                f"{file} of {repository} is not in the cache of the Hugging Face hub, and laion_clap cannot be imported without it: "
                f"where there is a network, run: hf download {repository}"
            )


@contextlib.contextmanager
def _on(device: torch.device | None) -> Iterator[None]:
    """Hides GPUs inside the context if the device is the CPU: the package uses any GPU it sees."""
    with patch.object(torch.cuda, "is_available", lambda: False) if device == torch.device("cpu") else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _offline(folder: Path) -> Iterator[None]:
    """Makes torch.hub read from the folder, without downloads or prompts, inside the context."""
    before, load = torch.hub.get_dir(), torch.hub.load

    def local(repo_or_dir: str, model: str) -> Any:
        return load(str(folder / VGGISH_CODE), model, source="local")

    def refuse(url: str, dst: str, *args: Any, **kwargs: Any) -> None:
        raise UserError(f"{dst}: is missing. Get it from {url} and put it there")

    with patch.object(torch.hub, "load", local), patch.object(torch.hub, "download_url_to_file", refuse):
        try:
            yield
        finally:
            torch.hub.set_dir(before)
