"""ContextParallelStrategy, a Lightning strategy that splits the time axis of every waveform over devices."""

import signal
import sys
import threading
from datetime import timedelta
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.distributed.constants import default_pg_timeout
from typing_extensions import override

from harmonicrnn.errors import UserError
from harmonicrnn.models import AutoregressiveNet, set_slices
from harmonicrnn.parallel.agreement import check_agreement
from harmonicrnn.parallel.exchange import ContextGroup
from harmonicrnn.parallel.faults import Faults
from harmonicrnn.parallel.slice_check import check_knows_slices
from harmonicrnn.parallel.transports import ProcessGroup


class ContextParallelStrategy(DDPStrategy):
    """A mesh of data x context ranks: ranks of a context group hold contiguous slices of the same waveforms.

    Gradients are averaged over all ranks, as under DDP. Losses must therefore be normalised by the valid samples of all ranks.

    Args:
        context_size: Ranks that share a waveform; null for all ranks of the run. Ranks of a node are grouped first.
        process_group_backend: Backend of torch.distributed; null for NCCL on GPUs, gloo on CPUs.
        timeout: Time that a rank waits for the others in an exchange, as hours:minutes:seconds.
        kwargs: As for Lightning's DDPStrategy.
    """

    strategy_name = "context_parallel"

    def __init__(
        self,
        context_size: int | None = None,
        process_group_backend: str | None = None,
        timeout: timedelta = default_pg_timeout,
        **kwargs: Any,
    ) -> None:
        # The model's buffers are constants and need no broadcast.
        kwargs.setdefault("broadcast_buffers", False)
        super().__init__(process_group_backend=process_group_backend, timeout=timeout, **kwargs)
        self._context_size = context_size
        self.group: ContextGroup | None = None
        self._faults: Faults | None = None

    @property
    def context_size(self) -> int:
        """Ranks that share a waveform.

        Raises:
            UserError: it is below 1, or does not divide the ranks of the run.
        """
        size = self._ranks if self._context_size is None else self._context_size
        if size < 1:
            raise UserError(f"trainer.strategy: context_size must be at least 1, got {size}")
        if self._ranks % size:
            raise UserError(f"trainer.strategy: context_size ({size}) must divide the number of ranks ({self._ranks}: devices x nodes)")
        return size

    @property
    def _net(self) -> AutoregressiveNet:
        """The trained module's net; raises UserError if it has none with support for slices."""
        net = getattr(self.lightning_module, "net", None)
        if not isinstance(net, AutoregressiveNet):
            kind = type(self.lightning_module).__name__
            raise UserError(f"trainer.strategy: context_parallel splits the waveforms of autoregressive models, which {kind} is not")
        return net

    @property
    def _ranks(self) -> int:
        return self.num_nodes * self.num_processes

    @property
    @override
    def distributed_sampler_kwargs(self) -> dict[str, int]:
        return {"num_replicas": self._ranks // self.context_size, "rank": self.global_rank // self.context_size}

    @override
    def setup_environment(self) -> None:
        size = self.context_size
        if size > 1:
            check_knows_slices(self._net)
        super().setup_environment()
        if self._faults is None:
            first = self.global_rank // size * size
            group = range(first, first + size)
            self._faults = Faults(dist.distributed_c10d._get_default_store(), self.global_rank, self._ranks, group)
        # Checked first, since groups depend on it.
        check_agreement({"config": {"trainer.strategy.context_size": str(size), "trainer.strategy.timeout": str(self._timeout)}})
        if size > 1:
            subgroup, _ = dist.new_subgroups(size, timeout=self._timeout)
            self.group = ContextGroup(ProcessGroup(subgroup))
        set_slices(self._net, self.group)

    @override
    def on_exception(self, exception: BaseException) -> None:
        super().on_exception(exception)
        if self._faults is None:
            return
        _dismiss_observers()
        fault = self._faults.explain(exception)
        if fault is None:
            return
        exception.add_note(fault)
        # Printed at once, as this process may be killed by its launcher before the traceback ends.
        print(f"error: {fault}", file=sys.stderr, flush=True)
        # Lightning ends the other processes if one fails, but not if one hangs.
        if isinstance(self.launcher, _SubprocessScriptLauncher):
            self.launcher.kill(signal.SIGKILL)

    @override
    def teardown(self) -> None:
        if self.lightning_module is not None:
            set_slices(self.lightning_module, None)
        if self._faults is not None:
            self._faults.close()
            self._faults = None
        super().teardown()

    def slice_of(self, clip_samples: int) -> tuple[int, int]:
        """Returns start and length of this rank's slice in its clip: whole pooling windows, equally many on each rank."""
        rank = self.group.rank if self.group else 0
        window = self._net.pooling_product
        length = -(-clip_samples // (self.context_size * window)) * window
        return rank * length, length


def _dismiss_observers() -> None:
    """Stops Lightning's thread that kills this process after a child has failed, so that it can report the error first."""
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            thread._child_processes = []


def context_size(trainer: L.Trainer) -> int:
    """Returns the number of ranks that share a waveform; 1 under other strategies."""
    return trainer.strategy.context_size if isinstance(trainer.strategy, ContextParallelStrategy) else 1


StrategyRegistry.register(
    ContextParallelStrategy.strategy_name, ContextParallelStrategy, description="Each waveform split along time over all ranks"
)
