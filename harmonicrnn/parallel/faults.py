"""Finds and names the rank that failed, was killed or hangs while the others wait."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import torch.distributed as dist

GRACE_S = 3.0  # for the others to answer; ranks that wait for the same rank time out at about the same time
CALL, END = "?", ""  # any other word names the fault
FOREVER = timedelta(days=1000)


class Faults:
    """Exchanges messages between ranks, through the store, on why a rank ends.

    Each rank has a listener thread. A rank with a failed exchange calls all others; killed or stopped ones do not answer. It sends its
    finding to all, since some may notice only after it has ended, maybe along with the store.

    Args:
        store: of the process group; held by rank 0.
        rank: this rank.
        ranks: number of ranks of the run.
        group: ranks that share a waveform with this one, for which it waits in nearly all exchanges.
    """

    def __init__(self, store: dist.Store, rank: int, ranks: int, group: Sequence[int]) -> None:
        self._store, self._rank, self._group = store, rank, group
        self._others = [other for other in range(ranks) if other != rank]
        self._called, self._fault, self._broken = False, "", False
        self._round = store.add(f"harmonicrnn/faults/{rank}", 1)  # number of instances that have used the store
        self._listener = threading.Thread(target=self._listen, args=(store.clone(),), daemon=True)  # type: ignore[attr-defined]  # the stubs lack it
        self._listener.start()

    def explain(self, error: BaseException) -> str | None:
        """Sends the error that ends this rank to the others; returns who is at fault if it is an exchange error, else None."""
        if not is_exchange_error(error):
            self._briefly(lambda: self._tell(f"rank {self._rank} failed with {type(error).__name__}: {error}"))
            return None
        self._broken = True
        if not self._fault:
            self._briefly(self._inquire)
        if not self._fault:  # the store does not answer
            self._fault = self._this_one() if self._called else f"rank 0 was killed or is stopped: rank {self._rank} waited for it in vain"
        return self._fault

    def close(self) -> None:
        """Stops listening; called by all ranks at the end; rank 0, which holds the store, ends last."""

        def leave() -> None:
            self._say(self._rank, END)
            self._listener.join()
            self._hold(self._others)

        if not self._broken:
            self._briefly(leave)

    def _inquire(self) -> None:
        last = self._gave_up(1)
        self._store.set(self._key("waits", self._rank), "")
        if last:
            self._fault = self._this_one()
            return
        for other in self._others:
            self._say(other, CALL)
        until = time.monotonic() + GRACE_S
        waiting: list[int] = []
        while len(waiting) < len(self._others) and not self._fault and time.monotonic() < until:
            waiting = [other for other in self._others if self._has("waits", other)]
            time.sleep(0.05)
        if self._fault:
            return
        silent = [other for other in self._others if other not in waiting and not self._has("answers", other)]
        busy = [other for other in self._others if other not in waiting]
        if silent and self._gave_up(0):  # and have ended since
            self._fault = self._this_one()
            return
        # Others may still be working, or waiting themselves.
        if suspects := silent or [other for other in self._group if other in busy] or busy:
            what = "was killed or is stopped" if silent else "hangs"
            self._tell(f"rank {' or '.join(map(str, suspects))} {what}: rank {self._rank} waited for it in vain", silent)
        else:
            self._tell("an exchange between the ranks failed: look at the network")

    def _gave_up(self, more: int) -> bool:
        """Counts `more` ranks that timed out; returns whether all ranks have: the others waited for the last one."""
        return self._store.add(self._key("gave up"), more) > len(self._others)

    def _this_one(self) -> str:
        return f"rank {self._rank}, this one, was stopped or hung, or its network failed: the others gave it up"

    def _tell(self, fault: str, silent: Sequence[int] = ()) -> None:
        self._fault = fault
        for other in self._others:
            self._say(other, fault)
        self._hold([other for other in self._others if other not in silent])

    def _hold(self, others: Sequence[int]) -> None:
        """Keeps the store, which ends with rank 0, until the others have stopped listening."""
        if self._rank == 0 and others:
            self._store.wait([self._key("done", other) for other in others], timedelta(seconds=GRACE_S))

    def _listen(self, store: dist.Store) -> None:
        with suppress(RuntimeError):  # the store has ended
            for i in itertools.count(1):
                key = self._key("words", self._rank, i)
                store.wait([key], FOREVER)
                self._called = True
                word = store.get(key).decode()
                if word == CALL:
                    store.set(self._key("answers", self._rank), "")
                    continue
                if word != END:
                    self._fault = self._fault or word
                store.set(self._key("done", self._rank), "")
                return

    def _say(self, other: int, word: str) -> None:
        self._store.set(self._key("words", other, self._store.add(self._key("words", other), 1)), word)

    def _has(self, *key: object) -> bool:
        return self._store.check([self._key(*key)])

    def _key(self, *parts: object) -> str:
        return "/".join(map(str, ("harmonicrnn/faults", self._round, *parts)))

    @staticmethod
    def _briefly(work: Callable[[], None]) -> None:
        """Runs `work` with a time limit, since it blocks if the rank with the store is stopped; ignores errors if that has ended."""

        def safely() -> None:
            with suppress(RuntimeError):
                work()

        thread = threading.Thread(target=safely, daemon=True)
        thread.start()
        thread.join(2 * GRACE_S + 1)


def is_exchange_error(error: BaseException) -> bool:
    """Returns whether torch.distributed raised the error because of another rank (gloo has no exception type of its own)."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def names_fault(error: BaseException) -> bool:
    """Returns whether the error has a note that names the rank at fault."""
    return is_exchange_error(error) and bool(getattr(error, "__notes__", None))
