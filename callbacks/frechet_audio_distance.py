"""Callback that measures the Fréchet audio distance (FAD) of generated clips during training."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from callbacks.run_record import run_directory
from datamodules import AudioDataModule
from harmonicrnn.errors import check_choice
from harmonicrnn.evaluation.clip_sets import SplitClips
from harmonicrnn.evaluation.distance import measure_distance, reference_gaussian
from harmonicrnn.files import side_product, write_json
from harmonicrnn.generation import generate
from harmonicrnn.metrics import Embedder, EmbeddingName, Gaussian, make_embedder
from harmonicrnn.metrics.statistics_cache import default_cache

HeldOut = Literal["validation", "test"]


class FrechetAudioDistance(Callback):
    """Measure the Fréchet audio distance (FAD) between generated clips and the clips of a split, of the same length.

    Logs `val/fad_EMBEDDING`, and writes the distance with its settings to `fad/` in the run's folder.

    Args:
        clips: Number of clips to generate for each measurement, at least 2; 0 for no measurement.
        every: Validations between two measurements; the first is at validation number `every`.
        embedding: Audio embedding: logmel (needs no weights), or vggish, pann, encodec or clap of the package frechet-audio-distance.
        weights: Folder of the embedding's weights; null for the folder of torch.hub.
        split: Reference split: validation or test.
        extrapolate: Whether to extrapolate to infinitely many clips too (FAD-infinity).
        seed: Seed of the generated clips.
        batch_size: Clips generated together; the clips depend on it.
        cache: Folder for the cached statistics of the split; null for `harmonicrnn` in the user's cache.
    """

    def __init__(
        self,
        clips: int = 0,
        every: int = 1,
        embedding: EmbeddingName = "logmel",
        weights: Path | None = None,
        split: HeldOut = "validation",
        extrapolate: bool = False,
        seed: int = 0,
        batch_size: int = 32,
        cache: Path | None = None,
    ) -> None:
        if clips < 0 or clips == 1:
            raise ValueError(f"fad.clips must be 0 for none, or at least 2, got {clips}")
        for key, value in (("every", every), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"fad.{key} must be at least 1, got {value}")
        check_choice("fad.split", split, get_args(HeldOut))
        check_choice("fad.embedding", embedding, get_args(EmbeddingName))
        self.clips, self.every, self.embedding, self.weights, self.split = clips, every, embedding, weights, split
        self.extrapolate, self.seed, self.batch_size = extrapolate, seed, batch_size
        self.cache = cache
        self._validations = 0
        self._embedder: Embedder | None = None
        self._reference: Gaussian | None = None

    def check(self, data: AudioDataModule) -> Embedder:
        """Set up the reference split and return the embedder.

        Raises:
            UserError: the embedder's weights or the split are missing.
        """
        if self._embedder is None:
            data.setup("validate" if self.split == "validation" else "test")
            self._embedder = make_embedder(self.embedding, data.sample_rate, self.weights)
        return self._embedder

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data: AudioDataModule = trainer.datamodule  # type: ignore[attr-defined]
        embedder, cache = self.check(data), default_cache() if self.cache is None else Path(self.cache)
        clips = SplitClips(data, self.split)
        rank_zero_info(f"FAD: {embedder.name} statistics of the {len(clips)} clips of the {self.split} split are kept in {cache}")
        self._reference = reference_gaussian(clips, embedder, cache, device=pl_module.device)

    # In this hook the averaged weights, if any, are still in place.
    @override
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._validations += 1
        if self._validations % self.every:
            return
        record = self.measure(trainer, pl_module)
        pl_module.log(f"val/fad_{self.embedding}", record["distance"], sync_dist=True)
        if trainer.is_global_zero:
            path = run_directory(trainer) / "fad" / f"step_{trainer.global_step:07d}.json"
            with side_product(path):
                write_json(path, record)
        notes = "".join(f"; {note}" for note in record["notes"])
        rank_zero_info(f"FAD {record['embedding']['name']} {record['distance']:.4g} at step {trainer.global_step}{notes}")

    def measure(self, trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
        """Return the current distance with its settings. Must be called on all ranks; each draws its share of the batches."""
        data: AudioDataModule = trainer.datamodule  # type: ignore[attr-defined]
        embedder, reference, samples = self._embedder, self._reference, data.clip_samples
        assert embedder is not None
        assert reference is not None
        starts = range(0, self.clips, self.batch_size)[trainer.global_rank :: trainer.world_size]
        numbers = [number for start in starts for number in range(start, min(start + self.batch_size, self.clips))]
        clips = self._generated(module, numbers, samples)
        found = measure_distance(clips, embedder, reference, numbers=numbers, seed=self.seed, extrapolate=self.extrapolate)
        return asdict(found) | {
            "step": trainer.global_step,
            "embedding": {"name": embedder.name, "rate": embedder.rate, "dimensions": embedder.dimensions, "weights": embedder.weights},
            "generated": {"samples": samples, "seed": self.seed, "batch_size": self.batch_size},
            "reference": {"embeddings": int(reference.size), **SplitClips(data, self.split).key(embedder)},
        }

    def _generated(self, module: L.LightningModule, numbers: Sequence[int], samples: int) -> Iterator[Tensor]:
        """Yield the audio (samples,) of the clips with these numbers, which form whole batches."""
        for batch, of_batch in groupby(numbers, key=lambda number: number // self.batch_size):
            classes = generate(module.net, samples, len(list(of_batch)), seed=self.seed + (batch << 32))  # type: ignore[arg-type]
            yield from module.quantiser.decode_centre(classes)  # type: ignore[operator, union-attr]

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"validations": self._validations}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validations = state_dict["validations"]
