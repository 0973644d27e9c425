"""Callbacks that send the program signals at known moments."""

import os
import signal

from lightning.pytorch.callbacks import Callback


class SignalAt(Callback):
    """Sends this process a signal, at each of the named `hooks` that is called when `step` steps are made, on one rank."""

    def __init__(self, step: int, name: str = "SIGTERM", hook: str = "on_before_backward", rank: int = 0) -> None:
        self.step, self.signum, self.rank = step, signal.Signals[name], rank
        setattr(self, hook, self._send)

    def _send(self, trainer, *args, **kwargs):
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.signum)
