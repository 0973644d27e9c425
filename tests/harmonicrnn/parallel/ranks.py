"""Processes that act as the ranks of a run, started once and used by many tests."""

import multiprocessing
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import wait
from typing import Any

TIMEOUT_S = 120


class Ranks:
    """Runs a function on the ranks of a gloo process group, which meet through a file, or over TCP as in a training."""

    def __init__(self, over_tcp: bool = False) -> None:
        self._over_tcp = over_tcp
        self._workers: list[tuple[Any, Any]] = []

    def run(self, size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Runs `function(*args)` on each of `size` ranks and returns their results. Tensors come back unchanged.

        Raises:
            RuntimeError: a rank raised; the message has its traceback.
        """
        answers = self.run_to_the_end(size, function, *args)
        failed = [f"rank {rank}: {kind} {answer}" for rank, (kind, answer) in enumerate(answers) if kind != "returned"]
        if failed:
            raise RuntimeError("\n".join(failed))
        return [answer for _, answer in answers]

    def run_to_the_end(self, size: int, function: Callable[..., Any], *args: Any, after: float = TIMEOUT_S) -> list[tuple[str, Any]]:
        """Like `run`, but returns the outcome of each rank: ("returned", value), ("raised", traceback), ("died", "") or ("hangs", "").

        The others have `after` seconds from the first rank's end. If any did not return, all processes are ended.
        """
        while len(self._workers) < size:
            self._start()
        with tempfile.TemporaryDirectory() as folder:
            workers = self._workers[:size]
            meeting = f"tcp://localhost:{free_port()}" if self._over_tcp else f"file://{folder}/meet"
            for rank, (_, pipe) in enumerate(workers):
                pipe.send((rank, size, meeting, function, args))
            wait([pipe for _, pipe in workers], TIMEOUT_S)
            until = time.monotonic() + after
            answers = [_answer(pipe, max(0, until - time.monotonic())) for _, pipe in workers]
        if any(kind != "returned" for kind, _ in answers):
            self.stop()
        return answers

    def stop(self) -> None:
        """Ends all processes."""
        for process, _ in self._workers:
            process.kill()
            process.join()
        self._workers.clear()

    def _start(self) -> None:
        # Forked from a server that has imported everything and runs no threads, which the tests' own process may.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.harmonicrnn.parallel.warm"])
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there,), daemon=True)
        process.start()
        there.close()
        self._workers.append((process, here))


def free_port() -> int:
    """Returns a port of this machine that is free at the time of the call."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def _answer(pipe: Any, timeout: float) -> tuple[str, Any]:
    try:
        return pipe.recv() if pipe.poll(timeout) else ("hangs", "")
    except EOFError:
        return "died", ""


def _serve(pipe: Any) -> None:
    import torch
    import torch.distributed as dist

    answer = ("returned", None)
    while answer[0] == "returned":
        rank, size, meeting, function, args = pipe.recv()
        # As torchrun would set them, for code that reads them.
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size), GROUP_RANK="0")
        os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="0", TORCHELASTIC_RUN_ID="test")
        try:
            dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=timedelta(seconds=60))
            torch.manual_seed(0)
            answer = ("returned", function(*args))
        except BaseException:
            answer = ("raised", traceback.format_exc())
        if dist.is_initialized():
            dist.destroy_process_group()
        pipe.send(answer)  # sent last, so that whatever ends a rank ends it in its own test
