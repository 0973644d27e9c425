"""Naming the rank that is at fault where one ends and leaves the others waiting."""

import time
from collections.abc import Sequence
from contextlib import suppress

import torch.distributed as dist

GRACE_S = 1.0  # for the others to leave their notes; they notice at about the same time


class Faults:
    """Notes that ranks leave, where they met, of why they end.

    Args:
        store: where the ranks met.
        rank: this one.
        ranks: of the run.
        neighbours: those that share a waveform with this one, which it waits for in nearly all of its exchanges.
    """

    def __init__(self, store: dist.Store, rank: int, ranks: int, neighbours: Sequence[int]) -> None:
        self._store, self._rank, self._ranks, self._neighbours = store, rank, ranks, neighbours

    def explain(self, error: BaseException) -> str | None:
        """Leave a note of the error that ends this rank; where that is an exchange with other ranks, name those at fault."""
        waited = is_exchange_error(error)
        with suppress(RuntimeError):  # the store ends with the rank that holds it
            self._store.set(self._key(self._rank), "" if waited else f"{type(error).__name__}: {error}")
        if not waited:
            return None
        notes: dict[int, str] = {self._rank: ""}
        until = time.monotonic() + GRACE_S
        while len(notes) < self._ranks and not any(notes.values()) and time.monotonic() < until:
            with suppress(RuntimeError):
                for rank in range(self._ranks):
                    if rank not in notes and self._store.check([self._key(rank)]):
                        notes[rank] = self._store.get(self._key(rank)).decode()
            time.sleep(0.05)
        failed = [f"rank {rank} failed with {note}" for rank, note in sorted(notes.items()) if note]
        silent = [rank for rank in range(self._ranks) if rank not in notes]
        # Others may still be at work, or waiting in turn.
        suspects = [rank for rank in silent if rank in self._neighbours] or silent
        if not failed and suspects:
            names = " or ".join(map(str, suspects))
            failed = [f"rank {names} was killed or hangs: rank {self._rank} waited for it in vain, and it left no word"]
        return "; ".join(failed) or "an exchange between the ranks failed: look at the network"

    @staticmethod
    def _key(rank: int) -> str:
        return f"harmonicrnn/fault/{rank}"


def is_exchange_error(error: BaseException) -> bool:
    """Whether an error came out of torch.distributed because of another rank (gloo has no exception type of its own)."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
