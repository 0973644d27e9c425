"""What all datasets share: quantising, scaling, batches, and the splits among ranks."""

import os
from abc import abstractmethod
from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader, DistributedSampler

from audio import Quantiser, Scaling
from audio.quantise import Law
from datamodules.clips import Batch, ClipDataset, Samples, clip_table
from datamodules.manifest import Entry
from datamodules.preparation import FULL_SCALE, prepare_shards
from datamodules.recordings import Recordings
from errors import UserError

Split = Literal["train", "validation", "test"]


class AudioDataModule(L.LightningDataModule):
    """Recordings from files, as shuffled clips. A dataset says which files belong to which split, and how clips are cut.

    Args:
        root: Folder of the recordings.
        sample_rate: Rate in Hz that recordings are resampled to.
        bits: Bits a sample; 2^bits classes.
        law: Spacing of the classes: mu-law or linear.
        scaling: What samples are scaled by before quantising: the extremes of the clip, of the file, or nothing (the fixed range [-1, 1]).
        clip_samples: Samples in a clip.
        batch_size: Clips in a batch, over all data ranks.
        num_workers: Processes that prepare batches; 0 prepares them in the training process.
        seed: Of the order of the clips.
        shards: Folder of the prepared recordings; null for `shards_RATE` in root.
        on_bad_file: What to do with a recording that cannot be read: error, or skip it and say so.
    """

    keep_tails = True
    """Whether the rest of a recording that is shorter than a clip is a clip too, padded."""

    def __init__(
        self,
        root: Path,
        sample_rate: int = 16_000,
        bits: int = 8,
        law: Law = "mu-law",
        scaling: Scaling = "clip",
        clip_samples: int = 16_000,
        batch_size: int = 16,
        num_workers: int = 2,
        seed: int = 0,
        shards: Path | None = None,
        on_bad_file: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        for key, value in (("sample_rate", sample_rate), ("clip_samples", clip_samples), ("batch_size", batch_size)):
            if value < 1:
                raise UserError(f"data.{key} must be at least 1, got {value}")
        if num_workers < 0:
            raise UserError(f"data.num_workers must be 0 or more, got {num_workers}")
        self.root, self.sample_rate, self.clip_samples = Path(root), sample_rate, clip_samples
        self.bits, self.scaling, self.batch_size, self.num_workers, self.seed = bits, scaling, batch_size, num_workers, seed
        self.quantiser = Quantiser(bits, law)
        self.shards = self.root / f"shards_{sample_rate}" if shards is None else Path(shards)
        self.skip_bad = on_bad_file == "skip"
        self.datasets: dict[Split, ClipDataset] = {}

    @abstractmethod
    def files(self) -> dict[Split, list[Path]]:
        """The files of each split, in order.

        Raises:
            UserError: the folder is missing or does not lie as it must.
        """

    @property
    def protocol(self) -> str:
        """What the numbers measured on this data depend on, in a line."""
        tails = "shorter rests padded, not counted" if self.keep_tails else "shorter rests dropped"
        return (
            f"{type(self).__name__}: {self.quantiser.law} {self.bits} bit, scaling {self.scaling}, {self.sample_rate} Hz, "
            f"clips of {self.clip_samples} samples, {tails}, no context across clips"
        )

    def prepare(self, processes: int | None = None, verify: bool = False) -> dict[str, Entry]:
        """Make the shards that are missing or out of date; the manifest's entries by source.

        Args:
            processes: that work together; None for one a processor.
            verify: compare all shards with their checksums.
        """
        files = {str(split): paths for split, paths in self.files().items()}
        processes = processes or os.cpu_count() or 1
        return prepare_shards(self.root, files, self.shards, self.sample_rate, processes=processes, skip_bad=self.skip_bad, verify=verify)

    def fetch(self) -> None:
        """Download the dataset where that was asked for and can be done."""

    def prepare_data(self) -> None:
        self.fetch()
        self.prepare()

    def setup(self, stage: str) -> None:
        """Reads what the stage needs, so that bad files are found before any training."""
        wanted: dict[str, list[Split]] = {"fit": ["train", "validation"], "validate": ["validation"], "test": ["test"]}
        for split in wanted[stage]:
            if split not in self.datasets:
                self.datasets[split] = self.make_dataset(split)
        if stage == "fit" and len(self.datasets["train"]) < self.batch_size:
            clips = len(self.datasets["train"])
            raise UserError(f"data.batch_size ({self.batch_size}) is more than the training split's {clips} clips; choose a smaller one")

    def make_dataset(self, split: Split) -> ClipDataset:
        """The clips of a split."""
        entries = [entry for entry in self.prepare().values() if entry.split == split and not entry.error]
        if not entries:
            raise UserError(f"{self.root}: no recordings for the {split} split")
        recordings = Recordings(self.shards, entries)
        table = clip_table(recordings.lengths, self.clip_samples, self.keep_tails)
        if not table:
            raise UserError(
                f"{self.root}: every recording of the {split} split is shorter than data.clip_samples ({self.clip_samples} samples); "
                "choose shorter clips"
            )

        def span(recording: int, start: int, stop: int) -> tuple[float, float]:
            low, high = recordings.extremes(recording, start, stop)
            return low / FULL_SCALE, high / FULL_SCALE

        def read(index: int) -> Samples:
            recording, start, stop = table[index]
            samples = torch.from_numpy(recordings.read(recording, start, stop).astype(np.float32)) / FULL_SCALE
            if self.scaling == "none":
                return Samples(samples, None)
            return Samples(
                samples, span(recording, start, stop) if self.scaling == "clip" else span(recording, 0, entries[recording].length)
            )

        constant = sum(low == high for low, high in (recordings.extremes(*row) for row in table))
        if constant:
            rank_zero_warn(f"{constant} of {len(table)} clips of the {split} split are constant (silence, say); they are kept")
        overshoots = sum(entry.overshoots for entry in entries)
        if overshoots:
            rank_zero_warn(f"{overshoots} samples of the {split} split lay outside [-1, 1] and were clipped")
        dropped = sum(recordings.lengths) - sum(stop - start for _, start, stop in table)
        rank_zero_info(
            f"{split}: {len(entries)} recordings, {len(table)} clips, {sum(recordings.lengths) / self.sample_rate:.0f} s, "
            f"of which {dropped / self.sample_rate:.0f} s dropped as rests shorter than a clip"
        )
        return ClipDataset(read, len(table), self.clip_samples, self.quantiser)

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test")

    def _loader(self, split: Split) -> DataLoader[Batch]:
        dataset = self.datasets[split]
        # Without a trainer (in a notebook, say) there is one rank.
        ranks = {"num_replicas": 1, "rank": 0}
        if self.trainer is not None and self.trainer.world_size > 1:
            ranks = self.trainer.strategy.distributed_sampler_kwargs
        if self.batch_size % ranks["num_replicas"]:
            raise UserError(f"data.batch_size ({self.batch_size}) must be divisible by the number of data ranks ({ranks['num_replicas']})")
        train = split == "train"
        if not train and len(dataset) < ranks["num_replicas"]:
            raise UserError(f"the {split} split has {len(dataset)} clips, too few for {ranks['num_replicas']} data ranks")
        # Evaluation counts every clip once: its ranks may differ by a clip, where the common sampler would repeat some.
        sampler_class = DistributedSampler if train else UnrepeatedDistributedSampler
        return DataLoader(
            dataset,
            batch_size=self.batch_size // ranks["num_replicas"],
            sampler=sampler_class(dataset, shuffle=train, seed=self.seed, drop_last=train, **ranks),
            drop_last=train,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
