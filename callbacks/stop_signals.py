"""Signals that stop a training after a step, and the exception that ends it then."""

import os
import signal
from pathlib import Path
from types import FrameType

import lightning as L
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from harmonicrnn.signals import STOPPING, restore

TRY_AGAIN = os.EX_TEMPFAIL
"""Exit status (75) of a training that was stopped by a signal and can be resumed from its last checkpoint."""


class Stopped(Exception):  # noqa: N818 - not an error
    """Training was stopped by a signal after its checkpoint was saved; raised on all ranks after the same step.

    Attributes:
        checkpoint: the checkpoint to resume from.
        status: exit status for this process.
    """

    def __init__(self, trainer: L.Trainer, signum: int, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        environment = getattr(trainer.strategy, "cluster_environment", None)
        # Lightning kills the first rank if another rank that it launched exits with a status other than 0.
        self.status = 0 if trainer.local_rank > 0 and isinstance(environment, LightningEnvironment) else TRY_AGAIN
        super().__init__(f"{signal.Signals(signum).name}: stopped after step {trainer.global_step}")


class StopSignals:
    """Record the first signal received during training; a second SIGINT ends the program at once.

    Replaces Lightning's handlers, which communicate between processes inside the handler and can hang. Lightning restores the handlers
    from before its own when training ends or fails.
    """

    def __init__(self) -> None:
        self.received = 0
        self._outside = {signum: signal.getsignal(signum) for signum in STOPPING}

    def ignore_after(self, connector: _SignalConnector) -> None:
        """Restore the previous handlers once Lightning has registered its own, so that a signal before the first step ends the program.

        Lightning has no hook at this point that every training calls.
        """
        register = type(connector).register_signal_handlers

        def register_and_restore() -> None:
            register(connector)
            restore(self._outside)

        connector.register_signal_handlers = register_and_restore  # type: ignore[method-assign]

    def watch(self) -> None:
        """Start recording signals."""
        for signum in STOPPING:
            signal.signal(signum, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.received = self.received or signum
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
