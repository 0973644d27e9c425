"""Base class of all datasets: quantising, scaling, batches, and the split among ranks."""

import hashlib
import math
import os
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from copy import copy
from functools import partialmethod
from pathlib import Path
from typing import Literal, NamedTuple, Self, get_args

import lightning as L
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.clip_dataset import ClipDataset, Recordings
from datamodules.loader import EvaluationLoader, RankBatches, StreamLoader
from datamodules.manifest import Entry
from datamodules.orders import Clips, Crops, Piece, Sequential, clip_table
from datamodules.preparation import prepare_shards
from harmonicrnn.audio import Quantiser, Scaling
from harmonicrnn.audio.dataset import SPLITS, Batch, Split
from harmonicrnn.audio.quantise import Law
from harmonicrnn.errors import UserError, check_bits, check_choice, check_whole

OnBadFile = Literal["error", "skip"]
Order = Literal["clips", "crops", "sequential"]
EvalContext = Literal["clip", "file"]
MAX_RATE = 768_000
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in os.sysconf_names else math.inf
"""Bytes that this machine has; without end where the system does not tell."""
BATCH_BYTES = 3  # a sample: its class, and whether it counts


class Part(NamedTuple):
    """Samples start .. stop of a prepared recording."""

    entry: Entry
    start: int
    stop: int


class AudioDataModule(L.LightningDataModule):
    """Recordings from files, as shuffled clips. A dataset says which files belong to which split, and how clips are cut.

    Args:
        root: Folder of the recordings.
        sample_rate: Rate in Hz that recordings are resampled to.
        bits: Bits a sample, 4 to 12; 2^bits classes.
        law: Spacing of the classes: mu-law or linear.
        scaling: What samples are scaled by before quantising: the extremes of the clip, or of the file; the file's peak, its largest
            absolute sample, which keeps silence in the middle; or none, nothing (the fixed range [-1, 1]).
        clip_samples: Samples in a clip.
        batch_size: Clips in a batch, over all data ranks.
        num_workers: Processes that prepare batches; 0 prepares them in the training process.
        seed: Of the order of the clips.
        shards: Folder for the prepared recordings, which lie in `shards_RATE` in it; null for root.
        on_bad_file: What to do with a recording that cannot be read: error, or skip it and say so.
        order: Of training: clips at fixed positions, shuffled; crops at random positions; or sequential, where each lane of the batch walks
            through whole recordings and the model carries its state from chunk to chunk.
        eval_context: What an evaluated clip is given: clip, nothing before it; or file, all of its recording before it.
        eval_clips: Clips of the validation and test splits that are evaluated, at even distances; null for all.
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
        on_bad_file: OnBadFile = "error",
        order: Order = "clips",
        eval_context: EvalContext = "clip",
        eval_clips: int | None = None,
    ) -> None:
        super().__init__()
        for key, value in (("sample_rate", sample_rate), ("clip_samples", clip_samples), ("batch_size", batch_size)):
            check_whole(f"data.{key}", value, 1)
        for key, value in (("num_workers", num_workers), ("seed", seed)):
            check_whole(f"data.{key}", value, 0)
        if eval_clips is not None:
            check_whole("data.eval_clips (null for all)", eval_clips, 1)
        check_bits("data.bits", bits)
        for key, choice, choices in (
            ("law", law, Law),
            ("scaling", scaling, Scaling),
            ("on_bad_file", on_bad_file, OnBadFile),
            ("order", order, Order),
            ("eval_context", eval_context, EvalContext),
        ):
            check_choice(f"data.{key}", choice, get_args(choices))
        if eval_clips is not None and eval_context == "file":
            raise UserError("data.eval_clips takes clips out of recordings, data.eval_context: file evaluates whole ones: leave one out")
        if sample_rate > MAX_RATE:
            raise UserError(f"data.sample_rate must be at most {MAX_RATE} Hz, got {sample_rate}")
        self.root, self.sample_rate, self.clip_samples = Path(root), sample_rate, clip_samples
        self.bits, self.scaling, self.batch_size, self.num_workers, self.seed = bits, scaling, batch_size, num_workers, seed
        self.quantiser = Quantiser(bits, law)
        self.shards = (self.shard_home() if shards is None else Path(shards)) / f"shards_{sample_rate}"
        self.skip_bad = on_bad_file == "skip"
        self.order, self.eval_context, self.eval_clips = order, eval_context, eval_clips
        for key, carries in (("order", order == "sequential"), ("eval_context", eval_context == "file")):
            if carries and scaling == "clip":
                raise UserError(
                    f"data.{key}: {getattr(self, key)} carries the state across clips, for which each being scaled by its own extremes "
                    "(data.scaling: clip) makes no sense: use file, peak or none"
                )
        self.datasets: dict[Split, ClipDataset] = {}
        self._told: set[str] = set()

    def shard_home(self) -> Path:
        """Where shards lie unless that is set."""
        return self.root

    @abstractmethod
    def files(self) -> dict[Split, list[Path]]:
        """The files of each split, in order.

        Raises:
            UserError: the folder is missing or does not lie as it must.
        """

    @property
    def protocol(self) -> str:
        """Returns a line with the settings on which results measured on this data depend."""
        rests = "padded, not counted" if self.keep_tails else "dropped"
        context = f"clips of {self.clip_samples} samples, shorter rests {rests}, no context across clips"
        if self.eval_context == "file":
            context = f"whole files, state carried through chunks of {self.clip_samples} samples"
        if self.eval_clips is not None:
            context += f", at most {self.eval_clips} clips of a split, at even distances"
        return f"{type(self).__name__}: {self.quantiser.law} {self.bits} bit, scaling {self.scaling}, {self.sample_rate} Hz, {context}"

    def title(self, split: Split) -> str:
        """Returns the name of a split in reports."""
        return f"{type(self).__name__}, {split} split"

    def carries_state(self, split: Split) -> bool:
        """Whether lanes of this split's batches go on where they stopped."""
        return self.order == "sequential" if split == "train" else self.eval_context == "file"

    def prepare(self, processes: int | None = None, verify: bool = False) -> dict[str, Entry]:
        """Make the shards that are missing or out of date; the manifest's entries by source.

        Args:
            processes: that work together; None for one a processor.
            verify: compare all shards with their checksums.
        """
        files = {str(split): paths for split, paths in self.files().items()}
        if not any(files.values()):
            raise UserError(f"{self.root}: holds no recordings of this dataset")
        processes = processes or os.cpu_count() or 1
        entries = prepare_shards(
            self.root, files, self.shards, self.sample_rate, processes=processes, skip_bad=self.skip_bad, verify=verify
        )
        for line in [*(entry.note for entry in entries.values() if entry.note), *_repeated(self.parts(entries.values()))]:
            self.tell_once(rank_zero_warn, line)
        return entries

    def parts(self, entries: Collection[Entry]) -> dict[Split, list[Part]]:
        """Returns the recordings of each split, whole, without those that could not be read.

        Raises:
            UserError: there is too little for the splits.
        """
        good = [entry for entry in entries if not entry.error]
        return {split: [Part(entry, 0, entry.length) for entry in good if entry.split == split] for split in SPLITS}

    def tell_once(self, tell: Callable[[str], object], line: str) -> None:
        """Calls `tell(line)` once per line, as recordings are checked again for each split."""
        if line not in self._told:
            self._told.add(line)
            tell(line)

    def fetch(self) -> None:
        """Download the dataset where that was asked for and can be done."""

    def prepare_data(self) -> None:
        self.fetch()
        self.prepare()

    def setup(self, stage: str) -> None:
        """Reads what the stage needs, so that bad files are found before any training."""
        wanted: dict[str, list[Split]] = {"fit": ["train", "validation"], "validate": ["validation"], "test": ["test"]}
        for split in wanted[stage]:
            self.read(split)
            clips = self.clip_count(split)
            if split == "train" and self.batch_size > clips:
                raise UserError(f"data.batch_size ({self.batch_size}) is more than the training split's {clips} clips; choose less")
            lanes = min(self.batch_size, clips)
            if (needed := lanes * self.clip_samples * BATCH_BYTES) > MEMORY:
                raise UserError(
                    f"data.clip_samples ({self.clip_samples}): a batch of {lanes} clips alone takes {needed / 1e9:,.0f} GB, this machine "
                    f"has {MEMORY / 1e9:.0f} GB: choose shorter clips, or a smaller data.batch_size"
                )

    def read(self, split: Split) -> None:
        """Makes the clips of a split, once.

        Raises:
            UserError: there are none, or they cannot be read.
        """
        if split not in self.datasets:
            self.datasets[split] = self.make_dataset(split)

    def with_training(self) -> Self | None:
        """Returns a copy of this data that also holds the training split; None if that split cannot be read. This object does not change,
        so that ranks stay alike."""
        data = copy(self)
        data.datasets = dict(self.datasets)
        try:
            data.read("train")
        except UserError:
            return None
        return data

    def check_ranks(self, ranks: int) -> None:
        """Raises UserError if this number of data ranks does not divide the batch size."""
        if self.batch_size % ranks:
            raise UserError(f"data.batch_size ({self.batch_size}) must be divisible by the number of data ranks ({ranks})")

    def make_dataset(self, split: Split) -> ClipDataset:
        """The clips of a split."""
        listed = self.prepare().values()
        skipped = sum(entry.split == split and bool(entry.error) for entry in listed)
        parts = self.parts(listed)[split]
        if not parts:
            raise UserError(f"{self.root}: no recordings for the {split} split")
        entries = [part.entry for part in parts]
        recordings = Recordings(self.shards, entries, [(part.start, part.stop) for part in parts])
        dataset = ClipDataset(recordings, self.clip_samples, self.quantiser, self.scaling)
        table = clip_table(recordings.lengths, self.clip_samples, self.keep_tails)
        if not table:
            raise UserError(
                f"{self.root}: every recording of the {split} split is shorter than data.clip_samples ({self.clip_samples} samples); "
                "choose shorter clips"
            )
        constant = sum(low == high for low, high in (recordings.extremes(*piece[:3]) for piece in table))
        if constant:
            rank_zero_warn(f"{constant} of {len(table)} clips of the {split} split are constant (silence, say); they are kept")
        overshoots = sum(entry.overshoots for entry in entries)
        if overshoots:
            rank_zero_warn(f"{overshoots} samples of the {split} split lay outside [-1, 1] and were clipped")
        dropped = sum(recordings.lengths) - sum(piece.stop - piece.start for piece in table)
        short = sum(length < self.clip_samples for length in recordings.lengths)
        rank_zero_info(
            f"{split}: {len(entries)} recordings, {len(table)} clips, {sum(recordings.lengths) / self.sample_rate:.0f} s, "
            f"of which {dropped / self.sample_rate:.0f} s in rests shorter than a clip; {short} of them are shorter than a clip "
            f"({'padded' if self.keep_tails else 'dropped'}), {skipped} more could not be read (skipped)"
        )
        return dataset

    def _table(self, split: Split, most: int | None = None) -> list[Piece]:
        """The clips at fixed positions, numbered from 0: of the training split at most `most`, of others at most `eval_clips`, at even
        distances."""
        table = clip_table(self.datasets[split].source.lengths, self.clip_samples, self.keep_tails)
        limit = most if split == "train" else self.eval_clips
        if limit is None or limit >= len(table):
            return table
        kept = (table[i * len(table) // limit] for i in range(limit))
        return [piece._replace(clip=number) for number, piece in enumerate(kept)]

    def clip_count(self, split: Split) -> int:
        """How many clips at fixed positions a split has."""
        return len(self._table(split))

    def clip(self, split: Split, index: int) -> Batch:
        """A clip at a fixed position, as a batch without lanes."""
        return self.datasets[split][self._table(split)[index]]

    def audio(self, split: Split, index: int) -> Tensor:
        """A clip as it is heard: float32 (T,) in [-1, 1] at the centres of its classes' cells, without padding."""
        clip = self.clip(split, index)
        return self.quantiser.decode_centre(clip.classes[clip.valid])

    def checksum(self, split: Split) -> str:
        """SHA-256 of the recordings of a split as they were prepared."""
        source = self.datasets[split].source
        assert isinstance(source, Recordings)
        parts = zip(source.entries, source.ranges, strict=True)
        made_of = (entry.checksum + (f" {a}-{b} " if (a, b) != (0, entry.length) else "") for entry, (a, b) in parts)
        return hashlib.sha256("".join(made_of).encode()).hexdigest()

    def order_of(self, split: Split) -> Clips | Crops | Sequential:
        """Which clip comes when."""
        train, lengths = split == "train", self.datasets[split].source.lengths
        if self.carries_state(split):
            lanes = self.batch_size if train else min(self.batch_size, len(lengths))  # more would never have anything to do
            return Sequential(lengths, self.clip_samples, lanes, self.seed, repeat=train)
        table = self._table(split)
        if train and self.order == "crops":
            return Crops(lengths, self.clip_samples, len(table), self.batch_size, self.seed, self.keep_tails)
        return Clips(table, self.batch_size, self.seed, shuffle=train)

    def batches(self, split: Split) -> DataLoader[Batch]:
        """All clips of a split, or this rank's share of them, those of the training split shuffled."""
        # Without a trainer (in a notebook, say) there is one rank.
        rank, ranks, dataset = 0, 1, self.datasets[split]
        if self.trainer is not None and self.trainer.world_size > 1:
            strategy = self.trainer.strategy
            rank, ranks = strategy.distributed_sampler_kwargs["rank"], strategy.distributed_sampler_kwargs["num_replicas"]
            if getattr(strategy, "context_size", 1) > 1:  # ranks that share a waveform
                dataset = dataset.sliced(*strategy.slice_of(self.clip_samples))
        self.check_ranks(ranks)
        loader = StreamLoader if split == "train" else EvaluationLoader
        return loader(dataset, RankBatches(self.order_of(split), rank, ranks), self.num_workers)

    train_dataloader = partialmethod(batches, "train")
    val_dataloader = partialmethod(batches, "validation")
    test_dataloader = partialmethod(batches, "test")

    def in_order(self, split: Split, most: int | None = None) -> DataLoader[Batch]:
        """All clips of a split in order, whole and on this rank alone, however ranks share `batches`; of the training split at most `most`,
        at even distances."""
        # The training split's own order leaves some out.
        order = Clips(self._table(split, most), self.batch_size, self.seed, shuffle=False) if split == "train" else self.order_of(split)
        # Not pinned, which would take a GPU for what the CPU computes before other ranks are started.
        return EvaluationLoader(self.datasets[split], RankBatches(order, 0, 1), self.num_workers, pinned=False)


def _repeated(parts: dict[Split, list[Part]]) -> Iterator[str]:
    """A line where the same recording is in several splits, by its samples; silent ones are the same without being repeated."""
    same: dict[str, list[tuple[str, Split]]] = defaultdict(list)
    for split, each in parts.items():
        for entry, _, _ in each:
            if entry.low != entry.high:
                same[entry.checksum].append((entry.source, split))
    # One file that is cut is no repetition.
    groups = [group for group in same.values() if all(len(set(names)) > 1 for names in zip(*group, strict=True))]
    if groups:
        first = ", ".join(f"{source} ({split})" for source, split in groups[0])
        yield (
            f"{len(groups)} recordings are in several splits, with the same samples, which makes a model look better than it is: {first}"
            f"{', and more' if len(groups) > 1 else ''}; keep each in one"
        )
