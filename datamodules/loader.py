"""Data loaders that give each rank its share of the batches, and resume exactly from a checkpoint."""

from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.clip_dataset import ClipDataset, Recordings, collate
from datamodules.orders import Clips, Crops, Piece, Sequential
from harmonicrnn.audio.dataset import Batch
from harmonicrnn.errors import UserError
from harmonicrnn.signals import leave_signals

CONTENT = "content"


class RankBatches:
    """Batch sampler of this rank's share of each global batch of `epoch`, from batch `skip` on.

    Shares are contiguous and of equal size; a smaller last batch is padded with empty lanes.
    """

    def __init__(self, order: Clips | Crops | Sequential, rank: int, ranks: int) -> None:
        self.order, self.rank, self.ranks = order, rank, ranks
        self.epoch, self.skip = 0, 0

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[list[Piece]]:
        for i, batch in enumerate(self.order.batches(self.epoch)):
            if i >= self.skip:
                share = -(-len(batch) // self.ranks)
                batch += [batch[0]._replace(start=0, stop=0, clip=-1)] * (share * self.ranks - len(batch))
                yield batch[self.rank * share : (self.rank + 1) * share]


class EvaluationLoader(DataLoader[Batch]):
    """Loader of all batches of an order; each iteration starts at the first batch."""

    def __init__(self, dataset: Dataset[Batch], batches: RankBatches, num_workers: int, pinned: bool = True) -> None:
        self.batches = batches
        super().__init__(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=num_workers,
            collate_fn=collate,
            worker_init_fn=leave_signals,
            pin_memory=pinned and torch.cuda.is_available(),
            persistent_workers=num_workers > 0,
            # Own generator: loading must not change the random state of training.
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from super().__iter__()
        except UserError as error:
            # For an error in a worker, torch's message is the whole traceback.
            raise UserError(str(error).splitlines()[-1].removeprefix("harmonicrnn.errors.UserError: ")) from error


class StreamLoader(EvaluationLoader):
    """Loader whose state is the number of batches it has yielded over all epochs, and a fingerprint of its settings.

    As the order is a function of (seed, epoch), this number determines the next samples for any number of workers or ranks. Lightning
    saves the state in checkpoints and restores it.
    """

    given = 0

    def __iter__(self) -> Iterator[Any]:
        # Lazy: the state is restored before the first batch is requested.
        self.batches.epoch, self.batches.skip = divmod(self.given, len(self.batches))
        for batch in super().__iter__():
            self.given += 1
            yield batch

    @cached_property
    def fingerprint(self) -> dict[str, str | int | None]:
        """Settings, by name, that determine the samples of each batch; includes checksums of the recordings' names, lengths and samples."""
        order, dataset = self.batches.order, self.dataset
        assert isinstance(dataset, ClipDataset)
        lengths = dataset.source.lengths
        entries = dataset.source.entries if isinstance(dataset.source, Recordings) else []
        names, content = [entry.source for entry in entries], [entry.checksum for entry in entries]
        digest = sha256(repr([*lengths, *names]).encode()).hexdigest()[:16]
        return {
            "order": type(order).__name__.lower(),
            "batch_size": order.batch_size,
            "clip_samples": dataset.clip_samples,
            "seed": order.seed,
            "root": f"{len(lengths)} training recordings of {sum(lengths)} samples (names and lengths: {digest})",
            CONTENT: f"recordings with samples of the checksum {sha256(repr(content).encode()).hexdigest()[:16]}",
        } | dataset.settings

    def state_dict(self) -> dict[str, Any]:
        return {"given": self.given, "of": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state. Raises UserError, naming the first difference, if the fingerprint differs; old checkpoints have none or only
        a part of it."""
        for key, value in state.get("of", self.fingerprint).items():
            if (now := self.fingerprint.get(key)) != value:
                raise UserError(
                    f"data.{key.replace(CONTENT, 'root')} was {value} in the training to resume, and is {now} now, which changes the "
                    "samples of each batch: set it back, or start a new training from the weights with --model.init_from FILE"
                )
        self.given = state["given"]
