"""Noticing, in the middle of training, that it is asked to stop."""

import os
import signal
from pathlib import Path
from types import FrameType

import lightning as L
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from harmonicrnn.signals import STOPPING, restore

TRY_AGAIN = os.EX_TEMPFAIL
"""Exit status (75) of a training that was asked to stop and can go on from its last checkpoint."""


class Stopped(Exception):  # noqa: N818 - not an error
    """Ends training after a step whose checkpoint is saved; raised on all ranks after the same step.

    Attributes:
        signum: the signal that asked for it.
        checkpoint: where it goes on from.
        step: the steps that were made.
        status: what this process's exit status is to be.
    """

    def __init__(self, trainer: L.Trainer, signum: int, checkpoint: Path) -> None:
        self.signum, self.checkpoint, self.step = signal.Signals(signum), checkpoint, trainer.global_step
        environment = getattr(trainer.strategy, "cluster_environment", None)
        # Lightning kills the first rank where one of the others that it launched does not end with 0.
        self.status = 0 if trainer.local_rank > 0 and isinstance(environment, LightningEnvironment) else TRY_AGAIN
        super().__init__(f"{self.signum.name} after step {self.step}")


class StopSignals:
    """The first signal received while training; a second SIGINT ends the program at once.

    Takes the place of Lightning's handlers, which communicate between processes from inside of the handler and can hang there. Lightning
    itself restores what was there before its own when training ends or fails.
    """

    def __init__(self) -> None:
        self.received = 0
        self._outside = {signum: signal.getsignal(signum) for signum in STOPPING}

    def ignore_after(self, connector: _SignalConnector) -> None:
        """Once Lightning has registered its handlers, signals do again what they did when this was made: until there is a step to finish,
        that is to end the program. There is no hook between that and the first step that every training calls."""
        register = type(connector).register_signal_handlers

        def register_and_restore() -> None:
            register(connector)
            restore(self._outside)

        connector.register_signal_handlers = register_and_restore  # type: ignore[method-assign]

    def watch(self) -> None:
        """From now on signals are noted."""
        for signum in STOPPING:
            signal.signal(signum, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.received = self.received or signum
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
