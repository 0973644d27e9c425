"""Batches from an order, to this rank, continued exactly where a checkpoint was taken."""

import os
import signal
from collections.abc import Iterator
from threading import Thread
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.clips import Batch, collate
from datamodules.orders import Order, Piece
from signals import STOPPING


class RankBatches:
    """This rank's share of each global batch of `epoch`, from batch `skip` on.

    Shares are contiguous and equally large: ranks make as many steps of as many lanes, the missing ones of a last smaller batch at rest.
    """

    def __init__(self, order: Order, rank: int, ranks: int) -> None:
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


def leave_signals(worker: int) -> None:
    """Leaves signals, which may be sent to all processes, to the main one, which needs its workers for its step; ends when that asks."""
    main = os.getppid()
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_IGN if signum != signal.SIGTERM else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def watch() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
            pass
        os._exit(0)

    Thread(target=watch, daemon=True).start()


class EvaluationLoader(DataLoader[Batch]):
    """All batches of an order, from the first one each time."""

    def __init__(self, dataset: Dataset[Batch], batches: RankBatches, num_workers: int) -> None:
        self.batches = batches
        super().__init__(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=num_workers,
            collate_fn=collate,
            worker_init_fn=leave_signals,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=num_workers > 0,
            # Its own: preparing batches must not draw from the random numbers of training.
            generator=torch.Generator(),
        )


class StreamLoader(EvaluationLoader):
    """A loader whose state is the number of batches it has given out, over all epochs.

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

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.given = state["given"]
