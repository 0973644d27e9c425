"""Batches from an order, to this rank, continued exactly where a checkpoint was taken."""

from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.clip_dataset import ClipDataset, collate
from datamodules.orders import Clips, Crops, Piece, Sequential
from datamodules.shard_recordings import Recordings
from harmonicrnn.audio.dataset import Batch
from harmonicrnn.errors import UserError
from harmonicrnn.signals import leave_signals

CONTENT = "content"


class RankBatches:
    """This rank's share of each global batch of `epoch`, from batch `skip` on.

    Shares are contiguous and equally large: ranks make as many steps of as many lanes, the missing ones of a last smaller batch at rest.
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
    """All batches of an order, from the first one each time."""

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
            # Its own: preparing batches must not draw from the random numbers of training.
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from super().__iter__()
        except UserError as error:
            # Of a worker's, torch makes the message its whole traceback.
            raise UserError(str(error).splitlines()[-1].removeprefix("harmonicrnn.errors.UserError: ")) from error


class StreamLoader(EvaluationLoader):
    """A loader whose state is the number of batches it has given out, over all epochs, and of what order.

    With the order a function of (seed, epoch), that number is all it takes to go on with the same samples, whatever the number of workers
    or ranks. Lightning saves it in checkpoints and restores it.
    """

    given = 0

    def __iter__(self) -> Iterator[Any]:
        # Lazy: the state has been restored by the time that the first batch is asked for.
        self.batches.epoch, self.batches.skip = divmod(self.given, len(self.batches))
        for batch in super().__iter__():
            self.given += 1
            yield batch

    @cached_property
    def fingerprint(self) -> dict[str, str | int | None]:
        """What the samples of a batch follow from, by the settings' names: equal here, equal samples in each batch of that number.

        Of the recordings it is a summary of their number, names, lengths and samples.
        """
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
        """Raises UserError, naming the first difference, where the state is of another order; of old checkpoints that is not known,
        or not all."""
        for key, value in state.get("of", self.fingerprint).items():
            if (now := self.fingerprint.get(key)) != value:
                raise UserError(
                    f"data.{key.replace(CONTENT, 'root')} was {value} in the training that is to go on, and is {now} now, which gives "
                    "lanes other samples: set it back, or start anew from the weights with --model.init_from FILE"
                )
        self.given = state["given"]
